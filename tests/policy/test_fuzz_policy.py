"""Policies' files that are not what they seem, their checksums those of what they hold: each is read, or refused."""

import hashlib
import json
import shutil

import numpy as np
import onnx
from fuzzing import (
    NUMBERS,
    STRANGE,
    assert_one_sentence,
    bent_bytes,
    bent_document,
    bent_json,
    cases,
    each,
    keeps_the_rule,
    within_limits,
)
from safetensors.numpy import save
from trained_cases import case

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import contract_path, read_bundle, write_bundle, write_stack
from jaxmoe.policy.onnx_graph import from_onnx, to_onnx
from jaxmoe.policy.plain_json import canonical_json
from jaxmoe.policy.stablehlo import from_stablehlo, to_stablehlo
from jaxmoe.policy.tensors import checksum

WRITERS = {"safetensors": lambda _, tensors: save(tensors), "onnx": to_onnx, "stablehlo": to_stablehlo}
COUNT = 5  # observations


def agent():
    return case("ppo", iterations=0)


def written(folder, form):
    """A sound policy; of safetensors now and then one of a stack."""
    path = folder / f"policy.{form}"
    write_bundle(path, WRITERS[form](agent().contract, agent().tensors), agent().contract)
    return path


def written_stack(folder):
    contract = agent().contract
    members = [(0, row, contract._replace(agent=contract.agent | {"number": row})) for row in range(2)]
    tensors = {f"group0/{name}": tensor[None].repeat(2, axis=0) for name, tensor in agent().tensors.items()}
    write_stack(folder / "policy.safetensors", save(tensors), members)
    return folder / "policy.safetensors"


def sign(path, tree):
    """Write a contract with the checksums that it should have, as far as there is anywhere to put them."""
    if isinstance(tree, dict):
        content = path.read_bytes()
        if isinstance(tree.get("file"), dict):
            tree["file"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        rest = {name: value for name, value in tree.items() if name != "sha256"}
        try:
            tree = rest | {"sha256": hashlib.sha256(canonical_json(rest)).hexdigest()}
        except (ValueError, RecursionError):
            tree = rest | {"sha256": "0" * 64}
    try:
        text = json.dumps(tree)
    except RecursionError:
        text = "[" * 5000 + "]" * 5000
    contract_path(path).write_text(text, encoding="utf-8", errors="surrogatepass")


def bend(path, form, chance):
    """Bend the file or the contract of a policy, and sign both again."""
    tree = json.loads(contract_path(path).read_text())
    what = chance.choice(["contract", "contract", "contract", "file", "file", "bytes", "text"])
    what = "bytes" if form == "stablehlo" else what
    if what == "contract":
        parts = [name for name in tree if isinstance(tree[name], dict | list)]
        part = chance.choice([*parts, *(name for name in ("scenario", "scenario", "network") if name in parts), "", ""])
        tree = tree | {part: bent_document(tree[part], chance)} if part else bent_document(tree, chance)
    elif what == "text":
        contract_path(path).write_bytes(bent_bytes(contract_path(path).read_bytes(), chance))
        return
    elif what == "bytes":
        path.write_bytes(bent_bytes(path.read_bytes(), chance))
    elif form == "safetensors":
        path.write_bytes(bent_tensors(path.read_bytes(), tree, chance))
    elif form == "onnx":
        path.write_bytes(bent_graph(path.read_bytes(), chance))
    sign(path, tree)


def bent_tensors(content, tree, chance):
    """Another header, or other numbers, of which the contract has the checksum."""
    if chance.random() < 0.5 or "weights_sha256" not in tree:
        length = int.from_bytes(content[:8], "little")
        header = bent_json(content[8 : 8 + length], chance)
        length = chance.choice([len(header)] * 8 + [0, 2**63, 2**64 - 1])
        return length.to_bytes(8, "little") + header + content[8 + int.from_bytes(content[:8], "little") :]
    tensors = {name: tensor.copy() for name, tensor in agent().tensors.items()}
    name = chance.choice(list(tensors))
    tensors[name].flat[chance.randrange(tensors[name].size)] = chance.choice([np.nan, np.inf, 3e38, -3e38, 1e-45, 0])
    if chance.random() < 0.3:
        with np.errstate(all="ignore"):
            tensors[name] *= np.float32(1e30)
    tree["weights_sha256"] = checksum(tensors, agent().contract.network.shapes())
    return save(tensors)


def bent_graph(content, chance):
    """A graph in which one to three fields, wherever they are, are others."""
    model = onnx.load_model_from_string(content)
    for _ in range(chance.choice([1, 1, 3])):
        message, field, value = chance.choice(list(fields(model)))
        repeated = not isinstance(value, str | bytes | int | float) and field.message_type is None
        new = {"str": chance.choice(STRANGE), "bytes": chance.choice([b"", b"\xff" * 4, b"\0" * 4096])}
        try:
            if chance.random() < 0.2:
                message.ClearField(field.name)
            elif repeated and len(value):
                value[chance.randrange(len(value))] = chance.choice([0, -1, 1, 2**31, 2**62, 10**9])
            elif isinstance(value, str | bytes):
                setattr(message, field.name, new[type(value).__name__])
            elif isinstance(value, int | float):
                setattr(message, field.name, chance.choice(NUMBERS))
            elif field.message_type is not None and not hasattr(value, "ListFields") and len(value):
                value.add().CopyFrom(chance.choice(list(value)))
        except (ValueError, TypeError, OverflowError):
            continue  # what the field cannot hold
    return model.SerializeToString()


def fields(message):
    """All fields that are set, however deep: the message, what describes the field, and its value."""
    for field, value in message.ListFields():
        yield message, field, value
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from fields(part)


def used(path, form, number):
    """A policy's answers, each of them an action, or a sentence."""
    observations = agent().observations(COUNT)
    try:
        if form == "safetensors":
            policy = jaxmoe.load_policy(path, number)
            width, actions = policy.contract.network.inputs, len(policy.contract.actions)
            given = np.resize(observations, (COUNT, width))
            assert repr(policy)
            found, one = policy.act(given), policy.act(given[0])
            assert one == found[0]
            if "snr_db" in {field.name for field in policy.contract.observation}:
                assert policy.select(relevance=[0.5] * 4, snr_db=[9] * 4).action in range(actions)
            if policy.contract.preferences == "logits":
                assert np.isfinite(policy.probabilities(given)).all()
        else:
            bundle = read_bundle(path)
            width, actions = bundle.contract.network.inputs, len(bundle.contract.actions)
            given = np.resize(observations, (COUNT, width))
            if form == "onnx":
                found = from_onnx(bundle.content, bundle.contract, str(path))(given)
            else:
                found = np.asarray(from_stablehlo(bundle.content, bundle.contract, str(path))(given)["actions"])
    except InputError as error:
        assert_one_sentence(f"jaxmoe: {error}\n", 600 + len(str(path)))
    else:
        assert found.shape == (COUNT,)
        assert ((found >= 0) & (found < actions)).all()


def one_case(chance, root, form=None):
    root.mkdir()
    form = form or chance.choice(["safetensors", "onnx"])
    stack = form == "safetensors" and chance.random() < 0.2
    path = written_stack(root) if stack else written(root, form)
    bend(path, form, chance)
    before = path.read_bytes()
    with within_limits():
        used(path, form, chance.randrange(2) if stack else None)
    assert path.read_bytes() == before
    if chance.random() < 0.2:
        command = ["evaluate", "--policy", path, "--requests", 64, "--baselines", "none", "--quiet"]
        if chance.random() < 0.7:
            command = ["export", path, "--out", root / "out" / "policy.safetensors"]
            (root / "out").mkdir()
        keeps_the_rule(*command, root=root, out=root / "out")
    shutil.rmtree(root)


@cases()
def test_a_bent_policy_is_read_or_refused(numbers, tmp_path):
    for chance in each(numbers, "policy"):
        one_case(chance, tmp_path / "case")


@cases(quick=3, whole=30)
def test_a_bent_program_is_run_or_refused(numbers, tmp_path):
    for chance in each(numbers, "program"):
        one_case(chance, tmp_path / "case", "stablehlo")
