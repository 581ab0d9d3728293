"""How a number of a scenario is said: one for all, one for each device, or drawn anew by every episode.

- `latency_weight = 0.02` is one number.
- `seconds_per_word = [0.02, 0.03, 0.03, 0.08]` is one for each device, or for each expert with all its replicas.
- `tx_power_dbm = { each_episode = { uniform = [-5.0, 5.0] } }` is drawn, for each device alone.
- `harvest_w = { each_episode = { choice = [1, 2] }, observed = false }` is drawn, and agents are not told.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmoe.errors import InputError
from jaxmoe.names import short

How = Literal["uniform", "log_uniform", "choice"]
LEAST = 1e-30  # of what is drawn on a logarithmic scale, in single precision


class Number(NamedTuple):
    """What a number of a scenario means."""

    unit: str
    meaning: str
    low: float = 0.0  # limits, both allowed
    high: float = 1e30
    scale: float = 1.0  # by which an observed one is divided
    by_device: bool = False  # whether devices may differ in it
    whole: bool = False
    endless: bool = False  # whether infinity is allowed, too
    lasting: bool = False  # whether no episode can draw it anew


class Drawn(NamedTuple):
    """A number that each episode draws anew; where devices may differ in it, for each device alone."""

    name: str
    how: How
    values: tuple[Any, ...]  # lower and upper end; or of a choice numbers, or tuples that hold one for each device
    observed: bool = True  # whether the observation says what was drawn

    @property
    def together(self) -> bool:
        """Whether all devices' numbers are one draw."""
        return any(isinstance(value, tuple) for value in self.values)

    def as_data(self) -> dict[str, Any]:
        """As a spec has it."""
        values = [list(value) if isinstance(value, tuple) else value for value in self.values]
        return {"each_episode": {self.how: values}} | ({} if self.observed else {"observed": False})

    def limits(self) -> tuple[float, float]:
        """The least and the largest number that can be drawn."""
        every = np.concatenate([np.atleast_1d(value) for value in self.values])
        return float(every.min()), float(every.max())

    def mean(self) -> Any:
        """The expected number, or tuple of one for each device.

        >>> Drawn("harvest_w", "uniform", (1.0, 3.0)).mean(), Drawn("slot_s", "choice", (4.0, 5.0)).mean()
        (2.0, 4.5)
        """
        if self.how == "choice":
            found = np.mean(np.stack(np.broadcast_arrays(*self.values)), axis=0)
            return tuple(found.tolist()) if found.ndim else float(found)
        low, high = self.values
        if self.how == "log_uniform" and low < high:
            return (high - low) / math.log(high / low)
        return (low + high) / 2

    def size(self, by_device: bool, devices: int) -> int:
        """How many uniform numbers a draw takes."""
        return devices if by_device and not self.together else 1

    def draw(self, uniform: Float[Array, "*size"]) -> Float[Array, "..."]:
        """What uniform numbers make: a number of each, or of a choice among devices' numbers these."""
        if self.how == "choice":
            options = jnp.asarray(np.stack(np.broadcast_arrays(*self.values)), jnp.float32)
            chosen = jnp.minimum((uniform * len(self.values)).astype(jnp.int32), len(self.values) - 1)
            return options[chosen]
        low, high = map(np.float32, self.values)
        if self.how == "log_uniform":
            return jnp.clip(jnp.exp(np.log(low) + uniform * (np.log(high) - np.log(low))), low, high)
        return jnp.clip(low + uniform * (high - low), low, high)


def parse_drawn(name: str, value: Mapping[str, Any], about: Number, experts: int, replicas: int) -> Drawn:
    """A number that each episode draws anew, from `{ each_episode = { uniform = [a, b] } }`.

    Raises:
        InputError: it is said otherwise, or no episode can draw it.
    """
    kinds = get_args(How)
    said, observed = value.get("each_episode"), value.get("observed", True)
    known = set(value) <= {"each_episode", "observed"} and isinstance(observed, bool)
    if not known or not isinstance(said, Mapping) or len(said) != 1 or next(iter(said)) not in kinds:
        raise InputError(
            f"parameter {name} = {short(dict(value))} is not how a number is drawn: write {{ each_episode = {{ "
            f"uniform = [a, b] }} }}, or {' or '.join(kinds[1:])} in place of uniform, and observed = false beside "
            "each_episode where agents are not told"
        )
    if about.lasting:
        raise InputError(f"parameter {name} is one of those that no episode can draw anew")
    [(how, given)] = said.items()
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise InputError(f"parameter {name}: {how} = {short(given)} is not a list of numbers")
    values = tuple(parse_number(name, each, about, experts, replicas) for each in given)
    if any(np.any(np.isinf(each)) for each in values):
        raise InputError(f"parameter {name} = {short(dict(value))} draws infinite numbers; give finite ones")
    if how != "choice" and (len(values) != 2 or any(isinstance(each, tuple) for each in values)):
        raise InputError(f"parameter {name}: {how} = {short(given)} is not a range; give its lower and upper end")
    if how != "choice" and (values[0] > values[1] or (how == "log_uniform" and values[0] < LEAST)):
        least = f", and the lower one at least {LEAST:g}" if how == "log_uniform" else ""
        raise InputError(f"parameter {name}: {how} = {short(given)} must be a lower and an upper end{least}")
    return Drawn(name, how, values, observed)


def parse_number(name: str, value: Any, about: Number, experts: int, replicas: int) -> Any:
    """A number of its kind, or a tuple of one for each device.

    Raises:
        InputError: it is neither, outside its limits, or of another length than there are devices and experts.
    """
    if not isinstance(value, list | tuple):
        return _number(name, value, about)
    if not about.by_device:
        raise InputError(f"parameter {name} = {short(value)} is one number for all devices, and not a list")
    if len(value) not in (experts, experts * replicas):
        devices = f" on {experts * replicas} devices" if replicas > 1 else ", each on a device"
        plain = value and all(isinstance(each, int | float) for each in value)
        hint = (
            f"; values to try, each for all devices, are an axis, {name} = {{ grid = {short(list(value))} }}"
            if plain
            else ""
        )
        raise InputError(
            f"parameter {name} = {short(value)} has {len(value)} numbers, and there are {experts} experts{devices}"
            f": give one for each{hint}"
        )
    numbers = [_number(name, each, about) for each in value]
    return tuple(each for each in numbers for _ in range(experts * replicas // len(numbers)))


def _number(name: str, value: Any, about: Number) -> float:
    """A number of a scenario, of the kind of its default."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"parameter {name} = {short(value)} is not a number")
    number: Any = value
    if not (about.low <= number <= about.high or (about.endless and number == math.inf)):
        raise InputError(f"parameter {name} = {short(value)} is outside {about.low:g} to {about.high:g}")
    if about.whole and number != int(number):
        raise InputError(f"parameter {name} = {short(value)} is not a whole number")
    return int(number) if about.whole else float(number)
