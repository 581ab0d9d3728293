"""Policies of all kinds on the same requests: agents elsewhere, functions of JAX and of the host, exported files."""

import shutil

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import tiny

import jaxmoe
from jaxmoe import devices
from jaxmoe.errors import InputError
from jaxmoe.training import baseline_cache

FEW = {"requests": 128, "baselines": ["random", "one_slot_optimum"]}


@pytest.fixture(scope="module")
def found(swept):
    return jaxmoe.load(swept)


def qos(rows, split="test"):
    """Mean QoS of each policy."""
    return rows.query(f"metric == 'qos' and split == '{split}'").set_index("policy")["mean"]


def test_chosen_agents_where_they_were_trained(found):
    rows = found.evaluate(agents=[0, 2], requests=256, baselines="none")
    served = qos(rows, "train")
    assert list(served.index) == ["ppo (2 agents)"]
    mine = found.results.set_index("agent").loc[[0, 2], "train_qos"].mean()
    assert served["ppo (2 agents)"] == pytest.approx(mine, abs=0.05)


@pytest.mark.slow
def test_the_agents_of_an_experiment_with_baselines_that_are_chosen(trained):
    rows = jaxmoe.evaluate(trained, **FEW)
    assert set(rows["policy"]) == {"ppo (3 agents)", "random", "one_slot_optimum"}
    assert set(rows["split"]) == {"train", "validation", "test"}
    assert set(jaxmoe.load(trained).evaluate(requests=128, baselines="random")["policy"]) == {
        "ppo (3 agents)",
        "random",
    }
    with pytest.raises(InputError, match="unknown baseline 'oracle'; choose among"):
        jaxmoe.evaluate(trained, baselines=["oracle"])


def test_a_second_evaluation_compiles_nothing_even_with_other_numbers(found, compilations):
    few = {"agents": [0], "requests": 192, "baselines": "random"}
    first = found.evaluate(**few)
    compiled = len(compilations)
    assert compiled == 2  # the agents, and the baseline
    pd.testing.assert_frame_equal(found.evaluate(**few), first)
    dear = found.evaluate(params={"latency_weight": 0.5}, **few)
    assert (qos(dear) < qos(first)).all()
    assert len(compilations) == compiled


def test_what_baselines_brought_where_agents_were_trained_is_not_evaluated_again(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_CACHES", [tmp_path])
    experiment = tiny.train()
    monkeypatch.setattr(baseline_cache, "_evaluate", None)
    rows = experiment.evaluate(agents=[0], requests=256, baselines=["random", "one_slot_optimum"])
    shown, before = (
        each.query("metric == 'qos'").set_index(["split", "policy"]) for each in (rows, experiment.comparison())
    )
    for policy in ("random", "one_slot_optimum"):
        same = [each.xs(policy, level="policy")[["mean", "low", "high", "requests"]] for each in (shown, before)]
        pd.testing.assert_frame_equal(*same)


@pytest.mark.slow
def test_agents_in_another_scenario_with_other_params_and_settings(found):
    elsewhere = found.evaluate("fading", params={"latency_weight": 0.05}, agents=[0], requests=128, baselines="none")
    assert qos(elsewhere)["ppo (1 agent)"] < 1
    dear = found.evaluate("oneshot", params={"latency_weight": 0.5}, agents=[0], requests=128, baselines="none")
    home = found.evaluate(agents=[0], requests=128, baselines="none")
    assert qos(dear)["ppo (1 agent)"] < qos(home)["ppo (1 agent)"]
    with pytest.raises(InputError, match="agent 0 observes 21 numbers, and the environment has"):
        found.evaluate("oneshot", settings={"num_replicas": 2}, agents=[0], requests=128)
    with pytest.raises(InputError, match="unknown parameter 'latency'"):
        found.evaluate("oneshot", params={"latency": 1}, agents=[0])
    with pytest.raises(InputError, match="unknown scenario 'twoshot'"):
        found.evaluate("twoshot", agents=[0])


def test_agents_of_several_environments_need_a_scenario(found):
    with pytest.raises(InputError, match="these agents were trained in 2 environments; say a scenario with its params"):
        found.evaluate(agents="all")
    rows = found.evaluate("oneshot", agents="all", requests=128, baselines="none")
    assert set(rows["policy"]) == {"ppo (12 agents)"}


def test_agents_on_another_table_of_the_same_experts(found):
    table = jaxmoe.load_table()
    own = found.evaluate(agents=[0], requests=128, baselines="none")
    same = found.evaluate(agents=[0], requests=128, baselines="none", table=table)
    assert own.equals(same)
    turned = table.select_experts(list(reversed(table.experts)))
    again = found.evaluate(agents=[0], requests=128, baselines="none", table=turned)
    assert qos(again)["ppo (1 agent)"] == pytest.approx(qos(own)["ppo (1 agent)"], abs=1e-6)
    with pytest.raises(InputError, match="unknown expert 'setting', allowed are character, action"):
        found.evaluate(agents=[0], table=table.select_experts(["character", "action"]))


def test_agents_that_are_not_there_are_refused(found):
    with pytest.raises(InputError, match="there is no agent 12; they are numbered from 0 to 11"):
        found.evaluate(agents=[12])
    with pytest.raises(InputError, match="requests = 0 must be at least 1"):
        jaxmoe.evaluate(requests=0)


def test_a_function_of_jax():
    rows = jaxmoe.evaluate(lambda *_: jnp.int32(6), **{**FEW, "baselines": ["fixed_subset"]})
    assert qos(rows)["policy"] == pytest.approx(qos(rows)["fixed_subset(6)"])

    def by_name(key, observation, state, params):
        del key, observation, state, params
        return jnp.int32(6)

    again = jaxmoe.evaluate(policies={"mine": by_name}, **{**FEW, "baselines": "none"})
    assert qos(again)["mine"] == pytest.approx(qos(rows)["policy"])


def test_a_function_of_the_host_beside_the_baselines():
    seen = []

    def predict(observations):
        seen.append(observations)
        return np.full(len(observations), 6)

    rows = jaxmoe.evaluate(predict, **{**FEW, "baselines": ["fixed_subset"]})
    assert qos(rows)["policy"] == pytest.approx(qos(rows)["fixed_subset(6)"])
    assert all(type(each) is np.ndarray and each.dtype == np.float32 and each.shape[1:] == (21,) for each in seen)


def test_a_model_whose_predict_gives_a_pair(found):
    class Model:
        """As Stable-Baselines3's are."""

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            del state, episode_start, deterministic
            return np.full(len(observation), 6, np.int64), None

    rows = found.evaluate(policies={"sb3": Model().predict}, agents=[0], requests=128, baselines=["fixed_subset"])
    assert qos(rows)["sb3"] == pytest.approx(qos(rows)["fixed_subset(6)"])
    assert "ppo (1 agent)" in set(rows["policy"])


def test_an_agent_as_a_function_of_the_host_is_the_agent(found, tmp_path):
    jaxmoe.export(found, tmp_path / "policy.safetensors", agent=3)
    loaded = jaxmoe.load_policy(tmp_path / "policy.safetensors")

    def predict(observations):
        return np.argmax(np.stack([loaded.preferences(row) for row in observations]), axis=-1)

    path = tmp_path / "policy.safetensors"
    rows = found.evaluate(policies={"host": predict, "file": path}, agents=[3], requests=64, baselines="none")
    served = qos(rows)
    assert served["host"] == pytest.approx(served["ppo (1 agent)"], abs=1e-5)
    assert served["file"] == pytest.approx(served["ppo (1 agent)"], abs=1e-5)
    alone = jaxmoe.evaluate(path, requests=64, baselines="none")
    assert qos(alone)["policy.safetensors"] == pytest.approx(served["file"], abs=1e-5)


WRONG = {
    "too few": lambda observations: np.zeros(len(observations) - 1, int),
    "a column": lambda observations: np.zeros((len(observations), 1), int),
    "too high": lambda observations: np.full(len(observations), 16),
    "negative": lambda observations: np.full(len(observations), -1),
    "fractions": lambda observations: np.full(len(observations), 0.5),
    "not a number": lambda observations: np.full(len(observations), np.nan),
    "texts": lambda observations: np.full(len(observations), "6"),
    "nothing": lambda _: None,
    "probabilities": lambda observations: np.full((len(observations), 16), 1 / 16),
}


@pytest.mark.parametrize("what", WRONG)
def test_actions_that_are_none_are_one_sentence(what):
    with pytest.raises(
        InputError, match="policy 'policy' must give 3 actions from 0 to 15 for 3 observations, and gave"
    ):
        jaxmoe.evaluate(WRONG[what], **FEW)


def test_what_is_no_policy_is_refused(tmp_path):
    with pytest.raises(
        InputError, match="policy 'policy' is int; a policy is an experiment, a trained agent, a policy or"
    ):
        jaxmoe.evaluate(7, **FEW)
    with pytest.raises(InputError, match="policy 'mine' is list; a policy is an experiment"):
        jaxmoe.evaluate(policies={"mine": [1]}, **FEW)
    with pytest.raises(InputError, match="nowhere: there is no such folder"):
        jaxmoe.evaluate(tmp_path / "nowhere")


ACTIONS = {
    "too high": (lambda *_: jnp.int32(99), "99"),
    "negative": (lambda *_: jnp.int32(-1), "-1"),
    "a fraction": (lambda *_: jnp.float32(1.5), "1.5"),
    "not a number": (lambda *_: jnp.nan, "nan"),
    "several": (lambda *_: jnp.zeros(2, jnp.int32), r"int32 of shape \(2,\)"),
    "nothing": (lambda *_: None, "None"),
    "seldom": (lambda *given: jnp.where(given[1][8] > 0.9, 99, 3), "99"),  # where the first device is heard best
}


@pytest.mark.parametrize("what", ACTIONS)
def test_actions_of_a_function_of_jax_that_are_none_are_one_sentence(what):
    policy, shown = ACTIONS[what]
    message = f"policy 'policy' must give one action from 0 to 15 for an observation, and gave {shown}$"
    with pytest.raises(InputError, match=message):
        jaxmoe.evaluate(policy, requests=128, baselines="none")


def test_whole_numbers_in_floating_point_are_actions():
    rows = jaxmoe.evaluate(lambda *_: jnp.float32(6), requests=128, baselines=["fixed_subset"])
    assert qos(rows)["policy"] == pytest.approx(qos(rows)["fixed_subset(6)"])


def test_a_function_of_the_host_that_fails_on_the_way():
    def seldom(observations):
        return np.where(observations[:, 8] > 0.9, 99, 3)

    with pytest.raises(InputError, match=r"policy 'policy' must give .* actions from 0 to 15 for .* and gave 99$"):
        jaxmoe.evaluate(seldom, requests=128, baselines="none")

    def failing(observations):
        return 1 // (len(observations) <= 3) * np.zeros(len(observations), int)

    with pytest.raises(ZeroDivisionError):
        jaxmoe.evaluate(failing, requests=128, baselines="none")


def test_a_function_of_an_environment_in_numpy_is_the_same_one_in_jax():
    def in_numpy(key, observation, state, params):
        del key, params
        busy = np.asarray(state.backlog_s)  # JAX cannot trace it, whereupon it is called with numbers
        return int(np.argmin(busy)) + int(np.argmax(observation[:4]))

    def in_jax(key, observation, state, params):
        del key, params
        return jnp.argmin(state.backlog_s) + jnp.argmax(observation[:4])

    rows = jaxmoe.evaluate(in_numpy, policies={"jax": in_jax}, requests=128, baselines="none")
    assert qos(rows)["policy"] == pytest.approx(qos(rows)["jax"], abs=1e-5)


@pytest.mark.parametrize("gives", [99, -1, 3.5, None, "3", [1, 2]])
def test_a_function_of_an_environment_in_numpy_gives_actions_that_exist(gives):
    def policy(key, observation, state, params):
        del key, state, params
        return gives if float(observation[0]) > -1 else 0

    with pytest.raises(InputError, match=r"policy 'policy' must give one action from 0 to 15 for .*, and gave "):
        jaxmoe.evaluate(policy, requests=128, baselines="none")


def test_agents_policies_and_experiments_are_evaluated_as_what_they_are(found, tmp_path):
    few = {"requests": 64, "baselines": "none"}
    own = qos(found.evaluate(agents=[3], **few))["ppo (1 agent)"]
    [agent] = found.agents([3])
    path = found.policy(3).save(tmp_path / "policy.safetensors")
    served = jaxmoe.evaluate(
        agent,
        policies={"agent": agent, "policy": found.policy(3), "file": path, "loaded": jaxmoe.load_policy(path)},
        **few,
    )
    assert list(qos(served).index) == ["ppo (1 agent)", "agent", "policy", "file", "loaded"]
    np.testing.assert_allclose(qos(served), own, atol=1e-5)
    for policy in (found.policy(3), jaxmoe.load_policy(path)):
        assert qos(jaxmoe.evaluate(policy, **few))["policy"] == pytest.approx(own, abs=1e-5)
    best = qos(jaxmoe.evaluate(found, "oneshot", policies={"best": found}, **few))
    assert list(best.index) == ["ppo (6 agents)", "best"]
    assert list(qos(found.evaluate(agents=agent, **few)).index) == ["ppo (1 agent)"]
    assert list(qos(jaxmoe.evaluate([agent, agent], **few)).index) == ["ppo (2 agents)"]


def test_what_evaluate_does_not_take_is_one_sentence(found):
    for wrong in (42, 4.5, {"a": 1}, [], [1], object(), np.zeros(3)):
        with pytest.raises(
            InputError, match=r"policy 'policy' is .*; a policy is an experiment, a trained agent, a policy"
        ):
            jaxmoe.evaluate(wrong, **FEW)
    with pytest.raises(
        InputError, match=r"scenario = .* is not the name of a scenario; policies of your own are given"
    ):
        found.evaluate(lambda *_: 3, agents=[0])
    with pytest.raises(InputError, match="agents = 'worst' is neither 'best', 'all' nor numbers"):
        found.evaluate(agents="worst")
    with pytest.raises(InputError, match="policies = 3 is not a mapping of names to policies"):
        jaxmoe.evaluate(policies=3)
    table = jaxmoe.load_table()
    turned = table.select_experts(list(reversed(table.experts)))
    with pytest.raises(
        InputError, match=r"policy 'mine' chooses among setting, character, .* and the table has science"
    ):
        jaxmoe.evaluate(policies={"mine": found.policy(0)}, table=turned, **FEW)
    [agent] = found.agents([0])
    other = agent._replace(job=agent.job._replace(signature=agent.job.signature._replace(table="another")))
    with pytest.raises(
        InputError, match="agent 0 was trained on another table than the shipped one; give it as table="
    ):
        jaxmoe.evaluate(other, **FEW)


def test_a_damaged_policy_is_found_before_it_is_evaluated(swept, tmp_path):
    out = shutil.copytree(swept, tmp_path / "out")
    [path] = out.glob("jobs/000002/*/policies.safetensors")
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\1\0")
    with pytest.raises(InputError, match=r"policies.safetensors is damaged: it is not what was written"):
        jaxmoe.load(out).evaluate(agents=[0], **FEW)


@pytest.mark.slow
def test_the_command_evaluates_chosen_agents_elsewhere(swept, tmp_path):
    arguments = ["evaluate", swept, "--agents", "0,2", "--scenario", "fading", "--set", "params.latency_weight=0.05"]
    done = tiny.command(*arguments, "--requests", 64, "--baselines", "random", "--out", tmp_path / "found.csv")
    assert done.code == 0, done.stderr
    assert "ppo (2 agents)" in done.stdout
    assert (tmp_path / "found.csv").is_file()
    refused = tiny.command("evaluate", swept, "--agents", "best,1")
    assert (refused.code, len(refused.stderr.splitlines())) == (2, 1)
