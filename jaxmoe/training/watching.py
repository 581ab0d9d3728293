"""Agents watched at work: on each request what they observe of each expert, and whom they ask."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array

from jaxmoe.algorithms.algorithm import Algorithm
from jaxmoe.algorithms.categorical import legality, masked
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.env import rules
from jaxmoe.env.actions import device_choices
from jaxmoe.env.observation import observe, quantities
from jaxmoe.env.params import EnvParams
from jaxmoe.table import ExpertTable
from jaxmoe.table.records import subset_name
from jaxmoe.training.compiled import Compiled
from jaxmoe.training.evaluation import EVALUATION_SEED, Schedule
from jaxmoe.training.inputs import checked_config, environments
from jaxmoe.training.job import Signature
from jaxmoe.training.keys import WATCHING, purpose_key

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

REQUESTS = 1024  # of each, on each split
SEEN = ("relevance", "snr_db")  # fields of the observation that figures show


def watch(
    signature: Signature,
    numbers: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    agents: Sequence[int],
    table: ExpertTable,
) -> pd.DataFrame:
    """Watch agents of one configuration in their environment.

    Args:
        signature: theirs.
        numbers: of the scenario, that are not those of the signature.
        tensors: of their acting networks, agents along the leading axis.
        agents: their numbers.
        table: the expert table.

    Returns:
        One row per agent, split and request: the prompt, the `subset` asked, and of each expert its `relevance_`, the
        observed `snr_db_` (of its best replica) and whether it is `asked_`.
    """
    env, splits = environments(signature.scenario, table, signature.settings, numbers)
    module = registered_algorithm(signature.algorithm)
    algorithm = module.make(env, checked_config(module.Config, signature.config), splits["train"])
    schedule = Schedule.of(env, splits["train"], REQUESTS)
    watcher, device = jax.vmap(_watcher(algorithm, env, schedule), in_axes=(0, None)), jax.local_devices()[0]
    run = Compiled(watcher, (SingleDeviceSharding(device),) * 2)
    frames = []
    for split, params in splits.items():
        prompts, seen, actions = jax.tree.map(np.asarray, run(algorithm.actor.parameters(tensors), params))
        frames += [
            _rows(agent, split, prompts[row], {name: seen[name][row] for name in SEEN}, actions[row], env, table)
            for row, agent in enumerate(agents)
        ]
    return pd.concat(frames, ignore_index=True)


def _watcher(algorithm: Algorithm, env: "EdgeExperts", schedule: Schedule) -> Any:
    """A function of one agent's policy and the numbers of an environment.

    It gives the prompt, the quantities `SEEN` and the action of each request.
    """

    def serve_episodes(policy: Any, params: EnvParams) -> tuple[Array, dict[str, Array], Array]:
        keys = jax.random.split(purpose_key(EVALUATION_SEED, WATCHING), schedule.episodes)

        def serve(state: Any, key: Array) -> tuple[Any, tuple[Array, dict[str, Array], Array]]:
            observation = observe(state, params, env.settings)
            action = jnp.argmax(masked(algorithm.preferences(policy, observation), observation, legality(env)))
            known = quantities(state, params, env.settings)
            seen = state.prompt, {name: known[name] for name in SEEN}, action
            state, _ = rules.transition(state, action, rules.draw(key, env.settings), params, env.settings)
            return state, seen

        def episode(key: Array) -> tuple[Array, dict[str, Array], Array]:
            first, *later = jax.random.split(key, schedule.length + 1)
            state = rules.begin(rules.draw(first, env.settings), params, env.settings)
            return jax.lax.scan(serve, state, jnp.stack(later))[1]

        seen = jax.vmap(episode)(keys)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), seen)

    return serve_episodes


def _rows(
    agent: int,
    split: str,
    prompts: np.ndarray,
    seen: Mapping[str, np.ndarray],
    actions: np.ndarray,
    env: "EdgeExperts",
    table: ExpertTable,
) -> pd.DataFrame:
    experts, replicas = table.experts, env.settings.num_replicas
    devices = device_choices(env.settings)[actions]
    asked = devices.reshape(len(actions), len(experts), replicas).any(axis=-1)
    best = {name: numbers.reshape(len(actions), len(experts), -1).max(axis=-1) for name, numbers in seen.items()}
    subsets = asked @ (1 << np.arange(len(experts)))
    columns: dict[str, Any] = {"agent": agent, "split": split, "prompt": np.array(table.meta.prompt_ids)[prompts]}
    columns["subset"] = [subset_name(int(subset), experts) for subset in subsets]
    for number, expert in enumerate(experts):
        columns |= {f"{name}_{expert}": numbers[:, number] for name, numbers in best.items()}
        columns[f"asked_{expert}"] = asked[:, number]
    return pd.DataFrame(columns)
