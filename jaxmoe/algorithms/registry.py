"""The algorithms that can be trained, ours and anybody's: each is registered by the module that has it."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from jaxmoe.errors import InputError, require_name
from jaxmoe.names import short

Preferences = Literal["logits", "action_values"]


class Registered(NamedTuple):
    """What is known of an algorithm before it is bound to an environment."""

    name: str
    make: Callable[..., Any]  # (env, config, env_params) -> Algorithm
    Hypers: Any
    Config: Any
    preferences: Preferences
    summary: str
    speeds: Mapping[str, float]  # env steps per second of one device with many agents, by platform
    memory_factor: float | None  # memory of a batch in training over its agents' states


_ALGORITHMS: dict[str, Registered] = {}


def register_algorithm(
    name: str,
    make: Callable[..., Any],
    Hypers: Any,
    Config: Any,
    *,
    preferences: Preferences = "logits",
    summary: str = "",
    speeds: Mapping[str, float] | None = None,
    memory_factor: float | None = None,
) -> None:
    """Let an algorithm be trained, swept, reported and exported under a name.

    Args:
        name: as specs and commands say it: a letter, then letters, digits or `_`.
        make: `make(env, config, env_params)` gives an `Algorithm`, bound to a gymnax environment.
        Hypers: NamedTuple of numbers that may differ from agent to agent, with defaults; each is annotated with
            `About`, its meaning and its limits.
        Config: frozen dataclass of what shapes the compiled program, annotated in the same way.
        preferences: what the acting network puts out: "logits" of probabilities, or "action_values".
        summary: one sentence for the command line.
        speeds: env steps per second of one device by platform ("cpu", "gpu", "tpu"), from which jobs get their sizes;
            without it those of the slowest that is known.
        memory_factor: memory that training a batch takes over that of its agents' states, on any platform; without it
            the largest that is known.

    Raises:
        InputError: the name is taken, or is no name.

    >>> register_algorithm("ppo", make=None, Hypers=None, Config=None)
    Traceback (most recent call last):
        ...
    jaxmoe.errors.InputError: an algorithm named 'ppo' is registered already
    """
    require_name(name, "an algorithm", _ALGORITHMS)
    if name in _ALGORITHMS:
        raise InputError(f"an algorithm named {short(name)} is registered already")
    _ALGORITHMS[name] = Registered(
        name, make, Hypers, Config, preferences, summary or f"Train {name.upper()} agents.", speeds or {}, memory_factor
    )


def registered_algorithms() -> tuple[str, ...]:
    """Their names, in the order in which they were registered."""
    return tuple(_ALGORITHMS)


def registered_algorithm(name: str) -> Registered:
    """The algorithm of a name. Raises `InputError` where there is none."""
    if name not in _ALGORITHMS:
        raise InputError(f"unknown algorithm {short(name)}; choose one of {', '.join(_ALGORITHMS)}")
    return _ALGORITHMS[name]


def speed(name: str, platform: str) -> float:
    """Env steps per second of one device; of an algorithm that says none, those of the slowest."""
    known = [each.speeds[platform] for each in _ALGORITHMS.values() if platform in each.speeds]
    return registered_algorithm(name).speeds.get(platform, min(known))


def memory_factor(name: str) -> float:
    """Memory of a batch in training over its agents' states; of an algorithm that says none, the largest."""
    known = [each.memory_factor for each in _ALGORITHMS.values() if each.memory_factor]
    return registered_algorithm(name).memory_factor or max(known)
