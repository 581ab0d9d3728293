"""Environment by environment: leads over references, as the made-up results have them."""

import pytest
import synthetic

import jaxmoe
from jaxmoe.study.answer import answer
from jaxmoe.study.arena import arenas
from jaxmoe.study.places import place_charts, places
from jaxmoe.study.reading import read_study
from jaxmoe.study.style import style


def places_of(folder):
    [arena] = arenas(read_study(folder))
    return arena, places(arena, answer(arena).strongest_rule())


@pytest.fixture(scope="module")
def weighed(tmp_path_factory):
    """One number of the environment that makes agents worse the larger it is; references stay the same."""
    folder = tmp_path_factory.mktemp("places") / "weighed"
    return synthetic.make(folder, weights=(-2.0, 0.0, 4.0), seeds=8)


def test_the_lead_is_the_difference_of_means(weighed):
    arena, found = places_of(weighed)
    assert found.axes == ["latency_weight"]
    assert found.rivals == ["one_slot_optimum", "predict_then_optimise"]
    results = read_study(weighed).results.set_index("agent")
    for split in ("train", "test"):
        for rival in found.rivals:
            rows = found.of(split, rival)
            level = synthetic.LEVELS[rival] - (0.01 if split == "test" else 0.0)
            for task, (qos, ahead, low, high) in enumerate(rows[["qos", "ahead", "low", "high"]].to_numpy()):
                mean = results.loc[arena.agents[arena.winner, task], f"{split}_qos"].mean()
                assert qos == pytest.approx(mean)
                assert ahead == pytest.approx(mean - level)
                assert low < ahead < high


def test_the_sentence_counts_environments(weighed):
    _, found = places_of(weighed)
    rows = found.of("train", "predict_then_optimise")
    assert rows["low"].iloc[0] > 0 > rows["high"].iloc[-1]  # ahead at one end, behind at the other
    [sentence] = [text for text in found.sentences(["train"]) if "predict_then_optimise" in text]
    counts = {"ahead": (rows["low"] > 0).sum(), "behind": (rows["high"] < 0).sum()}
    assert sentence.startswith("against predict_then_optimise on train prompts, of 3 environments ahead in ")
    for word, count in counts.items():
        assert f"{word} in {count}" in sentence


def test_one_environment_has_no_comparison_of_places(finished):
    assert places_of(finished)[1] is None


def test_without_references_there_is_none_either(tmp_path):
    assert places_of(synthetic.make(tmp_path / "bare", references=False, weights=(0.0, 1.0)))[1] is None


def test_two_numbers_make_a_map_of_each_rival_and_more_none(weighed):
    _, found = places_of(weighed)
    with style():
        assert [drawing.name for drawing in place_charts(found, "")] == ["ahead_of_references"]
        two = found._replace(leads=found.leads.assign(slot_s=found.leads["latency_weight"] + 1))
        two = two._replace(axes=["latency_weight", "slot_s"])
        names = [drawing.name for drawing in place_charts(two, "")]
    assert names == ["ahead_of_one_slot_optimum", "ahead_of_predict_then_optimise"]
    assert place_charts(found._replace(axes=["a", "b", "c"]), "") == []


def test_the_report_shows_it(weighed):
    found = jaxmoe.report(weighed)
    text = found.path.read_text()
    assert 'id="figure-ahead_of_references"' in text
    assert any("of 3 environments" in sentence for sentence in found.sentences)
    assert any(sentence.startswith("oneshot: variance between settings of PPO") for sentence in found.sentences)
