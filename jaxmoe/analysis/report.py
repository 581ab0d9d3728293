"""What an experiment found, as one web page, and its figures as files for a paper."""

from typing import NamedTuple

import jaxmoe
from jaxmoe.analysis import page, sections
from jaxmoe.analysis.ranking import rankings
from jaxmoe.analysis.status import standing
from jaxmoe.analysis.style import files_of, style
from jaxmoe.analysis.tables import Tables
from jaxmoe.errors import InputError
from jaxmoe.names import slug, to_csv

REPORT = "report.html"


class Report(NamedTuple):
    """A report: its files by name, and what it says in short."""

    files: dict[str, bytes]
    sentences: list[str]  # of each scenario: who wins, where, and what matters
    figures: int


def make_report(tables: Tables) -> Report:
    """The page, and its figures as PDF, PNG and CSV, from what is there so far.

    Raises:
        InputError: none of the agents is trained yet.
    """
    at = standing(tables)
    if not len(tables.results):
        raise InputError(f"{tables.where}: none of {len(tables.agents):,} agents is trained yet; {at}")
    competitions = rankings(tables)
    if not competitions:
        raise InputError(f"{tables.where}: no configuration has all its environments yet; {at}")
    with style():
        found = [sections.of_ranking(ranking, several=len(competitions) > 1) for ranking in competitions]
        opening = sections.standing_note(tables, at) + "".join(each.opening for each in found)
        parts = [part for each in found for part in each.parts] + sections.of_tables(tables, competitions)
        drawings = [drawing for each in found for drawing in each.drawings]
        lead = f"{tables.name}: {sections.asked(tables)}; made from {at.trained:,} of {at.agents:,} agents"
        text = page.page(f"jaxmoe: {tables.name}", lead, opening, parts, f"jaxmoe {jaxmoe.__version__}")
        files = {REPORT: text.encode()}
        for drawing in drawings:
            files |= {f"figures/{name}": content for name, content in files_of(drawing).items()}
        for name, table in [pair for each in found for pair in each.tables.items()]:
            files[f"figures/{slug(name)}.csv"] = to_csv(table)
    sentences = [sentence for each in found for sentence in each.sentences]
    return Report(files, sentences, len(drawings))
