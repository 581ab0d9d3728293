"""Scenarios: which settings and numbers make an `EdgeExperts` environment, and `make`, which builds one."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoe.devices import start_jax
from jaxmoe.env.params import EnvParams, Settings
from jaxmoe.errors import InputError, require_name
from jaxmoe.table import ExpertTable, given_table
from jaxmoe.values import plain

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

# The numbers in which our scenarios differ from the defaults of `EnvParams`. The radio ones are interference-limited:
# low-power devices near the user, and interference far above the thermal noise puts the median SNR near 10 dB.
_RADIO: dict[str, Any] = {"tx_power_dbm": 0.0, "distance_min_m": 10.0, "min_rate_bps": 1200.0, "deadline_s": 20.0}
_FADING: dict[str, Any] = _RADIO | {
    "distance_max_m": 40.0,
    "interference_margin_db": 42.0,
    "speed_m_per_s": 0.2,
    "slot_s": 20.0,  # a request comes when the last one is due: no backlog
    "compute_coefficient": 1e-4,
    "transmission_coefficient": 0.1,
    "latency_weight": 0.01,
}
_QUEUEING: dict[str, Any] = _RADIO | {
    "distance_max_m": 25.0,
    "interference_margin_db": 48.0,
    "rician_k": 10.0,
    "compute_coefficient": 1e-4,
    "transmission_coefficient": 0.1,
    "latency_weight": 0.02,
    "background_probability": 0.25,
    "joules_per_word": 0.02,
    "radio_power_w": 0.5,
    "harvest_w": 2.0,
}

NUMBERS: dict[str, float] = {  # every number of a scenario, with its default
    field.name: field.default for field in fields(EnvParams) if field.default is not MISSING
}
_LIMITS: dict[str, tuple[float, float]] = {  # of the numbers that may not be any from 0 to 1e30, both allowed
    "max_steps_in_episode": (1, 2**31 - 1),
    "device_up_probability": (0.0, 1.0),
    "background_probability": (0.0, 1.0),
    "snr_min_db": (-200.0, 200.0),
    "snr_max_db": (-200.0, 200.0),
    "tx_power_dbm": (-200.0, 200.0),
    "noise_figure_db": (-200.0, 200.0),
    "interference_margin_db": (-200.0, 200.0),
    "deadline_s": (0.0, float("inf")),
    "bandwidth_hz": (1e-3, 1e30),
    "slot_s": (1e-3, 1e30),
    "battery_capacity_j": (1e-3, 1e30),
    "carrier_ghz": (0.5, 100.0),
    "distance_min_m": (1.0, 5000.0),
    "distance_max_m": (1.0, 5000.0),
    "bs_height_m": (1.1, 1000.0),
    "ut_height_m": (1.1, 1000.0),
}


SCENARIOS: dict[str, tuple[Settings, dict[str, Any]]] = {}  # settings, and numbers that differ from the defaults


def register_scenario(name: str, settings: Mapping[str, Any], params: Mapping[str, float]) -> None:
    """Let agents be trained in a scenario of a name.

    Args:
        name: as specs and commands say it: a letter, then letters, digits or `_`.
        settings: static settings that differ from those of `Settings`, such as `{"channel": "link_budget"}`.
        params: numbers that differ from the defaults of `EnvParams`, in its units.

    Raises:
        InputError: the name is taken by another scenario or is no name, or there is no such setting or number.
    """
    require_name(name, "a scenario")
    numbers = {each: _checked_number(each, value) for each, value in plain(params, "params").items()}
    scenario = replace(Settings(), **_checked_settings(plain(settings, "settings"))), numbers
    if SCENARIOS.get(name, scenario) != scenario:
        raise InputError(f"another scenario named {name!r} is registered already")
    SCENARIOS[name] = scenario


def scenarios_as_data(names: Iterable[str]) -> dict[str, Any]:
    """What an experiment records of its scenarios, so that it can be read where they are not registered."""
    return {
        name: {
            "settings": _without_defaults(settings),
            "params": {each: None if value == float("inf") else value for each, value in params.items()},
        }
        for name in names
        for settings, params in [SCENARIOS[name]]
    }


def adopt_scenarios(data: Mapping[str, Any], where: str) -> None:
    """Register the scenarios that an experiment has recorded.

    Raises:
        InputError: one is damaged, or another scenario of its name is registered here.
    """
    for name, scenario in data.items():
        try:
            settings, params = dict(scenario["settings"]), dict(scenario["params"])
        except (TypeError, KeyError, ValueError):
            raise InputError(f"{where}: the scenario {name!r} is described otherwise; restore it from a copy") from None
        try:
            register_scenario(
                name, settings, {each: float("inf") if value is None else value for each, value in params.items()}
            )
        except InputError as error:
            raise InputError(f"{where}: {error}") from None


def _without_defaults(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in vars(settings).items() if value != getattr(Settings(), name)}


def settings_of(scenario: str, settings: Mapping[str, Any]) -> Settings:
    """The static settings of a scenario, with some of them changed."""
    return replace(SCENARIOS[scenario][0], **_checked_settings(plain(settings, "settings")))


def make(
    scenario: str, table: ExpertTable | str | os.PathLike[str] | None = None, split: str = "train", **settings: Any
) -> "tuple[EdgeExperts, EnvParams]":
    """Build the environment of a scenario and its parameters.

    Args:
        scenario: its name: "oneshot", "fading", "queueing" or one that is registered.
        table: what the experts write, or its path; the shipped table if absent.
        split: prompts that requests are drawn from: "train", "validation", "test" or "all".
        **settings: static settings to change, such as `num_replicas=2` or `sharing="shared"`. With `max_experts=k`
            an action asks at most k experts, and the table needs no subset of more; a k that is not below the number
            of experts is no limit.

    Returns:
        The environment and its parameters; change a number with `params.replace(latency_weight=0.05)`.

    Raises:
        InputError: an unknown scenario, split or setting, a value that a setting does not take, or a table that lacks
            a subset which an action can ask.

    >>> env, params = make("oneshot")
    >>> env.num_actions
    16
    >>> make("oneshot", max_experts=1)[0].num_actions
    5
    """
    start_jax()
    from jaxmoe.env.edge_experts import EdgeExperts  # imports gymnax, whose import starts JAX

    if scenario not in SCENARIOS:
        raise InputError(f"unknown scenario {scenario!r}; choose one of {', '.join(SCENARIOS)}")
    table = given_table(table)
    numbers = SCENARIOS[scenario][1]
    chosen = _for_experts(settings_of(scenario, settings), table.num_experts)
    _require_complete(table, chosen.max_experts)
    chosen_prompts = table.prompt_indices(split).tolist()
    others = sorted(set(range(table.num_prompts)) - set(chosen_prompts))
    params = EnvParams(
        table=jax.tree.map(jnp.asarray, table),
        prompts=jnp.asarray([*chosen_prompts, *others]),
        num_prompts=len(chosen_prompts),
        words_hat=jnp.asarray(table.expected_words()),
        **numbers,
    )
    return EdgeExperts(chosen), params


def _for_experts(settings: Settings, experts: int) -> Settings:
    """The settings for so many experts; a limit that forbids nothing is none, so that such environments are equal."""
    limit = settings.max_experts
    return replace(settings, num_experts=experts, max_experts=None if limit is None or limit >= experts else limit)


def _require_complete(table: ExpertTable, max_experts: int | None) -> None:
    """Raise `InputError` unless the table has every subset of at most so many experts."""
    gaps = table.gaps(max_experts)
    if not gaps:
        return
    asked = "" if max_experts is None else f" for max_experts = {max_experts}"
    enough = table.complete_up_to()
    instead = "" if enough < 1 else f"; or set max_experts = {enough}, for which it has all that is needed"
    raise InputError(
        f"the table is not complete{asked}: {len(gaps)} entries are missing, the first is {gaps[0][1]!r} of the prompt "
        f"{gaps[0][0]!r}; complete it with the same jaxmoe collect command without --subsets and "
        f"--max-subset-size, and with --retry-failed where a model's answer was of no use{instead}"
    )


def with_numbers(params: EnvParams, numbers: Mapping[str, float]) -> EnvParams:
    """Change numbers of a scenario by name; the same as `params.replace`, but checked.

    Raises:
        InputError: an unknown name, or something that is not a number in its limits.
    """
    numbers = plain(numbers, "params")
    changed = params.replace(**{name: _checked_number(name, value) for name, value in numbers.items()})
    for low, high in (("snr_min_db", "snr_max_db"), ("distance_min_m", "distance_max_m")):
        if np.any(np.asarray(getattr(changed, low)) > np.asarray(getattr(changed, high))):
            raise InputError(f"parameter {low} = {getattr(changed, low)} is above {high} = {getattr(changed, high)}")
    return changed


def _checked_number(name: str, value: Any) -> float:
    """A number of a scenario, of the kind of its default."""
    if name not in NUMBERS:
        raise InputError(f"unknown parameter {name!r}; choose among {', '.join(NUMBERS)}")
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"parameter {name} = {value!r} is not a number")
    number: Any = value
    low, high = _LIMITS.get(name, (0.0, 1e30))
    if not low <= number <= high:
        raise InputError(f"parameter {name} = {value!r} is outside {low:g} to {high:g}")
    if isinstance(NUMBERS[name], int) and number != int(number):
        raise InputError(f"parameter {name} = {value!r} is not a whole number")
    return type(NUMBERS[name])(number)


_ALLOWED_SETTINGS: dict[str, tuple[Any, ...]] = {
    "num_replicas": tuple(range(1, 9)),
    "channel": ("uniform", "link_budget"),
    "fading": ("none", "rayleigh", "rician"),
    "sharing": ("own", "shared"),
    "csi_delay": (0, 1),
    "observe_words": ("mean", "true"),
    "one_slot": (False, True),
    "max_experts": tuple(range(1, 65)),
}
_ALLOWED_IN_WORDS = {"max_experts": "a whole number from 1 on, at most 64, or leave it out for any number of experts"}


def _checked_settings(settings: dict[str, Any]) -> dict[str, Any]:
    for name, value in settings.items():
        if name not in _ALLOWED_SETTINGS:
            raise InputError(f"unknown setting {name!r}; choose among {', '.join(_ALLOWED_SETTINGS)}")
        if not any(type(value) is type(option) and value == option for option in _ALLOWED_SETTINGS[name]):
            allowed = _ALLOWED_IN_WORDS.get(name, f"one of {', '.join(map(repr, _ALLOWED_SETTINGS[name]))}")
            raise InputError(f"setting {name} = {value!r} is not allowed; choose {allowed}")
    return settings


assert {field.name for field in fields(Settings)} == {"num_experts", *_ALLOWED_SETTINGS}

register_scenario("oneshot", {}, {})
register_scenario(
    "fading", {"channel": "link_budget", "fading": "rayleigh", "csi_delay": 1, "one_slot": False}, _FADING
)
register_scenario(
    "queueing", {"channel": "link_budget", "fading": "rician", "csi_delay": 1, "one_slot": False}, _QUEUEING
)
