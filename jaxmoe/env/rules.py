"""The rules of the edge network, as pure functions of a slot: what a request costs, what arrives, what is left behind.

A slot has one request. Each selected device writes its passage after its backlog, sends it over a Shannon link, and
the passages that arrive in time make the text that is scored. The quality of service of the slot is

    QoS = score/10 - computing_cost - transmission_cost - latency_weight * latency_s - energy_weight * energy_j

after Wang et al., "Toward Scalable Generative AI via Mixture of Experts in Mobile Edge Networks", arXiv 2402.06942.
All randomness enters through `Draws`, made by `draw` and spent by `begin` and `transition`, which are deterministic:
whoever has the draws can replay the network. Everything is written for one environment; `vmap` is the caller's.
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from jaxmoe import wireless
from jaxmoe.env.actions import device_choices
from jaxmoe.env.params import ABOUT_NUMBERS, EnvParams, Settings, by_episode

LEAST = 2.0**-24  # of uniform numbers, half of the smallest that is not 0


class Link(NamedTuple):
    """What lies behind the SNR of a `link_budget` channel."""

    mean_snr_db: Float[Array, " D"]  # dB, of the link budget at the device's distance
    line_of_sight: Bool[Array, " D"]
    shadowing: Float[Array, " D"]  # standard deviations
    scattered: Complex[Array, " D"] | None  # CN(0, 1), absent without small-scale fading


class EnvState(NamedTuple):
    """The network at the start of a slot."""

    prompt: Int[Array, ""]  # row of the table
    snr_db: Float[Array, " D"]  # dB, that this slot's passages are sent at
    observed_snr_db: Float[Array, " D"]  # dB, that the user knows
    link: Link | None  # absent in a `uniform` channel
    available: Bool[Array, " D"]
    backlog_s: Float[Array, " D"]  # s, work waiting at each device
    battery_j: Float[Array, ""]  # J
    time: Int[Array, ""]  # slots since the episode began
    drawn: Mapping[str, Float[Array, "..."]] = {}  # numbers that this episode has drawn, one or [D]


class Draws(NamedTuple):
    """The randomness of one slot. Uniforms lie in (0, 1), normals have mean 0 and variance 1."""

    prompt: Float[Array, ""]  # uniform
    judge: Float[Array, ""]  # normal
    available: Float[Array, " D"]  # uniform
    background: Float[Array, " D"]  # uniform
    channel: Float[Array, "2 D"]  # normal, real and imaginary part of the scattered field; uniform in [0] without it
    shadowing: Float[Array, " D"]  # normal
    place: Float[Array, "2 D"]  # uniform, distance and line of sight, spent when an episode begins
    numbers: Float[Array, " N"]  # uniform, of numbers that an episode draws, spent when it begins


class Slot(NamedTuple):
    """What one slot's outcome depends on, beside the parameters: the truth, or what a planner believes."""

    words: Float[Array, " E"]  # words of each expert's passage
    local_words: Float[Array, ""]  # words of the user's own device
    score_mean: Float[Array, " S"]  # 0..10, of each of the S = 2^E subsets
    score_std: Float[Array, " S"]
    snr_db: Float[Array, " D"]  # dB
    available: Bool[Array, " D"]
    backlog_s: Float[Array, " D"]  # s
    battery_j: Float[Array, ""]  # J


class Outcome(NamedTuple):
    """What one request brought and cost."""

    qos: Float[Array, ""]  # the reward
    score: Float[Array, ""]  # 0..10, with the judge's noise
    computing_cost: Float[Array, ""]  # QoS
    transmission_cost: Float[Array, ""]  # QoS
    latency_s: Float[Array, ""]  # s
    energy_j: Float[Array, ""]  # J
    arrived: Int[Array, ""]  # subset whose passages arrived, a bitmask
    used: Bool[Array, " E"]  # experts that wrote a passage
    compute_s: Float[Array, " D"]  # s, work this request left at each device


def draw(key: Array, settings: Settings) -> Draws:
    """Draw the randomness of one slot: one block of uniforms, cut up, because one large draw is far cheaper.

    A uniform number has 23 bits, and may be 0, which has no logarithm: it counts as half of the smallest other one.
    """
    devices, fades = settings.num_devices, settings.channel == "link_budget"
    sizes = {"prompt": 1, "judge": 1, "available": devices, "background": devices, "channel": devices}
    if fades:
        sizes |= {"channel": 2 * devices, "shadowing": devices, "place": 2 * devices}
    if settings.drawn:
        sizes |= {"numbers": sum(_sizes(settings))}
    uniforms = jnp.maximum(jax.random.uniform(key, (sum(sizes.values()),)), LEAST)
    cuts = np.cumsum(list(sizes.values()))[:-1].tolist()
    part = dict(zip(sizes, jnp.split(uniforms, cuts), strict=True))
    nothing = jnp.zeros(devices)
    return Draws(
        prompt=part["prompt"][0],
        judge=_normal(part["judge"][0]),
        available=part["available"],
        background=part["background"],
        channel=_normal(part["channel"]).reshape(2, devices) if fades else jnp.stack([part["channel"], nothing]),
        shadowing=_normal(part["shadowing"]) if fades else nothing,
        place=part["place"].reshape(2, devices) if fades else jnp.stack([nothing, nothing]),
        numbers=part["numbers"] if settings.drawn else jnp.zeros(0),
    )


def _sizes(settings: Settings) -> list[int]:
    """How many uniform numbers each drawn number takes."""
    return [each.size(ABOUT_NUMBERS[each.name].by_device, settings.num_devices) for each in settings.drawn]


def _drawn(draws: Draws, settings: Settings) -> dict[str, Array]:
    """The numbers that an episode draws."""
    cuts, found = np.cumsum([0, *_sizes(settings)]).tolist(), {}
    for each, (begin, end) in zip(settings.drawn, itertools.pairwise(cuts), strict=True):
        uniform = draws.numbers[begin:end]
        alone = each.together or not ABOUT_NUMBERS[each.name].by_device
        found[each.name] = each.draw(uniform[0] if alone else uniform)
    return found


def begin(draws: Draws, params: EnvParams, settings: Settings) -> EnvState:
    """Begin an episode: empty queues, a full battery, devices placed anew around the user.

    Before the first slot the user has just probed the channel, so that what it knows is what the slot brings.
    """
    drawn = _drawn(draws, settings)
    params = by_episode(params, drawn)
    link = _place_devices(draws, params, settings) if settings.channel == "link_budget" else None
    snr_db = _snr_db(link, draws, params, settings)
    return EnvState(
        prompt=_pick_prompt(draws, params),
        snr_db=snr_db,
        observed_snr_db=snr_db,
        link=link,
        available=draws.available < params.device_up_probability,
        backlog_s=jnp.zeros(settings.num_devices),
        battery_j=jnp.asarray(params.battery_capacity_j, jnp.float32),
        time=jnp.zeros((), jnp.int32),
        drawn=drawn,
    )


def transition(
    state: EnvState, action: Int[Array, ""], draws: Draws, params: EnvParams, settings: Settings
) -> tuple[EnvState, Outcome]:
    """Serve the slot's request, then let the next request, the channels, the queues and the battery come."""
    params = by_episode(params, state.drawn)
    chosen = jnp.asarray(device_choices(settings))[action]
    outcome = serve(true_slot(state, params), chosen, draws.judge, params, settings)
    link = None if state.link is None else _move_user(state.link, draws, params)
    snr_db = _snr_db(link, draws, params, settings)
    arriving_s = outcome.compute_s + background_s(draws.background, params)
    refilled_j = state.battery_j - outcome.energy_j + params.harvest_w * params.slot_s
    return EnvState(
        prompt=_pick_prompt(draws, params),
        snr_db=snr_db,
        observed_snr_db=state.snr_db if settings.csi_delay else snr_db,
        link=link,
        available=draws.available < params.device_up_probability,
        backlog_s=jnp.maximum(0.0, state.backlog_s + arriving_s - params.slot_s),
        battery_j=jnp.minimum(refilled_j, params.battery_capacity_j),
        time=state.time + 1,
        drawn=state.drawn,
    ), outcome


def true_slot(state: EnvState, params: EnvParams) -> Slot:
    """The slot as it is: this prompt's words and scores, this slot's channel."""
    table, prompt = params.table, state.prompt
    return Slot(
        words=table.words[prompt],
        local_words=table.fused_words[prompt, 0],
        score_mean=table.score_mean[prompt],
        score_std=table.score_std[prompt],
        snr_db=state.snr_db,
        available=state.available,
        backlog_s=state.backlog_s,
        battery_j=state.battery_j,
    )


def serve(
    slot: Slot, chosen: Bool[Array, " D"], judge: Float[Array, ""], params: EnvParams, settings: Settings
) -> Outcome:
    """Outcome of one request when the devices `chosen` are asked; a device that is not available counts as not used.

    Per used device: `compute_s = words * seconds_per_word`, `transmission_s = payload_bits / rate_bps`, and it ends
    at `backlog_s + compute_s + transmission_s`. The passage is lost if that is after `deadline_s`, or in outage: the
    rate would be below `min_rate_bps`, and the passage is sent at that rate in vain. A request that needs more energy
    than the battery holds is not carried out. Where nothing arrives the user's own device starts once that is known.

    Args:
        slot: what the outcome depends on.
        chosen: devices asked, at most one replica of each expert.
        judge: standard normal draw of the judge's noise; 0 gives the expected QoS.
        params: costs of the scenario.
        settings: static settings of the scenario.
    """
    words = jnp.repeat(slot.words, settings.num_replicas)
    compute_s = words * params.seconds_per_word
    asked = chosen & slot.available
    rate_bps = _rate_bps(slot.snr_db, asked, params, settings)
    payload_bits = wireless.payload_bits(words, params.bits_per_word)
    transmission_s = wireless.transmission_s(payload_bits, jnp.maximum(rate_bps, params.min_rate_bps))
    joules = params.joules_per_word * words + params.radio_power_w * transmission_s
    used = asked & (jnp.sum(joules, where=asked) <= slot.battery_j)

    finish_s = slot.backlog_s + compute_s + transmission_s
    arrived = used & (finish_s <= params.deadline_s) & (rate_bps >= params.min_rate_bps)
    subset = _bitmask(_by_expert(arrived, settings))
    score = slot.score_mean[subset] + params.judge_noise * slot.score_std[subset] * judge

    waited_s = jnp.max(jnp.minimum(finish_s, params.deadline_s), where=used, initial=0.0)
    local_s = jnp.where(subset == 0, slot.local_words * params.local_seconds_per_word, 0.0)
    computing_cost = _sum_of_products(params.compute_coefficient, words, used)
    transmission_cost = params.transmission_coefficient * jnp.sum(transmission_s, where=used)
    latency_s = waited_s + local_s
    energy_j = jnp.sum(joules, where=used)
    cost = computing_cost + transmission_cost + params.latency_weight * latency_s + params.energy_weight * energy_j
    return Outcome(
        qos=score / 10.0 - cost,
        score=score,
        computing_cost=computing_cost,
        transmission_cost=transmission_cost,
        latency_s=latency_s,
        energy_j=energy_j,
        arrived=subset,
        used=_by_expert(used, settings),
        compute_s=jnp.where(used, compute_s, 0.0),
    )


def _sum_of_products(number: float | Array, of: Float[Array, " D"], used: Bool[Array, " D"]) -> Array:
    """The sum over the devices used; a number of all devices is multiplied once, in the end."""
    if jnp.ndim(number):
        return jnp.sum(number * of, where=used)
    return jnp.multiply(number, jnp.sum(of, where=used))


def action_mask(state: EnvState, settings: Settings) -> Bool[Array, " A"]:
    """Actions that ask available devices only; the others do the same as an action that leaves these devices out."""
    return ~jnp.any(jnp.asarray(device_choices(settings)) & ~state.available[None, :], axis=1)


def background_s(uniform: Float[Array, " D"], params: EnvParams) -> Float[Array, " D"]:
    """Work of other users that reaches each device in a slot, in seconds: a job or none, of exponential length.

    One uniform serves both: below the probability p there is a job, and then u/p is uniform again.
    """
    probability = params.background_probability
    arrives = uniform < probability
    fraction = jnp.where(arrives, uniform / jnp.maximum(probability, 1e-12), 1.0)
    return -params.background_mean_s * jnp.log(fraction)


def _normal(uniform: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Standard normal by inversion of its distribution function."""
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(jnp.maximum(2.0 * uniform - 1.0, lowest))


def _pick_prompt(draws: Draws, params: EnvParams) -> Int[Array, ""]:
    count = jnp.asarray(params.num_prompts, jnp.int32)
    return params.prompts[jnp.minimum((draws.prompt * count.astype(jnp.float32)).astype(jnp.int32), count - 1)]


def _place_devices(draws: Draws, params: EnvParams, settings: Settings) -> Link:
    """Devices uniform over the ring around the user; line of sight by its probability; link budget of each."""
    near2, far2 = jnp.square(params.distance_min_m), jnp.square(params.distance_max_m)
    distance_2d_m = jnp.sqrt(near2 + draws.place[0] * (far2 - near2))
    line_of_sight = draws.place[1] < wireless.umi_los_probability(distance_2d_m)
    geometry = (distance_2d_m, params.carrier_ghz, params.bs_height_m, params.ut_height_m)
    path_loss_db = jnp.where(
        line_of_sight, wireless.umi_los_path_loss_db(*geometry), wireless.umi_nlos_path_loss_db(*geometry)
    )
    noise_dbm = wireless.noise_dbm(params.bandwidth_hz, params.noise_figure_db) + params.interference_margin_db
    return Link(
        mean_snr_db=wireless.snr_db(params.tx_power_dbm, path_loss_db, noise_dbm),
        line_of_sight=line_of_sight,
        shadowing=draws.shadowing,
        scattered=None if settings.fading == "none" else _scattered(draws),
    )


def _move_user(link: Link, draws: Draws, params: EnvParams) -> Link:
    """Let shadowing and scattered field of each device move on by one slot of the user's walk."""
    decorrelation_m = jnp.where(link.line_of_sight, wireless.CORRELATION_LOS_M, wireless.CORRELATION_NLOS_M)
    shadowing_rho = wireless.spatial_correlation(params.speed_m_per_s, params.slot_s, decorrelation_m)
    shadowing = wireless.gauss_markov(link.shadowing, shadowing_rho, draws.shadowing)
    if link.scattered is None:
        return link._replace(shadowing=shadowing)
    doppler_hz = wireless.doppler_hz(params.speed_m_per_s, params.carrier_ghz)
    fading_rho = wireless.jakes_correlation(doppler_hz, params.slot_s)
    return link._replace(
        shadowing=shadowing, scattered=wireless.gauss_markov(link.scattered, fading_rho, _scattered(draws))
    )


def _scattered(draws: Draws) -> Complex[Array, " D"]:
    real, imaginary = draws.channel * np.float32(np.sqrt(0.5))
    return jax.lax.complex(real, imaginary)


def _snr_db(link: Link | None, draws: Draws, params: EnvParams, settings: Settings) -> Float[Array, " D"]:
    """SNR of each device: uniform, or link budget plus shadowing plus small-scale power gain.

    Rician fading has its line-of-sight part only where there is line of sight; elsewhere it is Rayleigh fading.
    """
    if link is None:
        return params.snr_min_db + draws.channel[0] * (params.snr_max_db - params.snr_min_db)
    sigma_db = jnp.where(link.line_of_sight, wireless.SHADOWING_LOS_DB, wireless.SHADOWING_NLOS_DB)
    shadowed_db = link.mean_snr_db + sigma_db * link.shadowing
    if link.scattered is None:
        return shadowed_db
    k_factor = jnp.where(link.line_of_sight, params.rician_k if settings.fading == "rician" else 0.0, 0.0)
    gain = wireless.rician_power_gain(link.scattered, k_factor, 0.0)
    return shadowed_db + wireless.db_from_linear(gain)


def _rate_bps(
    snr_db: Float[Array, " D"], asked: Bool[Array, " D"], params: EnvParams, settings: Settings
) -> Float[Array, " D"]:
    """Shannon rate of each device. Sharing by k devices leaves each 1/k of the bandwidth, and 1/k of its noise."""
    shares = jnp.maximum(jnp.sum(asked), 1).astype(jnp.float32) if settings.sharing == "shared" else 1.0
    return wireless.shannon_rate_bps(params.bandwidth_hz / shares, wireless.linear_from_db(snr_db) * shares)


def _by_expert(devices: Bool[Array, " D"], settings: Settings) -> Bool[Array, " E"]:
    return jnp.any(devices.reshape(settings.num_experts, settings.num_replicas), axis=1)


def _bitmask(experts: Bool[Array, " E"]) -> Int[Array, ""]:
    return jnp.sum(jnp.where(experts, 1 << np.arange(experts.shape[0], dtype=np.int32), 0), dtype=jnp.int32)
