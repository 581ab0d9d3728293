"""The rules of the edge network once more, in plain NumPy double precision, one device after the other.

It is written from the description of the rules (design, section 5) and shares no code with `jaxmoe.env.rules`: given
the same state and the same draws, both must say the same. States, draws and parameters are any objects with the fields
of `EnvState`, `Draws` and `EnvParams` that hold NumPy values; states and outcomes are returned as `SimpleNamespace`.
"""

import functools
import math
from types import SimpleNamespace

import numpy as np
from scipy.special import j0

LIGHT_M_PER_S = 3.0e8
SHADOWING_DB = {True: 4.0, False: 7.82}  # by line of sight
DECORRELATION_M = {True: 10.0, False: 13.0}
BY_DEVICE = {
    "compute_coefficient", "seconds_per_word", "device_up_probability", "background_probability", "background_mean_s",
    "joules_per_word", "radio_power_w", "tx_power_dbm", "distance_min_m", "distance_max_m",
}  # fmt: skip


def begin(draws, params, settings):
    """The first state of an episode."""
    drawn = draw_numbers(draws, settings)
    params = as_drawn(params, drawn)
    link = place_devices(draws, params, settings) if settings.channel == "link_budget" else None
    snr_db = channel_snr_db(link, draws, params, settings)
    return SimpleNamespace(
        prompt=pick_prompt(draws, params),
        snr_db=snr_db,
        observed_snr_db=snr_db,
        link=link,
        available=draws.available < params.device_up_probability,
        backlog_s=np.zeros(settings.num_devices),
        battery_j=params.battery_capacity_j,
        time=0,
        drawn=SimpleNamespace(**drawn),
    )


def draw_numbers(draws, settings):
    """The numbers that an episode draws, in the order of the settings, each uniform number used once."""
    found, left = {}, list(draws.numbers)
    for name, how, values, _ in settings.drawn:
        lists = any(np.ndim(value) for value in values)
        several = name in BY_DEVICE and not lists
        numbers = [one_drawn(how, values, left.pop(0)) for _ in range(settings.num_devices if several else 1)]
        found[name] = np.array(numbers) if several else np.array(numbers[0])[()]
        if lists:
            found[name] = found[name] * np.ones(settings.num_devices)
    return found


def one_drawn(how, values, uniform):
    """A number between two ends, or one of a choice."""
    if how == "choice":
        return values[int(uniform * len(values))]
    low, high = values
    return low + uniform * (high - low) if how == "uniform" else low * (high / low) ** uniform


def as_drawn(params, drawn):
    """The parameters with the numbers that an episode has drawn."""
    return SimpleNamespace(**{**vars(params), **drawn})


def transition(state, action, draws, params, settings):
    """The next state, and the outcome of the slot."""
    drawn = state.drawn if isinstance(state.drawn, dict) else vars(state.drawn)
    params = as_drawn(params, drawn)
    outcome = serve(state, action, draws.judge, params, settings)
    link = None if state.link is None else move_user(state.link, draws, params, settings)
    snr_db = channel_snr_db(link, draws, params, settings)
    backlog_s = []
    for device in range(settings.num_devices):
        arriving_s = outcome.compute_s[device] + background_s(draws.background[device], device, params)
        backlog_s.append(max(0.0, state.backlog_s[device] + arriving_s - params.slot_s))
    battery_j = state.battery_j - outcome.energy_j + params.harvest_w * params.slot_s
    next_state = SimpleNamespace(
        prompt=pick_prompt(draws, params),
        snr_db=snr_db,
        observed_snr_db=state.snr_db if settings.csi_delay == 1 else snr_db,
        link=link,
        available=draws.available < params.device_up_probability,
        backlog_s=np.array(backlog_s),
        battery_j=min(battery_j, params.battery_capacity_j),
        time=state.time + 1,
        drawn=SimpleNamespace(**drawn),
    )
    return next_state, outcome


def serve(state, action, judge, params, settings):
    """The outcome of one request; `nearest` is its smallest relative distance to a threshold that decides something."""
    table, prompt, experts = params.table, state.prompt, settings.num_experts
    asked = [device for device in asked_devices(action, settings) if state.available[device]]
    shares = len(asked) if settings.sharing == "shared" else 1
    jobs = [write_and_send(device, shares, state, params, settings) for device in asked]
    needed_j = sum(job.energy_j for job in jobs)
    nearest = min(
        distance(needed_j, state.battery_j),
        *(distance(job.end_s, params.deadline_s) for job in jobs),
        *(distance(job.rate_bps, params.min_rate_bps) for job in jobs),
        math.inf,
    )
    if needed_j > state.battery_j:
        jobs = []
    arrived = [job for job in jobs if job.end_s <= params.deadline_s and job.rate_bps >= params.min_rate_bps]
    subset = sum(2**job.expert for job in arrived)

    score = table.score_mean[prompt, subset] + params.judge_noise * table.score_std[prompt, subset] * judge
    waited_s = max((min(job.end_s, params.deadline_s) for job in jobs), default=0.0)
    local_s = 0.0 if arrived else table.fused_words[prompt, 0] * params.local_seconds_per_word
    latency_s = waited_s + local_s
    computing_cost = sum(of(params.compute_coefficient, job.device) * job.words for job in jobs)
    transmission_cost = params.transmission_coefficient * sum(job.airtime_s for job in jobs)
    energy_j = sum(job.energy_j for job in jobs)
    cost = computing_cost + transmission_cost + params.latency_weight * latency_s + params.energy_weight * energy_j
    compute_s = np.zeros(settings.num_devices)
    for job in jobs:
        compute_s[job.device] = job.compute_s
    return SimpleNamespace(
        qos=score / 10 - cost,
        score=score,
        computing_cost=computing_cost,
        transmission_cost=transmission_cost,
        latency_s=latency_s,
        energy_j=energy_j,
        arrived=subset,
        used=np.isin(np.arange(experts), [job.expert for job in jobs]),
        compute_s=compute_s,
        nearest=nearest,
    )


def asked_devices(action, settings):
    """The devices of an action: its number is that of an assignment, or of one among those of few enough experts."""
    if settings.max_experts is None:
        return devices_of(int(action), settings)
    return few_devices(settings)[action]


@functools.cache
def few_devices(settings):
    """The devices of each assignment of all that asks at most `max_experts` experts."""
    every = (devices_of(number, settings) for number in range((settings.num_replicas + 1) ** settings.num_experts))
    return [devices for devices in every if len(devices) <= settings.max_experts]


def devices_of(assignment, settings):
    """The digits of its number in base R + 1, lowest first: 0 leaves an expert out, r > 0 asks its replica r - 1."""
    devices = []
    for expert in range(settings.num_experts):
        assignment, digit = divmod(assignment, settings.num_replicas + 1)
        if digit > 0:
            devices.append(expert * settings.num_replicas + digit - 1)
    return devices


def write_and_send(device, shares, state, params, settings):
    """One passage: written after the backlog of its device, then sent over 1/shares of the band."""
    expert = device // settings.num_replicas
    words = params.table.words[state.prompt, expert]
    compute_s = words * of(params.seconds_per_word, device)
    snr = 10 ** (state.snr_db[device] / 10)
    rate_bps = params.bandwidth_hz / shares * np.log2(1 + snr * shares)
    airtime_s = words * params.bits_per_word / max(rate_bps, params.min_rate_bps)
    return SimpleNamespace(
        expert=expert,
        device=device,
        words=words,
        compute_s=compute_s,
        rate_bps=rate_bps,
        airtime_s=airtime_s,
        end_s=state.backlog_s[device] + compute_s + airtime_s,
        energy_j=of(params.joules_per_word, device) * words + of(params.radio_power_w, device) * airtime_s,
    )


def pick_prompt(draws, params):
    """One of the first `num_prompts` of the list, all with the same probability."""
    return params.prompts[int(draws.prompt * params.num_prompts)]


def background_s(uniform, device, params):
    """Another user's job: with a probability, and then of exponential length."""
    probability = of(params.background_probability, device)
    if uniform >= probability:
        return 0.0
    return -of(params.background_mean_s, device) * math.log(uniform / probability)


def place_devices(draws, params, settings):
    """Devices uniform over the area of a ring, with the link budget of TR 38.901 UMi."""
    mean_snr_db, line_of_sight, scattered = [], [], []
    for device in range(settings.num_devices):
        near_m, far_m = of(params.distance_min_m, device), of(params.distance_max_m, device)
        distance_m = math.sqrt(near_m**2 + draws.place[0, device] * (far_m**2 - near_m**2))
        sight = draws.place[1, device] < los_probability(distance_m)
        noise_dbm = -174 + 10 * math.log10(params.bandwidth_hz) + params.noise_figure_db
        loss_db = path_loss_db(distance_m, sight, params)
        mean_snr_db.append(of(params.tx_power_dbm, device) - loss_db - noise_dbm - params.interference_margin_db)
        line_of_sight.append(sight)
        scattered.append(complex(*draws.channel[:, device]) / math.sqrt(2))
    return SimpleNamespace(
        mean_snr_db=np.array(mean_snr_db),
        line_of_sight=np.array(line_of_sight),
        shadowing=draws.shadowing,
        scattered=None if settings.fading == "none" else np.array(scattered),
    )


def los_probability(distance_m):
    """Probability of a line of sight (TR 38.901, table 7.4.2-1)."""
    if distance_m <= 18:
        return 1.0
    return 18 / distance_m + math.exp(-distance_m / 36) * (1 - 18 / distance_m)


def path_loss_db(distance_m, sight, params):
    """Path loss with and without line of sight (TR 38.901, table 7.4.1-1)."""
    ghz, high_m, low_m = params.carrier_ghz, params.bs_height_m, params.ut_height_m
    distance_3d_m = math.sqrt(distance_m**2 + (high_m - low_m) ** 2)
    break_m = 4 * (high_m - 1) * (low_m - 1) * ghz * 1e9 / LIGHT_M_PER_S
    if distance_m <= break_m:
        los_db = 32.4 + 21 * math.log10(distance_3d_m) + 20 * math.log10(ghz)
    else:
        bend_db = 9.5 * math.log10(break_m**2 + (high_m - low_m) ** 2)
        los_db = 32.4 + 40 * math.log10(distance_3d_m) + 20 * math.log10(ghz) - bend_db
    if sight:
        return los_db
    return max(los_db, 35.3 * math.log10(distance_3d_m) + 22.4 + 21.3 * math.log10(ghz) - 0.3 * (low_m - 1.5))


def move_user(link, draws, params, settings):
    """Shadowing and scattered field of each device, correlated with those of the last slot."""
    shadowing, scattered = [], []
    doppler_hz = params.speed_m_per_s * params.carrier_ghz * 1e9 / LIGHT_M_PER_S
    fading_rho = j0(2 * math.pi * doppler_hz * params.slot_s)
    for device in range(settings.num_devices):
        walked_m = params.speed_m_per_s * params.slot_s
        rho = math.exp(-walked_m / DECORRELATION_M[bool(link.line_of_sight[device])])
        shadowing.append(autoregression(link.shadowing[device], rho, draws.shadowing[device]))
        if link.scattered is not None:
            innovation = complex(*draws.channel[:, device]) / math.sqrt(2)
            scattered.append(autoregression(link.scattered[device], fading_rho, innovation))
    return SimpleNamespace(
        mean_snr_db=link.mean_snr_db,
        line_of_sight=link.line_of_sight,
        shadowing=np.array(shadowing),
        scattered=None if link.scattered is None else np.array(scattered),
    )


def autoregression(value, rho, innovation):
    """A step that keeps the variance, with correlation rho."""
    return rho * value + math.sqrt(1 - rho**2) * innovation


def channel_snr_db(link, draws, params, settings):
    """SNR of each device in this slot."""
    snr_db = []
    for device in range(settings.num_devices):
        if link is None:
            snr_db.append(params.snr_min_db + draws.channel[0, device] * (params.snr_max_db - params.snr_min_db))
            continue
        sight = bool(link.line_of_sight[device])
        value_db = link.mean_snr_db[device] + SHADOWING_DB[sight] * link.shadowing[device]
        if link.scattered is not None:
            k = params.rician_k if sight and settings.fading == "rician" else 0.0
            field = math.sqrt(k / (k + 1)) + link.scattered[device] / math.sqrt(k + 1)
            value_db += 10 * math.log10(abs(field) ** 2)
        snr_db.append(value_db)
    return np.array(snr_db)


def of(number, device):
    """A number that is one for all devices, or one per device."""
    return number if np.ndim(number) == 0 else number[device]


def distance(value, limit):
    """Distance to a limit as a share of it; infinite where the limit cannot decide."""
    return abs(value - limit) / limit if 0 < limit < math.inf else math.inf
