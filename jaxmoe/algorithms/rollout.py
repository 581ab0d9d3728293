"""Collecting experience: one agent acts in its parallel environments for some steps."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int

if TYPE_CHECKING:
    from gymnax.environments.environment import Environment


class Transition(NamedTuple):
    """One step in each of N environments; a rollout stacks T of them in front."""

    observation: Float[Array, "N O"]
    action: Int[Array, " N"]
    memo: Any  # [N] what `choose` said beside the action
    reward: Float[Array, " N"]
    final_observation: Float[Array, "N O"]  # after the step, before a reset
    terminated: Bool[Array, " N"]
    done: Bool[Array, " N"]  # terminated or truncated


# Observations and uniforms to actions, and whatever the algorithm wants to remember of the decisions.
ChooseFunction = Callable[[Float[Array, "N O"], Float[Array, " N"]], tuple[Int[Array, " N"], Any]]


def drawn_apart(env: "Environment") -> tuple[Callable[[Array], Any], Callable[..., Any]]:
    """What a step draws from its key, and the step that spends it.

    All steps of a rollout draw faster at once than one after the other. An environment may offer both apart, as
    `draw(key)` and `step_drawn(draws, state, action, params)`; of others, a step draws for itself.
    """
    if hasattr(env, "step_drawn"):
        return env.draw, env.step_drawn
    return lambda key: key, env.step


def collect(
    key: Array,
    choose: ChooseFunction,
    env: "Environment",
    env_state: Any,
    observation: Float[Array, "N O"],
    env_params: Any,
    length: int,
) -> tuple[Any, Float[Array, "N O"], Transition]:
    """Let `choose(observations, uniforms)` act for `length` steps; one uniform per decision decides what is random.

    Returns:
        The environments' states and observations after the last step, and the stacked transitions.
    """
    num_envs = observation.shape[0]
    key_choices, key_steps = jax.random.split(key)
    uniforms = jax.random.uniform(key_choices, (length, num_envs))
    draw, step = drawn_apart(env)
    draws = jax.vmap(jax.vmap(draw))(jax.random.split(key_steps, (length, num_envs)))
    step_all = jax.vmap(step, in_axes=(0, 0, 0, None))

    def act_and_step(carry: tuple[Any, Array], drawn: tuple[Array, Any]) -> tuple[tuple[Any, Array], Transition]:
        env_state, observation = carry
        uniform, draws = drawn
        action, memo = choose(observation, uniform)
        following, env_state, reward, terminated, truncated, info = step_all(draws, env_state, action, env_params)
        transition = Transition(
            observation, action, memo, reward, info["final_observation"], terminated, terminated | truncated
        )
        return (env_state, following), transition

    (env_state, observation), transitions = jax.lax.scan(act_and_step, (env_state, observation), (uniforms, draws))
    return env_state, observation, transitions
