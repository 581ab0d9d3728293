"""Deep Q-learning (Mnih et al. 2015, doi:10.1038/nature14236).

Also double (van Hasselt et al., arXiv 1509.06461) and dueling (Wang et al., arXiv 1511.06581).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxmoe.algorithms import off_policy, optimiser
from jaxmoe.algorithms.algorithm import SMALLEST_LIMIT, About, AgentState, Algorithm, Clock, require_choice
from jaxmoe.algorithms.categorical import any_action, legal_in, legality, masked, of_action
from jaxmoe.algorithms.networks import HEADS, MLP
from jaxmoe.algorithms.registry import register_algorithm
from jaxmoe.algorithms.replay import Batch
from jaxmoe.algorithms.returns import td_targets
from jaxmoe.policy.contract import Network

if TYPE_CHECKING:
    from gymnax.environments.environment import Environment

Number = float | Array

ACT_EPSILON = 0.05  # of `act`, which knows neither hyperparameters nor clock


class Hypers(NamedTuple):
    """Numbers that may differ from agent to agent."""

    learning_rate: Annotated[Number, About("rate of Adam at the start")] = 4e-3
    final_rate: Annotated[Number, About("fraction of the rate left at the end, linearly in between", 0, 1)] = 0.1
    discount: Annotated[Number, About("weight of the next step's value", 0, 1)] = 0.9
    epsilon_start: Annotated[Number, About("probability of a random action at the start", 0, 1)] = 1.0
    epsilon_end: Annotated[Number, About("probability of a random action after the exploring part", 0, 1)] = 0.05
    exploration_fraction: Annotated[
        Number, About("part of the run in which that probability falls, linearly", 0, 1)
    ] = 0.3
    double_q: Annotated[
        Number,
        About("whether the online network chooses the action to bootstrap from: 1 yes, 0 no", 0, 1, boolean=True),
    ] = 1.0
    target_tau: Annotated[Number, About("how much of the online network enters the target network", 0, 1)] = 0.02
    target_period: Annotated[Number, About("updates between two moves of the target network", 1, whole=True)] = 1.0
    huber_delta: Annotated[Number, About("error beyond which the loss is linear; large: squared loss")] = 1.0
    max_grad_norm: Annotated[Number, About("limit of the gradient's norm", SMALLEST_LIMIT)] = 0.5


@dataclass(frozen=True)
class Config(off_policy.Config):
    """What shapes the compiled program."""

    head: Annotated[str, About(f"end of the network: {' or '.join(HEADS)}")] = "plain"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("head", self.head, HEADS)


class Learner(NamedTuple):
    """What only learning needs."""

    target: Any  # parameters of the target network
    moments: Any  # of Adam


def make(env: "Environment", config: Config, env_params: Any) -> Algorithm:
    """Bind DQN to an environment; `env_params` only tells the sizes of observations and actions."""
    observation_size = env.observation_space(env_params).shape[0]
    num_actions = env.action_space(env_params).n
    network = MLP(Network(observation_size, config.hidden, num_actions, config.activation), head=config.head)
    legal = legality(env)

    def preferences(policy: Any, observation: Float[Array, "*batch O"]) -> Float[Array, "*batch A"]:
        return masked(network.apply(policy, observation), observation, legal)

    def wandering(policy: Any, observation: Array, uniform: Array, epsilon: Array) -> Array:
        return epsilon_greedy(preferences(policy, observation), uniform, epsilon, legal_in(observation, legal))

    def init(key: Array, hypers: Hypers, env_params: Any) -> AgentState:
        del hypers
        key_network, key = jax.random.split(key)
        policy = network.initial(key_network)
        return off_policy.begin(key, env, env_params, config, policy, Learner(policy, optimiser.initial(policy)))

    def act(policy: Any, observation: Float[Array, " O"], key: Array) -> Int[Array, ""]:
        return wandering(policy, observation, jax.random.uniform(key), jnp.float32(ACT_EPSILON))

    def explore(policy: Any, observation: Array, uniform: Array, hypers: Hypers, clock: Clock) -> Array:
        return wandering(policy, observation, uniform, epsilon(hypers, clock))

    def loss(policy: Any, batch: Batch, target: Array, hypers: Hypers) -> tuple[Array, dict[str, Array]]:
        values = of_action(preferences(policy, batch.observation), batch.action)
        value_loss = jnp.mean(optax.losses.huber_loss(values, target, delta=hypers.huber_delta))
        return value_loss, {"value_loss": value_loss, "value": jnp.mean(values)}

    def update(
        networks: off_policy.Networks, batch: Batch, hypers: Hypers, clock: Clock, number: Array
    ) -> tuple[off_policy.Networks, dict[str, Array]]:
        policy, learner, diverged = networks
        online = preferences(policy, batch.next_observation)
        delayed = preferences(learner.target, batch.next_observation)
        target = td_targets(
            batch.reward, next_values(online, delayed, hypers.double_q), batch.terminated, batch.discount
        )
        gradient, metrics = jax.grad(loss, has_aux=True)(policy, batch, target, hypers)
        policy, moments, diverged = optimiser.update(
            gradient, learner.moments, policy, clock.falling(hypers.learning_rate, hypers.final_rate),
            hypers.max_grad_norm, diverged,
        )  # fmt: skip
        target = off_policy.moved_target(learner.target, policy, hypers.target_tau, hypers.target_period, number)
        return (policy, Learner(target, moments), diverged), metrics

    def adopt(state: AgentState, policy: Any) -> AgentState:
        return state._replace(policy=policy, learner=state.learner._replace(target=policy))

    step = off_policy.make_step(env, config, explore, update)
    return Algorithm("dqn", init, step, act, preferences, network, config.env_steps, adopt)


def next_values(online: Float[Array, "B A"], delayed: Float[Array, "B A"], double_q: Number) -> Float[Array, " B"]:
    """Value after a step: the target network's, of the best action by the online network (van Hasselt et al., eq. 4).

    Where `double_q` is 0, of the best action by the target network itself (equation 2).

    >>> online, delayed = jnp.array([[1.0, 2.0]]), jnp.array([[4.0, 3.0]])
    >>> [next_values(online, delayed, double_q).tolist() for double_q in (1.0, 0.0)]
    [[3.0], [4.0]]
    """
    choosing = jnp.where(jnp.float32(double_q) > 0.5, online, delayed)
    return of_action(delayed, jnp.argmax(choosing, axis=-1))


def epsilon(hypers: Hypers, clock: Clock) -> Float[Array, ""]:
    """Probability of a random action: linear over the exploring part of the run, then constant."""
    progress = (1.0 - clock.remaining()) / jnp.maximum(hypers.exploration_fraction, 1e-6)
    return hypers.epsilon_start + (hypers.epsilon_end - hypers.epsilon_start) * jnp.minimum(progress, 1.0)


def epsilon_greedy(
    values: Float[Array, "*batch A"],
    uniform: Float[Array, "*batch"],
    epsilon: Float[Array, ""],
    legal: Bool[Array, "*batch A"] | None = None,
) -> Int[Array, "*batch"]:
    """A random action if the uniform number is below epsilon, and then chosen by what it is; else the best action.

    Random ones are legal, where `legal` says which are; that the best one is must be seen from the values.

    >>> values = jnp.array([3.0, 1.0])
    >>> [int(epsilon_greedy(values, jnp.float32(u), jnp.float32(0.5))) for u in (0.1, 0.4, 0.6)]
    [0, 1, 0]
    """
    wandering = any_action(values.shape[-1], uniform / jnp.maximum(epsilon, 1e-6), legal)
    return jnp.where(uniform < epsilon, wandering, jnp.argmax(values, axis=-1))


register_algorithm(
    "dqn", make, Hypers, Config, preferences="action_values",
    summary="Train DQN agents: deep Q-learning, double if asked for.",
    speeds={"cpu": 55e3, "gpu": 7.6e6, "tpu": 7.6e6},
    memory_factor=1.3,
)  # fmt: skip
