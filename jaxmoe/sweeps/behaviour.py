"""Agents watched at work: on each request what they observe of each expert, and whom they ask."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array
from safetensors.numpy import load_file

from jaxmoe.agents.algorithm import Algorithm
from jaxmoe.env import rules
from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.evaluation import episode_slots, episodes_for
from jaxmoe.env.params import EnvParams
from jaxmoe.sweeps.evaluating import SEED
from jaxmoe.sweeps.inputs import algorithm_module, checked_config, environments
from jaxmoe.sweeps.plan import make_plan
from jaxmoe.sweeps.run import named_leaves
from jaxmoe.sweeps.spec import load_spec
from jaxmoe.sweeps.store import read_manifest
from jaxmoe.sweeps.sweeping import spec_table
from jaxmoe.table import ExpertTable
from jaxmoe.table_records import subset_name

AGENTS = 8  # watched, at most
SLOTS = 1024  # requests of each, on each split


def watch(folder: Path) -> pd.DataFrame:
    """Watch the agents of a finished sweep of one setting, in its first environment.

    Returns:
        One row per agent, split and request: the prompt, the `subset` asked, and of each expert its `relevance_`, the
        observed `snr_db_` (of its best replica) and whether it is `asked_`.
    """
    spec = load_spec(read_manifest(folder)["spec"])
    table = spec_table(spec)
    plan = make_plan(spec, table)
    group, place = plan.groups[0], plan.places[0]
    env, splits = environments(place.scenario, table, place.settings, place.params)
    module = algorithm_module(group.algorithm)
    algorithm = module.make(env, checked_config(module.Config, group.config), splits["train"])
    own = [agent for agent in group.agents if plan.place_of[plan.configuration_of[agent]] == 0][:AGENTS]
    policies = _policies(
        folder / "policies.safetensors", group.number, own, algorithm, module.Hypers(), splits["train"]
    )
    length = episode_slots(env, splits["train"])
    run = jax.jit(jax.vmap(_watcher(algorithm, env, length), in_axes=(0, None)))
    frames = []
    for split, params in splits.items():
        prompts, snr_db, actions = (np.asarray(leaf) for leaf in run(policies, params))
        frames += [
            _rows(agent, split, prompts[row], snr_db[row], actions[row], env, table) for row, agent in enumerate(own)
        ]
    return pd.concat(frames, ignore_index=True)


def _watcher(algorithm: Algorithm, env: EdgeExperts, length: int) -> Any:
    """A function of one agent's policy and the numbers of an environment, whose episodes have so many slots.

    It gives the prompt, observed SNR and action of each request.
    """

    def serve_episodes(policy: Any, params: EnvParams) -> tuple[Array, Array, Array]:
        keys = jax.random.split(jax.random.key(SEED), episodes_for(SLOTS, length))

        def serve(state: Any, key: Array) -> tuple[Any, tuple[Array, Array, Array]]:
            action = jnp.argmax(algorithm.preferences(policy, rules.observe(state, params, env.settings)))
            seen = state.prompt, state.observed_snr_db, action
            state, _ = rules.transition(state, action, rules.draw(key, env.settings), params, env.settings)
            return state, seen

        def episode(key: Array) -> tuple[Array, Array, Array]:
            first, *later = jax.random.split(key, length + 1)
            state = rules.begin(rules.draw(first, env.settings), params, env.settings)
            return jax.lax.scan(serve, state, jnp.stack(later))[1]

        seen = jax.vmap(episode)(keys)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), seen)

    return serve_episodes


def _policies(path: Path, group: int, agents: list[int], algorithm: Algorithm, hypers: Any, params: EnvParams) -> Any:
    """Acting networks of some agents, along the leading axis."""
    held = load_file(path)
    rows = np.searchsorted(held[f"group{group}/agent"], agents)
    shapes = jax.eval_shape(algorithm.init, jax.random.key(0), hypers, params).policy
    leaves = [jnp.asarray(held[f"group{group}/{name}"][rows]) for name, _ in named_leaves(shapes)]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _rows(
    agent: int,
    split: str,
    prompts: np.ndarray,
    snr_db: np.ndarray,
    actions: np.ndarray,
    env: EdgeExperts,
    table: ExpertTable,
) -> pd.DataFrame:
    experts, replicas = table.experts, env.settings.num_replicas
    devices = rules.device_choices(env.settings)[actions]
    asked = devices.reshape(len(actions), len(experts), replicas).any(axis=-1)
    best_db = snr_db.reshape(len(actions), len(experts), replicas).max(axis=-1)
    subsets = asked @ (1 << np.arange(len(experts)))
    columns: dict[str, Any] = {"agent": agent, "split": split, "prompt": np.array(table.meta.prompt_ids)[prompts]}
    columns["subset"] = [subset_name(int(subset), experts) for subset in subsets]
    for number, expert in enumerate(experts):
        columns[f"relevance_{expert}"] = table.relevance[prompts, number]
        columns[f"snr_db_{expert}"] = best_db[:, number]
        columns[f"asked_{expert}"] = asked[:, number]
    return pd.DataFrame(columns)
