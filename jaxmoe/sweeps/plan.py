"""Who is trained in a sweep, and with whom: agents, programs, chunks, and the environments of the references.

Agents whose configurations differ only in numbers share a compiled program. A chunk is what is trained, and stored,
together: agents of one program.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxmoe.errors import InputError
from jaxmoe.sweeps.engine import Agents
from jaxmoe.sweeps.inputs import algorithm_module, checked_config, checked_hypers, seed_list
from jaxmoe.sweeps.space import Configuration, configurations
from jaxmoe.sweeps.spec import SweepSpec
from jaxmoe.table import ExpertTable


@dataclass(frozen=True, order=True)
class Shard:
    """Every n-th agent and every n-th environment, from the i-th on."""

    index: int = 0
    count: int = 1

    def of(self, items: Sequence[int]) -> list[int]:
        """What of the items belongs to the shard."""
        return [item for item in items if item % self.count == self.index]

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """The shard `i/n`, i from 0 to n - 1.

    >>> parse_shard("0/4")
    Shard(index=0, count=4)
    """
    index, slash, count = text.partition("/")
    if not slash or not index.isdigit() or not count.isdigit() or not int(index) < int(count):
        raise InputError(f"--shard {text!r} is not of the form i/n with i from 0 to n - 1, as in 0/4")
    return Shard(int(index), int(count))


@dataclass(frozen=True)
class Group:
    """Agents that share a compiled program."""

    number: int
    algorithm: str
    scenario: str
    config: dict[str, Any]  # complete
    settings: dict[str, Any]
    static_numbers: dict[str, float]
    said: dict[str, Any]  # what of all this the spec says
    agents: list[int]
    overrides: tuple[str, ...]  # numbers of the scenario that the agents have of their own

    def __str__(self) -> str:
        said = [f"{name} = {_cell(value)}" for name, value in self.said.items()]
        return f"{self.algorithm} in {self.scenario}" + (f" ({', '.join(said)})" if said else "")


class Place(NamedTuple):
    """An environment of the sweep: references are evaluated once in each."""

    scenario: str
    settings: dict[str, Any]
    params: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """All agents of a sweep; the same whichever shard is asked for."""

    spec: SweepSpec
    configurations: list[Configuration]
    configuration_of: list[int]  # of each agent
    seed_of: list[int]  # of each agent
    groups: list[Group]
    places: list[Place]
    place_of: list[int]  # of each configuration

    @property
    def num_agents(self) -> int:
        """How many agents there are."""
        return len(self.seed_of)

    @property
    def varied(self) -> list[str]:
        """Columns of `table` in which configurations differ, beside algorithm and scenario."""
        each = self.table().drop_duplicates("configuration")
        own = {"agent", "configuration", "seed", "algorithm", "scenario", "environment"}
        return [str(name) for name in each if name not in own and len(set(each[name].dropna())) > 1]

    def agents(self, group: Group, numbers: Sequence[int]) -> Agents:
        """Some agents of a group, as the engine takes them."""
        make_hypers = algorithm_module(group.algorithm).Hypers
        points = [self.configurations[self.configuration_of[number]] for number in numbers]
        hypers = [checked_hypers(make_hypers, point.hypers) for point in points]
        return Agents(
            jnp.array([self.seed_of[number] for number in numbers], jnp.int32),
            jax.tree.map(lambda *values: jnp.array(values, jnp.float32), *hypers),
            {name: jnp.array([point.params[name] for point in points], jnp.float32) for name in group.overrides},
        )

    def table(self) -> pd.DataFrame:
        """One row per agent: what it is, with every hyperparameter, and what the spec says of the rest."""
        rows = []
        for number, point in enumerate(self.configurations):
            hypers = algorithm_module(point.algorithm).Hypers()._asdict() | point.hypers
            said = {**point.config, **point.params, **point.settings}
            row = {"configuration": number, "algorithm": point.algorithm, "scenario": point.scenario}
            row |= {"environment": self.place_of[number]} | {name: float(value) for name, value in hypers.items()}
            rows.append(row | {name: _cell(value) for name, value in said.items()})
        of = pd.DataFrame(rows).iloc[self.configuration_of].reset_index(drop=True)
        of.insert(0, "agent", np.arange(self.num_agents))
        of.insert(2, "seed", self.seed_of)
        return of


def make_plan(spec: SweepSpec, table: ExpertTable) -> Plan:
    """Check a spec and number its agents: configuration by configuration, seed by seed."""
    points, seeds = configurations(spec, table), seed_list(spec.seeds)
    configuration_of = [number for number in range(len(points)) for _ in seeds]
    places = {_key(place := _place(point)): place for point in points}
    numbers = {key: number for number, key in enumerate(places)}
    members: dict[str, list[int]] = {}
    for agent, configuration in enumerate(configuration_of):
        members.setdefault(_key(_signature(points[configuration])), []).append(agent)
    return Plan(
        spec=spec,
        configurations=points,
        configuration_of=configuration_of,
        seed_of=seeds * len(points),
        groups=[
            _group(number, points[configuration_of[agents[0]]], agents)
            for number, agents in enumerate(members.values())
        ],
        places=list(places.values()),
        place_of=[numbers[_key(_place(point))] for point in points],
    )


def _place(point: Configuration) -> Place:
    return Place(point.scenario, point.settings, point.params)


def _signature(point: Configuration) -> tuple[Any, ...]:
    """What shapes the program that trains a configuration."""
    return point.algorithm, point.scenario, _complete_config(point), point.settings, point.static_numbers()


def _group(number: int, point: Configuration, agents: list[int]) -> Group:
    return Group(
        number=number,
        algorithm=point.algorithm,
        scenario=point.scenario,
        config=_complete_config(point),
        settings=point.settings,
        static_numbers=point.static_numbers(),
        said={**point.config, **point.settings, **point.static_numbers()},
        agents=agents,
        overrides=tuple(point.numbers()),
    )


def _complete_config(point: Configuration) -> dict[str, Any]:
    return asdict(checked_config(algorithm_module(point.algorithm).Config, point.config))


def _cell(value: Any) -> Any:
    """A value as it stands in a table: widths as `64,64`."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else value


def _key(what: Any) -> str:
    return json.dumps(what, sort_keys=True)
