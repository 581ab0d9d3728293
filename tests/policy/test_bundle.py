"""Nothing in a policy's files is believed before it is checked: whatever is wrong is one sentence."""

import copy
import hashlib
import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from trained_cases import case

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import read_bundle, write_bundle, write_stack
from jaxmoe.policy.contract import parse_contract
from jaxmoe.policy.plain_json import canonical_json, parse_json
from jaxmoe.policy.tensors import read_tensors

fuzz = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path):
    return case("ppo").write(tmp_path)


def sign(tree):
    """The tree with the checksum that it should have."""
    rest = {name: value for name, value in tree.items() if name != "sha256"}
    return rest | {"sha256": hashlib.sha256(canonical_json(rest)).hexdigest()}


def change(path, **changes):
    """Change members of a contract, `file__name` for one within another, and sign it again."""
    where = path.with_suffix(".json")
    tree = json.loads(where.read_text())
    for name, value in changes.items():
        *outer, last = name.split("__")
        place = tree
        for step in outer:
            place = place[step]
        place[last] = value
    where.write_text(json.dumps(sign(tree)))


def refused(path, message=None, **options):
    with pytest.raises(InputError, match=message) as found:
        jaxmoe.load_policy(path, **options)
    assert "\n" not in str(found.value)


def test_what_was_written_is_read(path):
    bundle = read_bundle(path)
    assert bundle.contract == case("ppo").contract
    assert bundle.content == path.read_bytes()


def test_a_missing_file_is_named(path, tmp_path):
    path.unlink()
    refused(path, r"policy\.safetensors: there is no such file")
    refused(tmp_path / "other.safetensors", r"other\.json: there is no such file")
    refused(tmp_path / "nowhere", r"nowhere ends in none of \.safetensors, \.stablehlo, \.onnx")


def test_nothing_is_overwritten(path):
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write_bundle(path, b"", case("ppo").contract)
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="exists already"):
        write_bundle(path, b"", case("ppo").contract)
    assert path.read_bytes() == before


def test_a_file_that_is_cut_off(path):
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, r"is damaged: it has \d+ bytes, and its contract says \d+")


def test_every_flipped_bit_is_noticed(path):
    for target in (path, path.with_suffix(".json")):
        whole = target.read_bytes()
        for place in range(0, len(whole), 97):
            target.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
            refused(path)
        target.write_bytes(whole)
    jaxmoe.load_policy(path)


def test_a_path_that_leaves_the_folder(path, tmp_path):
    (tmp_path / "sub").mkdir()
    for target in (path, path.with_suffix(".json")):
        shutil.move(target, tmp_path / "sub" / target.name)
    (tmp_path / "secret.safetensors").write_bytes((tmp_path / "sub" / path.name).read_bytes())
    inside = tmp_path / "sub" / path.name
    for name in ("../secret.safetensors", str(tmp_path / "secret.safetensors"), "..", "", "a\0b.safetensors", "x\\y"):
        change(inside, file__name=name)
        refused(inside.with_suffix(".json"), "file.name = .* is not (the plain name of a file|a text)")
    change(inside, file__name="link.safetensors")
    (tmp_path / "sub" / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    refused(inside.with_suffix(".json"), r"link\.safetensors is a link that leaves the folder")


def test_a_pipe_is_no_file(path):
    path.unlink()
    os.mkfifo(path)
    refused(path, "there is no such file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "has format 3 and this version of jaxmoe reads up to 2: a newer one made it, so update jaxmoe"),
        ({"format": True}, "format = True is not a whole number"),
        ({"kind": "model"}, "kind = 'model' is not one of policy"),
        ({"algorithm": ""}, "algorithm = '' is not a text"),
        ({"preferences": "votes"}, "preferences = 'votes' is not one of logits, action_values"),
        ({"network__activation": "sin"}, "network.activation = 'sin' is not one of tanh"),
        ({"network__hidden": [8]}, r"shape of 'layer0/bias' is \[64\], and the contract says \[8\]"),
        ({"network__inputs": 20}, "network.inputs = 20 is not the sum of the sizes in observation"),
        ({"network__outputs": 15}, "actions = .* is not a list of 15 different actions"),
        ({"experts": ["a", "b", "c"]}, r"observation\[0\].size = 4 is not 3, one per expert"),
        ({"experts": ["a", "b", "c", "a"]}, "experts = .* is not a list of different names"),
        ({"experts": ["a", "b", "c", "A"]}, "experts = .* is not a list of different names"),
        ({"num_replicas": 1000, "experts": ["a"] * 4000}, "experts = .* is not a list of different names"),
        (
            {"network__hidden": [1] * 64},
            "network.hidden = .* is not a network of at most 64 layers and 67,108,864 weights",
        ),
        ({"network__hidden": [10**5, 10**5]}, "network.hidden = .* is not a network of at most 64 layers"),
        ({"weights_sha256": "0" * 64}, "holds other weights than its contract says"),
        ({"weights_sha256": "0"}, "weights_sha256 = '0' is not a SHA-256 checksum"),
        ({"scenario__params": {"slot_s": "long"}}, "scenario.params.slot_s = 'long' is not a number from -1e"),
        ({"file__bytes": 10}, "it has .* bytes, and its contract says 10"),
        ({"file__sha256": "0" * 64}, "does not have the checksum that its contract says"),
        ({"file__format": "onnx"}, r"file.format = 'onnx' is not the format of a file named policy\.safetensors"),
        ({"observation": []}, "network.inputs = 21 is not the sum"),
        ({"hypers": []}, r"hypers = \[\] is not an object"),
        ({"agent": {"number": 4}}, "agent.seed is missing"),
        ({"agent__seed": [1]}, r"agent.seed = \[1\] is not a whole number"),
        ({"evaluation": {"train": []}}, r"evaluation.train = \[\] is not an object"),
        ({"evaluation": {"train": {"qos": "high"}}}, "evaluation.train.qos = 'high' is not a number"),
        (
            {"legal": "relevance"},
            "legal = 'relevance' is not null or a field per device, of snr_db, backlog_s, available",
        ),
        ({"legal": "nothing"}, "legal = 'nothing' is not null or a field per device"),
        ({"legal": ""}, "legal = '' is not null or a field per device"),
        ({"legal": True}, "legal = True is not null or a field per device"),
        ({"legal": 5}, "legal = 5 is not null or a field per device"),
        ({"legal": ["available"]}, r"legal = \['available'\] is not null or a field per device"),
        ({"legal": {}}, r"legal = {} is not null or a field per device"),
    ],
)
def test_a_contract_at_odds_with_itself_or_its_file(path, changes, message):
    change(path, **changes)
    refused(path, message)


def test_a_contract_that_does_not_say_what_is_legal(path):
    where = path.with_suffix(".json")
    tree = json.loads(where.read_text())
    del tree["legal"]
    where.write_text(json.dumps(sign(tree)))
    refused(path, "legal is missing")
    change(path, legal=None)
    assert jaxmoe.load_policy(path).contract.legal is None


def test_a_contract_of_which_no_action_is_always_legal():
    tree = case("ppo").contract.to_json()
    tree["actions"], tree["network"]["outputs"] = tree["actions"][1:], 15
    with pytest.raises(InputError, match=r"it: actions = .* is not a list with the action that asks nobody"):
        parse_contract(tree, "it")
    assert parse_contract({**tree, "legal": None}, "it").network.outputs == 15


def test_a_contract_of_another_file(path, tmp_path):
    shutil.copy(path, tmp_path / "other.safetensors")
    shutil.copy(path.with_suffix(".json"), tmp_path / "other.json")
    refused(tmp_path / "other.safetensors", r"is the contract of policy\.safetensors, not of other\.safetensors")


def test_actions_and_devices_of_which_no_table_could_be_made():
    tree = case("ppo").contract.to_json()
    tree["num_replicas"] = 1000
    with pytest.raises(InputError, match=r"it: observation\[2\].size = 4 is not 4000, one per device"):
        parse_contract(tree, "it")
    tree |= {"network": tree["network"] | {"outputs": 20_000}, "observation": [], "legal": None}
    with pytest.raises(InputError, match="it: num_replicas = 1000 is not a number with which actions by devices are"):
        parse_contract(tree, "it")


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e999}', "[" * 100_000, "{", "\xff", "[]"])
def test_json_that_is_none_of_ours(path, text):
    path.with_suffix(".json").write_bytes(text.encode("latin-1"))
    refused(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def places(tree, path=()):
    """Paths to all values of a tree."""
    yield path
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for step, value in steps:
        yield from places(value, (*path, step))


@fuzz
@given(data=st.data())
def test_a_contract_with_anything_in_it_is_read_or_refused(data):
    """Signed, so that the checksum does not say no first."""
    tree = case("ppo").contract.to_json()
    path = data.draw(st.sampled_from([place for place in places(tree) if place]))
    inner = tree
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = data.draw(JSON)
    try:
        contract = parse_contract(copy.deepcopy(tree), "fuzzed")
    except InputError as error:
        assert str(error).startswith("fuzzed")  # noqa: PT017
    else:
        assert contract.to_json() == contract.to_json()
        assert contract.network.inputs == sum(field.size for field in contract.observation)


@fuzz
@given(data=st.data())
def test_a_file_of_tensors_with_anything_in_it_is_read_or_refused(data):
    whole = save(case("ppo").tensors)
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    path = data.draw(st.sampled_from([place for place in places(header) if place]))
    inner = header
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = data.draw(JSON)
    changed = json.dumps(header).encode()
    try:
        tensors = read_tensors(len(changed).to_bytes(8, "little") + changed + whole[8 + length :], "fuzzed")
    except InputError:
        return
    assert sum(tensor.nbytes for tensor in tensors.values()) == len(whole) - 8 - length


@fuzz
@given(content=st.binary(max_size=64), length=st.integers(0, 2**64 - 1), signed=st.booleans())
def test_bytes_that_are_no_tensors_are_refused(content, length, signed):
    with pytest.raises(InputError):
        read_tensors((length.to_bytes(8, "little") if signed else b"") + b"x" + content, "fuzzed")


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}, 4, "dtype = 'F16' is not one of F32"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, 4, "is not the place of 2 numbers"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, 8, "lies at bytes 4 to 8 of 8, not at 0"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, 4, "lies at bytes 0 to 8 of 4"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 8, "4 bytes that belong to no tensor"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, 4, "is not the place of 1 numbers"),
        ({"a": {"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}}, 4, "at most eight axes"),
        ({"a": {"shape": [1], "data_offsets": [0, 4]}}, 4, "a.dtype is missing"),
    ],
)
def test_a_header_at_odds_with_the_numbers(header, data, message):
    text = json.dumps(header).encode()
    with pytest.raises(InputError, match=message):
        read_tensors(len(text).to_bytes(8, "little") + text + bytes(data), "the file")


def test_a_weight_that_is_not_finite(tmp_path):
    agent = case("ppo")
    kernel = agent.tensors["layer0/kernel"].copy()
    kernel[0, 0] = float("nan")
    write_bundle(tmp_path / "policy.safetensors", save(agent.tensors | {"layer0/kernel": kernel}), agent.contract)
    refused(tmp_path / "policy.safetensors", "'layer0/kernel' holds a number that is infinite or not a number")


@fuzz
@given(tree=st.dictionaries(st.text(), JSON))
def test_canonical_json_is_read_back(tree):
    assert parse_json(canonical_json(tree), "text") == tree


def test_a_stack_knows_its_agents(tmp_path):
    agent = case("ppo")
    members = [
        (0, row, agent.contract._replace(agent=agent.contract.agent | {"number": number}))
        for row, number in enumerate((4, 7))
    ]
    path = tmp_path / "all.safetensors"
    content = {f"group0/{name}": tensor[None].repeat(2, axis=0) for name, tensor in agent.tensors.items()}
    write_stack(path, save(content), members)
    assert jaxmoe.load_policy(path, agent=7).contract == members[1][2]
    refused(path, "is the index of a stack; say which agent of it: 4, 7")
    refused(path, "there is no agent 5 in it: 4, 7", agent=5)
    change(path, agents=[{"group": 0, "row": 2, "own": {"agent": {"number": 4, "seed": 3}}}])
    refused(path, "has no row 2 in group 0", agent=4)
    change(path, agents=[{"group": 1, "row": 0, "own": {"agent": {"number": 4, "seed": 3}}}])
    refused(path, "group = 1 is not in the list of groups", agent=4)


def test_one_policy_is_no_stack(path):
    refused(path, "is the contract of one policy, not of a stack", agent=0)
