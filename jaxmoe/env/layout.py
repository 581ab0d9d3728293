"""The observation and the actions of `EdgeExperts` in words: what `rules.observe` and `rules.device_choices` do."""

from typing import Any

import numpy as np

from jaxmoe.env.params import EnvParams, Settings
from jaxmoe.env.rules import SNR_SCALE_DB, WORDS_SCALE, device_choices
from jaxmoe.policy.contract import Field


def observation_fields(params: EnvParams, settings: Settings) -> tuple[Field, ...]:
    """The fields of the observation, in its order.

    What cannot vary where the policy was trained has a default. So has `words_hat`, the expected words of each expert,
    which the policy takes along; unless it was trained to see the true ones.
    """
    experts, devices = settings.num_experts, settings.num_devices
    capacity_j = float(params.battery_capacity_j)
    carried = tuple(np.asarray(params.words_hat, np.float32).tolist()) if settings.observe_words == "mean" else None
    return (
        Field("relevance", "1", "expert", experts, 1.0, 0.0, 1.0, None),
        Field("words_hat", "words", "expert", experts, WORDS_SCALE, 0.0, None, carried),
        Field("snr_db", "dB", "device", devices, SNR_SCALE_DB, None, None, None),
        Field("backlog_s", "s", "device", devices, float(params.slot_s), 0.0, None, _backlog(params, settings)),
        Field("battery_j", "J", "user", 1, capacity_j, 0.0, capacity_j, _battery(params, capacity_j)),
        Field("available", "1", "device", devices, 1.0, 0.0, 1.0, _availability(params, devices)),
    )


def action_choices(settings: Settings) -> tuple[tuple[int, ...], ...]:
    """Per action and expert: 0, it is not asked, or 1 + the replica that is."""
    chosen = device_choices(settings).reshape(-1, settings.num_experts, settings.num_replicas)
    digits: list[list[int]] = (chosen @ (1 + np.arange(settings.num_replicas))).tolist()
    return tuple(map(tuple, digits))


def scales(fields: tuple[Field, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """By what each number of the observation has been divided."""
    return np.concatenate([np.full(field.size, field.scale, np.float32) for field in fields])


def _backlog(params: EnvParams, settings: Settings) -> tuple[float, ...] | None:
    """No work waits where each slot is over before the next begins, and nobody else brings any."""
    longest_s = float(np.max(np.asarray(params.table.words))) * float(params.seconds_per_word)
    quiet = float(params.background_probability) == 0 and longest_s <= float(params.slot_s)
    return (0.0,) * settings.num_devices if quiet or settings.one_slot else None


def _battery(params: EnvParams, capacity_j: float) -> tuple[float, ...] | None:
    """The battery stays full where nothing takes from it."""
    drawn = float(params.joules_per_word) + float(params.radio_power_w)
    return (capacity_j,) if drawn == 0 else None


def _availability(params: EnvParams, devices: int) -> tuple[float, ...] | None:
    return (1.0,) * devices if float(params.device_up_probability) >= 1 else None
