"""Trained agents as policies that run elsewhere."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from safetensors.numpy import save

import jaxmoe
from jaxmoe.env.actions import action_choices
from jaxmoe.env.observation import observation_fields
from jaxmoe.env.params import NUMBERS, EnvParams, plain_number
from jaxmoe.errors import InputError
from jaxmoe.experiment.trained import TrainedAgent
from jaxmoe.files import with_home
from jaxmoe.policy.bundle import file_format, read_bundle, write_bundle, write_stack
from jaxmoe.policy.contract import FILE_FORMATS, Contract, parse_contract
from jaxmoe.policy.onnx_graph import to_onnx
from jaxmoe.policy.stablehlo import to_stablehlo
from jaxmoe.policy.tensors import Tensors, check_tensors, checksum
from jaxmoe.table import ExpertTable
from jaxmoe.training.inputs import environments

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

AVAILABLE = "available"  # the field that says which devices can be asked


class Policy(NamedTuple):
    """A trained policy with its contract."""

    contract: Contract
    tensors: Tensors

    def save(self, out: str | os.PathLike[str]) -> Path:
        """Write it, and its contract beside it.

        Args:
            out: file, whose suffix says the format: `.safetensors`, `.stablehlo` or `.onnx`.

        Returns:
            The path that was written.

        Raises:
            InputError: it exists already, or has another suffix.
        """
        path = with_home(out)
        write_bundle(path, WRITERS[file_format(path)](self.contract, self.tensors), self.contract)
        return path


def policy_of(agent: TrainedAgent, table: ExpertTable) -> Policy:
    """The contract and the tensors of a trained agent."""
    signature = agent.job.signature
    env, splits = environments(signature.scenario, table, signature.settings, agent.params)
    params = splits["train"]
    observation = observation_fields(params, env.settings)
    tensors = {name: np.asarray(tensor, np.float32) for name, tensor in agent.tensors.items()}
    check_tensors(tensors, agent.network.shapes(), f"agent {agent.number}")
    contract = Contract(
        algorithm=signature.algorithm,
        preferences=agent.preferences,
        network=agent.network,
        observation=observation,
        experts=table.experts,
        num_replicas=env.settings.num_replicas,
        actions=action_choices(env.settings),
        legal=AVAILABLE if any(field.name == AVAILABLE for field in observation) else None,
        weights_sha256=checksum(tensors, agent.network.shapes()),
        scenario=_scenario(signature.scenario, env, params),
        hypers=dict(agent.hypers),
        config=dict(signature.config),
        agent={
            "number": agent.number,
            "seed": agent.seed,
            "root_seed": agent.job.root_seed,
            "env_steps": agent.env_steps,
        },
        evaluation=dict(agent.scores),
        table_digest=table.meta.digest,
        versions={"exported_by": jaxmoe.__version__, "trained_by": dict(agent.versions)},
    )
    return Policy(parse_contract(contract.to_json(), f"agent {agent.number}"), tensors)


def _to_safetensors(contract: Contract, tensors: Tensors) -> bytes:
    return save({name: tensors[name] for name in contract.network.shapes()})


WRITERS: dict[str, Callable[[Contract, Tensors], bytes]] = {
    "safetensors": _to_safetensors,
    "stablehlo": to_stablehlo,
    "onnx": to_onnx,
}
assert set(WRITERS) == set(FILE_FORMATS)


def export_stack(agents: list[TrainedAgent], table: ExpertTable, path: Path) -> list[Contract]:
    """The policies of many agents in one file."""
    members: list[tuple[int, int, Contract]] = []
    groups: dict[str, int] = {}
    rows: dict[int, list[Tensors]] = {}
    for agent in agents:
        policy = policy_of(agent, table)
        group = groups.setdefault(agent.job.signature.key, len(groups))
        row = rows.setdefault(group, [])
        members.append((group, len(row), policy.contract))
        row.append(policy.tensors)
    content = {
        f"group{group}/{name}": np.stack([tensors[name] for tensors in held])
        for group, held in rows.items()
        for name in held[0]
    }
    write_stack(path, save(content), members)
    return [contract for _, _, contract in members]


def export_again(source: Path, path: Path, form: str, agent: Any) -> Contract:
    """A policy that was exported before, in another format, or one out of a stack."""
    bundle = read_bundle(source, None if agent == "best" else agent)
    if bundle.format != "safetensors":
        raise InputError(f"{source} is {bundle.format}; export from safetensors, which hold the weights")
    write_bundle(path, WRITERS[form](bundle.contract, bundle.tensors), bundle.contract)
    return bundle.contract


def _scenario(name: str, env: "EdgeExperts", params: EnvParams) -> dict[str, Any]:
    """What the agent was trained in, complete; settings that follow from numbers are left out."""
    numbers = {each: plain_number(getattr(params, each)) for each in NUMBERS}
    numbers |= {each.name: each.as_data() for each in env.settings.drawn}
    settings = dataclasses.asdict(env.settings)
    return {
        "name": name,
        "settings": {each: value for each, value in settings.items() if each not in ("drawn", "masked")},
        "params": {each: None if value == float("inf") else value for each, value in numbers.items()},
    }
