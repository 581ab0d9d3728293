"""Soft actor-critic for discrete actions (Christodoulou 2019, arXiv 1910.07207, whose equations are cited here)."""

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxmoe.algorithms import off_policy, optimiser
from jaxmoe.algorithms.algorithm import SMALLEST_LIMIT, About, AgentState, Algorithm, Clock, held, hold
from jaxmoe.algorithms.categorical import legal_in, legality, masked, of_action, sample
from jaxmoe.algorithms.networks import MLP
from jaxmoe.algorithms.off_policy import Config
from jaxmoe.algorithms.registry import register_algorithm
from jaxmoe.algorithms.replay import Batch
from jaxmoe.algorithms.returns import td_targets
from jaxmoe.policy.contract import Network

if TYPE_CHECKING:
    from gymnax.environments.environment import Environment

__all__ = ["Config", "Hypers", "Learner", "make"]

Number = float | Array


class Hypers(NamedTuple):
    """Numbers that may differ from agent to agent."""

    actor_rate: Annotated[Number, About("rate of the actor's Adam at the start")] = 1.5e-3
    critic_rate: Annotated[Number, About("rate of the critics' Adam at the start")] = 1.5e-3
    temperature_rate: Annotated[Number, About("rate of the temperature's Adam at the start")] = 1e-3
    final_rate: Annotated[Number, About("fraction of the rates left at the end, linearly in between", 0, 1)] = 0.1
    discount: Annotated[Number, About("weight of the next step's value", 0, 1)] = 0.9
    target_tau: Annotated[Number, About("how much of the critics enters their targets", 0, 1)] = 0.02
    target_period: Annotated[Number, About("updates between two moves of the targets", 1, whole=True)] = 1.0
    temperature: Annotated[Number, About("weight of the entropy, at the start if it is learned")] = 0.1
    learn_temperature: Annotated[
        Number, About("whether the temperature is learned: 1 yes, 0 no", 0, 1, boolean=True)
    ] = 0.0
    target_entropy_ratio: Annotated[Number, About("entropy aimed at, as a fraction of the largest", 0, 1)] = 0.1
    max_grad_norm: Annotated[Number, About("limit of the norm of each gradient", SMALLEST_LIMIT)] = 0.5


class Learner(NamedTuple):
    """What only learning needs."""

    critics: Any  # parameters of both, stacked
    targets: Any
    log_temperature: Float[Array, ""]
    moments: Any  # of Adam, for the actor, the critics and the temperature


def make(env: "Environment", config: Config, env_params: Any) -> Algorithm:
    """Bind SAC to an environment; `env_params` only tells the sizes of observations and actions."""
    observation_size = env.observation_space(env_params).shape[0]
    num_actions = env.action_space(env_params).n
    described = Network(observation_size, config.hidden, num_actions, config.activation)
    actor, critic = MLP(described, output_gain=0.01), MLP(described)
    legal = legality(env)

    def preferences(policy: Any, observation: Float[Array, "*batch O"]) -> Float[Array, "*batch A"]:
        return masked(actor.apply(policy, observation), observation, legal)

    def values(critics: Any, observation: Float[Array, "B O"]) -> Float[Array, "2 B A"]:
        return jax.vmap(critic.apply, (0, None))(critics, observation)

    def init(key: Array, hypers: Hypers, env_params: Any) -> AgentState:
        key_actor, key_one, key_other, key = jax.random.split(key, 4)
        policy = actor.initial(key_actor)
        critics = jax.vmap(critic.initial)(jnp.stack([key_one, key_other]))
        log_temperature = jnp.log(jnp.maximum(jnp.float32(hypers.temperature), 1e-8))
        moments = optimiser.initial(policy), jax.vmap(optimiser.initial)(critics), optimiser.initial(log_temperature)
        learner = Learner(critics, critics, log_temperature, moments)
        return off_policy.begin(key, env, env_params, config, policy, learner)

    def act(policy: Any, observation: Float[Array, " O"], key: Array) -> Int[Array, ""]:
        return sample(preferences(policy, observation), jax.random.uniform(key), legal_in(observation, legal))

    def explore(policy: Any, observation: Array, uniform: Array, hypers: Hypers, clock: Clock) -> Array:
        del hypers, clock
        return jax.vmap(sample)(preferences(policy, observation), uniform, legal_in(observation, legal))

    def critics_loss(critics: Any, batch: Batch, target: Array) -> tuple[Array, Array]:
        found = values(critics, batch.observation)
        losses = jax.vmap(lambda each: optax.losses.l2_loss(of_action(each, batch.action), target))(found)
        return jnp.sum(jnp.mean(losses, axis=1)), jnp.min(found, axis=0)

    def actor_loss(policy: Any, batch: Batch, lowest: Array, temperature: Array) -> tuple[Array, Array]:
        log_probabilities = jax.nn.log_softmax(preferences(policy, batch.observation))
        value = soft_value(log_probabilities, lowest, temperature)
        return -jnp.mean(value), entropy(log_probabilities)

    def largest_entropy(observation: Float[Array, "B O"]) -> Array:
        if legal is None:
            return jnp.log(jnp.float32(num_actions))
        return jnp.mean(jnp.log(jnp.sum(legal(observation), axis=-1).astype(jnp.float32)))

    def update(
        networks: off_policy.Networks, batch: Batch, hypers: Hypers, clock: Clock, number: Array
    ) -> tuple[off_policy.Networks, dict[str, Array]]:
        policy, learner, diverged = networks
        temperature = current_temperature(learner.log_temperature, hypers)
        next_value = soft_value(
            jax.nn.log_softmax(preferences(policy, batch.next_observation)),
            jnp.min(values(learner.targets, batch.next_observation), axis=0),
            temperature,
        )
        target = td_targets(batch.reward, next_value, batch.terminated, batch.discount)
        (value_loss, lowest), critics_gradient = jax.value_and_grad(critics_loss, has_aux=True)(
            learner.critics, batch, target
        )
        (policy_loss, entropies), actor_gradient = jax.value_and_grad(actor_loss, has_aux=True)(
            policy, batch, lowest, temperature
        )
        mean_entropy = jnp.mean(entropies)
        aim = hypers.target_entropy_ratio * largest_entropy(batch.observation)
        temperature_gradient = jax.grad(temperature_loss)(learner.log_temperature, mean_entropy, aim)

        def move(gradient: Any, moments: Any, parameters: Any, rate: Number, diverged: Array) -> tuple[Any, Any, Array]:
            falling = clock.falling(rate, hypers.final_rate)
            return optimiser.update(gradient, moments, parameters, falling, hypers.max_grad_norm, diverged)

        of_actor, of_critics, of_temperature = learner.moments
        critics, of_critics, either = jax.vmap(move, (0, 0, 0, None, None))(
            critics_gradient, of_critics, learner.critics, hypers.critic_rate, diverged
        )
        policy, of_actor, diverged = move(actor_gradient, of_actor, policy, hypers.actor_rate, jnp.any(either))
        log_temperature, of_temperature, diverged = move(
            temperature_gradient,
            of_temperature,
            learner.log_temperature,
            hypers.temperature_rate * hypers.learn_temperature,
            diverged,
        )
        targets = off_policy.moved_target(learner.targets, critics, hypers.target_tau, hypers.target_period, number)
        learner = Learner(critics, targets, log_temperature, (of_actor, of_critics, of_temperature))
        metrics = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": mean_entropy,
            "temperature": temperature,
        }
        return (policy, learner, diverged), metrics

    step = off_policy.make_step(env, config, explore, update)

    def hold_actor(before: AgentState, after: AgentState, holding: Array) -> AgentState:
        """The temperature is held with the actor, whose entropy it follows."""
        log_temperature = held(before.learner.log_temperature, after.learner.log_temperature, holding)
        return hold(before, after, holding)._replace(learner=after.learner._replace(log_temperature=log_temperature))

    return Algorithm(
        "sac",
        init,
        step,
        act,
        preferences,
        actor,
        config.env_steps,
        critics_begin=config.warmup_iterations,
        hold=hold_actor,
    )


def soft_value(
    log_probabilities: Float[Array, "B A"], values: Float[Array, "B A"], temperature: Number
) -> Float[Array, " B"]:
    """Expected value and entropy bonus, `pi^T (Q - temperature log pi)` (equation 10; equation 12 is its negative).

    >>> soft_value(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([[1.0, 3.0]]), 0.0).tolist()
    [2.0]
    """
    return jnp.sum(jnp.exp(log_probabilities) * (values - temperature * log_probabilities), axis=-1)


def entropy(log_probabilities: Float[Array, "B A"]) -> Float[Array, " B"]:
    """Entropy of categorical distributions, `-pi^T log pi`, in nats."""
    return -jnp.sum(jnp.exp(log_probabilities) * log_probabilities, axis=-1)


def temperature_loss(
    log_temperature: Float[Array, ""], entropy: Float[Array, ""], aim: Float[Array, ""]
) -> Float[Array, ""]:
    """`temperature * (entropy - aim)` (equation 11): the temperature falls while the policy is more random than aimed.

    >>> float(jax.grad(temperature_loss)(jnp.log(2.0), jnp.float32(1.5), jnp.float32(1.0)))
    1.0
    """
    return jnp.exp(log_temperature) * (entropy - aim)


def current_temperature(log_temperature: Float[Array, ""], hypers: Hypers) -> Float[Array, ""]:
    """What has been learned, or the number that was given."""
    return jnp.where(jnp.float32(hypers.learn_temperature) > 0.5, jnp.exp(log_temperature), hypers.temperature)


register_algorithm(
    "sac", make, Hypers, Config, preferences="logits",
    summary="Train SAC agents: soft actor-critic for discrete actions.",
    speeds={"cpu": 20e3, "gpu": 3.2e6, "tpu": 3.2e6},
    memory_factor=1.6,
)  # fmt: skip
