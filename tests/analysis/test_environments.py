"""Environment by environment: leads over baselines, as the made-up results have them."""

import pytest
import synthetic

from jaxmoe.analysis.answer import answer
from jaxmoe.analysis.environments import by_environment, environment_charts
from jaxmoe.analysis.ranking import rankings
from jaxmoe.analysis.style import style


def by_environment_of(tables):
    [ranking] = rankings(tables)
    return ranking, by_environment(ranking, answer(ranking).strongest_rule())


@pytest.fixture(scope="module")
def weighed():
    """One number of the environment that makes agents worse the larger it is; baselines stay the same."""
    return by_environment_of(synthetic.make(weights=(-2.0, 0.0, 4.0)))


def test_the_lead_is_the_difference_of_means(weighed):
    ranking, found = weighed
    assert found.axes == ["latency_weight"]
    assert found.rivals == ["one_slot_optimum", "predict_then_optimise"]
    results = ranking.tables.results.set_index("agent")
    for split in ("train", "test"):
        for rival in found.rivals:
            rows = found.of(split, rival)
            for task, (qos, ahead, low, high) in enumerate(rows[["qos", "ahead", "low", "high"]].to_numpy()):
                mean = results.loc[ranking.agents[ranking.winner, task], f"{split}_qos"].mean()
                assert qos == pytest.approx(mean, abs=1e-6)
                assert ahead == pytest.approx(mean - synthetic.level(rival, split), abs=1e-6)
                assert low < ahead < high


def test_the_sentence_counts_environments(weighed):
    _, found = weighed
    rows = found.of("train", "predict_then_optimise")
    assert rows["low"].iloc[0] > 0 > rows["high"].iloc[-1]  # ahead at one end, behind at the other
    [sentence] = [text for text in found.sentences(["train"]) if "predict_then_optimise" in text]
    counts = {"ahead": (rows["low"] > 0).sum(), "behind": (rows["high"] < 0).sum()}
    assert sentence.startswith("against predict_then_optimise on train prompts, of 3 environments ahead in ")
    for word, count in counts.items():
        assert f"{word} in {count}" in sentence


def test_one_environment_has_no_comparison_of_environments(finished, drawn):
    assert by_environment_of(finished)[1] is None
    assert by_environment_of(drawn)[1] is None


def test_without_baselines_there_is_none_either():
    assert by_environment_of(synthetic.make(baselines=False, weights=(0.0, 1.0)))[1] is None


def test_two_numbers_make_a_map_of_each_rival_and_more_none(weighed):
    _, found = weighed
    with style():
        assert [drawing.name for drawing in environment_charts(found, "")] == ["ahead_of_baselines"]
        two = found._replace(leads=found.leads.assign(slot_s=found.leads["latency_weight"] + 1))
        two = two._replace(axes=["latency_weight", "slot_s"])
        names = [drawing.name for drawing in environment_charts(two, "")]
    assert names == ["ahead_of_one_slot_optimum", "ahead_of_predict_then_optimise"]
    assert environment_charts(found._replace(axes=["a", "b", "c"]), "") == []
