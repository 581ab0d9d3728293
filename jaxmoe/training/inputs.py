"""What a user says about a training run, checked where it enters: each error names the value and what is allowed."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jaxmoe.algorithms.algorithm import About, about
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.env.params import EnvParams
from jaxmoe.env.scenarios import make, settings_of
from jaxmoe.errors import InputError
from jaxmoe.names import short
from jaxmoe.table import ExpertTable
from jaxmoe.table.splits import SPLITS
from jaxmoe.values import MOST, MOST_AGENTS, count, mapping, plain, seed

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts


LAYERS = 64  # numbers of a list in a configuration, at most
LARGEST = 3e38  # number in single precision, about


def list_keys(algorithm: str) -> set[str]:
    """Keys of an algorithm's `Config` whose value is itself a list."""
    config = registered_algorithm(algorithm).Config()
    return {name for name, value in vars(config).items() if isinstance(value, tuple)}


def checked_hypers(make_hypers: Any, values: Mapping[str, Any]) -> Any:
    """The algorithm's `Hypers` with these values."""
    allowed = about(make_hypers)
    chosen = {name: hyper(make_hypers, name, plain(value, name)) for name, value in values.items()}
    for name, value in chosen.items():
        _require_known("hyperparameter", name, allowed)
        _require_number("hyperparameter", name, value, allowed[name])
    return make_hypers(**chosen)


def hyper(make_hypers: Any, name: str, value: Any) -> Any:
    """The value of a hyperparameter as a number, where it is one that is true or false."""
    boolean = isinstance(value, bool) and name in about(make_hypers) and about(make_hypers)[name].boolean
    return float(value) if boolean else value


def checked_config(make_config: Any, values: Mapping[str, Any]) -> Any:
    """The algorithm's `Config` with these values; lists count as tuples."""
    allowed = about(make_config)
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(make_config)}
    chosen = {name: _unlisted(plain(value, name)) for name, value in values.items()}
    for name, value in chosen.items():
        _require_known("configuration", name, allowed)
        wanted = type(defaults[name])
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise InputError(
                f"configuration {name} = {short(value)} is not of the kind of its default, {defaults[name]!r}"
            )
        numbers = value if wanted is tuple else (value,)
        if len(numbers) > LAYERS:
            raise InputError(f"configuration {name} has {len(numbers):,} numbers; at most {LAYERS} are allowed")
        if wanted is not str:
            for number in numbers:
                _require_number("configuration", name, number, allowed[name], whole=True)
    return make_config(**chosen)


def plain_seeds(seeds: Any) -> int | list[int]:
    """How many seeds, from 0 on, or these, as a spec has them; of a number, a range, an array or an iterable."""
    given = plain(seeds, "seeds")
    if not isinstance(given, list):
        return count(given, "seeds", MOST_AGENTS)
    listed = [seed(each, "seeds = [...]") for each in given]
    if not listed or len(set(listed)) < len(listed):
        raise InputError(f"seeds = {short(listed)} must be different numbers, at least one")
    return listed


def seed_list(seeds: Any) -> list[int]:
    """The agents' seeds: so many from 0 on, or these."""
    found = plain_seeds(seeds)
    return found if isinstance(found, list) else list(range(found))


def environments(
    scenario: str, table: ExpertTable, settings: Mapping[str, Any], params: Mapping[str, Any]
) -> "tuple[EdgeExperts, dict[str, EnvParams]]":
    """The environment, and its parameters for each split that the table has."""
    settings, params = mapping(settings, "settings"), mapping(params, "params")
    present = [split for split in SPLITS if split in table.meta.splits]
    if "train" not in present:
        raise InputError("the table has no train prompts, and agents are trained on these; mark some as train")
    settings_of(scenario, settings)  # or an argument of `make` would pass for a setting
    made = {split: make(scenario, table, split, params, **settings) for split in present}
    return made["train"][0], {split: params for split, (_, params) in made.items()}


def _unlisted(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _require_known(kind: str, name: str, allowed: Iterable[str]) -> None:
    if name not in allowed:
        raise InputError(f"unknown {kind} {short(name)}; choose among {', '.join(allowed)}")


def _require_number(kind: str, name: str, value: Any, limits: About, whole: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value):
        raise InputError(f"{kind} {name} = {short(value)} is not a {'whole' if whole else 'finite'} number")
    if limits.boolean and value not in (0, 1):
        raise InputError(f"{kind} {name} = {short(value)} must be true or false")
    if abs(value) > LARGEST:
        raise InputError(f"{kind} {name} = {short(value)} is not a number of single precision")
    if limits.whole and value != int(value):
        raise InputError(f"{kind} {name} = {short(value)} must be a whole number")
    high = min(limits.high, MOST) if whole or limits.whole else limits.high
    if not limits.low <= value <= high:
        allowed = f"at least {limits.low:g}" if value < limits.low else f"at most {high:,}"
        if limits.high < math.inf:
            allowed = f"from {limits.low:g} to {high:,.10g}"
        raise InputError(f"{kind} {name} = {short(value)} must be {allowed}")


def require_times(time_budget_s: float | None, checkpoint_every_s: float) -> None:
    """Refuse times that run backwards, and what is no time."""
    for name, value in (("time_budget_s", time_budget_s), ("checkpoint_every_s", checkpoint_every_s)):
        number = plain(value, name)
        if number is None and name == "time_budget_s":
            continue
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InputError(f"{name} = {short(value)} is not a number of seconds")
        if not number >= 0:
            raise InputError(f"{name} = {short(value)} must be at least 0")
