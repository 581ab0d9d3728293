"""`export`: trained agents as policies that run elsewhere."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save

import jaxmoe
from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.params import EnvParams
from jaxmoe.env.scenarios import NUMBERS
from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import file_format, read_bundle, write_bundle, write_stack
from jaxmoe.policy.contract import FILE_FORMATS, PREFERENCES, Contract, Network, parse_contract
from jaxmoe.policy.layout import action_choices, observation_fields
from jaxmoe.policy.onnx_graph import to_onnx
from jaxmoe.policy.stablehlo import to_stablehlo
from jaxmoe.policy.tensors import Tensors, check_tensors, checksum
from jaxmoe.sweeps.inputs import environments
from jaxmoe.sweeps.trained import TrainedAgent, agent_numbered, best_agent, load_agents
from jaxmoe.table import ExpertTable


def export(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    agent: int | Literal["best", "all"] = "best",
    table: ExpertTable | None = None,
) -> Contract | list[Contract]:
    """Write a trained policy, and its contract beside it.

    Args:
        source: folder of a training run or of a finished sweep; or a policy that was exported as safetensors, to
            have it in another format, or to take one agent out of a stack.
        out: file to write; its suffix says the format: `.safetensors`, `.stablehlo` or `.onnx`.
        agent: a number; "best", the one with the largest QoS on train prompts; or "all", in one stack.
        table: the table that a run was trained on; the shipped one if absent.

    Returns:
        The contract, or those of all agents of a stack.

    Raises:
        InputError: there is no such agent, the table is another one, or `out` exists or has an unknown suffix.
    """
    path = Path(out)
    form = file_format(path)
    if agent == "all" and form != "safetensors":
        raise InputError(f"{path}: a stack of all agents is written as safetensors only")
    if Path(source).is_file():
        return _export_again(source, path, form, agent)
    agents, table = load_agents(source, table)
    if agent == "all":
        return _export_stack(agents, table, path)
    chosen = best_agent(agents) if agent == "best" else agent_numbered(agents, agent)
    contract, tensors = policy_of(chosen, table)
    write_bundle(path, WRITERS[form](contract, tensors), contract)
    return contract


def policy_of(agent: TrainedAgent, table: ExpertTable) -> tuple[Contract, Tensors]:
    """The contract and the tensors of a trained agent."""
    env, splits = environments(agent.scenario, table, agent.settings, agent.params)
    params = splits["train"]
    network = Network(
        inputs=env.settings.observation_size,
        hidden=tuple(agent.config["hidden"]),
        outputs=env.num_actions,
        activation=agent.config["activation"],
    )
    tensors = tensors_of(agent)
    check_tensors(tensors, network.shapes(), f"agent {agent.number}")
    contract = Contract(
        algorithm=agent.algorithm,
        preferences=PREFERENCES[agent.algorithm],
        network=network,
        observation=observation_fields(params, env.settings),
        experts=table.experts,
        num_replicas=env.settings.num_replicas,
        actions=action_choices(env.settings),
        weights_sha256=checksum(tensors, network.shapes()),
        scenario=_scenario(agent.scenario, env, params),
        hypers=dict(agent.hypers),
        config=dict(agent.config),
        agent={
            "number": agent.number,
            "seed": agent.seed,
            "root_seed": agent.root_seed,
            "env_steps": agent.env_steps,
        },
        evaluation=dict(agent.scores),
        table_digest=table.meta.digest,
        versions={"exported_by": jaxmoe.__version__, "trained_by": dict(agent.versions)},
    )
    return parse_contract(contract.to_json(), f"agent {agent.number}"), tensors


def tensors_of(agent: TrainedAgent) -> Tensors:
    """The acting network's tensors, under the names of a contract."""
    return {
        f"layer{layer}/{name}": np.asarray(agent.leaves[f"params/Dense_{layer}/{name}"], np.float32)
        for layer in range(len(agent.config["hidden"]) + 1)
        for name in ("kernel", "bias")
    }


def _to_safetensors(contract: Contract, tensors: Tensors) -> bytes:
    return save({name: tensors[name] for name in contract.network.shapes()})


WRITERS: dict[str, Callable[[Contract, Tensors], bytes]] = {
    "safetensors": _to_safetensors,
    "stablehlo": to_stablehlo,
    "onnx": to_onnx,
}
assert set(WRITERS) == set(FILE_FORMATS)


def _export_stack(agents: list[TrainedAgent], table: ExpertTable, path: Path) -> list[Contract]:
    members: list[tuple[int, int, Contract]] = []
    rows: dict[int, list[Tensors]] = {}
    for agent in agents:
        contract, tensors = policy_of(agent, table)
        row = rows.setdefault(agent.group, [])
        members.append((agent.group, len(row), contract))
        row.append(tensors)
    content = {
        f"group{group}/{name}": np.stack([tensors[name] for tensors in held])
        for group, held in rows.items()
        for name in held[0]
    }
    write_stack(path, save(content), members)
    return [contract for _, _, contract in members]


def _export_again(source: str | os.PathLike[str], path: Path, form: str, agent: Any) -> Contract:
    """A policy that was exported before, in another format, or one out of a stack."""
    bundle = read_bundle(source, None if agent == "best" else agent)
    if bundle.format != "safetensors":
        raise InputError(f"{source} is {bundle.format}; export from safetensors, which hold the weights")
    write_bundle(path, WRITERS[form](bundle.contract, bundle.tensors), bundle.contract)
    return bundle.contract


def _scenario(name: str, env: EdgeExperts, params: EnvParams) -> dict[str, Any]:
    """What the agent was trained in, complete."""
    numbers = {each: NUMBERS[each].__class__(getattr(params, each)) for each in NUMBERS}
    return {
        "name": name,
        "settings": dataclasses.asdict(env.settings),
        "params": {each: None if value == float("inf") else value for each, value in numbers.items()},
    }
