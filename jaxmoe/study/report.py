"""`report`: what a sweep found, as one web page, and its figures as files for a paper."""

import os
from pathlib import Path
from typing import NamedTuple

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.files import write_text
from jaxmoe.study import page, sections
from jaxmoe.study.arena import Arena, arenas
from jaxmoe.study.reading import Study, read_study
from jaxmoe.study.status import Standing, standing
from jaxmoe.study.style import Drawing, save, style

REPORT = "report.html"
FIGURES = "figures"


class Report(NamedTuple):
    """A report that is written."""

    path: Path
    answers: list[str]  # of each scenario a sentence about who wins, and others about where and what matters
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
        opening, parts, drawings, answers = _contents(study, competitions, at)
        lead = f"{study.name}: {sections.asked(study)}"
        text = page.page(f"jaxmoe: {study.name}", lead, opening, parts, f"jaxmoe {jaxmoe.__version__}")
        figures = study.folder / FIGURES
        try:
            figures.mkdir(exist_ok=True)
            for drawing in drawings:
                save(drawing, figures)
            write_text(study.folder / REPORT, text)
        except OSError as error:
            raise InputError(f"{study.folder} cannot be written: {error.strerror or error}") from None
    return Report(study.folder / REPORT, answers, len(drawings))


def _contents(
    study: Study, competitions: list[Arena], at: Standing
) -> tuple[str, list[page.Section], list[Drawing], list[str]]:
    openings, parts, drawings, answers = [sections.standing_note(study, at)], [], [], []
    for arena in competitions:
        found = sections.of_arena(arena, several=len(competitions) > 1)
        openings.append(found.opening)
        parts += found.parts
        drawings += found.drawings
        answers += found.sentences
    parts += sections.of_study(study, competitions)
    return "".join(openings), parts, drawings, answers
