"""`train` from end to end, in a folder and in memory."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tiny

import jaxmoe
from jaxmoe.errors import InputError


@pytest.fixture(scope="module")
def found(trained):
    return jaxmoe.load(trained)


@pytest.fixture(scope="module")
def in_memory():
    return tiny.train()


def test_a_training_is_a_sweep_of_one_configuration(found, trained):
    assert found.complete
    assert found.folder == trained
    assert {path.name for path in trained.iterdir()} - {".lock"} == {
        "experiment.json", "spec.toml", "table", "rounds", "jobs", "made.json",
        *(f"{name}.parquet" for name in tiny.TABLES),
    }  # fmt: skip
    again = jaxmoe.sweep(found.spec)
    tiny.assert_equal_tables(again, found, but=())
    assert len(found.ranking()) == 1
    assert found.best()["seeds"] == 3


def test_the_tables_have_a_row_per_agent_and_per_agent_and_evaluation(found):
    assert found.results["seed"].tolist() == [0, 1, 2]
    assert found.results["env_steps"].eq(512).all()
    assert found.curves.groupby("env_steps").size().to_dict() == dict.fromkeys([0, 32, 64, 128, 256, 512], 3)
    assert found.curves["train_qos"].notna().all()


def test_the_baselines_that_are_asked_for_stand_beside_the_agents(found):
    policies = found.comparison()["policy"]
    assert set(policies) == {"ppo (3 agents)", "random", "one_slot_optimum"}
    rows = found.comparison().query("policy == 'ppo (3 agents)' and metric == 'qos' and split == 'train'")
    assert rows["mean"].item() == pytest.approx(found.results["train_qos"].mean(), rel=1e-3)
    assert rows["low"].item() <= rows["mean"].item() <= rows["high"].item()


def test_the_same_training_twice_is_the_same_bit_by_bit(found, in_memory):
    tiny.assert_equal_tables(in_memory, found, but=())
    for one, other in zip(in_memory.agents(), found.agents(), strict=True):
        assert one.tensors.keys() == other.tensors.keys()
        for name in one.tensors:
            np.testing.assert_array_equal(one.tensors[name], other.tensors[name])


def test_the_same_call_goes_on_and_another_is_refused(trained, tmp_path):
    out = shutil.copytree(trained, tmp_path / "out")
    before = tiny.contents(out)
    assert tiny.train(out).complete
    assert tiny.contents(out) == before
    with pytest.raises(InputError, match=r"holds another experiment: hypers.clip was absent and is now 0.1"):
        tiny.train(out, hypers={"clip": 0.1})
    assert tiny.contents(out) == before


# In memory


def test_without_a_folder_nothing_is_left_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = tiny.train()
    assert found.folder is None
    assert found.complete
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_in_memory_is_saved_and_is_the_same(in_memory, tmp_path, trained):
    saved = in_memory.save(tmp_path / "new" / "out")
    assert saved.folder == tmp_path / "new" / "out"
    for found in (saved, jaxmoe.load(tmp_path / "new" / "out")):
        tiny.assert_equal_tables(found, in_memory, but=())
        pd.testing.assert_frame_equal(found.ranking(), in_memory.ranking())
    tiny.assert_same(tmp_path / "new" / "out", trained)
    before = tiny.contents(tmp_path)
    assert tiny.train(tmp_path / "new" / "out").complete
    assert tiny.contents(tmp_path) == before
    assert str(saved.status()).startswith("3 of 3 agents trained")


def test_an_experiment_is_saved_into_a_new_or_empty_folder_only(in_memory, tmp_path, trained):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match=r"out holds 'notes.txt' and no experiment; choose a new or an empty folder"):
        in_memory.save(tmp_path / "out")
    with pytest.raises(InputError, match="train holds an experiment already; choose another folder"):
        in_memory.save(trained)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "notes.txt"]
    (tmp_path / "out" / "notes.txt").unlink()
    assert in_memory.save(tmp_path / "out").complete


def test_an_experiment_in_memory_is_reported_once_it_is_saved(in_memory):
    with pytest.raises(InputError, match=r"the experiment is in memory; keep it with save\(DIR\) first, then report"):
        in_memory.report()
    with pytest.raises(InputError, match="the experiment is in memory"):
        jaxmoe.report(in_memory)


def test_experiments_are_compared_whether_they_are_saved_or_not(in_memory, trained):
    other = tiny.train(hypers={"learning_rate": 0.0})
    found = jaxmoe.compare([in_memory, other, trained]).table()
    assert len(found) == 3
    assert found["train"].nunique() == 2


@pytest.mark.slow
def test_a_table_without_test_prompts_is_trained_on_as_well(tmp_path):
    frame = jaxmoe.load_table().select_experts(["character", "action"]).to_frame()
    frame[frame["split"] == "train"].to_csv(tmp_path / "table.csv", index=False)
    found = tiny.train(tmp_path / "out", table=jaxmoe.load_table(tmp_path / "table.csv"))
    assert set(found.comparison()["split"]) == {"train"}
    assert found.table.experts == ("character", "action")
    assert jaxmoe.load(tmp_path / "out").table.meta.digest == found.table.meta.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_steps": 0}, "env_steps = 0 must be at least 1"),
        ({"evaluations": 0}, "evaluations = 0 must be at least 1"),
        ({"requests": 0}, "requests = 0 must be at least 1"),
        ({"seeds": 0}, "seeds = 0 must be at least 1"),
        ({"seeds": [1, 1]}, "seed"),
        ({"baselines": ["oracle"]}, "unknown baseline 'oracle'; choose among"),
        ({"baselines": "oracle"}, "unknown baseline 'oracle'; choose among"),
        ({"params": {"latency": 1.0}}, "unknown parameter 'latency'; choose among .*latency_weight"),
        ({"settings": {"num_replicas": 0}}, "num_replicas = 0 is not allowed"),
        ({"hypers": {"clip": {"grid": [0.1, 0.2]}}}, "hypers.clip = .* is an axis; train has one configuration"),
        ({"time_budget_s": -1}, "time_budget_s = -1 must be at least 0"),
        ({"init_from": "nowhere.safetensors"}, "nowhere.*: there is no such file"),
    ],
    ids=str,
)
def test_bad_input_leaves_no_folder(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        tiny.train(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_an_experiment_is_refused(tmp_path):
    for reads in (jaxmoe.load, jaxmoe.evaluate, jaxmoe.report):
        with pytest.raises(InputError, match=r"holds no experiment: there is no experiment.json in it"):
            reads(tmp_path)
        with pytest.raises(InputError, match="nowhere: there is no such folder"):
            reads(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file, not a folder"):
        jaxmoe.load(tmp_path / "file")


@pytest.mark.slow
def test_agents_go_on_from_an_exported_policy_and_another_one_is_another_experiment(trained, tmp_path):
    for number in range(2):
        jaxmoe.export(trained, tmp_path / f"{number}.safetensors", agent=number)
    found = tiny.train(tmp_path / "out", init_from=tmp_path / "0.safetensors", baselines="none")
    begun = found.curves[found.curves["env_steps"] == 0]
    assert begun["train_qos"].eq(begun["train_qos"].iloc[0]).all()
    (tmp_path / "elsewhere").mkdir()
    jaxmoe.export(trained, tmp_path / "elsewhere" / "same.safetensors", agent=0)
    assert tiny.train(
        tmp_path / "out", init_from=tmp_path / "elsewhere" / "same.safetensors", baselines="none"
    ).complete
    with pytest.raises(InputError, match="out was begun from another policy; choose another output folder"):
        tiny.train(tmp_path / "out", init_from=tmp_path / "1.safetensors", baselines="none")
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(InputError, match=r"0.safetensors: there is no such file"):
        tiny.train(tmp_path / "out", init_from=tmp_path / "0.safetensors", baselines="none")
    assert jaxmoe.load(tmp_path / "out").extend(seeds=4).complete  # the folder needs nothing else


@pytest.mark.slow
def test_ppo_with_the_shipped_defaults_solves_oneshot():
    baselines = ["random", "fixed_subset", "one_slot_optimum"]
    found = jaxmoe.train("ppo", "oneshot", seeds=8, env_steps=500_000, evaluations=1, baselines=baselines)
    assert found.results["train_normalised"].mean() >= 0.98
    assert not found.results["diverged"].any()
    normalised = found.comparison().query("metric == 'normalised' and split == 'test'").set_index("policy")["mean"]
    assert normalised["ppo (8 agents)"] > normalised["fixed_subset(6)"]
