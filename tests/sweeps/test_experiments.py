"""The sweeps of `experiments/` can be begun."""

import re
from pathlib import Path

import pytest

from jaxmoe.sweeps.plan import make_plan
from jaxmoe.sweeps.spec import load_spec
from jaxmoe.sweeps.sweeping import spec_table

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "experiments" / "sweeps").glob("*.toml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_spec_can_be_planned_says_what_it_asks_and_is_listed(path):
    spec = load_spec(path)
    assert make_plan(spec, spec_table(spec)).num_agents >= 100
    assert "?" in path.read_text().split("algorithm =")[0]
    assert f"jaxmoe sweep experiments/sweeps/{path.name} --out" in (ROOT / "experiments" / "README.md").read_text()


def test_one_of_them_trains_more_than_a_thousand_agents():
    counts = [make_plan(spec, spec_table(spec)).num_agents for spec in map(load_spec, SPECS)]
    assert len(counts) >= 4
    assert max(counts) >= 1024


def printed(name):
    return (ROOT / "experiments" / "results" / name / "printed.txt").read_text()


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_results_of_a_spec_are_kept(path):
    spec = load_spec(path)
    text = printed(path.stem)
    assert text.startswith(f"$ jaxmoe sweep experiments/sweeps/{path.name} --out runs/{path.stem}\n")
    assert f"{make_plan(spec, spec_table(spec)).num_agents:,} agents trained, " in text
    assert f"$ jaxmoe report runs/{path.stem}\n" in text


def test_what_the_findings_quote_was_printed():
    findings = (ROOT / "experiments" / "README.md").read_text()
    quoted = re.findall(r"^((?:oneshot|fading|queueing): .*(?:wins, |reaches |against |variance ).*)$", findings, re.M)
    kept = {line for path in SPECS for line in printed(path.stem).splitlines()}
    assert len(quoted) >= 12
    assert [line for line in quoted if line not in kept] == []
