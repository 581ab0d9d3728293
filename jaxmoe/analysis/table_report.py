"""`table report`: what the experts of a table are worth, as one web page and figures for a paper."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import jaxmoe
from jaxmoe.analysis import experts, page
from jaxmoe.analysis.intervals import Estimate
from jaxmoe.analysis.page import Section, paragraph
from jaxmoe.analysis.ranking import listed
from jaxmoe.analysis.report import REPORT
from jaxmoe.analysis.style import (
    COLOURS,
    MARKERS,
    MUTED,
    WIDE_LABEL,
    Drawing,
    canvas,
    files_of,
    label_of,
    slanted,
    style,
)
from jaxmoe.errors import InputError
from jaxmoe.files import claim_folder, write_bytes
from jaxmoe.table import ExpertTable
from jaxmoe.table.records import RAW_FILES

FIGURES = "figures"

SHOWN_SUBSETS = 16
EXAMPLE_WORDS = 90


def table_report(table: ExpertTable, raw: Path | None, out: Path) -> Path:
    """Write `report.html` and `figures/` into a new or empty folder.

    Args:
        table: what the experts write.
        raw: folder of its raw records, from which judges and texts are told; or nothing.
        out: the folder.

    Returns:
        Path of the page.

    Raises:
        InputError: the table lacks subsets, of which Shapley values are made.
    """
    if (most := table.complete_up_to()) < table.num_experts:
        raise InputError(
            f"the table has all subsets of at most {most} of {table.num_experts} experts, and what an expert is worth "
            "is told from all subsets; choose fewer experts, or see jaxmoe table show"
        )
    folder = claim_folder(out)
    with style():
        values, subsets = experts.expert_values(table), experts.subset_scores(table)
        drawings = [_value_chart(values), _subset_chart(subsets), _words_chart(table)]
        sections = [
            Section("subsets", "Every subset", _subset_cells(subsets)),
            Section("judges", "Judges", _judges(table, raw)),
            Section("texts", "Texts", _texts(table, raw)),
        ]
        splits = listed([f"{table.meta.splits.count(split)} {split}" for split in dict.fromkeys(table.meta.splits)])
        lead = f"{table.num_prompts} prompts ({splits}), {table.num_experts} experts, {2**table.num_experts} subsets"
        opening = _opening(values, subsets) + page.figures(drawings)
        text = page.page("jaxmoe: expert table", lead, opening, sections, f"jaxmoe {jaxmoe.__version__}")
        files = {f"{FIGURES}/{name}": content for each in drawings for name, content in files_of(each).items()}
    written: list[Path] = []
    try:
        (folder / FIGURES).mkdir()
        for name, content in {**files, REPORT: text.encode()}.items():
            write_bytes(folder / name, content, overwrite=False)
            written.append(folder / name)
    except BaseException:  # and the same command works again
        for path in written:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (folder / FIGURES).rmdir()
            folder.rmdir()
        raise
    return folder / REPORT


def has_raw_records(path: Path) -> bool:
    """Whether a folder holds raw records."""
    return path.is_dir() and all((path / name).is_file() for name in RAW_FILES)


def _opening(values: pd.DataFrame, subsets: pd.DataFrame) -> str:
    best, every = subsets.iloc[0], subsets[subsets["experts"] == len(values)].iloc[0]
    ranked = values.sort_values("shapley", ascending=False)
    heading = f"{ranked['expert'].iloc[0]} is worth most; the best subset is {best['subset']}"
    tiles = [
        (str(row["expert"]), f"{row['shapley']:+.2f}".replace("-", "\N{MINUS SIGN}"), _interval(row, "shapley"))
        for row in ranked.to_dict("records")
    ]
    harmful = ranked[ranked["last_high"] < 0]["expert"].tolist()
    idle = ranked[(ranked["last_low"] <= 0) & (ranked["last_high"] >= 0)]["expert"].tolist()
    texts = ["Points of score that each expert adds on average over all orders of asking (Shapley value), of 10."]
    same = best["subset"] == every["subset"]
    told = f"The best subset scores {_estimate(best)}" + ("" if same else f", all experts together {_estimate(every)}")
    texts.append(f"{told}. It is the best on the same prompts that it is measured on, and so in part by luck.")
    if harmful:
        texts.append(f"Asked beside all others, {listed(harmful)} lowers the score.")
    if idle:
        texts.append(f"Asked beside all others, {listed(idle)} adds nothing that could be told from chance.")
    return f"<h1>{page.as_html(heading)}</h1>{page.tiles(tiles)}" + "".join(map(paragraph, texts))


def _value_chart(values: pd.DataFrame) -> Drawing:
    figure, axes = canvas(2.2)
    names = {"alone": "added to none", "shapley": "Shapley value", "last": "added to all others"}
    for number, (name, label) in enumerate(names.items()):
        errors = [values[name] - values[f"{name}_low"], values[f"{name}_high"] - values[name]]
        axes.errorbar(
            np.arange(len(values)) + 0.2 * (number - 1), values[name], yerr=errors, fmt=MARKERS[number], lw=1,
            color=COLOURS[number], label=label,
        )  # fmt: skip
    axes.axhline(0, color=MUTED, lw=0.7)
    shown = [label_of(expert) for expert in values["expert"]]
    axes.set_xticks(range(len(values)), shown, **slanted(shown))
    axes.set_ylabel("points of score")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside upper left", ncols=3, handletextpad=0.3)
    caption = "Means over prompts with 95 % intervals over prompts."
    return Drawing("experts", "What each expert adds", caption, figure, values)


def _subset_chart(subsets: pd.DataFrame) -> Drawing:
    rows = subsets.head(SHOWN_SUBSETS).iloc[::-1]
    figure, axes = canvas(0.5 + 0.17 * len(rows))
    errors = [rows["score"] - rows["low"], rows["high"] - rows["score"]]
    axes.errorbar(rows["score"], range(len(rows)), xerr=errors, fmt="o", color=COLOURS[0], lw=1)
    axes.set_yticks(range(len(rows)), [label_of(subset, WIDE_LABEL) for subset in rows["subset"]])
    axes.set_xlabel("score, from 0 to 10")
    axes.grid(axis="y", visible=False)
    caption = f"The best {len(rows)} of {len(subsets)} subsets; means and 95 % intervals over prompts."
    return Drawing("subsets", "Score by subset", caption, figure, subsets)


def _words_chart(table: ExpertTable) -> Drawing:
    texts = experts.texts_table(table)
    figure, axes = canvas(2.4)
    for number, (count, part) in enumerate(texts.groupby("experts")):
        axes.scatter(
            part["words"], part["score"], s=7, marker=MARKERS[number % len(MARKERS)], linewidths=0, alpha=0.7,
            color=COLOURS[number % len(COLOURS)], label=str(count),
        )  # fmt: skip
    axes.set_xlabel("words of the text")
    axes.set_ylabel("score")
    figure.legend(loc="outside upper left", ncols=6, title="experts asked", handletextpad=0.1, columnspacing=0.8)
    ranks = texts[["score", "words"]].rank()
    caption = f"Every text of the table; rank correlation {ranks['score'].corr(ranks['words']):.2f}."
    return Drawing("words", "Score against words", caption, figure, texts)


def _subset_cells(subsets: pd.DataFrame) -> str:
    rows = pd.DataFrame({"subset": subsets["subset"], "experts": subsets["experts"]})
    rows["score"] = [(_estimate(row), row["score"]) for row in subsets.to_dict("records")]
    rows["deviation over prompts"] = [f"{cell:.2f}" for cell in subsets["spread"]]
    rows["words of the text"] = [f"{cell:.0f}" for cell in subsets["words"]]
    rows["words written by experts"] = [f"{cell:.0f}" for cell in subsets["words_asked"]]
    return page.table(rows, texts=["subset"], sortable=True)


def _judges(table: ExpertTable, raw: Path | None) -> str:
    within = float(np.asarray(table.score_std, np.float64).mean())
    text = paragraph(f"Mean standard deviation of the scores of one text: {within:.2f} of 10 points.")
    pairs = experts.judge_agreement(raw) if raw is not None else None
    if pairs is None:
        return text + paragraph("How single judges agree is told from raw records with several judges.", "note")
    rows = pd.DataFrame({"judges": pairs["judges"], "texts": pairs["texts"]})
    rows["Pearson correlation"] = [f"{cell:.3f}" for cell in pairs["pearson"]]
    rows["Spearman correlation"] = [f"{cell:.3f}" for cell in pairs["spearman"]]
    rows["first minus second"] = [f"{cell:.2f}" for cell in pairs["difference"]]
    rows["mean distance"] = [f"{cell:.2f}" for cell in pairs["absolute_difference"]]
    return text + page.table(rows, texts=["judges"])


def _texts(table: ExpertTable, raw: Path | None) -> str:
    if raw is None:
        return paragraph("Texts are shown from raw records; give their folder.", "note")
    parts = []
    for example in experts.examples(raw, table):
        words = example.text.split()
        shown = " ".join(words[:EXAMPLE_WORDS]) + (" …" if len(words) > EXAMPLE_WORDS else "")
        heading = f"{example.experts}: score {example.score:.1f}, {len(words)} words"
        parts.append(f"<h3>{page.as_html(heading)}</h3>{paragraph(shown)}")
    return paragraph(f"Prompt: {table.meta.prompts[0]}", "note") + "".join(parts)


def _estimate(row: Any) -> str:
    return f"{Estimate(float(row['score']), float(row['low']), float(row['high'])):.2f}"


def _interval(row: Any, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"
