"""PQN, parallelised Q-learning without replay and target network (Gallici et al. 2024, arXiv 2407.04811), as a plugin.

    jaxmoe sweep examples/pqn.toml --out runs/pqn
    jaxmoe export runs/pqn --agent best --out policy.safetensors

Q(lambda) targets of fresh rollouts take the place of replay. The paper normalises layers; policies of jaxmoe are plain
multilayer perceptrons, so this one does not: short horizons and clipped gradients have to do instead.
"""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmoe.algorithms import optimiser, register_algorithm
from jaxmoe.algorithms.algorithm import About, AgentState, Algorithm, Clock, begin_environments
from jaxmoe.algorithms.categorical import legal_in, legality, masked, of_action
from jaxmoe.algorithms.dqn import epsilon, epsilon_greedy
from jaxmoe.algorithms.networks import MLP
from jaxmoe.algorithms.ppo import minibatches
from jaxmoe.algorithms.returns import generalised_advantages
from jaxmoe.algorithms.rollout import collect
from jaxmoe.policy.contract import Network

Array = jax.Array
Number = float | Array


class Hypers(NamedTuple):
    """Numbers that may differ from agent to agent."""

    learning_rate: Annotated[Number, About("rate of Adam at the start")] = 3e-3
    final_rate: Annotated[Number, About("fraction of the rate left at the end, linearly in between", 0, 1)] = 0.1
    discount: Annotated[Number, About("of the next step's value", 0, 1)] = 0.9
    q_lambda: Annotated[Number, About("of the Q(lambda) targets", 0, 1)] = 0.5
    epsilon_start: Annotated[Number, About("probability of a random action at the start", 0, 1)] = 1.0
    epsilon_end: Annotated[Number, About("the same after the exploring part of the run", 0, 1)] = 0.05
    exploration_fraction: Annotated[Number, About("part of the run in which it falls, linearly", 0, 1)] = 0.5
    max_grad_norm: Annotated[Number, About("limit of the gradient's norm")] = 10.0


@dataclass(frozen=True)
class Config:
    """What shapes the compiled program."""

    num_envs: Annotated[int, About("parallel environments of one agent", 1)] = 16
    rollout_length: Annotated[int, About("steps per iteration in each environment", 1)] = 32
    epochs: Annotated[int, About("passes over each rollout", 1)] = 2
    minibatches: Annotated[int, About("updates per pass", 1)] = 4
    hidden: Annotated[tuple[int, ...], About("widths of the network", 1)] = (64, 64)
    activation: Annotated[str, About("of the hidden layers")] = "relu"


class Batch(NamedTuple):
    """Experience as the loss reads it."""

    observation: Array
    action: Array
    target: Array


def make(env: Any, config: Config, env_params: Any) -> Algorithm:
    """Bind PQN to an environment."""
    observation_size = env.observation_space(env_params).shape[0]
    actions = env.action_space(env_params).n
    network = MLP(Network(observation_size, config.hidden, actions, config.activation))
    env_steps, legal = config.num_envs * config.rollout_length, legality(env)

    def values(policy: Any, observation: Array) -> Array:
        return masked(network.apply(policy, observation), observation, legal)

    def wandering(policy: Any, observation: Array, uniform: Array, epsilon: Array) -> Array:
        return epsilon_greedy(values(policy, observation), uniform, epsilon, legal_in(observation, legal))

    def init(key: Array, hypers: Hypers, env_params: Any) -> AgentState:
        del hypers
        key_network, key_env, key = jax.random.split(key, 3)
        observation, env_state = begin_environments(key_env, env, env_params, config.num_envs)
        policy = network.initial(key_network)
        return AgentState(policy, optimiser.initial(policy), env_state, observation, key, jnp.array(False))

    def act(policy: Any, observation: Array, key: Array) -> Array:
        return wandering(policy, observation, jax.random.uniform(key), jnp.float32(0.05))

    def loss(policy: Any, batch: Batch) -> tuple[Array, dict[str, Array]]:
        found = of_action(values(policy, batch.observation), batch.action)
        value_loss = jnp.mean(optax.losses.l2_loss(found, batch.target))
        return value_loss, {"value_loss": value_loss, "value": jnp.mean(found)}

    def step(state: AgentState, hypers: Hypers, env_params: Any, clock: Clock) -> tuple[AgentState, dict[str, Array]]:
        key_rollout, key_order, key = jax.random.split(state.key, 3)

        def choose(observation: Array, uniform: Array) -> tuple[Array, tuple[()]]:
            return wandering(state.policy, observation, uniform, epsilon(hypers, clock)), ()

        env_state, observation, rollout = collect(
            key_rollout, choose, env, state.env_state, state.observation, env_params, config.rollout_length
        )
        before = jnp.max(values(state.policy, rollout.observation), axis=-1)
        after = jnp.max(values(state.policy, rollout.final_observation), axis=-1)
        target = before + generalised_advantages(
            before, rollout.reward, after, rollout.terminated, rollout.done, hypers.discount, hypers.q_lambda
        )
        batch = Batch(rollout.observation, rollout.action, target)
        batch = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
        rate = clock.falling(hypers.learning_rate, hypers.final_rate)

        def update(carry: tuple[Any, Any, Array], rows: Array) -> tuple[tuple[Any, Any, Array], dict[str, Array]]:
            policy, moments, diverged = carry
            minibatch = jax.tree.map(lambda leaf: leaf[rows], batch)
            gradient, metrics = jax.grad(loss, has_aux=True)(policy, minibatch)
            return optimiser.update(gradient, moments, policy, rate, hypers.max_grad_norm, diverged), metrics

        (policy, moments, diverged), metrics = jax.lax.scan(
            update,
            (state.policy, state.learner, state.diverged),
            minibatches(key_order, env_steps, config.epochs, config.minibatches),
        )
        learned = AgentState(policy, moments, env_state, observation, key, diverged)
        return learned, {
            "reward": jnp.mean(rollout.reward),
            **{name: jnp.mean(each) for name, each in metrics.items()},
        }

    return Algorithm("pqn", init, step, act, values, network, env_steps)


register_algorithm(
    "pqn", make, Hypers, Config, preferences="action_values", summary="Train PQN agents: Q-learning without replay."
)
