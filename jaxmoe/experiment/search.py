"""From the axes of a spec to points: all of a grid, or samples of a box.

A random point depends on its number and on the names of its axes alone, so that more samples, or another order
of the axes, change none. Sobol points (Owen's scrambling) cover the box evenly; more samples change no earlier one.
"""

import itertools
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxmoe.algorithms.registry import registered_algorithm, registered_algorithms
from jaxmoe.env.params import ABOUT_NUMBERS, ABOUT_SETTINGS
from jaxmoe.env.scenarios import NUMBERS, SCENARIOS, as_said, make, settings_of
from jaxmoe.errors import InputError
from jaxmoe.experiment.spec import VALUES, Spec
from jaxmoe.names import short
from jaxmoe.table import ExpertTable
from jaxmoe.training.inputs import checked_config, checked_hypers, hyper, list_keys
from jaxmoe.values import MOST_AGENTS

STATIC_NUMBERS = frozenset(name for name, default in NUMBERS.items() if isinstance(default, int))
MOST_EVALUATED = 2**24  # evaluations of all agents together, a row each of their curves
_RANGES = ("uniform", "log_uniform")


@dataclass(frozen=True)
class Point:
    """A configuration in an environment: what the spec says of them, and nothing that it leaves at its default."""

    algorithm: str
    scenario: str
    hypers: dict[str, float]
    config: dict[str, Any]
    params: dict[str, Any]
    settings: dict[str, Any]
    sample: int  # its number in the search of its algorithm and scenario

    def numbers(self) -> dict[str, Any]:
        """Numbers of the scenario, or devices' lists, that may differ from agent to agent of one program."""
        return {name: value for name, value in self.params.items() if not _is_static(name, value)}

    def static_numbers(self) -> dict[str, Any]:
        """Numbers of the scenario that shape a program, and how those are drawn that episodes draw."""
        return {name: value for name, value in self.params.items() if _is_static(name, value)}


def _is_static(name: str, value: Any) -> bool:
    return name in STATIC_NUMBERS or isinstance(value, Mapping)


class _Section(NamedTuple):
    """A value that is itself a section, as an axis can hold it."""

    text: str

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "_Section":
        """From what a spec says."""
        return cls(json.dumps(value))

    def data(self) -> dict[str, Any]:
        """What the spec has said."""
        found: dict[str, Any] = json.loads(self.text)
        return found


class Axis(NamedTuple):
    """The values of one key: one, several, or a range."""

    section: str
    name: str
    values: tuple[Any, ...]
    range: str | None = None  # of `_RANGES`; then the values are its ends

    @property
    def key(self) -> str:
        """As the spec names it."""
        return f"{self.section}.{self.name}"

    @property
    def is_open(self) -> bool:
        """Whether it varies."""
        return self.range is not None or len(self.values) > 1

    def __str__(self) -> str:
        texts = [shown(value) for value in self.values]
        return f"{self.key}: " + (f"{self.range} from {' to '.join(texts)}" if self.range else ", ".join(texts))

    def at(self, share: float) -> Any:
        """The value at a share from 0 to 1 of the axis.

        >>> Axis("hypers", "clip", (1e-4, 1e-2), "log_uniform").at(0.5)
        0.001
        >>> Axis("hypers", "clip", (0.1, 0.2, 0.3)).at(0.5)
        0.2
        """
        if self.range is None:
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        low, high = self.values
        if self.range == "uniform":
            return low + share * (high - low)
        return float(f"{math.exp(math.log(low) + share * (math.log(high) - math.log(low))):.12g}")


def open_axes(spec: Spec, algorithm: str, scenario: str) -> list[Axis]:
    """The keys that vary in an algorithm and a scenario."""
    return [axis for axis in _axes(spec, algorithm, scenario) if axis.is_open]


def points(spec: Spec, table: ExpertTable) -> list[Point]:
    """All points of a spec, each checked.

    Raises:
        InputError: an unknown name, a value that is not allowed, or axes that do not suit the search.
    """
    for name in spec.algorithm:
        registered_algorithm(name)
    for section in ("hypers", "config"):
        _require_used(section, getattr(spec, section), registered_algorithms(), spec.algorithm)
    for section in ("params", "settings"):
        _require_used(section, getattr(spec, section), SCENARIOS, spec.scenario)
    every = {each: _axes(spec, *each) for each in itertools.product(spec.algorithm, spec.scenario)}
    seeds = spec.seeds if isinstance(spec.seeds, int) else len(spec.seeds)
    require_few(seeds * sum(_count(spec, axes) for axes in every.values()), spec.evaluations)
    found: list[Point] = []
    for (algorithm, scenario), axes in every.items():
        own = [
            Point(
                algorithm,
                scenario,
                **{name: _of(point, name) for name in ("hypers", "config", "params", "settings")},
                sample=number,
            )
            for number, point in enumerate(_points(spec, axes))
        ]
        for axis in axes:
            for value in axis.values if axis.section == "hypers" else ():  # whichever of them are sampled
                checked_hypers(registered_algorithm(algorithm).Hypers, {axis.name: value})
        _check(own, table)
        found += own
    return found


def _axes(spec: Spec, algorithm: str, scenario: str) -> list[Axis]:
    make_hypers, listed = registered_algorithm(algorithm).Hypers, list_keys(algorithm)
    axes = []
    for section, owner in (("hypers", algorithm), ("config", algorithm), ("params", scenario), ("settings", scenario)):
        entries = getattr(spec, section)
        owners = spec.algorithm if owner == algorithm else spec.scenario
        common = {name: value for name, value in entries.items() if not is_section(name, value, owners)}
        own = entries[owner] if is_section(owner, entries.get(owner), owners) else {}
        for name, value in (common | own).items():
            if section == "hypers":
                value = _numbers(make_hypers, name, value)
            by_device = section == "params" and name in ABOUT_NUMBERS and ABOUT_NUMBERS[name].by_device
            axes.append(_axis(section, name, value, wide=by_device or (section == "config" and name in listed)))
    for axis in axes:
        if axis.range and (axis.section in ("config", "settings") or axis.name in STATIC_NUMBERS):
            raise InputError(f"{axis.key} shapes the compiled program and takes no range; give a list of values")
    return axes


def _numbers(make_hypers: Any, name: str, value: Any) -> Any:
    """What is said of a hyperparameter, true and false as the numbers that they stand for, where they do."""
    if isinstance(value, Mapping):
        return {kind: _numbers(make_hypers, name, entry) for kind, entry in value.items()}
    if isinstance(value, list):
        return [hyper(make_hypers, name, entry) for entry in value]
    return hyper(make_hypers, name, value)


def _axis(section: str, name: str, value: Any, wide: bool) -> Axis:
    """An axis from what the spec says; where `wide`, a value may itself be a list, and a plain list is one value."""
    key = f"{section}.{name}"
    if section == "params" and isinstance(value, Mapping) and "each_episode" in value:
        return Axis(section, name, (_Section.of(value),))
    if isinstance(value, Mapping):
        kinds = ("grid", *_RANGES)
        if len(value) != 1 or next(iter(value)) not in kinds:
            raise InputError(
                f"{key} = {short(dict(value))} is not an axis; write one of {', '.join(kinds)}, as in "
                "{ grid = [1, 2] }"
            )
        [(kind, ends)] = value.items()
        if kind in _RANGES:
            return Axis(section, name, _range(key, kind, ends), kind)
        value = ends
        if not isinstance(value, list):
            raise InputError(f"{key} = {{ grid = {short(value)} }} is not a list of values")
    elif not isinstance(value, list) or (wide and not any(isinstance(entry, list | Mapping) for entry in value)):
        return Axis(section, name, (tuple(value) if isinstance(value, list) else value,))
    if wide and section == "config" and not all(isinstance(entry, list) for entry in value):
        raise InputError(
            f"{key} = {{ grid = {short(value)} }}: each of its values is itself a list, as in "
            "{ grid = [[16], [64, 64]] }"
        )
    values = tuple(_one_value(section, entry) for entry in value)
    if any(
        isinstance(part, list | Mapping) for entry in values for part in (entry if type(entry) is tuple else [entry])
    ):
        raise InputError(f"{key} = {short(value)} holds a value that is neither a number, a word nor a list of these")
    if not values:
        raise InputError(f"{key} = [] is an empty grid; give at least one value")
    if len({(type(entry), entry) for entry in values}) < len(values):
        raise InputError(f"{key} = {short(value)} holds a value twice")
    return Axis(section, name, values)


def _one_value(section: str, entry: Any) -> Any:
    """A value of a grid, such that it can be told from others."""
    if isinstance(entry, list):
        return tuple(entry)
    return _Section.of(entry) if section == "params" and isinstance(entry, Mapping) else entry


def _range(key: str, kind: str, ends: Any) -> tuple[float, float]:
    numbers = isinstance(ends, list) and all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if not numbers or len(ends) != 2 or not ends[0] < ends[1]:
        raise InputError(
            f"{key} = {{ {kind} = {short(ends)} }} is not a range; give its lower and upper end, as in [0.1, 1.0]"
        )
    if kind == "log_uniform" and ends[0] <= 0:
        raise InputError(f"{key} = {{ log_uniform = {short(ends)} }} must begin above 0")
    return float(ends[0]), float(ends[1])


def require_few(agents: int, evaluations: int = 1) -> None:
    """Refuse more agents, or more points of their curves, than one experiment can plan and hold in its tables."""
    for number, most, what in (
        (agents, MOST_AGENTS, "agents"),
        (agents * evaluations, MOST_EVALUATED, "evaluations of all agents"),
    ):
        if number > most:
            said = f"{number:,}" if number < 10**15 else f"more than 10^{int(math.log10(number))}"
            raise InputError(
                f"the spec asks for {said} {what}, and an experiment has at most {most:,}; give fewer seeds, samples, "
                "values or evaluations, or make several experiments, which jaxmoe compare sets side by side"
            )


def _count(spec: Spec, axes: list[Axis]) -> int:
    """How many points a search has."""
    if spec.search.method == "grid":
        return math.prod(len(axis.values) for axis in axes if not axis.range)
    return spec.search.samples or 0


def _points(spec: Spec, axes: list[Axis]) -> list[dict[Axis, Any]]:
    search, varying = spec.search, [axis for axis in axes if axis.is_open]
    if search.method == "grid":
        if search.samples is not None:
            raise InputError("search.samples is for method = 'random' or 'sobol'; a grid has all its points")
        for axis in varying:
            if axis.range:
                raise InputError(
                    f"{axis.key} is a range, and search.method = 'grid' needs lists; or choose random or sobol"
                )
        return [dict(zip(axes, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))]
    if search.samples is None:
        raise InputError(f"search.method = {search.method!r} needs search.samples, the number of configurations")
    if not varying:
        raise InputError(f"search.method = {search.method!r} has no axis to sample; make a key a range or a list")
    shares = _random_shares if search.method == "random" else _sobol_shares
    fixed = {axis: axis.values[0] for axis in axes if axis not in varying}
    names = sorted(axis.key for axis in varying)
    drawn = dict(zip(names, shares(names, search.samples, search.seed).T, strict=True))
    return [
        fixed | {axis: axis.at(float(drawn[axis.key][number])) for axis in varying} for number in range(search.samples)
    ]


def _random_shares(names: list[str], samples: int, seed: int) -> np.ndarray:
    return np.array(
        [
            [np.random.default_rng([seed, number, zlib.crc32(name.encode())]).random() for name in names]
            for number in range(samples)
        ]
    )


def _sobol_shares(names: list[str], samples: int, seed: int) -> np.ndarray:
    from scipy.stats import qmc

    return qmc.Sobol(len(names), rng=seed).random_base2((samples - 1).bit_length())[:samples]


def shown(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, _Section):
        return shown(value.data())
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {shown(entry)}' for name, entry in value.items())} }}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of(point: Mapping[Axis, Any], section: str) -> dict[str, Any]:
    return {axis.name: _as_said(section, value) for axis, value in point.items() if axis.section == section}


def _as_said(section: str, value: Any) -> Any:
    """A value as a spec has it; lists of a configuration are tuples, as algorithms have them."""
    if isinstance(value, _Section):
        return value.data()
    return list(value) if section == "params" and isinstance(value, tuple) else value


def _check(points: list[Point], table: ExpertTable) -> None:
    """Check every value; what many points share is checked once."""
    module = registered_algorithm(points[0].algorithm)
    seen: set[str] = set()
    for point in points:
        if repr(point.config) not in seen:
            checked_config(module.Config, point.config)
        if repr(point.settings) not in seen:
            settings_of(point.scenario, point.settings)  # or an argument of `make` would pass for a setting
            _, numbers = make(point.scenario, table, **point.settings)
        checked_hypers(module.Hypers, point.hypers)
        if repr(point.params) not in seen:
            as_said(numbers, point.params)
        seen |= {repr(point.config), repr(point.settings), repr(point.params)}


def is_section(name: str, value: Any, owners: Iterable[str]) -> bool:
    """Whether an entry holds what is one owner's alone; a setting and a scenario may have the same name, `fading`.

    >>> is_section("fading", {"sharing": "own"}, ["fading"]), is_section("fading", {"grid": ["none"]}, ["fading"])
    (True, False)
    """
    return name in owners and isinstance(value, Mapping) and VALUES.isdisjoint(value)


def _require_used(section: str, entries: Mapping[str, Any], known: Iterable[str], used: Iterable[str]) -> None:
    for name, value in entries.items():
        if is_section(name, value, known) and name not in used:
            raise InputError(f"[{section}.{name}] is there, but the spec uses only {', '.join(used)}")
        if name in known and not isinstance(value, Mapping) and not (section == "settings" and name in ABOUT_SETTINGS):
            raise InputError(
                f"{section}.{name} = {short(entries[name])} is no section; write [{section}.{name}], keys below it"
            )
