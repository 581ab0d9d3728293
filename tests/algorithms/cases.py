"""The algorithms with sizes and rates that suit the probe environments, and how to ask each for its values."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from probe_envs import POSITIONS, ProbeParams, Probes

from jaxmoe.algorithms import dqn, ppo, sac
from jaxmoe.algorithms.algorithm import AgentState, Algorithm, Clock
from jaxmoe.algorithms.networks import MLP
from jaxmoe.algorithms.off_policy import Config

HIDDEN = (16,)
REPLAY = Config(
    num_envs=8,
    rollout_length=8,
    updates=8,
    batch_size=32,
    replay_capacity=1024,
    warmup_steps=64,
    hidden=HIDDEN,
)


class Case(NamedTuple):
    """An algorithm under test."""

    module: Any
    config: Any
    hypers: Any
    values: Callable[[Algorithm, AgentState, Any], Any]  # of each observation
    waiting: int  # iterations without learning

    def make(self) -> Algorithm:
        """The algorithm, bound to all probe environments and compiled once for all."""
        return _made(self.module, self.config)


def _values_of_ppo(algorithm, state, observations):
    critic = MLP(algorithm.actor.network._replace(outputs=1))
    return critic.apply(state.learner.critic, observations)[:, 0]


def _values_of_dqn(algorithm, state, observations):
    return algorithm.preferences(state.policy, observations).max(axis=-1)


def _values_of_sac(algorithm, state, observations):
    critic = MLP(algorithm.actor.network)
    both = jax.vmap(critic.apply, (0, None))(state.learner.critics, observations)
    return jnp.minimum(*both).max(axis=-1)


CASES = {
    "ppo": Case(
        ppo,
        ppo.Config(num_envs=8, rollout_length=8, epochs=2, minibatches=2, hidden=HIDDEN),
        ppo.Hypers(learning_rate=1e-2, final_rate=0.1, entropy_coef=0.001),
        _values_of_ppo,
        waiting=0,
    ),
    "dqn": Case(
        dqn, dqn.Config(**vars(REPLAY)), dqn.Hypers(learning_rate=1e-2, target_tau=0.1), _values_of_dqn, waiting=1
    ),
    "sac": Case(
        sac,
        REPLAY,
        sac.Hypers(actor_rate=1e-2, critic_rate=1e-2, target_tau=0.1, temperature=0.01, learn_temperature=0.0),
        _values_of_sac,
        waiting=1,
    ),
}


def numbers(hypers: Any) -> Any:
    """Hyperparameters as the training program hands them over."""
    return jax.tree.map(jnp.float32, hypers)


@functools.cache
def _made(module: Any, config: Any) -> Algorithm:
    algorithm = module.make(Probes(), config, ProbeParams())
    return algorithm._replace(init=jax.jit(algorithm.init), step=jax.jit(algorithm.step))


@functools.cache
def _training(case: Case) -> Any:
    algorithm = case.make()

    @jax.jit
    def run(state, hypers, params, iterations):
        def iterate(iteration, state):
            return algorithm.step(state, hypers, params, Clock(iteration, iterations))[0]

        return jax.lax.fori_loop(jnp.int32(0), iterations, iterate, state)

    return run


def learn(case, env_class, iterations=150, hypers=None, seed=0, **changes):
    """A trained agent: its state, the value and the preferred action of each position."""
    algorithm, hypers = case.make(), numbers(case.hypers if hypers is None else hypers)
    params = env_class.numbers(**changes)
    state = algorithm.init(jax.random.key(seed), hypers, params)
    state = _training(case)(state, hypers, params, jnp.int32(iterations))
    observations = jnp.eye(POSITIONS)
    actions = np.argmax(algorithm.preferences(state.policy, observations), axis=1)
    values = np.asarray(case.values(algorithm, state, observations))
    return state, values[: env_class.positions], actions[: env_class.positions]
