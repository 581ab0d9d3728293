"""Who is trained, in which jobs, and in which shard."""

import jax
import pytest

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.experiment import confirming, extending, plan
from jaxmoe.experiment.engines import parse_shard
from jaxmoe.experiment.rounds import Machine, Settled
from jaxmoe.experiment.spec import load_spec
from jaxmoe.training.job import parse_job
from jaxmoe.training.keys import CONFIRMATION, TRAINING

TABLE = jaxmoe.load_table()
MACHINE = Machine("cpu", 2, 4.0)


def settled(**content):
    return Settled(load_spec({"algorithm": "ppo", "env_steps": 512, "seeds": 2} | content), TABLE, MACHINE, True)


def planned(**content):
    own = settled(**content)
    members = plan.members(own.spec, TABLE)
    plan.check_spec(own.spec, members, TABLE)
    return plan.first_round(own, members)


def trained(found):
    return [job for job in found.jobs if job.kind == "train"]


def baselines(found):
    return [job for job in found.jobs if job.kind == "baselines"]


def test_agents_are_numbered_by_configuration_and_seed():
    rows = planned(seeds=[3, 7], hypers={"clip": [0.1, 0.2]}).agents
    assert rows["agent"].tolist() == [0, 1, 2, 3]
    assert rows["configuration"].tolist() == [0, 0, 1, 1]
    assert rows["environment"].tolist() == [0, 0, 0, 0]
    assert rows["seed"].tolist() == [3, 7, 3, 7]
    assert rows["clip"].tolist() == [0.1, 0.1, 0.2, 0.2]
    assert rows["learning_rate"].nunique() == 1


def test_configurations_are_numbered_within_algorithm_and_scenario_and_environments_over_all():
    rows = planned(
        algorithm=["ppo", "dqn"],
        scenario=["oneshot", "queueing"],
        seeds=1,
        hypers={"ppo": {"clip": [0.1, 0.2]}},
        params={"latency_weight": [0.0, 0.1]},
    ).agents
    for (algorithm, _), own in rows.groupby(["algorithm", "scenario"]):
        assert sorted(set(own["configuration"])) == ([0, 1] if algorithm == "ppo" else [0])
    assert sorted(set(rows["environment"])) == [0, 1, 2, 3]
    assert rows.groupby("environment")[["scenario", "latency_weight"]].nunique().eq(1).all(axis=None)


def test_numbers_share_a_program_and_shapes_do_not():
    def signatures(**content):
        return {job.signature.key: job for job in trained(planned(**content))}

    assert len(signatures(hypers={"clip": [0.1, 0.2]}, params={"latency_weight": [0.0, 0.1]})) == 1
    found = signatures(config={"num_envs": [8, 16]}, settings={"observe_words": ["mean", "true"]})
    assert sorted(job.rows for job in found.values()) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert len(signatures(scenario="queueing", params={"max_steps_in_episode": [16, 32]})) == 2


def test_a_default_that_is_said_shapes_nothing_new():
    both = planned(config={"hidden": [[64, 64]]}), planned()
    assert len({job.signature.key for found in both for job in trained(found)}) == 1


def test_baselines_are_evaluated_once_in_every_environment_and_first():
    found = planned(hypers={"clip": [0.1, 0.2]}, params={"latency_weight": [0.0, 0.1]})
    assert [job.kind for job in found.jobs] == ["baselines", "baselines", "train"]
    assert [job.rows for job in baselines(found)] == [(0,), (1,)]
    assert {"random", "one_slot_optimum"} <= set(baselines(found)[0].families)
    assert "lookahead" not in baselines(found)[0].families
    [chosen] = baselines(planned(baselines=["random", "lookahead"]))
    assert chosen.families == ("random",)
    assert baselines(planned(baselines="none")) == []


def test_jobs_are_of_equal_size_and_their_numbers_go_on():
    found = planned(seeds=18, hypers={"clip": [0.1, 0.2]}, baselines="none", devices={"agents_per_job": 16})
    assert [len(job.rows) for job in found.jobs] == [12, 12, 12]
    assert [job.number for job in found.jobs] == [0, 1, 2]
    assert found.agents["job"].tolist() == [0] * 12 + [1] * 12 + [2] * 12
    assert {job.agents_per_device for job in found.jobs} == {6}
    [job] = planned(baselines="none", devices={"agents_per_device": 3}).jobs
    assert job.agents_per_device == 3
    assert len(planned(baselines="none", seeds=100).jobs) == 1
    few = planned(seeds=18, baselines="none", devices={"agents_per_job": 4}).jobs
    assert [len(job.rows) for job in few] == [4, 4, 4, 4, 2]
    many = planned(seeds=100, baselines="none", devices={"agents_per_job": 40}).jobs
    assert [len(job.rows) for job in many] == [32, 32, 32, 4]


def test_a_job_is_one_line_of_plain_values_and_comes_back_as_it_was():
    for job in planned(params={"latency_weight": [0.0, 0.1]}, config={"hidden": [8]}).jobs:
        assert parse_job(job.to_json(), "line 1") == job


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_more_samples_and_seeds_change_no_number(method):
    axes = {"hypers": {"clip": {"uniform": [0.1, 0.4]}}, "params": {"latency_weight": {"uniform": [0.0, 0.1]}}}
    own = settled(search={"method": method, "samples": 3}, **axes)
    first = plan.first_round(own, plan.members(own.spec, TABLE))
    changed = load_spec(own.spec, {"search.samples": 5, "seeds": 3})
    added = extending.widened(own, changed, {"set": {"search.samples": 5, "seeds": 3}}, [first])
    once = plan.first_round(own._replace(spec=changed), plan.members(changed, TABLE))
    names = ["configuration", "environment", "seed", "clip", "latency_weight"]
    apart = {tuple(row) for found in (first, added) for row in found.agents[names].itertuples(index=False)}
    assert apart == {tuple(row) for row in once.agents[names].itertuples(index=False)}
    assert len(first.agents) + len(added.agents) == len(once.agents) == 15
    assert set(first.agents["agent"]).isdisjoint(added.agents["agent"])
    assert {job.number for job in first.jobs}.isdisjoint(job.number for job in added.jobs)
    assert sorted(row for job in baselines(added) for row in job.rows) == [3, 4]


def test_an_extension_keeps_the_width_of_its_program():
    own = settled(baselines="none", devices={"agents_per_device": 5})
    first = plan.first_round(own, plan.members(own.spec, TABLE))
    other = own._replace(spec=load_spec(own.spec, {"devices.agents_per_device": 7}))
    added = extending.widened(other, load_spec(own.spec, {"seeds": 9}), {"set": {"seeds": 9}}, [first])
    assert {job.agents_per_device for job in added.jobs} == {5}


def test_agents_go_on_from_their_own_rows():
    own = settled(schedule_steps=1024, devices={"agents_per_job": 16}, seeds=20, baselines="none")
    first = plan.first_round(own, plan.members(own.spec, TABLE))
    why = {"set": {"env_steps": 1024}, "new_schedule": False}
    added = extending.lengthened(own, 1024, False, why, [first])
    assert [job.rows for job in added.jobs] == [job.rows for job in first.jobs]
    for before, after in zip(first.jobs, added.jobs, strict=True):
        assert after.start.rows == tuple((before.number, row) for row in range(len(before.rows)))
        assert (after.evaluate_at[0], after.evaluate_at[-1], after.env_steps) == (512, 1024, 1024)
        assert after.phases == (before.phases[0]._replace(until=1024),)
    assert added.agents["agent"].tolist() == first.agents["agent"].tolist()
    again = extending.lengthened(own, 2048, True, why, [first, added])
    assert [phase.until for phase in again.jobs[0].phases] == [1024, 2048]
    assert (again.jobs[0].phases[1].schedule_begin, again.jobs[0].phases[1].schedule_steps) == (1024, 1024)


def test_a_confirmation_has_seeds_of_a_purpose_of_its_own():
    own = settled(hypers={"clip": [0.1, 0.2]}, baselines="none")
    first = plan.first_round(own, plan.members(own.spec, TABLE))
    why = {"configuration": ["ppo", "oneshot", 1, 0], "env_steps": 512, "seeds": 3}
    chosen = first.agents[first.agents["configuration"] == 1].head(1)
    again = confirming.confirmation_round(own, chosen, 3, why, [first])
    assert again.agents["seed"].tolist() == [0, 1, 2]
    assert again.agents["clip"].tolist() == [0.2] * 3
    assert {job.purpose for job in first.jobs} == {TRAINING}
    assert {job.purpose for job in again.jobs} == {CONFIRMATION}
    assert confirming.confirmed_seeds([first, again], why) == 3


def test_planning_compiles_nothing(monkeypatch):
    def compiles(*_, **__):
        raise AssertionError("planning has compiled a program")

    monkeypatch.setattr(jax.stages.Lowered, "compile", compiles)
    assert len(planned(algorithm=["ppo", "dqn", "sac"], scenario=["oneshot", "queueing"]).agents) == 12


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"baselines": ["random", "oracle"]}, "unknown baseline 'oracle'; choose among .*random"),
        (
            {"objective": {"metric": "normalised"}, "baselines": "none"},
            "objective: 'normalised' needs the baseline random in oneshot",
        ),
        (
            {"objective": {"metric": "normalised"}, "baselines": ["random"]},
            "objective: 'normalised' needs the baseline one_slot_optimum in oneshot",
        ),
        (
            {"objective": {"metric": "normalised"}, "baselines": ["random"], "scenario": "queueing"},
            "needs the baseline lookahead in queueing",
        ),
        ({"objective": {"metric": "quality"}}, "objective: .* no metric 'quality'; choose among .*qos"),
        ({"objective": {"limits": {"latency": 3.0}}}, "objective: .* no metric 'latency'; choose among .*latency_s"),
    ],
)
def test_what_cannot_be_planned_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        planned(**content)


def test_shards_share_out_all_jobs():
    shards = [parse_shard(f"{index}/3") for index in range(3)]
    own = [number for shard in shards for number in range(10) if number % shard.count == shard.index]
    assert sorted(own) == list(range(10))


@pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/2", "1/0", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(InputError, match="is not of the form i/n with i from 0 to n - 1"):
        parse_shard(text)


def test_the_plan_fixes_how_exact_and_how_deterministic_programs_are():
    for said, fixed in (({}, ("default", False)), ({"matmul_precision": "auto"}, ("default", False)),
                        ({"matmul_precision": "highest", "deterministic": True}, ("highest", True))):  # fmt: skip
        jobs = planned(devices=said).jobs
        assert {(job.matmul_precision, job.deterministic) for job in jobs} == {fixed}
        assert all(parse_job(job.to_json(), "here") == job for job in jobs)
