"""Sweeps from end to end, in one process; see `test_kills`, `test_stopping` and `test_shards` for more of them."""

import itertools
import json
import re
import shutil

import jax
import numpy as np
import pandas as pd
import pytest
import tiny
from safetensors.numpy import load_file

import jaxmoe
from jaxmoe.analysis.tables import Objective
from jaxmoe.errors import InputError
from jaxmoe.experiment import calls
from jaxmoe.experiment.engines import Local
from jaxmoe.training import sizes, training_run
from jaxmoe.training.events import JobStarted, Noted, Planned

WEIGHTS = "policies.safetensors"


@pytest.fixture(scope="module")
def found(swept):
    return jaxmoe.load(swept)


def attempt(folder, job):
    """The attempt of a job that counts."""
    about = json.loads((folder / "jobs" / job / "done.json").read_text())
    return folder / "jobs" / job / about["attempt"]


def test_the_folder_holds_the_plan_the_jobs_and_the_tables(found, swept):
    assert found.complete
    assert {path.name for path in swept.iterdir()} - {".lock"} == {
        "experiment.json", "spec.toml", "table", "rounds", "jobs", "made.json",
        *(f"{name}.parquet" for name in tiny.TABLES),
    }  # fmt: skip
    assert sorted(path.name for path in (swept / "rounds" / "000").iterdir()) == [
        "jobs.jsonl", "plan.parquet", "round.json",
    ]  # fmt: skip
    assert sorted(path.name for path in (swept / "jobs").iterdir()) == ["000000", "000001", "000002"]
    assert {path.name for path in attempt(swept, "000000").iterdir()} == {"evaluation.parquet"}
    assert {path.name for path in attempt(swept, "000002").iterdir()} == {
        "results.parquet", "curves.parquet", "evaluation.parquet", WEIGHTS, "state.safetensors",
    }  # fmt: skip
    assert [path.name for path in swept.glob("jobs/*/*") if path.is_file()] == ["done.json"] * 3
    for name in ("results", "curves"):
        pd.testing.assert_frame_equal(pd.read_parquet(swept / f"{name}.parquet"), getattr(found, name))
    pd.testing.assert_frame_equal(pd.read_parquet(swept / "comparison.parquet"), found.comparison())


def test_a_job_says_what_counts_and_where_it_was_done(swept):
    about = json.loads((swept / "jobs" / "000002" / "done.json").read_text())
    assert about["files"].keys() == {"results.parquet", "curves.parquet", "evaluation.parquet", WEIGHTS}
    for name, file in about["files"].items():
        assert (attempt(swept, "000002") / name).stat().st_size == file["bytes"]
    assert about["versions"]["jaxmoe"] == jaxmoe.__version__
    assert about["agents_per_device"] == 12 // jax.local_device_count()
    assert about["device"]["count"] == jax.local_device_count()


def test_tables_have_a_row_per_agent_and_evaluation_and_say_who_it_is(found):
    results, curves = found.results, found.curves
    keys = ["agent", "configuration", "environment", "seed", "algorithm", "scenario", "job"]
    for table in (results, curves):
        assert list(table)[:7] == keys
        assert {"learning_rate", "latency_weight", "num_envs", "hidden"} <= set(table)
    assert results["agent"].tolist() == list(range(12))
    assert results["env_steps"].eq(512).all()
    assert curves.groupby("env_steps").size().to_dict() == dict.fromkeys([0, 32, 64, 128, 256, 512], 12)
    assert results["train_normalised"].notna().all()
    last = curves[curves["env_steps"] == 512].reset_index(drop=True)
    pd.testing.assert_series_equal(last["train_qos"], results["train_qos"])


def test_sums_of_an_evaluation_are_kept_by_prompt(found):
    rows = found.tables.load_evaluation(range(12))
    by_prompt = rows[rows["by"] == "prompts"]
    served = by_prompt.groupby(["split", "agent"])
    for split, prompts in (("train", 16), ("validation", 8), ("test", 8)):
        assert served.size()[split].eq(prompts).all()
        means = served["qos"].sum()[split] / served["requests"].sum()[split]
        np.testing.assert_allclose(means, found.results.set_index("agent")[f"{split}_qos"], rtol=1e-5)


def test_normalised_scores_are_those_of_each_environment(found):
    rows = found.tables.baselines
    rows = rows[(rows["split"] == "train") & (rows["by"] == "prompts")]
    sums = rows.groupby(["environment", "policy"])[["qos", "requests"]].sum()
    means = sums["qos"] / sums["requests"]
    for row in found.results.itertuples():
        worst, best = means[row.environment, "random"], means[row.environment, "one_slot_optimum"]
        assert row.train_normalised == pytest.approx((row.train_qos - worst) / (best - worst), rel=1e-5)
    assert means[0, "one_slot_optimum"] > means[1, "one_slot_optimum"]


def test_the_policies_of_a_job_are_stacked_along_one_axis(swept):
    weights = load_file(attempt(swept, "000002") / WEIGHTS)
    assert weights["layer0/kernel"].shape == (12, 21, 8)
    assert {len(leaf) for leaf in weights.values()} == {12}


def test_agents_are_those_that_train_trains(found, trained):
    alone = jaxmoe.load(trained).results
    rows = found.results.query("learning_rate == 0.01 and latency_weight == 0.0")
    other = tiny.train(hypers={"learning_rate": 0.01}, baselines="none").results
    np.testing.assert_array_equal(rows["train_qos"], other["train_qos"])
    np.testing.assert_array_equal(rows["reward"], other["reward"])
    assert alone["seed"].tolist() == rows["seed"].tolist() == [0, 1, 2]


def test_the_same_call_again_does_nothing_anew(found, swept, tmp_path):
    out, events = shutil.copytree(swept, tmp_path / "out"), []
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "made.json"}
    again = tiny.sweep(out, callback=events.append)
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path for path in before if before[path] != after[path]} <= {out / ".lock"}
    assert [event for event in events if isinstance(event, Planned)] == [Planned(3, 3, 12, 12, 0)]
    assert not [event for event in events if isinstance(event, JobStarted)]
    pd.testing.assert_frame_equal(again.results, found.results)


def test_neither_size_of_jobs_nor_order_of_the_grid_nor_more_seeds_change_an_agent(found, tmp_path):
    other = tiny.sweep(
        tmp_path / "out",
        {
            "devices.agents_per_job": 7,
            "seeds": 4,
            "hypers.learning_rate": [1e-2, 1e-3],
            "params.latency_weight": [0.01, 0.0, 0.02],
        },
    )
    keys = ["learning_rate", "latency_weight", "seed"]
    numbers = [name for name in found.results if name not in ("agent", "configuration", "environment", "job")]
    expected = found.results.sort_values(keys)[numbers].reset_index(drop=True)
    chosen = other.results.query("seed < 3 and latency_weight < 0.02").sort_values(keys)[numbers].reset_index(drop=True)
    pd.testing.assert_frame_equal(chosen, expected, check_exact=True)


def test_a_job_whose_folder_is_gone_is_done_again_and_comes_out_the_same(swept, tmp_path):
    out = shutil.copytree(swept, tmp_path / "out")
    shutil.rmtree(out / "jobs" / "000002")
    (out / "jobs" / "000001" / "done.json").unlink()
    assert not jaxmoe.load(out).complete
    assert tiny.sweep(out).complete
    tiny.assert_same(out, swept)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
@pytest.mark.parametrize("name", ["curves.parquet", WEIGHTS])
def test_a_damaged_file_of_a_job_is_said_and_the_job_is_done_again(swept, tmp_path, damage, name):
    out, said = shutil.copytree(swept, tmp_path / "out"), []
    path = attempt(out, "000002") / name
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(
            bytes([*content[:100], content[100] ^ 1, *content[101:]]) if damage == "flip" else content[:-10]
        )
    again = tiny.sweep(out, callback=lambda event: said.append(event.text) if isinstance(event, Noted) else None)
    assert again.complete
    assert [text for text in said if re.search(rf"{name} is damaged or missing; job 2 is done again", text)] == said
    assert len(said) == 1
    tiny.assert_same(out, swept)


def test_what_a_job_says_of_itself_when_that_is_damaged_is_one_sentence(swept, tmp_path):
    out = shutil.copytree(swept, tmp_path / "out")
    (out / "jobs" / "000002" / "done.json").write_text("{")
    before = tiny.contents(out)
    with pytest.raises(InputError, match=r"000002/done.json is damaged: .*; delete it to have this job done"):
        tiny.sweep(out)
    assert tiny.contents(out) == before
    (out / "jobs" / "000002" / "done.json").unlink()
    assert tiny.sweep(out).complete


def test_checkpoints_cannot_be_taken_backwards_in_time(tmp_path):
    with pytest.raises(InputError, match="checkpoint_every_s = -1 must be at least 0"):
        tiny.sweep(tmp_path / "new", checkpoint_every_s=-1)
    with pytest.raises(InputError, match="time_budget_s = -1 must be at least 0"):
        tiny.sweep(tmp_path / "new", time_budget_s=-1)
    assert not (tmp_path / "new").exists()


def test_without_baselines_there_is_no_normalised_score():
    found = tiny.sweep(None, {"baselines": "none", "seeds": 1, "hypers": {}, "params": {"latency_weight": 0.0}})
    assert len(found.tables.baselines) == 0
    assert not [name for name in found.results if name.endswith("_normalised")]
    assert set(found.comparison()["policy"]) == {"ppo (1 agent)"}


@pytest.mark.slow
def test_a_sweep_of_widths_compiles_each_and_stores_them_apart(tmp_path):
    found = tiny.sweep(tmp_path / "out", {"config.hidden": [[8], [4, 4]], "seeds": 2, "baselines": "none"})
    assert sorted(found.results["hidden"]) == ["4,4"] * 8 + ["8"] * 8
    one, other = (load_file(attempt(tmp_path / "out", job) / WEIGHTS) for job in ("000000", "000001"))
    assert one["layer1/kernel"].shape == (8, 8, 16)
    assert other["layer1/kernel"].shape == (8, 4, 4)


def test_an_agent_that_diverges_is_counted_and_harms_no_other(found, swept):
    other = tiny.sweep(None, {"hypers.learning_rate": [1e-3, 1e-2, 1e30]})
    assert other.results.groupby("learning_rate")["diverged"].mean().tolist() == [0, 0, 1]
    sound = other.results.query("learning_rate < 1")
    np.testing.assert_array_equal(sound["train_qos"], found.results["train_qos"])
    assert other.best()["learning_rate"] == jaxmoe.load(swept).best()["learning_rate"]


def test_automatic_jobs_take_about_so_long_and_fit_the_memory(monkeypatch):
    assert sizes.agents_per_job("ppo", "cpu", 2, 8.0, 10_000_000, 150_000) == 6
    assert sizes.agents_per_job("ppo", "cpu", 2, 8.0, 512, 150_000) == sizes.MOST_AGENTS["cpu"]
    fitting = int(0.75 * 8 * 2**30 / (sizes.memory_factor("sac") * 24_000_000))
    assert sizes.agents_per_job("sac", "gpu", 1, 8.0, 512, 24_000_000) == fitting
    monkeypatch.setattr(sizes, "JOB_S", 0.02)
    found = tiny.sweep(None, {"devices": {"agents_per_job": "auto", "count": 1}, "baselines": "none", "seeds": 8})
    assert [len(job.rows) for job in found.contents.jobs] == [8] * 4


@pytest.mark.slow
def test_exhausted_memory_halves_what_is_trained_at_once(monkeypatch):
    begin, widths, said = training_run.TrainingRun._begin, [], []

    def frugal(self, trainer):
        widths.append(self.width)
        if self.width > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return begin(self, trainer)

    monkeypatch.setattr(training_run.TrainingRun, "_begin", frugal)
    overrides = {"baselines": "none", "hypers": {}, "devices.agents_per_device": 8}
    found = tiny.sweep(None, overrides, callback=lambda event: said.append(event) if isinstance(event, Noted) else None)
    assert widths == [8, 4, 2]
    assert [re.sub(r".*: ", "", event.text) for event in said] == [
        f"training {width} agents per device at once" for width in (4, 2)
    ]
    assert [about["agents_per_device"] for about in found.contents.done.values()] == [2]


@pytest.mark.slow
def test_a_swept_temperature_is_not_mixed_up_with_the_one_that_is_measured(tmp_path):
    sac = {"num_envs": 4, "rollout_length": 4, "replay_capacity": 64, "warmup_steps": 16, "hidden": [8]}
    spec = {**tiny.SPEC, "algorithm": "sac", "seeds": 2, "params": {}, "config": sac}
    spec["hypers"] = {"temperature": [0.01, 0.1], "learn_temperature": 1.0}
    found = tiny.sweep(tmp_path / "sac", spec=spec)
    assert found.results["temperature"].tolist() == [0.01, 0.01, 0.1, 0.1]
    assert found.results["temperature_reached"].notna().all()
    assert found.results["learn_temperature"].tolist() == [True] * 4  # as in a spec, and not 1.0
    assert found.curves.groupby("env_steps")["entropy"].apply(lambda of: of.notna().all()).iloc[-1]
    assert "temperature 0." in found.report().sentences[0]


class TrainingAlone(Local):
    """Leaves after the training jobs, as a process does that is stopped then."""

    def __call__(self, jobs, *others):
        return super().__call__(list(itertools.takewhile(lambda job: job.kind == "train", jobs)), *others)


def test_agents_are_trained_and_shown_before_baselines_are_evaluated(tmp_path, monkeypatch):
    spec = {**tiny.SPEC, "objective": {"limits": {"normalised": 0.5}}}
    with monkeypatch.context() as changed:
        changed.setattr(calls, "engine_named", lambda *_: TrainingAlone())
        early = tiny.sweep(tmp_path / "out", spec=spec)
    assert not early.complete
    assert len(early.results) == 12
    assert "train_normalised" not in early.results
    assert early.tables.objective == Objective("qos", early.tables.chooses)
    assert "baselines evaluated in 0 of 2 environments" in str(early.status())
    events = []
    whole = tiny.sweep(tmp_path / "out", spec=spec, callback=events.append)
    assert [event.what for event in events if isinstance(event, JobStarted)] == ["baselines in oneshot"] * 2
    assert whole.complete
    assert whole.results["train_normalised"].notna().all()
    assert whole.tables.objective.limits == {"normalised": 0.5}
    pd.testing.assert_series_equal(whole.results["train_qos"], early.results["train_qos"])
