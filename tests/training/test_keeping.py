"""The policy that is kept, and agents that stop before the end: decided by validation prompts, at evaluations."""

import io
import json

import numpy as np
import pandas as pd
import pytest

import jaxmoe
from jaxmoe.cli.running import print_experiment
from jaxmoe.errors import InputError
from jaxmoe.experiment import plan
from jaxmoe.experiment.folder import settled
from jaxmoe.training.events import SILENT, Evaluated
from jaxmoe.training.job import Keeping, Stop, parse_job
from jaxmoe.training.running import run_job
from jaxmoe.training.stored import read_done

CONFIG = {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": (8,)}
RATES = [0.0, 0.03]
DISTANCE = 64  # env steps between two evaluations; that after 32 comes earlier


def trained(out=None, env_steps=512, callback=SILENT, **keys):
    """Six agents, half of which learn nothing; whatever is kept of the others is seldom their last policy."""
    spec = {
        "algorithm": "ppo",
        "env_steps": env_steps,
        "schedule_steps": 1024,
        "seeds": 3,
        "evaluations": 8,
        "requests": 256,
        "baselines": "none",
        "hypers": {"learning_rate": RATES},
        "config": {**CONFIG, "hidden": [8]},
    }
    return jaxmoe.sweep(spec, out, overrides=keys, callback=callback)


def kept_rows(experiment):
    curves = experiment.curves
    return curves[curves["kept"]].set_index("agent")


@pytest.fixture(scope="module")
def last():
    return trained()


@pytest.fixture(scope="module")
def best():
    return trained(keep="best")


def test_the_best_policy_on_validation_prompts_is_kept(last, best):
    kept = kept_rows(best)
    for agent, rows in last.curves.groupby("agent"):
        first_best = rows.loc[rows["validation_qos"].idxmax()]  # the first, where several are as good
        assert kept.loc[agent, "env_steps"] == first_best["env_steps"]
    assert len(set(kept["env_steps"])) > 1
    assert best.results["env_steps"].eq(512).all()
    assert best.results["kept_env_steps"].tolist() == kept["env_steps"].tolist()


def test_what_is_kept_is_what_is_judged_and_exported(best):
    kept, results = kept_rows(best), best.results.set_index("agent")
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(kept[f"{split}_qos"], results[f"{split}_qos"])
    learned = results.index[results["learning_rate"] > 0]
    agent = int(max(learned, key=lambda number: 512 - results.loc[number, "kept_env_steps"]))
    found = best.agents([agent])[0]
    assert found.env_steps == results.loc[agent, "kept_env_steps"] < 512
    again = jaxmoe.evaluate(found, requests=256, baselines="none").query("metric == 'qos' and split == 'test'")
    assert again["mean"].item() == pytest.approx(results.loc[agent, "test_qos"], abs=1e-6)


def test_curves_are_those_of_training_whatever_is_kept(last, best):
    pd.testing.assert_frame_equal(last.curves, best.curves.drop(columns="kept"))


def test_who_gets_no_better_stops_and_the_others_go_on(last):
    experiment = trained(**{"stop.plateau": 2})
    for agent, rows in last.curves.groupby("agent"):
        own = experiment.curves[experiment.curves["agent"] == agent]
        best = rows["validation_qos"].cummax()
        worse = (rows["validation_qos"] <= best.shift(fill_value=-np.inf)).tolist()
        counted = np.cumsum([one and at >= DISTANCE for one, at in zip(worse, rows["env_steps"], strict=True)])
        since = counted - np.maximum.accumulate(np.where(worse, 0, counted))
        ends = next((at for at, evaluations in enumerate(since) if evaluations == 2), len(worse) - 1)
        np.testing.assert_array_equal(own["train_qos"], rows["train_qos"].iloc[: ends + 1])
        assert experiment.results.set_index("agent").loc[agent, "env_steps"] == rows["env_steps"].iloc[ends]
    idle = experiment.results.query("learning_rate == 0")
    assert len(set(idle["env_steps"])) == 1
    assert idle["env_steps"].max() < experiment.results["env_steps"].max()


def test_a_stopped_agent_is_as_it_was_then():
    """As one whose training ended there; schedules are as long."""
    stopped, ended = trained(**{"stop.value": -1.0}), trained(env_steps=32)
    assert stopped.results["env_steps"].eq(32).all()  # who has learned nothing yet does not stop
    value = float(ended.curves.query("env_steps == 32 and learning_rate > 0")["validation_qos"].min())
    begins = ended.curves.query("env_steps == 0")["validation_qos"].max()
    stopped = trained(**{"stop.value": value})
    some = stopped.results.query("env_steps == 32")["agent"].tolist()
    assert some or begins >= value
    for agent in some:
        one, other = stopped.agents([agent])[0].tensors, ended.agents([agent])[0].tensors
        for name in one:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-6)  # of two programs


def test_a_job_ends_when_all_its_agents_have_stopped():
    experiment = trained(**{"stop.plateau": 1, "stop.min_gain": 10.0})
    assert experiment.complete
    [job] = [job for job in experiment.contents.jobs if job.kind == "train"]
    about = experiment.contents.done[job.number]
    assert about["env_steps"] == DISTANCE == experiment.results["env_steps"].max()


@pytest.mark.slow
def test_who_is_stopped_on_the_way_ends_as_who_is_not(tmp_path):
    keys = {"keep": "best", "stop.plateau": 3}
    whole = trained(**keys)
    storage = trained(tmp_path / "run", env_steps=512, **keys).storage
    [job] = [job for job in whole.contents.jobs if job.kind == "train"]
    storage.delete(f"{job.folder}/done.json")
    stops = 0
    while True:
        enough = iter([False] * (5 + stops) + [True] * 100)
        if run_job(job, storage, stop=lambda enough=enough: next(enough), checkpoint_every_s=0).complete:
            break
        stops += 3
    assert stops > 3
    found = []
    for each in (whole.storage, storage):
        name = f"{job.folder}/{read_done(each, job)['attempt']}"
        found.append({file: each.read(f"{name}/{file}") for file in ("curves.parquet", "policies.safetensors")})
        found[-1]["results"] = pd.read_parquet(io.BytesIO(each.read(f"{name}/results.parquet")))
    pd.testing.assert_frame_equal(found[0].pop("results"), found[1].pop("results"))
    assert found[0] == found[1]


@pytest.mark.slow
def test_training_longer_leaves_the_stopped_where_they_are():
    experiment = trained(**{"stop.plateau": 5, "keep_states": True})
    before = experiment.results
    experiment.extend(env_steps=1024)
    after = experiment.results
    ended = before["env_steps"] < 512
    assert 0 < ended.sum() < len(before)
    assert after["env_steps"][ended].tolist() == before["env_steps"][ended].tolist()
    assert (after["env_steps"][~ended] > 512).all()
    np.testing.assert_array_equal(after["test_qos"][ended], before["test_qos"][ended])


@pytest.mark.slow
def test_the_evaluation_between_two_jobs_counts_once():
    """Agents that learn nothing get no better from the first evaluation on."""
    times = sorted(set(trained().curves["env_steps"]))
    experiment = trained(**{"stop.plateau": len(times), "keep_states": True})
    experiment.extend(env_steps=1024)
    added = [at for at in sorted(set(experiment.curves["env_steps"])) if at > 512]
    idle = experiment.results.query("learning_rate == 0")
    assert set(idle["env_steps"]) == {added[1]}


def test_without_validation_prompts_train_prompts_decide():
    table = jaxmoe.load_table().folds(4)[0]
    spec = {"algorithm": "ppo", "env_steps": 256, "seeds": 2, "requests": 64, "baselines": "none", "keep": "best"}
    experiment = jaxmoe.sweep({**spec, "config": {**CONFIG, "hidden": [8]}}, table=table)
    assert "train prompts" in str(experiment.tables.objective)
    for _, rows in experiment.curves.groupby("agent"):
        assert rows.loc[rows["kept"], "train_qos"].item() == rows["train_qos"].max()


def test_a_job_of_a_version_that_kept_the_last_keeps_the_last(last):
    [job] = [job for job in last.contents.jobs if job.kind == "train"]
    text = job._replace(keeping=Keeping("best", Stop(0.5, 3))).to_json()
    assert parse_job(text, "here").keeping == Keeping("best", Stop(0.5, 3, 0.0))
    nothing = json.dumps(Keeping()._asdict() | {"stop": Stop()._asdict()}, separators=(",", ":"))
    older = job.to_json().replace(f',"keeping":{nothing}', "")
    assert older != job.to_json()
    assert parse_job(older, "here").keeping == Keeping()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("keep", "first", r"keep = 'first' is not allowed; it must be 'last' or 'best'"),
        ("stop.plateau", 0, r"stop.plateau = 0 is not allowed"),
        ("stop.min_gain", -1.0, r"stop.min_gain = -1.0 is not allowed"),
        ("stop.value", float("nan"), r"stop.value = nan is not allowed"),
        ("stop.metric", "qos", r"unknown key 'stop.metric'; allowed are value, plateau, min_gain"),
    ],
)
def test_what_cannot_be_kept_or_stopped_by_is_refused(key, value, said):
    with pytest.raises(InputError, match=said):
        trained(**{key: value})


def test_what_is_printed_says_who_stopped(capsys):
    print_experiment(trained(**{"stop.value": -1.0}))
    assert "6 agents, at most 32 env steps each, 6 stopped early" in capsys.readouterr().out
    print_experiment(trained(**{"stop.plateau": 3}))
    assert "stopped early" in capsys.readouterr().out
    print_experiment(trained(**{"config.rollout_length": {"grid": [8, 12]}}))
    assert "stopped" not in capsys.readouterr().out  # but rounded to whole iterations


def test_the_end_of_a_job_is_told_once():
    told = []
    trained(keep="best", callback=told.append)
    evaluated = [event for event in told if isinstance(event, Evaluated)]
    assert [event.last for event in evaluated] == [False] * (len(evaluated) - 1) + [True]


def test_the_best_is_kept_whatever_a_plateau_takes_for_better(best):
    """`min_gain` is what a plateau asks for; the best policy is the best."""
    other = trained(keep="best", **{"stop.min_gain": 0.1})
    pd.testing.assert_frame_equal(other.curves, best.curves)


def test_early_evaluations_do_not_count_towards_a_plateau():
    """They come after 1, 2, 4, ... iterations, when what learns from a replay has not begun to."""
    early = trained(evaluations=2, **{"stop.plateau": 3})
    assert len(set(early.curves["env_steps"])) == 6
    assert early.results["env_steps"].eq(512).all()
    assert not early.results["stopped"].any()


def test_the_split_that_the_objective_names_decides():
    found = trained(keep="best", **{"objective.split": "train"})
    for _, rows in found.curves.groupby("agent"):
        assert rows.loc[rows["kept"], "train_qos"].item() == rows["train_qos"].max()
    table = jaxmoe.load_table().folds(4)[0]
    with pytest.raises(InputError, match=r"objective.split = 'validation', and the table has no such prompts"):
        jaxmoe.sweep({"algorithm": "ppo", "env_steps": 64, "objective": {"split": "validation"}}, table=table)


def test_what_an_earlier_version_planned_is_not_mixed_with_other_requests(last):
    [job] = [job for job in last.contents.jobs if job.kind == "train"]
    with pytest.raises(InputError, match="planned by an earlier version, whose evaluations serve other requests"):
        run_job(job._replace(evaluation=1, number=99), last.storage)
    older = [each._replace(jobs=[job._replace(evaluation=1)]) for each in last.contents.rounds]
    with pytest.raises(InputError, match="plan it anew in another folder"):
        plan.make_round(settled(last.storage), 1, "extension", {}, [], older, plan.phases_now(older))
