"""Agents that have learned a little, and their policies, made once for all tests."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from compiling import unoptimised
from safetensors.numpy import save

import jaxmoe
from jaxmoe.algorithms.algorithm import Algorithm, Clock
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.env import rules
from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.observation import observe
from jaxmoe.env.params import EnvParams
from jaxmoe.experiment.exporting import policy_of
from jaxmoe.experiment.trained import TrainedAgent
from jaxmoe.policy.bundle import write_bundle
from jaxmoe.policy.contract import Contract
from jaxmoe.policy.tensors import Tensors
from jaxmoe.training.inputs import checked_config, environments
from jaxmoe.training.job import Job, Phase, Signature, Start

REPLAY = {"hidden": (16, 16), "replay_capacity": 8192, "warmup_steps": 512, "batch_size": 64, "updates": 8}
SIZES = {"ppo": {"hidden": (64, 64)}, "dqn": REPLAY, "sac": REPLAY}


class Case(NamedTuple):
    """An agent that has learned, and its policy."""

    algorithm: Algorithm
    env: EdgeExperts
    params: EnvParams
    policy: Any
    agent: TrainedAgent
    contract: Contract
    tensors: Tensors

    def write(self, folder, name="policy.safetensors"):
        """The policy as a file in a folder."""
        path = folder / name
        write_bundle(path, save(self.tensors), self.contract)
        return path

    def observations(self, count, seed=0):
        """Observations that requests bring, after random actions."""
        return np.asarray(_walk(self.env, self.params, jax.random.key(seed), -(-count // 25)))[:count]

    def preferences(self, observations):
        """What the trained agent says of each action."""
        return np.asarray(self.algorithm.preferences(self.policy, jnp.asarray(observations)))


@functools.cache
def case(algorithm="ppo", scenario="oneshot", iterations=20, settings=(), activation=None, params=(), **config) -> Case:
    module = registered_algorithm(algorithm)
    table = jaxmoe.load_table()
    env, splits = environments(scenario, table, dict(settings), dict(params))
    said = SIZES[algorithm] | ({"activation": activation} if activation else {}) | config
    config = checked_config(module.Config, said)
    bound, hypers = module.make(env, config, splits["train"]), module.Hypers()
    policy = _trained(bound, hypers, splits["train"], iterations)
    env_steps = iterations * bound.env_steps
    agent = TrainedAgent(
        number=0,
        job=_job(
            Signature(algorithm, vars(config), scenario, dict(settings), dict(params), table.meta.digest), env_steps
        ),
        seed=3,
        env_steps=env_steps,
        params=dict(params),
        hypers={name: float(value) for name, value in hypers._asdict().items()},
        network=bound.actor.network,
        preferences=module.preferences,
        tensors={name: np.asarray(leaf) for name, leaf in bound.actor.tensors(policy).items()},
        scores={"diverged": False, "train": {"qos": 0.5}},
        versions={"jaxmoe": jaxmoe.__version__},
    )
    return Case(bound, env, splits["train"], policy, agent, *policy_of(agent, table))


def _trained(algorithm, hypers, params, iterations):
    """The acting network after so many iterations; after none, no weight is zero all the same."""
    with unoptimised():
        state = jax.jit(algorithm.init)(jax.random.key(3), hypers, params)
        step = jax.jit(algorithm.step)
        for number in range(iterations):
            state, _ = step(state, hypers, params, Clock(jnp.int32(number), jnp.int32(iterations)))
    return state.policy if iterations else jax.tree.map(_stirred, state.policy)


def _stirred(leaf):
    return leaf + 0.1 * jnp.sin(1.0 + jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape)


def _job(signature, env_steps):
    """As if the agent had been trained by it."""
    return Job(
        number=0, round=0, kind="train", signature=signature, rows=(0,), numbers=(), agents_per_device=1, root_seed=0,
        purpose=0, phases=(Phase(env_steps),), evaluate_at=(0, env_steps), requests=64, families=(), start=Start(),
        keep_states=False, matmul_precision="default", platform="cpu",
    )  # fmt: skip


@functools.partial(jax.jit, static_argnums=(0, 3))
def _walk(env, params, key, walks):
    """Observations of so many walks of 25 slots."""

    def walk(key):
        def slot(state, key):
            key_action, key_draws = jax.random.split(key)
            action = jax.random.randint(key_action, (), 0, env.num_actions)
            observation = observe(state, params, env.settings)
            state, _ = rules.transition(state, action, rules.draw(key_draws, env.settings), params, env.settings)
            return state, observation

        first = rules.begin(rules.draw(key, env.settings), params, env.settings)
        return jax.lax.scan(slot, first, jax.random.split(jax.random.fold_in(key, 1), 25))[1]

    return jax.vmap(walk)(jax.random.split(key, walks)).reshape(-1, env.observation_size)
