"""Programs that crash, hang, want all memory or answer nonsense are refused before this process runs them."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from command_line import run
from fuzzing import within_limits
from onnx import helper, numpy_helper
from trained_cases import case

from jaxmoe.errors import InputError
from jaxmoe.policy import trial
from jaxmoe.policy.bundle import write_bundle
from jaxmoe.policy.onnx_graph import from_onnx, to_onnx
from jaxmoe.policy.stablehlo import from_stablehlo, to_stablehlo

AGENT = case("ppo", iterations=0)
INPUTS, ACTIONS = AGENT.contract.network.inputs, AGENT.contract.network.outputs


def program(actions, platforms=("cpu",)):
    """A program of the right shape whose actions are a function of the observations."""

    def decide(observations):
        preferences = observations @ jnp.ones((INPUTS, ACTIONS), jnp.float32)
        return {"preferences": preferences, "actions": actions(observations).astype(jnp.int32)}

    observations = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("batch"), INPUTS), jnp.float32)
    exported = jax.export.export(
        jax.jit(decide), platforms=platforms, disabled_checks=[jax.export.DisabledSafetyCheck.custom_call("cholesky")]
    )
    return bytes(exported(observations).serialize())


def endless(observations):
    return jax.lax.while_loop(lambda each: each[0, 0] > -1, lambda each: each * 0 + 1, observations)[:, 0]


def greedy(observations):
    wide = observations[:, :1] + jnp.arange(10**8, dtype=jnp.float32)[None]
    return jnp.sort(wide, axis=1)[:, 0]


def elsewhere(observations):
    return jnp.linalg.qr(jnp.ones((3, 3), jnp.float32) * observations[0, 0])[0][0, 0] + observations[:, 0]


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (
            lambda observations: observations[:, 0] + 999,
            r"it gives the action 999, and its contract has actions 0 to 15",
        ),
        (lambda observations: observations[:, 0] - 1, r"it gives the action -1, "),
        (lambda observations: observations[:, :2], "it does not give preferences and an action of 16"),
        pytest.param(elsewhere, "it calls code outside of itself", marks=pytest.mark.slow),
        pytest.param(greedy, "it is not a StableHLO program that this version of JAX", marks=pytest.mark.slow),
        pytest.param(endless, "it was given up: its program did not answer within 2 s", marks=pytest.mark.slow),
    ],
)
def test_a_program_that_no_policy_is(actions, message, monkeypatch):
    if actions is endless:
        monkeypatch.setattr(trial, "SECONDS", 2)
    with within_limits(), pytest.raises(InputError, match=message):
        from_stablehlo(program(actions), AGENT.contract, "it")


def test_a_program_that_ends_its_process_ends_no_other(monkeypatch):
    monkeypatch.setattr(trial, "_CODE", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(InputError, match=r"it ended the process that tried it \(SIGSEGV\)"):
        from_stablehlo(b"", AGENT.contract, "it")


def test_a_program_that_says_nothing_at_all_is_given_up(monkeypatch):
    monkeypatch.setattr(trial, "_CODE", "import time; time.sleep(60)")
    monkeypatch.setattr(trial, "WHOLE_SECONDS", 1)
    with pytest.raises(InputError, match="it was given up: its program did not answer within 1 s"):
        from_stablehlo(b"", AGENT.contract, "it")


def changed(change):
    model = onnx.load_model_from_string(to_onnx(AGENT.contract, AGENT.tensors))
    change(model)
    return model.SerializeToString()


def wants_memory(model):
    shape = numpy_helper.from_array(np.array([3 * 10**9], np.int64), "size")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["much"]))


def another_action(model):
    model.graph.node[-1].output[0] = "best"
    model.graph.initializer.append(numpy_helper.from_array(np.array([999], np.int64), "more"))
    model.graph.node.append(helper.make_node("Add", ["best", "more"], ["actions"]))


def own_operator(model):
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def own_function(model):
    node = helper.make_node("Tanh", ["x"], ["y"])
    model.functions.append(helper.make_function("", "Gemm", ["x"], ["y"], [node], [helper.make_opsetid("", 17)]))
    model.opset_import[0].version = 18


def huge_tensor(model):
    model.graph.initializer[0].dims[0] = 2**62


def strange_weight(model):
    model.graph.initializer[1].raw_data = b"\xff" * len(model.graph.initializer[1].raw_data)


def another_weight(model):
    model.graph.initializer[1].raw_data = bytes(len(model.graph.initializer[1].raw_data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            (each, "it does not take, compute and give")
            for each in (wants_memory, another_action, own_operator, own_function, huge_tensor)
        ),
        (strange_weight, "'layer0/bias' holds a number that is infinite or not a number"),
        (another_weight, "it holds other weights than its contract says"),
        (
            lambda model: model.graph.node.extend([helper.make_node("Tanh", ["a"], ["b"])] * 100_000),
            "bytes, and a graph of its",
        ),
    ],
)
def test_a_graph_that_jaxmoe_does_not_write_is_not_run(change, message):
    with within_limits(), pytest.raises(InputError, match=message):
        from_onnx(changed(change), AGENT.contract, "it")


def test_an_action_that_a_program_gives_only_now_and_then_is_refused_when_it_does(tmp_path):
    write_bundle(tmp_path / "p.stablehlo", program(lambda seen: jnp.where(seen[:, 0] > 0, 16, 0)), AGENT.contract)
    done = run("evaluate", "--policy", tmp_path / "p.stablehlo", "--requests", "256", "--baselines", "none")
    assert done.code == 2
    assert "must give one action from 0 to 15 for an observation, and gave 16" in done.error


def test_a_program_of_ours_passes():
    trial.require_sound(to_stablehlo(AGENT.contract, AGENT.tensors), INPUTS, ACTIONS, "it")
