"""Each format chooses as the trained agent does, in a process that has that format's runtime and nothing of jaxmoe."""

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import save
from trained_cases import case

from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import write_bundle
from jaxmoe.policy.onnx_graph import METADATA, from_onnx, to_onnx
from jaxmoe.policy.stablehlo import from_stablehlo, to_stablehlo

COUNT = 10_000
TIE = 1e-5  # preferences that differ by less may be ordered either way
RUNTIMES = {
    "safetensors": """
from jaxmoe import load_policy
actions = load_policy(path).act(observations)
""",
    "stablehlo": """
from jax import export
program = export.deserialize(bytearray(open(path, "rb").read()))
assert program.platforms == ("cpu", "cuda", "tpu")
actions = program.call(observations)["actions"]
""",
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
actions = session.run(["actions"], {"observations": observations})[0]
""",
}
UNWANTED = {
    "safetensors": ("jax", "flax", "onnxruntime", "pandas", "safetensors"),
    "stablehlo": ("jaxmoe", "flax", "gymnax", "onnxruntime", "pandas"),
    "onnx": ("jaxmoe", "jax", "flax", "onnx", "pandas"),
}
WRITERS = {"safetensors": lambda _, tensors: save(tensors), "stablehlo": to_stablehlo, "onnx": to_onnx}


def run_elsewhere(form, path, observations, folder):
    """Actions of a format's runtime in a fresh process in which nothing else can be imported."""
    np.save(folder / "observations.npy", observations)
    script = f"""
import sys
for name in {UNWANTED[form]!r}:
    sys.modules[name] = None  # importing it is an error
import numpy
path, observations = {str(path)!r}, numpy.load({str(folder / "observations.npy")!r})
{RUNTIMES[form]}
numpy.save({str(folder / "actions.npy")!r}, actions)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=folder)
    return np.load(folder / "actions.npy")


@pytest.mark.parametrize("form", RUNTIMES)
@pytest.mark.parametrize(
    ("algorithm", "scenario", "iterations"),
    [
        ("ppo", "oneshot", 20),
        pytest.param("dqn", "fading", 20, marks=pytest.mark.slow),
        pytest.param("sac", "queueing", 60, marks=pytest.mark.slow),
    ],
)
def test_ten_thousand_actions_are_those_of_the_agent(tmp_path, algorithm, scenario, iterations, form):
    agent = case(algorithm, scenario, iterations)
    path = tmp_path / f"policy.{form}"
    write_bundle(path, WRITERS[form](agent.contract, agent.tensors), agent.contract)
    observations = agent.observations(COUNT)
    preferences = agent.preferences(observations)
    actions = run_elsewhere(form, path, observations, tmp_path)
    assert len(observations) == COUNT
    assert len(set(actions.tolist())) > 1
    chosen = preferences[np.arange(COUNT), actions]
    assert ((actions == preferences.argmax(axis=1)) | (preferences.max(axis=1) - chosen < TIE)).all()


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "swish"])
@pytest.mark.parametrize("form", ["stablehlo", "onnx"])
def test_preferences_with_every_activation_and_any_number_of_observations(activation, form):
    agent = case("ppo", activation=activation, iterations=0)
    content = WRITERS[form](agent.contract, agent.tensors)
    for count in (1, 7):
        observations = agent.observations(count)
        if form == "onnx":
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            found, actions = session.run(["preferences", "actions"], {"observations": observations})
        else:
            found, actions = map(from_stablehlo(content, agent.contract, "it")(observations).get, RESULTS)
        np.testing.assert_allclose(found, agent.preferences(observations), atol=1e-5)
        assert np.asarray(actions).shape == (count,)


RESULTS = ("preferences", "actions")


def test_an_onnx_graph_carries_its_contract_and_names_its_ports():
    agent = case("ppo")
    session = onnxruntime.InferenceSession(to_onnx(agent.contract, agent.tensors), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map[METADATA]) == agent.contract.to_json()
    ports = [(port.name, port.shape) for port in (*session.get_inputs(), *session.get_outputs())]
    assert ports == [("observations", ["batch", 21]), ("preferences", ["batch", 16]), ("actions", ["batch"])]


@pytest.mark.parametrize("read", [from_onnx, from_stablehlo])
def test_a_program_that_is_none_or_another_is_refused(read):
    agent, larger = case("ppo"), case("dqn", settings=(("num_replicas", 2),), iterations=0)
    write = to_onnx if read is from_onnx else to_stablehlo
    with pytest.raises(InputError, match="it is not "):
        read(b"no program", agent.contract, "it")
    with pytest.raises(InputError, match="it does not take"):
        read(write(larger.contract, larger.tensors), agent.contract, "it")


def test_an_onnx_graph_that_reads_other_files_is_refused():
    agent = case("ppo")
    model = onnx.load_model_from_string(to_onnx(agent.contract, agent.tensors))
    [weights, *_] = model.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../secret")
    with pytest.raises(InputError, match="has weights in other files"):
        from_onnx(model.SerializeToString(), agent.contract, "it")
