"""`load_policy`: a trained policy in NumPy, without JAX or anything else of jaxmoe."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import read_bundle
from jaxmoe.policy.contract import Contract, Field
from jaxmoe.policy.legal import legal_actions, mask_of, masked
from jaxmoe.policy.network import apply
from jaxmoe.policy.tensors import Tensors

PART = 1024  # observations that are decided on at once: more do not fit a core's cache


class Choice(NamedTuple):
    """What an action means in a situation, and what the policy says of it."""

    action: int
    subset: int  # of experts that are asked, as a bitmask: bit e is expert e; 0 is `local`, nobody
    experts: tuple[str, ...]  # that are asked
    replicas: tuple[int, ...]  # on which each of them runs
    value: float  # the policy's preference: a logit, or the value of the action; -inf if it is not legal
    probability: float | None  # with which the agent chose it in training; absent if it learned values
    legal: bool  # whether each device that it asks is available: others are never chosen


class Decision(NamedTuple):
    """What a policy chooses, beside what else it could have chosen."""

    action: int
    subset: int
    experts: tuple[str, ...]
    replicas: tuple[int, ...]
    choices: tuple[Choice, ...]  # one per action


class Policy:
    """A trained policy: what to do in a situation that is given by an observation, or in physical units."""

    def __init__(self, contract: Contract, tensors: Tensors) -> None:
        self.contract, self.tensors = contract, tensors
        self._mask = mask_of(contract)

    def __repr__(self) -> str:
        of, experts = self.contract, ", ".join(self.contract.experts)
        return f"Policy({of.algorithm} in {of.scenario['name']}, {len(of.actions)} actions of {experts})"

    def act(self, observations: ArrayLike) -> Any:
        """The action of an observation, or of each row of several: the legal one of the largest preference.

        Args:
            observations: [..., O], as trained agents see them: each field divided by its scale.

        Returns:
            A whole number, or an array of them, [...].

        Raises:
            InputError: the last axis has not the length of an observation, or a number is not finite.
        """
        actions = self.preferences(observations).argmax(axis=-1)
        return int(actions) if actions.ndim == 0 else actions

    def preferences(self, observations: ArrayLike) -> NDArray[np.float32]:
        """What the policy says of each action, logits or action values: the largest is chosen.

        Args:
            observations: [..., O], as trained agents see them.

        Returns:
            [..., A], one for each action of `contract.actions`: the least finite float32 if it is not legal.

        Raises:
            InputError: the last axis has not the length of an observation, or a number is not finite.
        """
        given = self._checked(observations)
        with np.errstate(over="ignore", invalid="ignore"):
            if given.size <= PART * given.shape[-1]:
                found = self._of(given)
            else:
                rows = given.reshape(-1, given.shape[-1])
                parts = [self._of(rows[begin : begin + PART]) for begin in range(0, len(rows), PART)]
                found = np.concatenate(parts).reshape(*given.shape[:-1], -1)
        return found

    def _of(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        found = apply(self.contract.network, self.tensors, observations)
        if not np.isfinite(found).all():
            raise InputError("the observation holds a number so large that the preferences are not finite")
        preferences: NDArray[np.float32] = masked(self._mask, found, observations)
        return preferences

    def probabilities(self, observations: ArrayLike) -> NDArray[np.float64]:
        """With which the agent chose each action in training, [..., A]: 0 if it is not legal.

        Args:
            observations: [..., O], as trained agents see them.

        Raises:
            InputError: the agent learned values instead, or the observations do not fit.
        """
        if self.contract.preferences != "logits":
            raise InputError(f"a policy of {self.contract.algorithm} has action values and no probabilities")
        return _softmax(self.preferences(observations))

    def observation(self, **quantities: ArrayLike) -> NDArray[np.float32]:
        """The observation of a situation in physical units: one argument per field of the contract.

        Args:
            **quantities: by field, in the units of the contract. Numbers per device may also be given as an array of
                experts by replicas; fields with a default may be left out.

        Returns:
            The observation, [O] in float32.

        Raises:
            InputError: a field is unknown, missing, of the wrong length, not finite or outside its limits.
        """
        fields = {field.name: field for field in self.contract.observation}
        for name in quantities:
            if name not in fields:
                raise InputError(f"unknown quantity {name!r}; the policy observes {', '.join(fields)}")
        parts = [self._quantity(field, quantities.get(name, field.default)) for name, field in fields.items()]
        return np.concatenate(parts)

    def select(self, **quantities: ArrayLike) -> Decision:
        """Choose experts in a situation in physical units: one argument per field of the contract.

        An action that asks a device which is not available is not chosen, but the best of the others. Where the
        contract has no `legal`, as none before format 2 has, the best of all is, and asks those of its devices that
        are available.

        Args:
            **quantities: by field, as `observation` takes them.

        Returns:
            The action, the experts that it asks with their replicas, and what else could have been chosen.

        Raises:
            InputError: a field is unknown, missing, of the wrong length, not finite or outside its limits.
        """
        observation = self.observation(**quantities)
        values = self.preferences(observation)
        legal = np.ones(len(values), bool) if self._mask is None else legal_actions(self._mask, observation)
        logits = self.contract.preferences == "logits"
        probabilities = _softmax(values).tolist() if logits else [None] * len(values)
        asked = self._devices_to_ask(quantities)
        told = zip(np.where(legal, values, -np.inf).tolist(), probabilities, legal.tolist(), strict=True)
        choices = tuple(self._choice(action, asked, *said) for action, said in enumerate(told))
        best = choices[int(values.argmax())]
        return Decision(best.action, best.subset, best.experts, best.replicas, choices)

    def _devices_to_ask(self, quantities: Mapping[str, ArrayLike]) -> list[bool]:
        """Which devices actions ask: where nothing is masked, those that are available; else all that they name."""
        available = np.ones(1) if self._mask is not None else quantities.get("available", np.ones(1))
        devices = len(self.contract.experts) * self.contract.num_replicas
        return np.broadcast_to(np.asarray(available).reshape(-1) > 0, devices).tolist()

    def _choice(self, action: int, asked: list[bool], value: float, probability: float | None, legal: bool) -> Choice:
        replicas = self.contract.num_replicas
        chosen = [
            (expert, digit - 1)
            for expert, digit in enumerate(self.contract.actions[action])
            if digit and asked[expert * replicas + digit - 1]
        ]
        return Choice(
            action=action,
            subset=sum(1 << expert for expert, _ in chosen),
            experts=tuple(self.contract.experts[expert] for expert, _ in chosen),
            replicas=tuple(replica for _, replica in chosen),
            value=value,
            probability=probability,
            legal=legal,
        )

    def _checked(self, observations: ArrayLike) -> NDArray[np.float32]:
        given = _numbers(observations, "the observation")
        size = self.contract.network.inputs
        if given.ndim == 0 or given.shape[-1] != size:
            raise InputError(
                f"an observation of shape {list(given.shape)} does not fit: its last axis must be {size} long"
            )
        if not np.isfinite(given).all():
            raise InputError("the observation holds a number that is infinite or not a number")
        return given

    def _quantity(self, field: Field, given: ArrayLike | None) -> NDArray[np.float32]:
        """A field of the observation."""
        what = f"{field.name} ({field.size} numbers, {field.unit}, one per {field.per})"
        if given is None:
            raise InputError(f"{what} is missing")
        numbers = _numbers(given, what)
        shapes: list[tuple[int, ...]] = [(field.size,)]
        if field.per == "device":
            shapes.append((len(self.contract.experts), self.contract.num_replicas))
        if field.per == "user":
            shapes.append(())
        if numbers.shape not in shapes:
            raise InputError(f"{what} has shape {list(numbers.shape)}, which must be {' or '.join(map(str, shapes))}")
        if not np.isfinite(numbers).all():
            raise InputError(f"{what} holds a number that is infinite or not a number")
        for limit, outside, word in ((field.low, np.less, "below"), (field.high, np.greater, "above")):
            if limit is not None and outside(numbers, np.float32(limit)).any():
                raise InputError(f"{what} = {numbers.tolist()} holds a number {word} {limit:g}")
        return numbers.reshape(-1) / np.float32(field.scale)


def load_policy(path: str | os.PathLike[str], agent: int | None = None) -> Policy:
    """Load a policy that `jaxmoe export` has written as safetensors. It needs NumPy alone, and starts at once.

    Args:
        path: the `.safetensors` file, its `.json` contract, or a folder with a `policy.json`.
        agent: which agent, if the file holds a stack of them.

    Raises:
        InputError: a file is missing, damaged, at odds with its contract, or made by a newer jaxmoe.
    """
    bundle = read_bundle(path, agent)
    if bundle.format != "safetensors":
        raise InputError(f"{bundle.path} is for another runtime; load_policy reads policies exported as safetensors")
    return Policy(bundle.contract, bundle.tensors)


def _numbers(given: ArrayLike, what: str) -> NDArray[np.float32]:
    """An array of numbers as float32."""
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError(f"{what} is not a regular array of numbers") from None
    if array.dtype == np.float32:
        return array
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what} is not an array of numbers, but of {array.dtype}")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
