"""One self-contained web page from texts, tables and figures: no network, light and dark, sortable tables."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import NamedTuple

import pandas as pd

from jaxmoe.analysis.style import Drawing, inline_svg
from jaxmoe.names import slug, visible


class Section(NamedTuple):
    """A part of a page."""

    anchor: str
    heading: str
    body: str


def page(title: str, lead: str, opening: str, sections: Sequence[Section], foot: str) -> str:
    """A whole page.

    Args:
        title: of the window.
        lead: one line above everything.
        opening: what stands first.
        sections: what follows.
        foot: one line at the end.
    """
    links = " ".join(f'<a href="#{slug(each.anchor)}">{as_html(each.heading)}</a>' for each in sections)
    parts = [
        f'<section id="{slug(each.anchor)}"><h2>{as_html(each.heading)}</h2>{each.body}</section>' for each in sections
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{as_html(title)}</title>",
            '<link rel="icon" href="data:,">',
            f"<style>{_resource('page.css')}</style></head><body>",
            f"<header><span>{as_html(lead)}</span>",
            f'<nav>{links}<button id="theme" type="button">light / dark</button></nav></header>',
            f"<main>{opening}",
            *parts,
            f"</main><footer>{as_html(foot)}</footer>",
            f"<script>{_resource('page.js')}</script></body></html>",
            "",
        ]
    )


def figure(drawing: Drawing) -> str:
    """A figure with its caption."""
    caption = f"<b>{as_html(drawing.title)}.</b> {as_html(drawing.caption)}"
    return f'<figure id="figure-{slug(drawing.name)}">{inline_svg(drawing)}<figcaption>{caption}</figcaption></figure>'


def figures(drawings: Iterable[Drawing]) -> str:
    """Figures side by side, as many as there is room for."""
    return f'<div class="figures">{"".join(map(figure, drawings))}</div>'


def table(rows: pd.DataFrame, *, texts: Iterable[str] = (), winner: str | None = None, sortable: bool = False) -> str:
    """A table.

    Args:
        rows: cells are texts, shown as they are, or pairs of what is shown and what is sorted by.
        texts: columns that are read, not compared.
        winner: the row whose first cell is this is marked.
        sortable: whether a click on a heading sorts.
    """
    read, sort = set(texts), ' aria-sort="none"' if sortable else ""
    heads = "".join(
        f'<th scope="col"{_class("text" if name in read else "")}{sort}>{as_html(str(name))}</th>' for name in rows
    )
    lines = []
    for cells in rows.itertuples(index=False, name=None):
        first = cells[0][0] if isinstance(cells[0], tuple) else cells[0]
        tds = "".join(_cell(cell, str(name) in read) for name, cell in zip(rows, cells, strict=True))
        lines.append(f"<tr{_class('winner' if first == winner else '')}>{tds}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>'
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def tiles(found: Iterable[tuple[str, str, str]]) -> str:
    """Numbers that matter: the number, what it is, and a remark."""
    each = (
        f"<div class=tile><span>{as_html(a)}</span><b>{as_html(b)}</b><span>{as_html(c)}</span></div>"
        for a, b, c in found
    )
    return f'<div class="tiles">{"".join(each)}</div>'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; its kind may be `note` or `warning`."""
    return f"<p{_class(kind)}>{as_html(text)}</p>"


def code(text: str) -> str:
    """A text as it stands."""
    return f"<pre>{as_html(text)}</pre>"


def as_html(text: str) -> str:
    """A text as HTML in which it is a text, and every character is seen."""
    return escape(visible(text, keep="\n"))


def _cell(cell: object, read: bool) -> str:
    shown, value = cell if isinstance(cell, tuple) else (cell, None)
    text = str(shown)
    mark = (
        "text" if read else "ahead" if text.startswith("+") else "behind" if text.startswith("\N{MINUS SIGN}") else ""
    )
    data = "" if value is None else f' data-value="{as_html(str(value))}"'
    return f"<td{_class(mark)}{data}>{as_html(text)}</td>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _resource(name: str) -> str:
    return files("jaxmoe.analysis").joinpath(name).read_text(encoding="utf-8")
