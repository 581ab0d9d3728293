"""What is said under a comparison."""

import io
from dataclasses import replace

import numpy as np
import pytest
import synthetic
from rich.console import Console

from jaxmoe.analysis.answer import WINNER, answer
from jaxmoe.analysis.comparing import compare_tables
from jaxmoe.analysis.comparison import against_baselines, compared, comparison_frame, quality_table
from jaxmoe.analysis.intervals import Brought, UnitSums
from jaxmoe.analysis.ranking import rankings
from jaxmoe.analysis.remarks import few_seeds, leads, remarks, strongest_deployable
from jaxmoe.cli import output

LEVELS = {"random": 0.0, "one_slot_optimum": 1.0}
DEPLOYABLE = {"random": True, "fixed_subset": True, "one_slot_optimum": False}


def brought(values):
    """Policies that serve one request of each prompt, [agents, prompts]."""
    sums = np.asarray(values, float)[..., None]
    return [Brought(UnitSums(sums, np.ones(sums.shape[:2])), None)]


def frame(policies, own="agents", splits=("train", "test")):
    rows = [row for split in splits for row in compared(split, policies, policies[own], ["qos"], LEVELS)]
    return comparison_frame(rows, DEPLOYABLE)


@pytest.fixture(scope="module")
def policies():
    prompts = np.linspace(0.0, 0.02, 6)
    return {
        "agents": brought([0.5 + prompts, 0.8 + prompts, 0.7 + prompts]),
        "fixed_subset(3)": brought([0.4 + prompts[::-1]]),
        "random": brought([0.1 + prompts]),
        "one_slot_optimum": brought([0.9 + prompts]),
    }


def test_the_strongest_deployable_is_chosen_on_the_prompts_that_choose(policies):
    found = frame(policies, splits=("train", "validation", "test"))
    assert strongest_deployable(found) == "fixed_subset(3)"
    better = found.copy()
    at = (better["policy"] == "random") & (better["metric"] == "qos")
    better.loc[at & (better["split"] == "test"), "mean"] = 2.0
    assert strongest_deployable(better) == "fixed_subset(3)"
    better.loc[at & (better["split"] == "validation"), "mean"] = 2.0
    assert strongest_deployable(better) == "random"


def test_agents_are_ahead_by_the_difference_on_the_same_requests(policies):
    found = frame(policies)
    lead = leads(found, "fixed_subset(3)")["test"]
    assert lead.mean == pytest.approx(2.0 / 3 - 0.4)
    [sentence, few] = remarks(found, "agents", np.array([True, False, False]))
    assert sentence.startswith(
        "QoS of agents beyond fixed_subset(3), the strongest deployable baseline on train prompts"
    )
    assert f"{lead:+.3f} on test prompts." in sentence
    assert few.endswith("1 of 3 diverged, of all such agents up to 79% may.")  # Wilson 1927


def test_rare_failures_are_spoken_of_where_few_seeds_make_most_of_the_interval(policies):
    assert few_seeds(frame(policies), "agents") == 3
    many = policies | {"agents": brought(np.repeat(policies["agents"][0].prompts.sums[..., 0], 6, axis=0))}
    assert few_seeds(frame(many), "agents") == 0
    apart = 0.5 + np.linspace(0, 0.4, 6)
    assert few_seeds(frame(policies | {"agents": brought([apart, apart + 0.01, apart - 0.01])}), "agents") == 0
    assert few_seeds(frame(policies | {"agents": brought([apart])}), "agents") == 0
    assert few_seeds(frame(policies), "random") == 0
    with_seeds = frame(policies).set_index("policy")["seeds"]
    assert set(with_seeds["agents"]) == {3}
    assert with_seeds["random"].isna().all()


def test_there_is_no_normalised_score_where_its_ends_are_not_told_apart(policies):
    crooked = np.array([0.0, 0.9, -0.4, 0.9, -0.9, 0.5])
    rows = frame(policies | {"one_slot_optimum": brought([0.2 + crooked])})
    assert rows[rows["metric"] == "normalised"][["mean", "low", "high"]].isna().all(axis=None)
    assert "No normalised score on train and test prompts" in " ".join(remarks(rows, "agents"))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(quality_table(rows, "how good"))
    text = console.export_text()
    assert "normalised" not in text
    assert "nan" not in text
    assert frame(policies).query("metric == 'normalised'")["mean"].notna().all()


def test_everything_is_printed_with_the_comparison(policies, monkeypatch):
    rows = frame(
        {("ppo (3 agents)" if name == "agents" else name): of for name, of in policies.items()}, "ppo (3 agents)"
    )
    more = [("behaviour_table", lambda *_: quality_table(rows, ""))]
    for name, of in more:
        monkeypatch.setattr(f"jaxmoe.analysis.comparison.{name}", of)
    console = Console(width=200, record=True, file=io.StringIO())
    monkeypatch.setattr(output, "OUT", console)
    output.print_comparison(rows, np.zeros(3, bool))
    text = console.export_text()
    assert text.count("QoS of ppo (3 agents) beyond fixed_subset(3)") == 1
    assert text.count("with rare failures it holds the truth in 86 to 93 %") == 1


def test_competitors_stand_beside_the_strongest_deployable_baseline(finished):
    found = compare_tables([finished, synthetic.make(name="other", seeds=6)])
    table = found.table()
    assert set(table["rival"]) == {"predict_then_optimise"}
    [ranking] = rankings(finished)
    agents = ranking.agents[ranking.winner][:, ranking.measured_on]
    rows = against_baselines(finished, agents, ranking.environments[ranking.winner], "own")
    lead = leads(rows, "predict_then_optimise")["test"]
    row = table[table["name"] == "finished ppo oneshot"]
    assert row[["test_lead", "test_lead_low", "test_lead_high"]].to_numpy().ravel().tolist() == list(lead)
    without = synthetic.make(name="without", baselines=False)
    assert compare_tables([finished, without]).table()["rival"].isna().sum() == 1


def test_a_report_has_no_normalised_score_of_baselines_that_are_not_told_apart(finished):
    alike = finished.baselines.copy()
    is_best = (alike["policy"] == "one_slot_optimum") & (alike["split"] == "test")
    crooked = np.where(alike["unit"][is_best] % 2, 4.0, -3.4) * alike["requests"][is_best]
    alike.loc[is_best, "qos"] = (alike.loc[is_best, "qos"] + crooked).astype(np.float32)
    [ranking] = rankings(replace(finished, baselines=alike))
    found = answer(ranking)
    assert found.estimate("test", "normalised") is None
    assert found.estimate("train", "normalised", WINNER) is not None
