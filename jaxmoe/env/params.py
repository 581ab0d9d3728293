"""What makes a scenario: static settings, and numbers that are leaves and may differ from agent to agent."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
from jaxtyping import Array, Float, Int

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
    num_replicas: int = 1  # devices that host each expert
    channel: Literal["uniform", "link_budget"] = "uniform"
    fading: Literal["none", "rayleigh", "rician"] = "none"  # small-scale, of the link budget
    sharing: Literal["own", "shared"] = "own"  # does each device have the bandwidth, or its share of it
    csi_delay: Literal[0, 1] = 0  # slots by which the observed channel is old
    observe_words: Literal["mean", "true"] = "mean"  # "true" shows words that nobody can know yet (an ablation)
    one_slot: bool = True  # an episode ends after its one slot, as terminated
    max_experts: int | None = None  # that an action asks; any number if absent

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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EnvParams:
    """The numbers of a scenario, each a leaf that may differ from agent to agent. `D` numbers may be one for all."""

    table: ExpertTable  # what the experts write and how it is scored; shared by all agents
    prompts: Int[Array, " P"]  # rows of the table, in an order
    num_prompts: int  # requests are drawn from so many of them, the first ones
    words_hat: Float[Array, " E"]  # words expected of each expert before anything is written
    max_steps_in_episode: int = 64  # slots, time limit of a continuing task
    # Cost of a request
    compute_coefficient: float = 2e-4  # QoS per word
    transmission_coefficient: float = 0.16  # QoS per second of airtime
    latency_weight: float = 0.0  # QoS per second
    energy_weight: float = 0.0  # QoS per joule
    judge_noise: float = 1.0  # times the table's standard deviation between judges
    # Devices
    seconds_per_word: float = 0.035  # s, D, time in which a device writes one word
    local_seconds_per_word: float = 0.0145  # s, the same for the user's own device
    deadline_s: float = float("inf")  # s, a passage that ends later is lost
    slot_s: float = 4.0  # s, time between two requests
    device_up_probability: float = 1.0  # D, chance that a device is available in a slot
    background_probability: float = 0.0  # D, chance of another user's job in a slot
    background_mean_s: float = 3.0  # s, D, mean of its exponential length
    # Energy of the user's cell
    joules_per_word: float = 0.0  # J, D, energy in which a device writes one word
    radio_power_w: float = 0.0  # W, of a sending device
    battery_capacity_j: float = 100.0  # J
    harvest_w: float = 0.0  # W, refills the battery
    # Radio
    bandwidth_hz: float = 3750.0  # Hz, NB-IoT single tone
    bits_per_word: float = 46.5  # bits, measured: 5.81 bytes per English word
    min_rate_bps: float = 0.0  # bit/s, below it the link is in outage
    snr_min_db: float = 0.0  # dB, `uniform` channel
    snr_max_db: float = 20.0  # dB, `uniform` channel
    tx_power_dbm: float = 14.0  # dBm, D, `link_budget` channel from here on
    noise_figure_db: float = 9.0  # dB
    interference_margin_db: float = 0.0  # dB
    carrier_ghz: float = 3.5  # GHz
    distance_min_m: float = 20.0  # m, D, nearest place of a device around the user
    distance_max_m: float = 120.0  # m, D, farthest
    bs_height_m: float = 10.0  # m, height of a device
    ut_height_m: float = 1.5  # m, height of the user
    speed_m_per_s: float = 1.0  # m/s, of the user
    rician_k: float = 4.0  # ratio, line-of-sight power over scattered power

    def replace(self, **changes: Any) -> "EnvParams":
        """A copy with other values in some fields."""
        return replace(self, **changes)
