"""Training that goes on from an exported policy, and the evaluation of one, from files."""

import jax
import numpy as np
import pytest

import jaxmoe
from jaxmoe.algorithms.algorithm import AgentState
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.errors import InputError
from jaxmoe.training.inputs import checked_config

pytestmark = pytest.mark.slow  # each compiles programs of its own

SIZES = {
    "ppo": {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": (8,)},
    "dqn": {"num_envs": 4, "rollout_length": 8, "hidden": (8,), "replay_capacity": 64, "warmup_steps": 0, "updates": 1},
}
QUICK = {"requests": 1024, "baselines": "none", "compilation_cache": False}
OTHER_ORDER = ["science", "action", "setting", "character"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    jaxmoe.train("ppo", seeds=2, env_steps=512, config=SIZES["ppo"], evaluations=1, out=folder / "run", **QUICK)
    jaxmoe.export(folder / "run", folder / "policy.safetensors")
    jaxmoe.export(folder / "policy.safetensors", folder / "policy.onnx")
    return folder / "policy.safetensors"


def test_training_goes_on_from_the_policy(path):
    contract = jaxmoe.load_policy(path).contract
    training = jaxmoe.train("ppo", seeds=2, env_steps=32, config=SIZES["ppo"], evaluations=1, init_from=path, **QUICK)
    first = training.curves.query("env_steps == 0")
    np.testing.assert_allclose(first["train_qos"], contract.evaluation["train"]["qos"], rtol=1e-5)
    one, other = (agent.tensors["layer0/kernel"] for agent in training.agents([0, 1]))
    assert not np.array_equal(one, other)  # each has learned from its own requests


def test_dqn_bootstraps_from_the_policy_too():
    env, params = jaxmoe.make("oneshot")
    module = registered_algorithm("dqn")
    bound = module.make(env, checked_config(module.Config, SIZES["dqn"]), params)
    one, other = (bound.init(jax.random.key(number), module.Hypers(), params) for number in (0, 1))
    adopted = bound.adopt(one, other.policy)
    assert isinstance(adopted, AgentState)
    np.testing.assert_array_equal(adopted.learner.target, other.learner.target)
    np.testing.assert_array_equal(adopted.observation, one.observation)


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("dqn", {}, "is a policy of ppo, and dqn does not go on from it"),
        (
            "ppo",
            {"config": {"hidden": (64, 64)}},
            r"has hidden = \[8\] and activation = 'tanh'.*--hidden 8 --activation tanh",
        ),
        ("ppo", {"settings": {"num_replicas": 2}}, r"the policy observes .*and the environment has"),
    ],
)
def test_another_kind_of_agent_is_refused_and_leaves_no_folder(path, tmp_path, algorithm, options, message):
    options = {"config": SIZES[algorithm]} | options
    with pytest.raises(InputError, match=message):
        jaxmoe.train(algorithm, init_from=path, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_other_experts_and_files_without_weights_are_refused(path):
    with pytest.raises(
        InputError, match="chooses among setting, character, action, science, and the table has science"
    ):
        jaxmoe.train("ppo", config=SIZES["ppo"], table=jaxmoe.load_table().select_experts(OTHER_ORDER), init_from=path)
    with pytest.raises(InputError, match="is not safetensors, and only those hold weights to go on from"):
        jaxmoe.train("ppo", config=SIZES["ppo"], init_from=path.with_suffix(".onnx"))


def test_a_policy_is_evaluated_where_it_was_trained_if_nothing_else_is_said(path):
    contract = jaxmoe.load_policy(path).contract
    qos = (
        jaxmoe.evaluate(path, requests=1024, baselines=["one_slot_optimum"])
        .query("metric == 'qos'")
        .set_index(["split", "policy"])["mean"]
    )
    for split in ("train", "test"):
        assert qos[split, "policy.safetensors"] == pytest.approx(contract.evaluation[split]["qos"], rel=1e-4)
    assert ("test", "one_slot_optimum") in qos.index


def test_a_policy_is_evaluated_on_any_table_that_has_its_experts(path):
    table = jaxmoe.load_table()
    onnx = path.with_suffix(".onnx")
    same, turned = (
        jaxmoe.evaluate(onnx, "oneshot", table=each, requests=512, baselines="none").query(
            "metric == 'qos' and policy == 'policy.onnx'"
        )
        for each in (table, table.select_experts(OTHER_ORDER))
    )
    np.testing.assert_allclose(same["mean"], turned["mean"])
    with pytest.raises(InputError, match="unknown expert 'character'"):
        jaxmoe.evaluate(onnx, table=table.select_experts(["setting", "action"]))
    with pytest.raises(InputError, match="unknown scenario 'twoshot'"):
        jaxmoe.evaluate(onnx, "twoshot")
