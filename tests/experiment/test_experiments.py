"""The specs of `experiments/` can be planned, and what they found is kept."""

import re
from pathlib import Path

import pytest

from jaxmoe.experiment import plan
from jaxmoe.experiment.spec import load_spec
from jaxmoe.table import load_table
from jaxmoe.training.inputs import seed_list

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "experiments" / "sweeps").glob("*.toml"))


def num_agents(spec):
    """How many a spec asks for, if all of it can be planned."""
    table = load_table(spec.table, relevance=spec.relevance)
    members = plan.members(spec, table)
    plan.check_spec(spec, members, table)
    return len(members) * len(seed_list(spec.seeds))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_spec_can_be_planned_says_what_it_asks_and_is_listed(path):
    spec = load_spec(path)
    assert num_agents(spec) >= 100
    assert "?" in path.read_text().split("algorithm =")[0]
    assert f"jaxmoe sweep experiments/sweeps/{path.name} --out" in (ROOT / "experiments" / "README.md").read_text()


def test_one_of_them_trains_more_than_a_thousand_agents():
    counts = [num_agents(spec) for spec in map(load_spec, SPECS)]
    assert len(counts) >= 4
    assert max(counts) >= 1024


def printed(name):
    return (ROOT / "experiments" / "results" / name / "printed.txt").read_text()


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_results_of_a_spec_are_kept(path):
    spec = load_spec(path)
    text = printed(path.stem)
    assert text.startswith(f"$ jaxmoe sweep experiments/sweeps/{path.name} --out runs/{path.stem}\n")
    assert f"{num_agents(spec):,} agents trained, " in text
    assert f"$ jaxmoe report runs/{path.stem}\n" in text


def test_what_the_findings_quote_was_printed():
    findings = (ROOT / "experiments" / "README.md").read_text()
    quoted = re.findall(r"^((?:oneshot|fading|queueing): .*(?:wins, |reaches |against |variance ).*)$", findings, re.M)
    kept = {line for path in SPECS for line in printed(path.stem).splitlines()}
    assert len(quoted) >= 12
    assert [line for line in quoted if line not in kept] == []
