"""How figures look: the width of an IEEE column, embedded fonts, colours that colour-blind readers tell apart.

Colours are those of Okabe and Ito (2008); lines differ in dashes and markers too, and heat maps grow lighter with the
value (cividis), so that a grey print can be read. On a web page the same figures take its colours, light or dark. Names
in other scripts are drawn in fonts that are installed.
"""

import functools
import io
import math
import re
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import Formatter, LogLocator, NullFormatter, StrMethodFormatter

from jaxmoe.names import slug, to_csv, visible

FONT = "DejaVu Sans"  # which comes with matplotlib
LABEL, WIDE_LABEL = 28, 36  # characters of a name in a figure
COLUMN_IN = 3.5  # width of an IEEE column
INK, MUTED, GRID, PAPER = "#1b1b1f", "#6a6a72", "#dddde2", "#fefefe"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (2, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SPLIT_COLOURS = {"train": COLOURS[0], "validation": COLOURS[2], "test": COLOURS[1]}
SPLIT_NAMES = {"train": "train prompts", "validation": "validation prompts", "test": "unseen prompts"}
SPLIT_MARKERS = {"train": "o", "validation": "^", "test": "s"}
HEAT = "cividis"
_ON_PAGE = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--line)", PAPER: "var(--page)"}
_REFERRED_TO = r"(?:[pmh]|image|C[0-9a-f]+_[0-9a-f]+_)[0-9a-f]{10}"  # clips, markers, hatches, paths
_SETTINGS = {
    "font.family": "sans-serif",
    "font.sans-serif": [FONT],
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.parse_math": False,  # a name with dollar signs is a name
    "pdf.fonttype": 42,  # TrueType, embedded
    "svg.fonttype": "none",  # text stays text on a page
    "svg.hashsalt": "jaxmoe",
}


class Drawing(NamedTuple):
    """A figure with what it shows."""

    name: str  # of its files, once it is a slug
    title: str
    caption: str  # how to read it
    figure: Figure
    data: pd.DataFrame


@contextmanager
def style() -> Iterator[None]:
    """Draw, and save, in this style, whatever the user's own settings of matplotlib are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def canvas(height_in: float = 2.3, columns: int = 1) -> tuple[Figure, Any]:
    """An empty figure of a column's width, and its axes."""
    figure = Figure(figsize=(COLUMN_IN, height_in), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0] if columns > 1 else figure.subplots()


def label_of(name: object, longest: int = LABEL) -> str:
    r"""A name as a figure shows it: on one line, not too long, and in letters that an installed font has.

    >>> label_of("action"), label_of("x" * 40, 8), label_of("a\nb")
    ('action', 'xxxxxxx…', 'a\\nb')
    """
    text = visible(str(name))
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    text = "".join(sign if _has_a_font(sign) else sign.encode("unicode_escape").decode() for sign in text)
    return f" {text}" if text.startswith("_") else text  # or legends would leave it out


def legend_columns(labels: Sequence[str], most: int) -> int:
    """How many names fit beside each other in a legend as wide as a column, each with its mark.

    >>> legend_columns(["action", "setting"], 4), legend_columns(["x" * 28], 4)
    (4, 1)
    """
    return max(1, min(most, int(COLUMN_IN / (0.35 + 0.055 * max(map(len, labels), default=0)))))


def slanted(labels: Sequence[str]) -> dict[str, Any]:
    """How names stand below an axis: slanted where they would run into each other."""
    return {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, labels)) > 48 else {}


def _has_a_font(sign: str) -> bool:
    """Whether figures can show a letter; where our own font lacks it, another one is added that has it."""
    if ord(sign) in _letters(font_manager.findfont(FONT)):
        return True
    for font in font_manager.fontManager.ttflist:
        if "Last Resort" not in font.name and ord(sign) in _letters(font.fname):
            if font.name not in mpl.rcParams["font.sans-serif"]:
                mpl.rcParams["font.sans-serif"] = [*mpl.rcParams["font.sans-serif"], font.name]
            return True
    return False


@functools.cache
def _letters(path: str) -> frozenset[int]:
    """What a font has signs for."""
    return frozenset(FT2Font(path).get_charmap())


def files_of(drawing: Drawing) -> dict[str, bytes]:
    """PDF, PNG and CSV by their names."""
    options: dict[str, dict[str, Any]] = {
        "pdf": {"metadata": {"CreationDate": None}},
        "png": {"dpi": 300, "facecolor": "white"},
    }
    name = slug(drawing.name)
    found = {f"{name}.csv": to_csv(drawing.data)}
    for kind, how in options.items():
        content = io.BytesIO()
        drawing.figure.savefig(content, format=kind, **how)
        found[f"{name}.{kind}"] = content.getvalue()
    return found


def inline_svg(drawing: Drawing) -> str:
    """The figure as part of a page: no prologue, the page's colours, its title for those who cannot see it."""
    text = io.StringIO()
    drawing.figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[^"]*pt"', "", svg, count=2)
    svg = re.sub(rf'(id="|#)({_REFERRED_TO})', rf"\g<1>{slug(drawing.name)}-\2", svg)
    svg = re.sub(r' id="[a-zA-Z][\w.]*_\d+"', "", svg)  # of groups that nothing refers to
    for colour, on_page in _ON_PAGE.items():
        svg = svg.replace(colour, on_page)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(visible(drawing.title))}" ', 1)


def number_axis(axes: Axes, values: Sequence[float], horizontal: bool = True) -> None:
    """A logarithmic axis where the values ask for it, with plain numbers."""
    if _is_logarithmic(values):
        (axes.set_xscale if horizontal else axes.set_yscale)("log")
        plain_numbers(axes.xaxis if horizontal else axes.yaxis, StrMethodFormatter("{x:g}"))


def _is_logarithmic(values: Sequence[float]) -> bool:
    """Whether values span decades, and lie more evenly on a logarithmic axis than on a linear one.

    >>> _is_logarithmic([1e-4, 1e-3, 1e-2]), _is_logarithmic([1e-4, 0.02, 0.03, 0.05])
    (True, False)
    """
    low, middle, high = min(values), statistics.median(values), max(values)
    if low <= 0 or high / low <= 20:
        return False
    off_linear = abs((middle - low) / (high - low) - 0.5)
    return abs(math.log(middle / low) / math.log(high / low) - 0.5) < off_linear


def plain_numbers(axis: Axis, formatter: Formatter) -> None:
    """Numbers at 1, 2 and 5 of each decade of a logarithmic axis, or at the decades alone where these are many."""
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())
