"""A policy on disk: its file and, beside it, its contract, which knows the checksums of both.

    policy.safetensors  policy.json             weights, for the NumPy loader and for training on
    policy.stablehlo    policy.stablehlo.json   the network as a compiled program's source
    policy.onnx         policy.onnx.json        the network as an ONNX graph

A stack holds the policies of many agents: tensors with the agents along the leading axis, and an index of contracts in
which what agents of a group have in common stands once.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxmoe.errors import InputError
from jaxmoe.files import with_home, write_bytes
from jaxmoe.names import short
from jaxmoe.policy.contract import FILE_FORMATS, FORMAT, Contract, parse_contract, require_format
from jaxmoe.policy.plain_json import Entry, Reader, canonical_json, parse_json
from jaxmoe.policy.tensors import Tensors, check_weights, read_tensors

CONTRACT_LIMIT = 256 * 2**20  # bytes
FILE_LIMIT = 8 * 2**30  # bytes

LONGEST_NAME = 200  # bytes of a file's name
_PLAIN = f"a name has up to {LONGEST_NAME} bytes, no slash, no colon, and nothing that cannot be seen"


class Bundle(NamedTuple):
    """What a policy's files hold, checked."""

    contract: Contract
    path: Path  # of the policy's file
    format: str
    content: bytes  # of the file
    tensors: Tensors  # of this policy alone; none where the format has none


def file_format(path: Path) -> str:
    """The format that a policy file's suffix says."""
    found = path.suffix.removeprefix(".")
    if found not in FILE_FORMATS:
        raise InputError(f"{path} ends in none of {', '.join(f'.{name}' for name in FILE_FORMATS)}")
    return found


def is_policy_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is, by its name, a policy's file or its contract."""
    given = with_home(path)
    return given.suffix.removeprefix(".") in (*FILE_FORMATS, "json") and not given.is_dir()


def contract_path(path: Path) -> Path:
    """Where the contract of a policy file is."""
    return path.with_suffix(".json") if file_format(path) == "safetensors" else path.with_name(f"{path.name}.json")


def write_bundle(path: Path, content: bytes, contract: Contract) -> None:
    """Write a policy's file, then its contract; raise `InputError` if one of them is there already."""
    _write(path, content, contract.to_json())


def write_stack(path: Path, content: bytes, members: Sequence[tuple[int, int, Contract]]) -> None:
    """Write the file of a stack, then its index.

    Args:
        path: of the file.
        content: tensors named `group0/layer0/kernel`, agents along the leading axis.
        members: group, row in the group, and contract of each agent.
    """
    plain = [contract.to_json() for _, _, contract in members]
    groups = sorted({group for group, _, _ in members})
    common = {
        group: _common([tree for (each, _, _), tree in zip(members, plain, strict=True) if each == group])
        for group in groups
    }
    agents = [
        {"group": group, "row": row, "own": {name: tree[name] for name in tree if name not in common[group]}}
        for (group, row, _), tree in zip(members, plain, strict=True)
    ]
    index = {"format": FORMAT, "kind": "stack", "groups": [common[group] for group in groups], "agents": agents}
    _write(path, content, index)


def read_bundle(path: str | os.PathLike[str], agent: int | None = None) -> Bundle:
    """Read a policy's contract and file, and check them against each other.

    Args:
        path: the policy's file, its contract, or a folder with a `policy.json`.
        agent: which agent of a stack.

    Raises:
        InputError: something is missing, damaged, at odds with the rest, or made by a newer jaxmoe.
    """
    given = with_home(path)
    where = given / "policy.json" if given.is_dir() else given
    where = where if where.suffix == ".json" else contract_path(where)
    tree = parse_json(_read_file(where, CONTRACT_LIMIT), str(where))
    read = Reader(tree, str(where))
    kind = "stack" if tree.get("kind") == "stack" else "policy"
    require_format(read, kind)
    _require_checksum(read)
    file, content = _read_weights(read, where.parent)
    if given.suffix != ".json" and not given.is_dir() and given.name != file.name:
        raise InputError(f"{where} is the contract of {file.name}, not of {given.name}")
    if kind == "policy":
        if agent is not None:
            raise InputError(f"{where} is the contract of one policy, not of a stack: say no agent")
        contract, place = parse_contract(tree, str(where)), None
    else:
        contract, place = _pick(read, agent)
    found = read.member("file", lambda file: file.choice("format", FILE_FORMATS))
    tensors = _tensors(content, contract, place, str(file)) if found == "safetensors" else {}
    return Bundle(contract, file, found, content, tensors)


def _write(path: Path, content: bytes, tree: dict[str, Any]) -> None:
    if not _is_plain(path.name):
        raise InputError(f"{short(path.name)} cannot name a policy: {_PLAIN}")
    where = contract_path(path)
    for target in (path, where):
        if target.exists():
            raise InputError(f"{target} exists already; choose another file")
    about = {"name": path.name, "format": file_format(path), "bytes": len(content)}
    tree = {**tree, "file": {**about, "sha256": hashlib.sha256(content).hexdigest()}}
    tree = json.loads(json.dumps(tree))
    tree["sha256"] = hashlib.sha256(canonical_json(tree)).hexdigest()
    text = json.dumps(tree, indent=1) + "\n"
    write_bytes(path, content, overwrite=False)
    try:
        write_bytes(where, text.encode(), overwrite=False)
    except InputError:  # a policy without its contract is none
        path.unlink()
        raise


def _common(trees: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Members that are the same in all."""
    return {name: value for name, value in trees[0].items() if all(tree.get(name) == value for tree in trees)}


def _read_file(path: Path, limit: int) -> bytes:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise InputError(f"{path} has more than {limit} bytes")
    return content


def _require_checksum(read: Reader) -> None:
    said = read.get("sha256").sha256()
    rest = {name: value for name, value in read.tree.items() if name != "sha256"}
    if hashlib.sha256(canonical_json(rest)).hexdigest() != said:
        raise InputError(f"{read.source} is damaged or has been changed: it does not have the checksum that it says")


def _is_plain(name: str) -> bool:
    """Whether a name is that of a file on any system, and of nothing else."""
    named = Path(name).name == name and name not in (".", "..") and not set(name) & set("/\\:")
    return named and name.isprintable() and len(name.encode()) <= LONGEST_NAME


def _read_weights(read: Reader, folder: Path) -> tuple[Path, bytes]:
    """Path and content of the file that a contract names, which lies in the contract's own folder."""
    about = Reader(read.get("file").value, read.source, "file")
    name = about.get("name").text()
    if not _is_plain(name):
        about.get("name").wrong("the plain name of a file beside the contract")
    path = folder / name
    if path.is_file() and path.resolve().parent != folder.resolve():
        raise InputError(f"{path} is a link that leaves the folder of its contract")
    if file_format(path) != about.choice("format", FILE_FORMATS):
        about.get("format").wrong(f"the format of a file named {name}")
    size = about.get("bytes").whole(0, FILE_LIMIT)
    if path.is_file() and path.stat().st_size != size:
        raise InputError(f"{path} is damaged: it has {path.stat().st_size} bytes, and its contract says {size}")
    content = _read_file(path, size)
    if hashlib.sha256(content).hexdigest() != about.get("sha256").sha256():
        raise InputError(f"{path} is damaged: it does not have the checksum that its contract says")
    return path, content


def _pick(read: Reader, agent: int | None) -> tuple[Contract, tuple[int, int]]:
    """Contract of an agent of a stack, its group and its row."""
    entries = read.each("agents", lambda entry: Reader(entry.value, entry.source, entry.path))
    numbers = [_number_of(entry, read) for entry in entries]
    if agent is None or agent not in numbers:
        shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
        which = "say which agent of it" if agent is None else f"there is no agent {agent} in it"
        raise InputError(f"{read.source} is the index of a stack; {which}: {shown}")
    entry = entries[numbers.index(agent)]
    group, row = entry.get("group").whole(0, 10**6), entry.get("row").whole(0, 10**9)
    tree = {**_group(read, group).mapping(), **entry.get("own").mapping()}
    return parse_contract(tree, f"{read.source}, agent {agent}"), (group, row)


def _number_of(entry: Reader, read: Reader) -> int:
    """Number of an agent of a stack, which its own part says, or its group's if it is alone there."""
    own = entry.get("own").mapping()
    holder = own if "agent" in own else _group(read, entry.get("group").whole(0, 10**6)).mapping()
    return (
        Reader(Reader(holder, read.source, entry.path).get("agent").value, read.source, "agent")
        .get("number")
        .whole(0, 10**9)
    )


def _group(read: Reader, group: int) -> Entry:
    groups = read.each("groups", lambda entry: entry)
    return groups[group] if group < len(groups) else Entry(group, "group", read.source).wrong("in the list of groups")


def _tensors(content: bytes, contract: Contract, place: tuple[int, int] | None, source: str) -> Tensors:
    """The tensors of a policy, or of one in a stack, as the contract says that they are."""
    tensors = read_tensors(content, source)
    if place is not None:
        tensors = _row_of(tensors, *place, source)
    check_weights(tensors, contract.network.shapes(), contract.weights_sha256, source)
    return tensors


def _row_of(tensors: Tensors, group: int, row: int, source: str) -> Tensors:
    prefix = f"group{group}/"
    members = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if any(tensor.ndim == 0 or row >= len(tensor) for tensor in members.values()):
        raise InputError(f"{source} has no row {row} in group {group}")
    return {name: tensor[row] for name, tensor in members.items()}
