"""An action that asks a device which is down is never chosen, in no format of a policy, but the best of the others."""

import hashlib
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import save
from trained_cases import case

import jaxmoe
from jaxmoe import policy
from jaxmoe.env.exported import policy_function
from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import read_bundle, write_bundle, write_stack
from jaxmoe.policy.legal import LEAST, legal_actions, mask_of, masked
from jaxmoe.policy.loading import Policy
from jaxmoe.policy.onnx_graph import to_onnx
from jaxmoe.policy.plain_json import canonical_json
from jaxmoe.policy.stablehlo import from_stablehlo, to_stablehlo
from jaxmoe.policy.tensors import checksum

COUNT = 100_000
TIE = 1e-4  # preferences that differ by less may be ordered either way
FORMAT_1 = Path(__file__).parent / "format1"  # written by the last version that had format 1
SIZES = {"oneshot": ("ppo", ()), "replicas": ("dqn", (("num_replicas", 2),))}


def scattered(name):
    """A policy whose weights are random, so that it prefers many actions; contract and tensors."""
    algorithm, settings = SIZES[name]
    contract = case(algorithm, iterations=0, settings=settings, hidden=(16,)).contract
    rng = np.random.default_rng(1)
    tensors = {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in contract.network.shapes().items()}
    return contract._replace(weights_sha256=checksum(tensors, tensors)), tensors


def situations(contract, count=COUNT, seed=0):
    """Random observations in which each device is up with probability 0.7; the devices' numbers come last."""
    assert contract.observation[-1].name == "available"
    rng = np.random.default_rng(seed)
    observations = rng.normal(0, 1, (count, contract.network.inputs)).astype(np.float32)
    devices = contract.observation[-1].size
    observations[:, -devices:] = rng.uniform(size=(count, devices)) < 0.7
    return observations


def devices_of(contract, action):
    """Devices that an action asks, read from the contract by hand."""
    return [
        expert * contract.num_replicas + digit - 1 for expert, digit in enumerate(contract.actions[action]) if digit
    ]


def legal_by_hand(contract, observations):
    up = observations[:, -contract.observation[-1].size :] > 0
    return np.stack([up[:, devices_of(contract, action)].all(axis=1) for action in range(len(contract.actions))], 1)


def by_numpy(contract, tensors, folder):
    path = folder / "policy.safetensors"
    write_bundle(path, save(tensors), contract)
    loaded = jaxmoe.load_policy(path)
    return lambda observations: (loaded.preferences(observations), loaded.act(observations))


def by_stack(contract, tensors, folder):
    path = folder / "all.safetensors"
    others = {name: -tensor for name, tensor in tensors.items()}
    members = [
        (0, 0, contract._replace(weights_sha256=checksum(others, others), agent=contract.agent | {"number": 4})),
        (0, 1, contract._replace(agent=contract.agent | {"number": 7})),
    ]
    write_stack(path, save({f"group0/{name}": np.stack([others[name], tensors[name]]) for name in tensors}), members)
    assert json.loads(path.with_suffix(".json").read_text())["groups"][0]["legal"] == "available"
    loaded = jaxmoe.load_policy(path, agent=7)
    return lambda observations: (loaded.preferences(observations), loaded.act(observations))


def by_stablehlo(contract, tensors, _):
    program = from_stablehlo(to_stablehlo(contract, tensors), contract, "it")

    def run(observations):
        found = program(jnp.asarray(observations))
        return np.asarray(found["preferences"]), np.asarray(found["actions"])

    return run


def by_onnx(contract, tensors, _):
    session = onnxruntime.InferenceSession(to_onnx(contract, tensors), providers=["CPUExecutionProvider"])
    return lambda observations: session.run(["preferences", "actions"], {"observations": observations})


FORMS = {"safetensors": by_numpy, "stack": by_stack, "stablehlo": by_stablehlo, "onnx": by_onnx}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", SIZES)
def test_what_is_not_legal_is_never_chosen_and_the_best_of_the_others_is(tmp_path, size, form):
    contract, tensors = scattered(size)
    observations = situations(contract)
    legal, said = legal_by_hand(contract, observations), policy.apply(contract.network, tensors, observations)
    rows = np.arange(COUNT)
    assert legal[rows, said.argmax(axis=1)].mean() < 0.7, "unmasked, devices that are down would be asked"
    preferences, actions = FORMS[form](contract, tensors, tmp_path)(observations)
    assert legal[rows, actions].all()
    assert len(set(actions.tolist())) > 10
    np.testing.assert_array_equal(actions, preferences.argmax(axis=1))
    assert (preferences[~legal] == np.finfo(np.float32).min).all()
    np.testing.assert_allclose(preferences[legal], said[legal], atol=TIE)
    expected = np.where(legal, said, -np.inf)
    best = expected.argmax(axis=1)
    assert ((actions == best) | (expected.max(axis=1) - expected[rows, actions] < TIE)).all()
    assert (actions == best).mean() > 0.999


def test_probabilities_of_what_is_not_legal_are_zero(tmp_path):
    contract, tensors = scattered("oneshot")
    write_bundle(tmp_path / "policy.safetensors", save(tensors), contract)
    observations = situations(contract, 1000)
    probabilities = jaxmoe.load_policy(tmp_path).probabilities(observations)
    legal = legal_by_hand(contract, observations)
    assert (probabilities[~legal] == 0).all()
    assert (probabilities[legal] > 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_nobody_is_asked_where_all_devices_are_down(tmp_path):
    contract, tensors = scattered("replicas")
    observations = situations(contract, 50)
    observations[:, -8:] = 0
    for form, runner in FORMS.items():
        (tmp_path / form).mkdir()
        _, actions = runner(contract, tensors, tmp_path / form)(observations)
        assert not np.asarray(actions).any()


def test_numpy_and_jax_say_the_same_of_any_number_of_axes():
    contract, _ = scattered("replicas")
    mask, observations = mask_of(contract), situations(contract, 60).reshape(3, 4, 5, -1)
    by_hand = legal_by_hand(contract, observations.reshape(60, -1)).reshape(3, 4, 5, -1)
    np.testing.assert_array_equal(legal_actions(mask, observations), by_hand)
    np.testing.assert_array_equal(legal_actions(mask, jnp.asarray(observations), jnp), by_hand)
    np.testing.assert_array_equal(legal_actions(mask, observations[0, 0, 0]), by_hand[0, 0, 0])
    preferences = np.ones(by_hand.shape, np.float32)
    found = masked(mask, jnp.asarray(preferences), jnp.asarray(observations), jnp)
    np.testing.assert_array_equal(found, masked(mask, preferences, observations))
    np.testing.assert_array_equal(found, np.where(by_hand, 1, LEAST))


def test_a_device_whose_number_is_none_counts_as_down():
    contract, _ = scattered("oneshot")
    observation = situations(contract, 1)[0]
    for number in (0.0, -0.0, -1.0, np.nan):
        observation[-4:] = [1, number, 1, 1]
        legal = legal_actions(mask_of(contract), observation)
        np.testing.assert_array_equal(legal, [action[1] == 0 for action in contract.actions])


def test_numbers_that_overflow_are_refused_though_the_action_is_masked():
    contract, tensors = scattered("replicas")
    tensors["layer1/kernel"][:, 80] = 1e30  # action 80 asks everybody
    observation = np.full(33, 1e9, np.float32)
    observation[-8:] = 0
    with pytest.raises(InputError, match="so large that the preferences are not finite"):
        Policy(contract, tensors).act(observation)


def test_of_500_situations_whose_preferred_device_is_down_the_best_of_the_others_is_chosen(tmp_path):
    agent = case("ppo")
    loaded = jaxmoe.load_policy(agent.write(tmp_path))
    asked = 0
    for row in agent.observations(500):
        said = {"relevance": row[:4], "snr_db": 20 * row[8:12]}
        preferred = loaded.select(**said)
        assert preferred.experts
        down = devices_of(agent.contract, preferred.action)[0]
        said["available"] = np.arange(4) != down
        decision, preferences = loaded.select(**said), agent.preferences(loaded.observation(**said))
        others = [number for number in range(16) if down not in devices_of(agent.contract, number)]
        assert decision.action in others
        assert preferences[decision.action] > max(preferences[others]) - TIE
        assert decision.subset == decision.action
        asked += bool(decision.experts)
    assert asked > 450


def test_each_choice_says_whether_it_is_legal(tmp_path):
    contract, tensors = scattered("oneshot")
    write_bundle(tmp_path / "policy.safetensors", save(tensors), contract)
    loaded = jaxmoe.load_policy(tmp_path)
    said = {"relevance": [0.1, 0.9, 0.6, 0.0], "snr_db": [12.0, 3.0, 18.0, 7.0]}
    assert all(choice.legal for choice in loaded.select(**said).choices)
    assert loaded.select(**said) == loaded.select(**said, available=np.ones((4, 1)))
    decision = loaded.select(**said, available=[1, 0, 1, 1])
    for choice in decision.choices:
        assert choice.subset == choice.action
        assert choice.legal == ("character" not in choice.experts)
        assert (choice.value == -np.inf, choice.probability == 0) == (not choice.legal, not choice.legal)
    assert decision.action == max(decision.choices, key=lambda choice: choice.value).action
    assert decision.choices[decision.action][1:4] == decision[1:4]
    with pytest.raises(InputError, match=r"available .* has shape"):
        loaded.select(**said, available=[1, 0])


def in_format_1(where):
    """Change a contract that masks nothing into one of format 1, and sign it again."""
    tree = json.loads(where.read_text())
    assert tree.pop("legal") is None
    assert tree.pop("sha256")
    tree["format"] = 1
    where.write_text(json.dumps(tree | {"sha256": hashlib.sha256(canonical_json(tree)).hexdigest()}))


@pytest.mark.parametrize(("name", "agent"), [("policy", None), ("all", 4), ("all", 7)])
def test_a_policy_of_format_1_decides_as_it_did(name, agent):
    loaded = jaxmoe.load_policy(FORMAT_1 / f"{name}.safetensors", agent=agent)
    assert loaded.contract.legal is None
    for before in json.loads((FORMAT_1 / "decisions.json").read_text()):
        decision = loaded.select(**before["situation"])
        assert decision.action == before["action"] == loaded.act(loaded.observation(**before["situation"]))
        assert [decision.subset, list(decision.experts), list(decision.replicas)] == [
            before[name] for name in ("subset", "experts", "replicas")
        ]
        assert all(choice.legal and np.isfinite(choice.value) for choice in decision.choices)


def test_programs_of_format_1_run_unmasked(tmp_path):
    env, params = jaxmoe.make("oneshot", num_replicas=2)
    loaded = jaxmoe.load_policy(FORMAT_1 / "policy.safetensors")
    path = tmp_path / "policy.stablehlo"
    write_bundle(path, to_stablehlo(loaded.contract, loaded.tensors), loaded.contract)
    in_format_1(path.with_name("policy.stablehlo.json"))
    observations = situations(loaded.contract, 50)
    observations[:, 4:8] = np.array(loaded.contract.observation[1].default) / 100  # words_hat, which it takes along
    expected = policy.apply(loaded.contract.network, loaded.tensors, observations).argmax(axis=1)
    assert not legal_by_hand(loaded.contract, observations)[np.arange(50), expected].all()
    for file in (path, FORMAT_1 / "policy.onnx", FORMAT_1 / "policy.safetensors"):
        act = policy_function(read_bundle(file), env, params)
        assert [int(act(None, row, None, None)) for row in jnp.asarray(observations)] == expected.tolist()


def test_a_policy_of_format_1_that_is_exported_again_masks_nothing(tmp_path):
    jaxmoe.export(FORMAT_1 / "policy.safetensors", tmp_path / "policy.safetensors")
    tree = json.loads((tmp_path / "policy.json").read_text())
    assert (tree["format"], tree["legal"]) == (2, None)
    jaxmoe.export(FORMAT_1 / "all.safetensors", tmp_path / "policy.onnx", agent=4)
    contract = read_bundle(tmp_path / "policy.onnx").contract
    assert contract == jaxmoe.load_policy(FORMAT_1 / "all.safetensors", agent=4).contract
    observations = situations(contract, 100)
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx", providers=["CPUExecutionProvider"])
    [actions] = session.run(["actions"], {"observations": observations})
    np.testing.assert_array_equal(actions, jaxmoe.load_policy(tmp_path / "policy.safetensors").act(observations))


def test_format_1_has_no_entry_of_what_is_legal(tmp_path):
    for name in ("policy.safetensors", "policy.json"):
        shutil.copy(FORMAT_1 / name, tmp_path)
    where = tmp_path / "policy.json"
    tree = {name: value for name, value in json.loads(where.read_text()).items() if name != "sha256"}
    tree["legal"] = "available"
    where.write_text(json.dumps(tree | {"sha256": hashlib.sha256(canonical_json(tree)).hexdigest()}))
    assert jaxmoe.load_policy(tmp_path).contract.legal is None


def test_exporting_again_keeps_what_is_legal(tmp_path):
    contract, tensors = scattered("oneshot")
    write_bundle(tmp_path / "policy.safetensors", save(tensors), contract)
    for suffix in ("onnx", "stablehlo"):
        jaxmoe.export(tmp_path / "policy.safetensors", tmp_path / f"policy.{suffix}")
        assert read_bundle(tmp_path / f"policy.{suffix}").contract.legal == "available"
