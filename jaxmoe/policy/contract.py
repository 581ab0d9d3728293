"""The contract of a policy: what it observes, what its actions mean, where it comes from.

It is JSON, so that a program in any language can read it. Nothing in it is believed before it is checked: whatever is
missing, of another kind or at odds with the rest is an `InputError` that names the place.
"""

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from jaxmoe.errors import InputError
from jaxmoe.names import first_alike
from jaxmoe.policy.plain_json import LARGEST, Entry, Reader

FORMAT = 2  # of the contract, since 2 with `legal`; a policy of a higher one is refused
ACTIVATIONS = ("tanh", "relu", "gelu", "swish")
PREFERENCES = ("logits", "action_values")  # what the last layer says
MOST_LAYERS, MOST_WEIGHTS = 64, 2**26  # of a network
MOST_CHOICES = 2**26  # actions by devices
FILE_FORMATS = ("safetensors", "stablehlo", "onnx")


class Field(NamedTuple):
    """Numbers of the observation that stand side by side: each is a physical quantity divided by `scale`."""

    name: str
    unit: str
    per: Literal["expert", "device", "user"]  # device `e * num_replicas + r` is replica r of expert e
    size: int
    scale: float
    low: float | None  # limits of the quantity, allowed; no limit if absent
    high: float | None
    default: tuple[float, ...] | None  # the quantity where nobody says it; absent if it must be said


class Network(NamedTuple):
    """A multilayer perceptron: dense layers, an activation after each but the last."""

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    activation: str

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors, by name, in the order of the layers."""
        widths = (self.inputs, *self.hidden, self.outputs)
        found: dict[str, tuple[int, ...]] = {}
        for number, (before, after) in enumerate(itertools.pairwise(widths)):
            found |= {f"layer{number}/kernel": (before, after), f"layer{number}/bias": (after,)}
        return found

    def size(self) -> int:
        """How many weights there are."""
        return sum(math.prod(shape) for shape in self.shapes().values())


class Contract(NamedTuple):
    """What a policy is. The action of an observation is the index of the largest preference, of several the first.

    What the network puts out are the preferences, but that of an action which is not legal is the least finite float32
    (`jaxmoe.policy.legal`).
    """

    algorithm: str
    preferences: str  # what the network puts out: "logits", of the probabilities of actions, or "action_values"
    network: Network
    observation: tuple[Field, ...]
    experts: tuple[str, ...]
    num_replicas: int  # devices that host each expert
    actions: tuple[tuple[int, ...], ...]  # per action and expert: 0, it is not asked, or 1 + the replica that is
    legal: str | None  # the field whose numbers are above 0 where a device can be asked; absent if nothing is masked
    weights_sha256: str  # of all tensors, one after the other, as little-endian float32
    scenario: Mapping[str, Any]  # name, settings and params that it was trained in; a param without limit is null
    hypers: Mapping[str, Any]
    config: Mapping[str, Any]
    agent: Mapping[str, Any]  # number, seed, root seed and env steps
    evaluation: Mapping[str, Any]  # of the trained agent, on train and test prompts
    table_digest: str
    versions: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As plain values; the inverse of `parse_contract`."""
        plain = self._asdict() | {"network": self.network._asdict()}
        plain["observation"] = [field._asdict() for field in self.observation]
        return json.loads(json.dumps({"format": FORMAT, "kind": "policy", **plain}, allow_nan=False))


def parse_contract(tree: Any, source: str) -> Contract:
    """Check what a contract's JSON says.

    Args:
        tree: its plain values.
        source: names the file in errors.

    Raises:
        InputError: something is missing, of another kind, or at odds with the rest.
    """
    read = Reader(tree, source)
    version = require_format(read, "policy")
    network = read.member("network", _network)
    contract = Contract(
        algorithm=read.get("algorithm").text(),
        preferences=read.choice("preferences", PREFERENCES),
        network=network,
        observation=read.each("observation", lambda entry: _field(Reader(entry.value, source, entry.path))),
        experts=read.each("experts", lambda entry: entry.text()),
        num_replicas=read.get("num_replicas").whole(1, 1000),
        actions=read.each("actions", lambda entry: entry.each_here(lambda digit: digit.whole(0, 1000))),
        legal=read.get("legal").value if version > 1 else None,
        weights_sha256=read.get("weights_sha256").sha256(),
        scenario=read.get("scenario").mapping(),
        hypers=read.get("hypers").mapping(),
        config=read.get("config").mapping(),
        agent=read.get("agent").mapping(),
        evaluation=read.get("evaluation").mapping(),
        table_digest=read.get("table_digest").text(),
        versions=read.get("versions").mapping(),
    )
    _check_scenario(Reader(contract.scenario, source, "scenario"))
    _check_agent(Reader(contract.agent, source, "agent"), Reader(contract.evaluation, source, "evaluation"))
    _check_whole(contract, read)
    return contract


def require_format(read: Reader, kind: str) -> int:
    """The format; what a newer jaxmoe has written, and what is something else, is refused."""
    found = read.get("format").whole(1, 10**9)
    if found > FORMAT:
        raise InputError(
            f"{read.source} has format {found} and this version of jaxmoe reads up to {FORMAT}: a newer one made it, "
            "so update jaxmoe"
        )
    read.choice("kind", (kind,))
    return found


def network_from(tree: Any, source: str = "network") -> Network:
    """A network from its JSON. Raises `InputError` for anything that none can be."""
    return _network(Reader(tree, source))


def _network(read: Reader) -> Network:
    network = Network(
        inputs=read.get("inputs").whole(1, 10**6),
        hidden=read.each("hidden", lambda entry: entry.whole(1, 10**5)),
        outputs=read.get("outputs").whole(1, 10**6),
        activation=read.choice("activation", ACTIVATIONS),
    )
    if len(network.hidden) >= MOST_LAYERS or network.size() > MOST_WEIGHTS:
        read.get("hidden").wrong(f"a network of at most {MOST_LAYERS} layers and {MOST_WEIGHTS:,} weights")
    return network


def _field(read: Reader) -> Field:
    default = read.get("default")
    field = Field(
        name=read.get("name").text(),
        unit=read.get("unit").text(),
        per=read.choice("per", ("expert", "device", "user")),  # type: ignore[arg-type]
        size=read.get("size").whole(1, 10**6),
        scale=read.get("scale").number(),
        low=read.get("low").optional_number(),
        high=read.get("high").optional_number(),
        default=None if default.value is None else default.each_here(lambda entry: entry.number()),
    )
    if field.scale < 1 / LARGEST:
        read.get("scale").wrong(f"a number from {1 / LARGEST:g} to {LARGEST:g}")
    if field.default is not None and len(field.default) != field.size:
        default.wrong(f"a list of {field.size} numbers, as size says")
    return field


def _check_scenario(read: Reader) -> None:
    read.get("name").text()
    read.get("settings").mapping()
    params = read.get("params")
    for name, value in params.mapping().items():
        _check_number(Entry(value, f"{params.path}.{name}", read.source))


def _check_agent(agent: Reader, evaluation: Reader) -> None:
    """Number and seed, and of each split what is known of the agent there."""
    for name in ("number", "seed"):
        agent.get(name).whole(0, 2**63 - 1)
    for split in (name for name in evaluation.tree if name != "diverged"):
        known = Reader(evaluation.get(split).value, evaluation.source, f"evaluation.{split}")
        for name in known.tree:
            known.get(name).number()


def _check_number(entry: Entry) -> None:
    """A number, one for each device, or a description of how each episode draws it."""
    if isinstance(entry.value, list):
        entry.each_here(lambda each: each.number())
    elif not isinstance(entry.value, dict):
        entry.optional_number()


def _check_whole(contract: Contract, read: Reader) -> None:
    """What the parts say of each other."""
    experts, network = len(contract.experts), contract.network
    if not experts or len(set(contract.experts)) < experts or first_alike(contract.experts):
        read.get("experts").wrong("a list of different names")
    if network.outputs * experts * contract.num_replicas > MOST_CHOICES:
        read.get("num_replicas").wrong(f"a number with which actions by devices are at most {MOST_CHOICES:,}")
    sizes = {"expert": experts, "device": experts * contract.num_replicas, "user": 1}
    for number, field in enumerate(contract.observation):
        if field.size != sizes[field.per]:
            Entry(field.size, f"observation[{number}].size", read.source).wrong(
                f"{sizes[field.per]}, one per {field.per}"
            )
    if len({field.name for field in contract.observation}) < len(contract.observation):
        read.get("observation").wrong("a list of fields with different names")
    if sum(field.size for field in contract.observation) != network.inputs:
        Entry(network.inputs, "network.inputs", read.source).wrong("the sum of the sizes in observation")
    if len(contract.actions) != network.outputs or len(set(contract.actions)) < network.outputs:
        read.get("actions").wrong(f"a list of {network.outputs} different actions, as network.outputs says")
    for number, action in enumerate(contract.actions):
        if len(action) != experts or max(action) > contract.num_replicas:
            Entry(list(action), f"actions[{number}]", read.source).wrong(
                f"a list of {experts} numbers from 0 to {contract.num_replicas}, one per expert"
            )
    _check_legal(contract, read)


def _check_legal(contract: Contract, read: Reader) -> None:
    """It names a field of devices, and asking nobody is an action, so that one is legal whoever is available."""
    if contract.legal is None:
        return
    names = [field.name for field in contract.observation if field.per == "device"]
    if contract.legal not in names:
        read.get("legal").wrong(f"null or a field per device, of {', '.join(names) or 'which there is none'}")
    if not any(not any(action) for action in contract.actions):
        read.get("actions").wrong("a list with the action that asks nobody, which is always legal")
