"""Going on from an exported policy: what it was trained in and with holds on, unless the spec says otherwise."""

from collections.abc import Mapping
from typing import Any

from jaxmoe.algorithms.registry import registered_algorithm, registered_algorithms
from jaxmoe.env.exported import training_environment
from jaxmoe.env.scenarios import NUMBERS, SCENARIOS
from jaxmoe.errors import InputError
from jaxmoe.experiment.search import is_section, shown
from jaxmoe.experiment.spec import Spec
from jaxmoe.names import short
from jaxmoe.policy.bundle import read_bundle


def with_policy(spec: Spec) -> tuple[Spec, str]:
    """A spec with what its policy brings, and a sentence that says what was taken; as it is, if it has none.

    Scenario, params, settings, hypers and config are taken where the spec says nothing of them. Params and settings
    belong to a scenario, and hypers and config to an algorithm: where the spec says another one, none are taken.
    """
    if spec.init_from is None:
        return spec, ""
    contract = read_bundle(spec.init_from).contract
    home = training_environment(contract)
    change: dict[str, Any] = {}
    said = []
    if "scenario" not in spec.model_fields_set and home.scenario in SCENARIOS:
        change["scenario"] = [home.scenario]
        said.append(f"scenario = {home.scenario}")
    brought: dict[str, dict[str, Any]] = {}
    if change.get("scenario", spec.scenario) == [home.scenario]:
        base, numbers = SCENARIOS[home.scenario]
        brought["params"] = _differing(home.params, NUMBERS | numbers)
        brought["settings"] = _differing(home.settings, vars(base))
    if spec.algorithm == [contract.algorithm] and contract.algorithm in registered_algorithms():
        module = registered_algorithm(contract.algorithm)
        brought["hypers"] = _differing(contract.hypers, module.Hypers()._asdict())
        brought["config"] = _differing(contract.config, vars(module.Config()))
    for section, values in brought.items():
        _require_single(section, values, spec.init_from)
        told = getattr(spec, section)
        owners = (contract.algorithm, home.scenario)
        own = [told, *(told[name] for name in owners if is_section(name, told.get(name), owners))]
        new = {name: value for name, value in values.items() if not any(name in each for each in own)}
        change[section] = new | told
        said += [f"{section}.{name} = {shown(value)}" for name, value in new.items()]
    taken = f"taken from it: {', '.join(said)}" if said else "nothing is taken from it but its weights"
    return spec.model_copy(update=change), f"going on from {spec.init_from}; {taken}"


def algorithm_of(path: str) -> str:
    """The algorithm of an exported policy."""
    return read_bundle(path).contract.algorithm


def _require_single(section: str, values: Mapping[str, Any], source: str) -> None:
    """Refuse what a spec would take for several values: a policy was trained with one of each."""
    for name, value in values.items():
        numbers = isinstance(value, list) and not any(isinstance(each, list | Mapping) for each in value)
        drawn = isinstance(value, Mapping) and set(value) <= {"each_episode", "observed"}
        several = {"hypers": isinstance(value, list | Mapping), "params": not (numbers or drawn)}
        if isinstance(value, list | Mapping) and several.get(section, not numbers or name != "hidden"):
            raise InputError(f"{source} says {section}.{name} = {short(value)}, and a policy has one value of each")


def _differing(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not the defaults, as a spec has them; names that this version does not know are left out."""
    return {
        name: value
        for name, value in values.items()
        if name in defaults and value != (list(defaults[name]) if isinstance(defaults[name], tuple) else defaults[name])
    }
