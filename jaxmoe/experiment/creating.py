"""An experiment in its folder, or in memory: planned, or found as an earlier call has left it."""

import json
import os
from typing import Any

import jax
import psutil

from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.devices import start_jax
from jaxmoe.env.scenarios import scenarios_as_data
from jaxmoe.errors import InputError
from jaxmoe.experiment import folder, locations, plan
from jaxmoe.experiment.rounds import Machine, Round, Settled
from jaxmoe.experiment.spec import Spec
from jaxmoe.plugins import Plugin, load_plugins
from jaxmoe.table import ExpertTable
from jaxmoe.training.inputs import checked_config, environments
from jaxmoe.training.job import Job
from jaxmoe.training.starting import read_start
from jaxmoe.training.storage import Memory, Storage


def create(
    spec: Spec, table: ExpertTable, out: str | os.PathLike[str] | None = None, machine: Machine | None = None
) -> Storage:
    """Plan the experiment of a spec, or find it planned; nothing is trained.

    Args:
        spec: what is asked for.
        table: what the experts write.
        out: folder or address; in memory if absent.
        machine: what it is planned for; this one if absent.

    Raises:
        InputError: the spec asks for something that is not there, or the folder holds something else.
    """
    start_jax()
    plugins = load_plugins(spec.plugins)
    members = plan.members(spec, table)
    plan.check_spec(spec, members, table)
    start = None if spec.init_from is None else _start(spec, members, table)
    machine = machine or this_machine(spec)
    storage: Storage = Memory()

    def new() -> tuple[Settled, Round]:
        keep = spec.keep_states if isinstance(spec.keep_states, bool) else plan.states_fit(spec, members, table)
        settled = _settled(spec, machine, table, keep, plugins, start)
        return settled, plan.first_round(settled, members)

    planned = None if out is not None and locations.is_there(out) else new()  # or it is refused before a folder is made
    if out is not None:
        storage, holds = locations.open_location(out)
        if holds:
            _require_same(storage, spec, table, plugins, start)
            return _planned(storage, spec, machine, table, members, plugins, start)
    settled, first = planned or new()
    if out is not None:
        locations.require_space(storage, _bytes_of_a_job(first, spec, table))
    if folder.begin(storage, settled, scenarios_as_data(spec.scenario), plugins, start):
        folder.write_round(storage, first)
        return storage
    _require_same(storage, spec, table, plugins, start)  # another process may have begun another one meanwhile
    return _planned(storage, spec, machine, table, members, plugins, start)


def _require_same(
    storage: Storage, spec: Spec, table: ExpertTable, plugins: list[Plugin], start: dict[str, Any] | None
) -> None:
    """Refuse to go on in the folder of another experiment."""
    folder.require_same(storage, spec, table, plugins, start)
    if json.loads(json.dumps(scenarios_as_data(spec.scenario))) != folder.read_about(storage)["scenarios"]:
        raise InputError(
            f"{storage.where} was begun with other numbers or settings of {', '.join(spec.scenario)}; choose another "
            "output folder"
        )


def _settled(
    spec: Spec, machine: Machine, table: ExpertTable, keep: bool, plugins: list[Plugin], start: dict[str, Any] | None
) -> Settled:
    """What is decided now."""
    return Settled(spec, table, machine, keep, folder.START if start else "", tuple(str(each) for each in plugins))


def _planned(
    storage: Storage,
    spec: Spec,
    machine: Machine,
    table: ExpertTable,
    members: list[plan.Member],
    plugins: list[Plugin],
    start: dict[str, Any] | None,
) -> Storage:
    """The experiment with all of its beginning, whichever process made it, or was killed in between."""
    about = folder.read_about(storage)
    if storage.size(folder.TABLE) is None or (about["start"] and storage.size(about["start"]) is None):
        settled = _settled(spec, machine, table, about["keep_states"], plugins, start)
        folder.begin(storage, settled, scenarios_as_data(spec.scenario), plugins, start)
    if not folder.round_numbers(storage):
        folder.write_round(storage, plan.first_round(folder.settled(storage), members))
    return storage


def this_machine(spec: Spec, processes: int = 1, count: int | None = None) -> Machine:
    """The devices of this process, as far as a spec does not say others.

    Args:
        spec: what is asked for.
        processes: that share the jobs.
        count: devices of a process, where it is not this machine's business.

    Raises:
        InputError: the spec says another platform, and not what this machine cannot know of it.
    """
    start_jax()
    devices = spec.devices if count is None else spec.devices.model_copy(update={"count": count})
    found, here = jax.local_devices(), jax.default_backend()
    platform = here if devices.platform == "auto" else devices.platform
    unknown = [f"devices.{key}" for key in ("count", "memory_gib") if getattr(devices, key) == "auto"]
    if platform != here and unknown:
        raise InputError(
            f"devices.platform = {platform!r}, and this machine plans with its {here.upper()}s: say "
            f"{' and '.join(unknown)} of those that train, too"
        )
    statistics = found[0].memory_stats() or {}
    memory = statistics.get("bytes_limit", psutil.virtual_memory().total) / 2**30
    return Machine(
        platform,
        len(found) if devices.count == "auto" else devices.count,
        round(memory, 2) if devices.memory_gib == "auto" else devices.memory_gib,
        processes,
    )


def _start(spec: Spec, members: list[plan.Member], table: ExpertTable) -> dict[str, Any]:
    """The tensors that all agents go on from, checked against every configuration."""
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for member in members:
        signature = plan.signature_of(member.point, table)
        if signature.key in seen:
            continue
        seen.add(signature.key)
        env, splits = environments(signature.scenario, table, signature.settings, member.point.params)
        config = checked_config(registered_algorithm(signature.algorithm).Config, signature.config)
        assert spec.init_from is not None
        found = read_start(spec.init_from, signature.algorithm, config, env, splits["train"], table)
    return found


def _bytes_of_a_job(first: Round, spec: Spec, table: ExpertTable) -> int:
    """What the largest job writes at once: its checkpoint."""
    largest: dict[str, Job] = {}  # of each signature, whose agents are of one size
    for job in first.jobs:
        key = job.signature.key
        if job.kind == "train" and (key not in largest or len(job.rows) > len(largest[key].rows)):
            largest[key] = job
    return max(len(job.rows) * plan.agent_bytes(job, table, spec) for job in largest.values())
