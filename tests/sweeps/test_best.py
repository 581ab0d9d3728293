"""The winner of a real sweep, trained again on fresh seeds and watched at work."""

import shutil

import pandas as pd
import pytest

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.study.arena import arenas
from jaxmoe.study.reading import read_study

pytestmark = pytest.mark.slow  # together: each compiles programs of its own

SPEC = {
    "algorithm": "ppo",
    "env_steps": 512,
    "seeds": 4,
    "evaluations": 2,
    "slots": 256,
    "hypers": {"learning_rate": [1e-3, 1e-2]},
    "config": {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": [8]},
    "params": {"latency_weight": [0.0, 0.01]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("best") / "sweep"
    jaxmoe.sweep(SPEC, folder)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return jaxmoe.best(folder, fresh_seeds=3)


def test_the_winner_alone_is_trained_in_all_its_environments_on_fresh_seeds(found, folder):
    [arena] = arenas(read_study(folder))
    rate = arena.settings["learning_rate"].iloc[arena.winner]
    results = pd.read_parquet(found.folder / "results.parquet")
    assert results["learning_rate"].unique().tolist() == [rate]
    assert sorted(results["latency_weight"].unique()) == [0.0, 0.01]
    assert sorted(results["seed"].unique()) == [4, 5, 6]
    assert found.winner == arena.describe(arena.winner)
    assert set(found.fresh) == {"train", "test"}


def test_an_agent_is_the_same_as_in_a_sweep_with_that_seed(found, tmp_path):
    again = jaxmoe.sweep({**SPEC, "seeds": [5]}, tmp_path / "again").results
    results = pd.read_parquet(found.folder / "results.parquet")
    mine = results[results["seed"] == 5].sort_values("environment")
    same = again[again["learning_rate"].isin(mine["learning_rate"])].sort_values("environment")
    assert mine["train_qos"].to_numpy() == pytest.approx(same["train_qos"].to_numpy(), rel=1e-4)


def test_what_the_agents_do_is_kept_request_by_request(found):
    rows = pd.read_parquet(found.folder / "behaviour.parquet")
    assert rows.groupby(["agent", "split"]).size().eq(1024).all()
    assert rows["agent"].nunique() == 3
    asked = rows[[name for name in rows if name.startswith("asked_")]]
    names = asked.columns.str.removeprefix("asked_")
    joined = ["+".join(names[row]) or "local" for row in asked.to_numpy()]
    assert rows["subset"].tolist() == joined
    assert rows["snr_db_setting"].between(0, 20).all()
    table = jaxmoe.load_table()
    first = rows.iloc[0]
    prompt = table.meta.prompt_ids.index(first["prompt"])
    assert first["relevance_action"] == pytest.approx(table.relevance[prompt, table.experts.index("action")])


def test_agents_asked_as_often_as_the_evaluation_says(found):
    """Two samples of requests, one of them this one's, of the same policies."""
    rows = pd.read_parquet(found.folder / "behaviour.parquet").query("split == 'train'")
    prompts = pd.read_parquet(found.folder / "prompts.parquet").query("split == 'train'")
    prompts = prompts[prompts["agent"].isin(rows["agent"].unique())]
    for expert in jaxmoe.load_table().experts:
        judged = (prompts[f"share_{expert}"] * prompts["slots"]).sum() / prompts["slots"].sum()
        assert rows[f"asked_{expert}"].mean() == pytest.approx(judged, abs=0.06)


def test_the_report_tells_of_it(found, folder):
    del found
    text = jaxmoe.report(folder).path.read_text()
    assert "Trained again on 3 fresh seeds" in text
    assert 'id="figure-subsets"' in text


def test_other_fresh_seeds_are_refused_and_the_same_go_on(found, folder):
    assert jaxmoe.best(folder, fresh_seeds=3).fresh == found.fresh
    with pytest.raises(InputError, match="holds the sweep of another spec: seeds"):
        jaxmoe.best(folder, fresh_seeds=2)


def test_what_is_no_finished_sweep_has_no_winner(folder, tmp_path):
    with pytest.raises(InputError, match="has no scenario 'fading'; choose one of oneshot"):
        jaxmoe.best(folder, scenario="fading")
    shutil.copytree(folder, tmp_path / "sweep")
    results = pd.read_parquet(folder / "results.parquet")
    results.assign(diverged=True).to_parquet(tmp_path / "sweep" / "results.parquet", index=False)
    with pytest.raises(InputError, match="there is no winner to train again"):
        jaxmoe.best(tmp_path / "sweep")
    (tmp_path / "sweep" / "results.parquet").unlink()
    shutil.rmtree(tmp_path / "sweep" / "chunks")
    with pytest.raises(InputError, match="is not finished, and its winner may change"):
        jaxmoe.best(tmp_path / "sweep")


def test_the_best_setting_of_an_algorithm(folder):
    found = jaxmoe.best(folder, algorithm="ppo", fresh_seeds=1)
    assert found.folder == folder / "best-oneshot-ppo"
    assert found.winner.startswith("PPO with learning rate")
    with pytest.raises(InputError, match="has no algorithm 'dqn' in oneshot; choose one of ppo"):
        jaxmoe.best(folder, algorithm="dqn")


def test_the_winner_of_a_continuing_task_and_of_several_algorithms(tmp_path):
    memory = {"num_envs": 4, "rollout_length": 4, "replay_capacity": 64, "warmup_steps": 16, "hidden": [8]}
    spec = {**SPEC, "algorithm": ["ppo", "dqn"], "scenario": "queueing", "seeds": 1, "params": {}}
    spec["hypers"] = {"ppo": {"gae_lambda": [0.5, 0.9]}, "dqn": {"target_tau": [0.01, 0.1]}}
    spec["config"] = {"ppo": SPEC["config"], "dqn": memory}
    folder = tmp_path / "sweep"
    jaxmoe.sweep(spec, folder)
    found = jaxmoe.best(folder, fresh_seeds=1)
    rows = pd.read_parquet(found.folder / "behaviour.parquet")
    assert rows.groupby(["agent", "split"]).size().eq(1024).all()
    assert "Trained again on 1 fresh seeds" in jaxmoe.report(folder).path.read_text()
