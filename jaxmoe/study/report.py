"""`report`: what a sweep found, as one web page, and its figures as files for a paper."""

import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.files import write_text, write_whole
from jaxmoe.study import page, sections
from jaxmoe.study.arena import arenas
from jaxmoe.study.reading import read_study
from jaxmoe.study.status import standing
from jaxmoe.study.style import save, style

REPORT = "report.html"
FIGURES = "figures"


class Report(NamedTuple):
    """A report that is written."""

    path: Path
    sentences: list[str]  # of each scenario: who wins, where, and what matters
    figures: int


def report(folder: str | os.PathLike[str]) -> Report:
    """Write `report.html` and `figures/` into a sweep's folder, from what is there so far; an older report is replaced.

    Raises:
        InputError: there is no sweep in the folder, none of its agents is trained yet, or a file cannot be read.
    """
    study = read_study(folder)
    at = standing(study)
    if not len(study.results):
        raise InputError(f"{folder}: none of {len(study.agents):,} agents is trained yet; {at}")
    competitions = arenas(study)
    if not competitions:
        raise InputError(f"{folder}: no setting has all its environments yet; {at}")
    with style():
        found = [sections.of_arena(arena, several=len(competitions) > 1) for arena in competitions]
        opening = sections.standing_note(study, at) + "".join(each.opening for each in found)
        parts = [part for each in found for part in each.parts] + sections.of_study(study, competitions)
        drawings = [drawing for each in found for drawing in each.drawings]
        lead = f"{study.name}: {sections.asked(study)}"
        text = page.page(f"jaxmoe: {study.name}", lead, opening, parts, f"jaxmoe {jaxmoe.__version__}")
        figures = study.folder / FIGURES
        try:
            figures.mkdir(exist_ok=True)
            for drawing in drawings:
                save(drawing, figures)
            for name, table in [pair for each in found for pair in each.tables.items()]:
                write_whole(figures / f"{name}.csv", partial(table.to_csv, index=False), overwrite=True)
            write_text(study.folder / REPORT, text)
        except OSError as error:
            raise InputError(f"{study.folder} cannot be written: {error.strerror or error}") from None
    sentences = [sentence for each in found for sentence in each.sentences]
    return Report(study.folder / REPORT, sentences, len(drawings))
