"""What makes a scenario: static settings, and numbers that are leaves and may differ from agent to agent."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jaxmoe.env.numbers import Drawn, Number, parse_number
from jaxmoe.errors import InputError
from jaxmoe.table import ExpertTable

jax.tree_util.register_dataclass(
    ExpertTable,
    data_fields=["relevance", "words", "score_mean", "score_std", "fused_words"],
    meta_fields=["meta"],
)


@dataclass(frozen=True)
class Settings:
    """What shapes the compiled program; everything else about a scenario is a leaf of `EnvParams`."""

    num_experts: int = 4
    num_replicas: Annotated[int, "devices that host each expert"] = 1
    channel: Annotated[Literal["uniform", "link_budget"], "where the SNR comes from"] = "uniform"
    fading: Annotated[Literal["none", "rayleigh", "rician"], "small-scale fading of the link budget"] = "none"
    sharing: Annotated[Literal["own", "shared"], "whether each device has the bandwidth, or its share of it"] = "own"
    csi_delay: Annotated[Literal[0, 1], "slots by which the observed channel is old"] = 0
    observe_words: Annotated[
        Literal["mean", "true"], "words as expected, or true ones, which nobody can know yet (an ablation)"
    ] = "mean"
    one_slot: Annotated[bool, "an episode ends after its one slot, as terminated"] = True
    masked: Annotated[bool, "no action asks a device which is down; true where one can be, unless it is said"] = False
    max_experts: Annotated[int | None, "most experts that an action asks; any number if absent"] = None
    drawn: tuple[Drawn, ...] = ()  # numbers that each episode draws anew, as params say them

    @property
    def num_devices(self) -> int:
        """Devices in the network, D = E * R; device `e * R + r` is replica r of expert e."""
        return self.num_experts * self.num_replicas

    @property
    def num_actions(self) -> int:
        """Assignments, (R + 1)^E: each expert is not used, or runs on one of its replicas; of `max_experts` at most.

        >>> Settings(num_experts=12).num_actions, Settings(num_experts=12, max_experts=2).num_actions
        (4096, 79)
        """
        if self.max_experts is None:
            return (self.num_replicas + 1) ** self.num_experts
        sizes = range(self.max_experts + 1)
        return sum(math.comb(self.num_experts, size) * self.num_replicas**size for size in sizes)


_DB = {"low": -200.0, "high": 200.0}
_POSITIVE = {"low": 1e-3}
_SHARE = {"high": 1.0}
_EACH: dict[str, Any] = {"by_device": True}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EnvParams:
    """The numbers of a scenario, each a leaf that may differ from agent to agent.

    Where devices may differ in a number it may also be [D], one for each device. Of numbers that each episode draws
    anew it holds the expected ones.
    """

    table: ExpertTable  # what the experts write and how it is scored; shared by all agents
    prompts: Int[Array, " P"]  # rows of the table, in an order
    num_prompts: int  # requests are drawn from so many of them, the first ones
    words_hat: Float[Array, " E"]  # words expected of each expert before anything is written
    max_steps_in_episode: Annotated[
        int, Number("slots", "time limit of a continuing task", 1, 2**31 - 1, whole=True, lasting=True)
    ] = 64
    # Cost of a request
    compute_coefficient: Annotated[float, Number("QoS/word", "cost of a written word", scale=2e-4, **_EACH)] = 2e-4
    transmission_coefficient: Annotated[float, Number("QoS/s", "cost of a second of airtime", scale=0.16)] = 0.16
    latency_weight: Annotated[float, Number("QoS/s", "cost of a second until the answer", scale=0.02)] = 0.0
    energy_weight: Annotated[float, Number("QoS/J", "cost of a joule", scale=0.01)] = 0.0
    judge_noise: Annotated[float, Number("1", "times the standard deviation between judges", lasting=True)] = 1.0
    # Devices
    seconds_per_word: Annotated[float, Number("s", "time in which a device writes one word", scale=0.035, **_EACH)] = (
        0.035
    )
    local_seconds_per_word: Annotated[float, Number("s", "the same of the user's own device", scale=0.0145)] = 0.0145
    deadline_s: Annotated[float, Number("s", "a passage that ends later is lost", scale=20.0, endless=True)] = float(
        "inf"
    )
    slot_s: Annotated[float, Number("s", "time between two requests", scale=4.0, **_POSITIVE)] = 4.0
    device_up_probability: Annotated[
        float, Number("1", "chance that a device is available in a slot", **_SHARE, **_EACH)
    ] = 1.0
    background_probability: Annotated[
        float, Number("1", "chance of another user's job in a slot", **_SHARE, **_EACH)
    ] = 0.0
    background_mean_s: Annotated[float, Number("s", "mean length of such a job, exponential", scale=3.0, **_EACH)] = 3.0
    # Energy of the user's cell
    joules_per_word: Annotated[float, Number("J", "energy in which a device writes one word", scale=0.02, **_EACH)] = (
        0.0
    )
    radio_power_w: Annotated[float, Number("W", "power of a device that sends", scale=0.5, **_EACH)] = 0.0
    battery_capacity_j: Annotated[float, Number("J", "what the battery holds", scale=100.0, **_POSITIVE)] = 100.0
    harvest_w: Annotated[float, Number("W", "power that refills the battery", scale=2.0)] = 0.0
    # Radio
    bandwidth_hz: Annotated[float, Number("Hz", "of a link: one tone of NB-IoT", scale=3750.0, **_POSITIVE)] = 3750.0
    bits_per_word: Annotated[float, Number("bits", "of an English word: 5.81 bytes", scale=46.5)] = 46.5
    min_rate_bps: Annotated[float, Number("bit/s", "below it a link is in outage", scale=1200.0)] = 0.0
    snr_min_db: Annotated[float, Number("dB", "least SNR of a uniform channel", scale=20.0, **_DB)] = 0.0
    snr_max_db: Annotated[float, Number("dB", "largest SNR of a uniform channel", scale=20.0, **_DB)] = 20.0
    # Radio of a `link_budget` channel
    tx_power_dbm: Annotated[float, Number("dBm", "transmit power of a device", scale=20.0, **_DB, **_EACH)] = 14.0
    noise_figure_db: Annotated[float, Number("dB", "noise figure of the receiver", scale=10.0, **_DB)] = 9.0
    interference_margin_db: Annotated[float, Number("dB", "interference above the noise", scale=50.0, **_DB)] = 0.0
    carrier_ghz: Annotated[float, Number("GHz", "carrier frequency", 0.5, 100.0, scale=3.5)] = 3.5
    distance_min_m: Annotated[
        float, Number("m", "from the user to a device's nearest spot", 1.0, 5000.0, scale=20.0, **_EACH)
    ] = 20.0
    distance_max_m: Annotated[float, Number("m", "from the user to its farthest", 1.0, 5000.0, scale=50.0, **_EACH)] = (
        120.0
    )
    bs_height_m: Annotated[float, Number("m", "height of a device", 1.1, 1000.0, scale=10.0)] = 10.0
    ut_height_m: Annotated[float, Number("m", "height of the user", 1.1, 1000.0, scale=1.5)] = 1.5
    speed_m_per_s: Annotated[float, Number("m/s", "speed of the user")] = 1.0
    rician_k: Annotated[float, Number("1", "line-of-sight power over scattered power", scale=10.0)] = 4.0
    num_replicas: int = field(default=1, metadata={"static": True})  # devices that host each expert

    def replace(self, **changes: Any) -> "EnvParams":
        """A copy with other values in some fields.

        A number is checked; where devices may differ in it, it may be a list by device, or by expert for all its
        replicas. An array of JAX may hold one number for each agent of a program: its shape is the caller's.

        Raises:
            InputError: there is no such number, it is outside its limits, or a list is of another length.
        """
        known = {each.name for each in fields(self)}
        for name in changes:
            if name not in known:
                raise InputError(f"unknown parameter {name!r}; choose among {', '.join(NUMBERS)}")
        changed = replace(self, **{name: self._checked(name, value) for name, value in changes.items()})
        for low, high in ORDERED:
            if low in changes or high in changes:
                _require_order(changed, low, high)
        return changed

    def _checked(self, name: str, value: Any) -> Any:
        if name not in ABOUT_NUMBERS or isinstance(value, jax.Array):
            return value
        if isinstance(value, Mapping | Drawn):
            raise InputError(
                f"parameter {name}: what each episode draws anew shapes the environment; say it where that is made, as "
                "in make(..., params={...})"
            )
        said = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        number = parse_number(name, said, ABOUT_NUMBERS[name], self.table.num_experts, self.num_replicas)
        return np.array(number, np.float32) if isinstance(number, tuple) else number


ABOUT_SETTINGS: dict[str, str] = {  # what each setting means that a user may say
    name: get_args(hint)[1]
    for name, hint in get_type_hints(Settings, include_extras=True).items()
    if get_origin(hint) is Annotated
}
ABOUT_NUMBERS: dict[str, Number] = {  # every number of a scenario
    name: get_args(hint)[1]
    for name, hint in get_type_hints(EnvParams, include_extras=True).items()
    if get_origin(hint) is Annotated
}
NUMBERS: dict[str, float] = {name: getattr(EnvParams, name) for name in ABOUT_NUMBERS}  # their defaults
ORDERED = (("snr_min_db", "snr_max_db"), ("distance_min_m", "distance_max_m"))


def _require_order(params: EnvParams, low: str, high: str) -> None:
    """Refuse a lower end that is above the upper one, but in arrays of JAX, which may be traced."""
    ends = getattr(params, low), getattr(params, high)
    if any(isinstance(end, jax.Array) for end in ends):
        return
    if np.any(np.asarray(ends[0]) > np.asarray(ends[1])):
        raise InputError(f"parameter {low} = {plain_number(ends[0])} is above {high} = {plain_number(ends[1])}")


def plain_number(value: Any) -> Any:
    """A number, or the list of devices' numbers, as a user would write it."""
    array = np.asarray(value)
    return [float(str(each)) for each in array] if array.ndim else array.item()


def limits_of(name: str, params: EnvParams, drawn: Iterable[Drawn]) -> tuple[float, float]:
    """The least and the largest that a number can be, of all devices and in all episodes."""
    for each in drawn:
        if each.name == name:
            return each.limits()
    number = np.asarray(getattr(params, name), np.float64)
    return float(number.min()), float(number.max())


def by_episode(params: EnvParams, drawn: Mapping[str, Any]) -> EnvParams:
    """The params with the numbers that an episode has drawn."""
    return replace(params, **drawn) if drawn else params
