"""The winner of a real sweep, trained again on fresh seeds and watched at work."""

import shutil

import pandas as pd
import pytest
import tiny

import jaxmoe
from jaxmoe.analysis.ranking import ranking_of
from jaxmoe.errors import InputError

pytestmark = pytest.mark.slow  # together: each compiles programs of its own


@pytest.fixture(scope="module")
def folder(swept, tmp_path_factory):
    return shutil.copytree(swept, tmp_path_factory.mktemp("confirm") / "sweep")


@pytest.fixture(scope="module")
def experiment(folder):
    return jaxmoe.load(folder)


@pytest.fixture(scope="module")
def found(experiment):
    return experiment.confirm(seeds=3)


@pytest.fixture(scope="module")
def watched(found, folder):
    del found
    return pd.read_parquet(folder / "behaviour.parquet")


def test_the_winner_alone_is_trained_in_all_its_environments_on_fresh_seeds(found, experiment):
    [own] = experiment.tables.confirmations
    ranking = ranking_of(experiment.tables)
    assert own.results["learning_rate"].unique().tolist() == [experiment.best()["learning_rate"]]
    assert sorted(own.results["latency_weight"].unique()) == [0.0, 0.01]
    assert sorted(own.results["seed"].unique()) == [0, 1, 2]
    assert found.winner == ranking.describe(ranking.winner)
    assert found.measure == "normalised"
    assert set(found.fresh) == {"train", "validation", "test"}
    assert found.chosen.mean == pytest.approx(experiment.best()["chosen"])  # one seed has chosen: it has no interval
    assert all(each.low <= each.mean <= each.high for each in found.fresh.values())


def test_fresh_seeds_have_keys_of_their_own_and_choose_nothing(found, experiment, swept):
    del found
    before = jaxmoe.load(swept)
    [own] = experiment.tables.confirmations
    same = before.results.query("learning_rate == @rate", local_dict={"rate": own.results["learning_rate"][0]})
    assert set(own.results["train_qos"]).isdisjoint(same["train_qos"])
    pd.testing.assert_frame_equal(experiment.results, before.results)
    pd.testing.assert_frame_equal(experiment.ranking(), before.ranking())
    assert [each.kind for each in experiment.contents.rounds] == ["spec", "confirmation"]


def test_what_the_agents_do_is_kept_request_by_request(watched):
    assert watched.groupby(["agent", "split"]).size().eq(1024).all()
    assert watched["agent"].nunique() == 3
    asked = watched[[name for name in watched if name.startswith("asked_")]]
    names = asked.columns.str.removeprefix("asked_")
    joined = ["+".join(names[row]) or "local" for row in asked.to_numpy()]
    assert watched["subset"].tolist() == joined
    assert watched["snr_db_setting"].between(0, 20).all()
    table = jaxmoe.load_table()
    first = watched.iloc[0]
    prompt = table.meta.prompt_ids.index(first["prompt"])
    assert first["relevance_action"] == pytest.approx(table.relevance[prompt, table.experts.index("action")])


def test_agents_asked_as_often_as_the_evaluation_says(watched, experiment):
    """Two samples of requests, one of them this one's, of the same policies."""
    [own] = experiment.tables.confirmations
    rows = watched.query("split == 'train'")
    results = own.results[own.results["agent"].isin(rows["agent"].unique())]
    for expert in jaxmoe.load_table().experts:
        assert rows[f"asked_{expert}"].mean() == pytest.approx(results[f"train_share_{expert}"].mean(), abs=0.06)


def test_the_same_call_again_does_nothing_anew_and_more_seeds_are_added(found, folder, tmp_path):
    out = shutil.copytree(folder, tmp_path / "out")
    before = tiny.contents(out)
    assert jaxmoe.load(out).confirm(seeds=3).fresh == found.fresh
    assert tiny.contents(out) == before
    assert tiny.sweep(out).complete  # finishing leaves what was watched
    assert tiny.contents(out) == before
    again = jaxmoe.load(out)
    more = again.confirm(seeds=4)
    assert more.chosen.mean == found.chosen.mean
    assert sorted(again.tables.confirmations[0].results["seed"].unique()) == [0, 1, 2, 3]
    assert len(again.tables.confirmations[0].results) == 8


def test_the_report_tells_of_it(watched, folder, tmp_path):
    del watched
    out = shutil.copytree(folder, tmp_path / "out")
    jaxmoe.report(out)
    text = (out / "report" / "report.html").read_text()
    assert "Trained again on 3 fresh seeds" in text
    assert 'id="figure-subsets"' in text


def test_an_experiment_that_was_confirmed_is_extended(watched, folder, tmp_path):
    del watched
    out = shutil.copytree(folder, tmp_path / "out")
    found = jaxmoe.load(out).extend(seeds=4)
    assert found.complete
    [width] = {job.agents_per_device for job in found.contents.jobs if job.kind == "train"}
    tiny.assert_equal_tables(found, tiny.sweep(None, {"seeds": 4, "devices.agents_per_device": width}))
    assert len(found.tables.confirmations[0].results) == 6


def test_what_is_no_finished_experiment_has_no_winner(folder, tmp_path):
    with pytest.raises(InputError, match="has no scenario 'fading'; choose one of oneshot"):
        jaxmoe.load(folder).confirm(scenario="fading")
    with pytest.raises(InputError, match="has no algorithm 'dqn' in oneshot; choose one of ppo"):
        jaxmoe.load(folder).confirm(algorithm="dqn")
    with pytest.raises(InputError, match="seeds = 0 must be at least 1"):
        jaxmoe.load(folder).confirm(seeds=0)
    out = tmp_path / "unfinished"
    tiny.sweep(out, time_budget_s=0)
    with pytest.raises(InputError, match="is not finished, and its winner may change: 0 of 12 agents trained"):
        jaxmoe.load(out).confirm()
    diverged = tiny.sweep(None, {"hypers.learning_rate": [1e30, 1e29], "baselines": "none"})
    with pytest.raises(InputError, match="every agent of the best configuration diverged; there is no winner"):
        diverged.confirm()
    with pytest.raises(InputError, match="every agent of the best configuration diverged; there is no winner"):
        diverged.best()


def test_a_confirmation_whose_time_is_up_goes_on_with_the_same_command(swept, tmp_path, found):
    out = shutil.copytree(swept, tmp_path / "out")
    assert tiny.command("confirm", out, "--seeds", 3, "--time-budget", 0).code == 3
    done = tiny.command("confirm", out, "--seeds", 3)
    assert done.code == 0, done.stderr
    assert "train prompts, 3 fresh seeds" in done.stdout
    change = found.fresh["validation"].mean - found.chosen.mean
    assert f"change on validation prompts {change:+.3f}" in " ".join(done.stdout.split())


def test_the_winner_of_a_continuing_task_and_of_several_algorithms(tmp_path):
    memory = {"num_envs": 4, "rollout_length": 4, "replay_capacity": 64, "warmup_steps": 16, "hidden": [8]}
    spec = {**tiny.SPEC, "algorithm": ["ppo", "dqn"], "scenario": "queueing", "seeds": 1, "params": {}}
    spec |= {"hypers": {"ppo": {"gae_lambda": [0.5, 0.9]}, "dqn": {"target_tau": [0.01, 0.1]}}, "baselines": "none"}
    spec["config"] = {"ppo": tiny.CONFIG, "dqn": memory}
    experiment = tiny.sweep(tmp_path / "sweep", spec=spec)
    experiment.confirm(seeds=1, algorithm="dqn")
    rows = pd.read_parquet(tmp_path / "sweep" / "behaviour.parquet")
    assert rows.groupby(["agent", "split"]).size().eq(1024).all()
    [own] = experiment.tables.confirmations
    assert own.results["algorithm"].tolist() == ["dqn"]
