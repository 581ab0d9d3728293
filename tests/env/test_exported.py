"""Exported policies in the evaluation: each format brings what the agent brings, on any table and in any scenario."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save
from trained_cases import case

import jaxmoe
from jaxmoe import policy
from jaxmoe.env.actions import device_choices
from jaxmoe.env.exported import policy_function, training_environment
from jaxmoe.env.scenarios import register_scenario
from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import read_bundle, write_bundle
from jaxmoe.policy.onnx_graph import to_onnx
from jaxmoe.policy.stablehlo import to_stablehlo
from jaxmoe.policy.tensors import checksum
from jaxmoe.training.policies import evaluate_policy

WRITERS = {"safetensors": lambda _, tensors: save(tensors), "stablehlo": to_stablehlo, "onnx": to_onnx}


def bundle_of(agent, folder, form="safetensors"):
    path = folder / f"policy.{form}"
    write_bundle(path, WRITERS[form](agent.contract, agent.tensors), agent.contract)
    return read_bundle(path)


@pytest.mark.slow
@pytest.mark.parametrize("form", WRITERS)
def test_each_format_brings_what_the_agent_brings(tmp_path, form):
    agent = case("dqn", "fading")

    def act(key, observation, state, params):
        del key, state, params
        return agent.algorithm.preferences(agent.policy, observation).argmax()

    function = policy_function(bundle_of(agent, tmp_path, form), agent.env, agent.params)
    splits = {"train": agent.params}
    found, expected = (
        evaluate_policy(policy, agent.env, splits, 512, one_device=form == "onnx")["train"]
        for policy in (function, act)
    )
    np.testing.assert_array_equal(found.prompts.counts, expected.prompts.counts)
    np.testing.assert_allclose(found.prompts.sums, expected.prompts.sums, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("replicas", [1, 2])
def test_no_format_asks_a_device_of_the_environment_that_is_down(tmp_path, replicas):
    agent = case("dqn", iterations=0, settings=(("num_replicas", replicas),))
    rng, network = np.random.default_rng(2), agent.contract.network
    tensors = {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in network.shapes().items()}
    contract = agent.contract._replace(weights_sha256=checksum(tensors, tensors))
    seen = rng.normal(0, 1, (100_000, network.inputs)).astype(np.float32)
    seen[:, 4:8] = np.array(contract.observation[1].default) / 100  # words_hat, which the policy takes along
    devices = 4 * replicas
    seen[:, -devices:] = rng.uniform(size=(len(seen), devices)) < 0.7
    asked = device_choices(agent.env.settings)  # [A, D]
    illegal = ((seen[:, None, -devices:] == 0) & (asked == 1)).any(axis=-1)
    expected = np.where(illegal, -np.inf, policy.apply(network, tensors, seen))
    rows = np.arange(len(seen))
    for form in WRITERS:
        act = policy_function(
            bundle_of(agent._replace(contract=contract, tensors=tensors), tmp_path, form), agent.env, agent.params
        )
        actions = np.asarray(jax.jit(jax.vmap(lambda row, act=act: act(None, row, None, None)))(jnp.asarray(seen)))
        assert not illegal[rows, actions].any()
        assert (expected.max(axis=1) - expected[rows, actions] < 1e-4).all()
        assert len(set(actions.tolist())) > 10


@pytest.mark.slow
def test_a_policy_keeps_its_own_scaling_and_expected_words(tmp_path):
    agent = case("dqn", "queueing")
    other = agent.params.replace(slot_s=8.0, battery_capacity_j=50.0, words_hat=agent.params.words_hat * 2)
    seen = agent.observations(64)
    ours = policy_function(bundle_of(agent, tmp_path), agent.env, agent.params)
    elsewhere = policy_function(read_bundle(tmp_path), agent.env, other)
    scaled = seen.copy()
    scaled[:, 4:8] *= 2
    scaled[:, 12:16] /= 2
    scaled[:, 16] *= 2
    actions = [int(ours(None, row, None, None)) for row in jnp.asarray(seen)]
    assert actions == [int(elsewhere(None, row, None, None)) for row in jnp.asarray(scaled)]
    assert actions == agent.preferences(seen).argmax(axis=1).tolist()


def test_a_contract_says_where_it_was_trained():
    place = training_environment(case("dqn", "queueing").contract)
    env, params = jaxmoe.make(place.scenario, **place.settings)
    assert env == case("dqn", "queueing").env
    assert place.params["slot_s"] == params.slot_s
    assert training_environment(case("ppo").contract).params["deadline_s"] == float("inf")


@pytest.mark.parametrize(("trained", "actions"), [((), 16), ((("max_experts", 2),), 11)])
def test_a_policy_brings_its_own_limit_to_a_scenario_with_another(tmp_path, trained, actions):
    agent = case("dqn", settings=trained, iterations=0)
    assert len(agent.contract.actions) == actions
    register_scenario("one_expert", {"max_experts": 1}, {})
    own = {**agent.contract.scenario, "name": "one_expert"}
    settings = training_environment(agent.contract._replace(scenario=own)).settings
    env, params = jaxmoe.make("one_expert", **settings)
    policy_function(bundle_of(agent, tmp_path), env, params)
    with pytest.raises(InputError, match="actions are numbered otherwise"):
        policy_function(read_bundle(tmp_path), *jaxmoe.make("one_expert"))
    older = {name: value for name, value in own["settings"].items() if name != "max_experts"}
    contract = agent.contract._replace(scenario={**own, "settings": older})
    assert training_environment(contract).settings["max_experts"] == 4  # which knew no limit


def test_an_environment_with_other_devices_is_refused(tmp_path):
    env, params = jaxmoe.make("oneshot", num_replicas=2)
    with pytest.raises(InputError, match=r"the policy observes .*snr_db\[4\].*, and the environment has .*snr_db\[8\]"):
        policy_function(bundle_of(case("ppo"), tmp_path), env, params)
