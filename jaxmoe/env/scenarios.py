"""Scenarios: which settings and numbers make an `EdgeExperts` environment, and `make`, which builds one."""

import itertools
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoe.devices import start_jax
from jaxmoe.env.numbers import Drawn, parse_drawn, parse_number
from jaxmoe.env.params import (
    ABOUT_NUMBERS,
    ABOUT_SETTINGS,
    NUMBERS,
    ORDERED,
    EnvParams,
    Settings,
    by_episode,
    limits_of,
)
from jaxmoe.errors import InputError, require_name
from jaxmoe.files import with_home
from jaxmoe.names import short
from jaxmoe.table import ExpertTable, given_table
from jaxmoe.table.formats import read_toml
from jaxmoe.values import mapping, plain

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

SCENARIOS: dict[str, tuple[Settings, dict[str, Any]]] = {}  # settings, and numbers that differ from the defaults
SUFFIX = ".toml"  # of a file that describes a scenario
_KEYS: tuple[tuple[str, Any], ...] = (("scenario", "oneshot"), ("settings", {}), ("params", {}))  # of it, with defaults


def register_scenario(name: str, settings: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Let agents be trained in a scenario of a name.

    Args:
        name: as specs and commands say it: a letter, then letters, digits or `_`.
        settings: static settings that differ from those of `Settings`, such as `{"channel": "link_budget"}`.
        params: numbers that differ from the defaults of `EnvParams`, in its units, as `make` takes them.

    Raises:
        InputError: the name is taken by another scenario or is no name, or there is no such setting or number.
    """
    require_name(name, "a scenario", SCENARIOS)
    if name in NUMBERS:
        raise InputError(f"{short(name)} is a number of every scenario, and cannot name one")
    numbers = {each: _sound(each, value) for each, value in plain(params, "params").items()}
    scenario = replace(Settings(), **_checked_settings(plain(settings, "settings"))), numbers
    if SCENARIOS.get(name, scenario) != scenario:
        raise InputError(f"another scenario named {short(name)} is registered already; choose another name")
    SCENARIOS[name] = scenario


def scenario_named(scenario: str | os.PathLike[str]) -> str:
    """The name of a scenario, or of the one that a file describes, which is registered.

    A file is TOML: `scenario`, which it begins with (`oneshot` if absent), and what differs in `[settings]` and
    `[params]`. It has the file's name.

    Raises:
        InputError: there is none of this name, or the file cannot be read or describes none.
    """
    said = os.fspath(scenario) if isinstance(scenario, str | os.PathLike) else repr(scenario)
    if not isinstance(said, str) or not said.endswith(SUFFIX):
        if said not in SCENARIOS:
            known = ", ".join(SCENARIOS)
            raise InputError(f"unknown scenario {short(said)}; choose one of {known}, or a file that ends in {SUFFIX}")
        return said
    return _registered(said)[0]


def _registered(said: str) -> tuple[str, str]:
    """The name of the scenario that a file describes, registered, and of the one that it begins with."""
    name, base, settings, numbers = _read(said)
    before, defaults = SCENARIOS[base]
    try:
        register_scenario(name, _without_defaults(before) | settings, defaults | numbers)
    except InputError as error:
        raise InputError(f"{said}: {error}") from None
    return name, base


def _read(said: str) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    """The name of what a file describes, what it begins with, and the settings and numbers that differ."""
    path = with_home(said)
    content = read_toml(path)
    base, *sections = (content.pop(key, default) for key, default in _KEYS)
    if content:
        raise InputError(
            f"{said}: unknown key {short(next(iter(content)))}; allowed are scenario, [settings] and [params]"
        )
    if not isinstance(base, str) or base not in SCENARIOS:
        raise InputError(f"{said}: scenario = {short(base)} is unknown; choose one of {', '.join(SCENARIOS)}")
    if not all(isinstance(section, dict) for section in sections):
        raise InputError(f"{said}: settings and params are sections, [settings] and [params], with keys below them")
    return re.sub(r"\W|^(?=\d)", "_", path.stem, flags=re.ASCII), base, *sections


def described(scenario: str | os.PathLike[str]) -> dict[str, Any]:
    """A scenario for readers, as plain values: every setting and number, or of a file those that differ.

    Returns:
        `name`, of a file also `begins_with`; `settings` and `params`: of each its name and value, what it means, of a
        number unit and limits, and where it differs the value that it has otherwise.

    Raises:
        InputError: there is none of this name, or the file describes none.
    """
    said = os.fspath(scenario)
    name, base = _registered(said) if said.endswith(SUFFIX) else (scenario_named(said), None)
    (settings, own), (before, defaults) = SCENARIOS[name], SCENARIOS[base] if base else (Settings(), {})
    of_settings = [
        {
            "setting": each, "value": getattr(settings, each), "instead of": getattr(before, each),
            "allowed": _ALLOWED_IN_WORDS.get(each, list(_ALLOWED_SETTINGS[each])), "meaning": meaning,
        }
        for each, meaning in ABOUT_SETTINGS.items()
    ]  # fmt: skip
    now, otherwise = NUMBERS | own, NUMBERS | defaults
    of_numbers = [
        {
            "number": each, "value": now[each], "instead of": otherwise[each], "unit": about.unit,
            "limits": (about.low, math.inf if about.endless else about.high), "by device": about.by_device,
            "meaning": about.meaning,
        }
        for each, about in ABOUT_NUMBERS.items()
    ]  # fmt: skip
    found: dict[str, Any] = {"name": name}
    for section, rows in (("settings", of_settings), ("params", of_numbers)):
        found[section] = [row for row in rows if base is None or row["value"] != row["instead of"]]
        for row in found[section]:
            if row["value"] == row["instead of"]:
                row["instead of"] = None
    return found | ({} if base is None else {"begins_with": base})


def scenarios_as_data(names: Iterable[str]) -> dict[str, Any]:
    """What an experiment records of its scenarios, so that it can be read where they are not registered."""
    return {
        name: {
            "settings": _without_defaults(settings),
            "params": {each: None if value == math.inf else value for each, value in params.items()},
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
            raise InputError(
                f"{where}: the scenario {short(name)} is described otherwise; restore it from a copy"
            ) from None
        try:
            register_scenario(
                name, settings, {each: math.inf if value is None else value for each, value in params.items()}
            )
        except InputError as error:
            raise InputError(f"{where}: {error}") from None


def _without_defaults(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in vars(settings).items() if value != getattr(Settings(), name)}


def settings_of(scenario: str, settings: Mapping[str, Any]) -> Settings:
    """The static settings of a scenario, with some of them changed."""
    return replace(SCENARIOS[scenario_named(scenario)][0], **_checked_settings(plain(settings, "settings")))


def make(
    scenario: str | os.PathLike[str],
    table: ExpertTable | str | os.PathLike[str] | None = None,
    split: str = "train",
    params: Mapping[str, Any] | None = None,
    **settings: Any,
) -> "tuple[EdgeExperts, EnvParams]":
    """Build the environment of a scenario and its parameters.

    Args:
        scenario: its name: "oneshot", "fading", "queueing" or one that is registered; or a TOML file that describes it.
        table: what the experts write, or its path; the shipped table if absent.
        split: prompts that requests are drawn from: "train", "validation", "test" or "all".
        params: numbers to change, as in `{"latency_weight": 0.05}`. Where devices may differ in one, it may be a list
            by device, or by expert for all its replicas. `{"each_episode": {"uniform": [a, b]}}`, or `log_uniform` or
            `choice`, draws a number anew in every episode, for each device alone; `"observed": False` beside it
            leaves what was drawn out of the observation.
        **settings: static settings to change, such as `num_replicas=2` or `sharing="shared"`. With `max_experts=k`
            an action asks at most k experts, and the table needs no subset of more; a k that is not below the number
            of experts is no limit.

    Returns:
        The environment and its parameters; `params.replace(latency_weight=0.05)` changes a number afterwards.

    Raises:
        InputError: an unknown scenario, split, setting or number, a value that one does not take, or a table that
            lacks a subset which an action can ask.

    >>> env, params = make("oneshot", params={"seconds_per_word": [0.02, 0.03, 0.03, 0.08]})
    >>> env.num_actions, params.seconds_per_word.shape
    (16, (4,))
    >>> make("oneshot", max_experts=1)[0].num_actions
    5
    """
    start_jax()
    from jaxmoe.env.edge_experts import EdgeExperts  # imports gymnax, whose import starts JAX

    name = scenario_named(scenario)
    table = given_table(table)
    chosen = _for_experts(settings_of(name, settings), table.num_experts)
    _require_complete(table, chosen.max_experts)
    chosen_prompts = table.prompt_indices(split).tolist()
    others = sorted(set(range(table.num_prompts)) - set(chosen_prompts))
    defaults = EnvParams(
        table=jax.tree.map(jnp.asarray, table),
        prompts=jnp.asarray([*chosen_prompts, *others]),
        num_prompts=len(chosen_prompts),
        words_hat=jnp.asarray(table.expected_words()),
        num_replicas=chosen.num_replicas,
    )
    own, drawn = as_said(defaults, SCENARIOS[name][1] | mapping(params, "params"))
    down = limits_of("device_up_probability", own, drawn)[0] < 1
    masked = chosen.masked if "masked" in settings else chosen.masked or down
    return EdgeExperts(replace(chosen, drawn=drawn, masked=masked)), own


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


def as_said(params: EnvParams, numbers: Mapping[str, Any]) -> tuple[EnvParams, tuple[Drawn, ...]]:
    """Params with numbers as `make` takes them, and those that each episode draws anew, in the order of `NUMBERS`.

    Raises:
        InputError: an unknown name, or something that the number cannot be.
    """
    drawn = {}
    for name, value in numbers.items():
        _require_known(name)
        if isinstance(value, Mapping):
            size = params.table.num_experts, params.num_replicas
            drawn[name] = parse_drawn(name, value, ABOUT_NUMBERS[name], *size)
    fixed = params.replace(**{name: value for name, value in numbers.items() if name not in drawn})
    for low, high in ORDERED:
        largest, least = (limits_of(name, fixed, drawn.values())[end] for name, end in ((low, 1), (high, 0)))
        if (low in drawn or high in drawn) and largest > least:  # `replace` compares those that are not drawn
            raise InputError(f"parameter {low} can be {largest:g}, which is above {high} = {least:g}")
    means = {name: each.mean() for name, each in drawn.items()}
    expected = {name: np.array(mean, np.float32) if isinstance(mean, tuple) else mean for name, mean in means.items()}
    return by_episode(fixed, expected), tuple(drawn[name] for name in NUMBERS if name in drawn)


def with_numbers(params: EnvParams, numbers: Mapping[str, Any]) -> EnvParams:
    """`params.replace` of numbers that a user has passed, arrays and tuples as lists.

    Raises:
        InputError: an unknown name, or something that is not a number in its limits.
    """
    said = mapping(numbers, "params")
    for name in said:
        _require_known(name)
    return params.replace(**said)


def _require_known(name: str) -> None:
    if name not in NUMBERS:
        raise InputError(f"unknown parameter {short(name)}; choose among {', '.join(NUMBERS)}")


def _sound(name: str, value: Any) -> Any:
    """A number as a scenario has it, whatever the number of experts will be."""
    _require_known(name)
    if isinstance(value, Mapping):
        listed = [each for said in value.values() if isinstance(said, Mapping) for each in said.values()]
        lengths = [len(each) for each in itertools.chain.from_iterable(filter(_is_list, listed)) if _is_list(each)]
        return parse_drawn(name, value, ABOUT_NUMBERS[name], lengths[0] if lengths else 1, 1).as_data()
    number = parse_number(name, value, ABOUT_NUMBERS[name], len(value) if _is_list(value) else 1, 1)
    return list(number) if isinstance(number, tuple) else number


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


_ALLOWED_SETTINGS: dict[str, tuple[Any, ...]] = {
    "num_replicas": tuple(range(1, 9)),
    "channel": ("uniform", "link_budget"),
    "fading": ("none", "rayleigh", "rician"),
    "sharing": ("own", "shared"),
    "csi_delay": (0, 1),
    "observe_words": ("mean", "true"),
    "one_slot": (False, True),
    "masked": (False, True),
    "max_experts": tuple(range(1, 65)),
}
_ALLOWED_IN_WORDS = {"max_experts": "a whole number from 1 to 64, or leave it out"}


def _checked_settings(settings: dict[str, Any]) -> dict[str, Any]:
    for name, value in settings.items():
        if name not in _ALLOWED_SETTINGS:
            raise InputError(f"unknown setting {short(name)}; choose among {', '.join(_ALLOWED_SETTINGS)}")
        if not any(type(value) is type(option) and value == option for option in _ALLOWED_SETTINGS[name]):
            allowed = _ALLOWED_IN_WORDS.get(name, f"one of {', '.join(map(repr, _ALLOWED_SETTINGS[name]))}")
            raise InputError(f"setting {name} = {short(value)} is not allowed; choose {allowed}")
    return settings


assert set(ABOUT_SETTINGS) == set(_ALLOWED_SETTINGS)

register_scenario("oneshot", {}, {})
register_scenario(
    "fading", {"channel": "link_budget", "fading": "rayleigh", "csi_delay": 1, "one_slot": False}, _FADING
)
register_scenario(
    "queueing", {"channel": "link_budget", "fading": "rician", "csi_delay": 1, "one_slot": False}, _QUEUEING
)
