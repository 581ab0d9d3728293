"""The sweeps of `experiments/` can be begun."""

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
