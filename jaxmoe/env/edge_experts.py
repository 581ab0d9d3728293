"""`EdgeExperts`: the mobile edge network as a gymnax 1.x environment; its rules live in `jaxmoe.env.rules`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxmoe.devices import start_jax
from jaxmoe.env import rules
from jaxmoe.env.observation import legal_actions, observation_limits, observation_size, observe
from jaxmoe.env.params import EnvParams, Settings
from jaxmoe.env.rules import Draws, EnvState

start_jax()  # gymnax computes when it is imported, and JAX fixes its devices then

from gymnax.environments import environment, spaces  # noqa: E402


class EdgeExperts(environment.Environment[EnvState, EnvParams]):
    """Choose the experts of each request so that text, airtime, computing, delay and energy balance.

    Observation (`observation.FIELDS`): `relevance[E]`, `words_hat[E]/100`, `snr_db[D]/20`, `backlog_s[D]/slot_s`,
    battery fraction, `available[D]`, then the numbers that each episode draws anew. Action (`actions.device_choices`):
    one of (R + 1)^E assignments, or of those that ask at most `max_experts` experts. Reward: QoS of the slot.

    Parameters come from `jaxmoe.make`, because they hold the expert table. Two environments with the same settings are
    equal, so that they share compiled programs.
    """

    def __init__(self, settings: Settings) -> None:
        """Keep the static settings of a scenario."""
        self.settings = settings

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EdgeExperts) and self.settings == other.settings

    def __hash__(self) -> int:
        return hash((EdgeExperts, self.settings))

    def __repr__(self) -> str:
        return f"EdgeExperts({self.settings})"

    @property
    def default_params(self) -> EnvParams:
        """There are none: raise an error that says where parameters come from."""
        raise ValueError("EdgeExperts has no default parameters, since they hold the expert table: use jaxmoe.make")

    def draw(self, key: Array) -> tuple[Draws, Draws]:
        """What a step draws, which its key alone decides: for the slot, and for an episode that may begin after it."""
        key_step, key_reset = jax.random.split(key)
        return rules.draw(key_step, self.settings), rules.draw(key_reset, self.settings)

    def step_drawn(
        self, draws: tuple[Draws, Draws], state: EnvState, action: int | float | Array, params: EnvParams
    ) -> tuple[Float[Array, " O"], EnvState, Float[Array, ""], Bool[Array, ""], Bool[Array, ""], dict[Any, Any]]:
        """`step`, given what it draws: a rollout draws all of its steps faster at once."""
        of_slot, of_episode = draws
        after, next_state, reward, terminated, info = self._serve(of_slot, state, action, params)
        truncated = self.is_truncated(next_state, params)
        ended, begun = terminated | truncated, self._begin(of_episode, params)
        observation, following = jax.tree.map(partial(jax.lax.select, ended), begun, (after, next_state))
        info |= {"terminated": terminated, "truncated": truncated, "final_observation": after}
        return observation, following, reward, terminated, truncated, info

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Array, state: EnvState, action: int | float | Array, params: EnvParams | None = None
    ) -> tuple[Float[Array, " O"], EnvState, Float[Array, ""], Bool[Array, ""], Bool[Array, ""], dict[Any, Any]]:
        """Serve the slot's request with `action`, and begin an episode where one has ended."""
        return self.step_drawn(self.draw(key), state, action, self.default_params if params is None else params)

    def step_env(
        self, key: Array, state: EnvState, action: int | float | Array, params: EnvParams
    ) -> tuple[Float[Array, " O"], EnvState, Float[Array, ""], Bool[Array, ""], dict[Any, Any]]:
        """Serve the slot's request with `action`; `info` holds every term of the reward and what was done."""
        return self._serve(rules.draw(key, self.settings), state, action, params)

    def _serve(
        self, draws: Draws, state: EnvState, action: int | float | Array, params: EnvParams
    ) -> tuple[Float[Array, " O"], EnvState, Float[Array, ""], Bool[Array, ""], dict[Any, Any]]:
        next_state, outcome = rules.transition(state, jnp.asarray(action, jnp.int32), draws, params, self.settings)
        info = {**outcome._asdict(), "prompt": state.prompt, "discount": self.discount(next_state, params)}
        terminated = self.is_terminated(next_state, params)
        return observe(next_state, params, self.settings), next_state, outcome.qos, terminated, info

    def reset_env(self, key: Array, params: EnvParams) -> tuple[Float[Array, " O"], EnvState]:
        """Begin an episode."""
        return self._begin(rules.draw(key, self.settings), params)

    def _begin(self, draws: Draws, params: EnvParams) -> tuple[Float[Array, " O"], EnvState]:
        state = rules.begin(draws, params, self.settings)
        return observe(state, params, self.settings), state

    def observe(
        self, key: Array, state: EnvState, action: int | float | Array | None, params: EnvParams
    ) -> Float[Array, " O"]:
        """What the user knows before choosing; neither `key` nor `action` matters."""
        del key, action
        return observe(state, params, self.settings)

    def action_mask(self, state: EnvState, params: EnvParams) -> Bool[Array, " A"]:
        """Actions that ask available devices only."""
        del params
        return rules.action_mask(state, self.settings)

    @property
    def legal_actions(self) -> Callable[[Float[Array, "*batch O"]], Bool[Array, "*batch A"]] | None:
        """The same as a function of observations, for algorithms that mask; absent where no device can be down."""
        return partial(legal_actions, settings=self.settings) if self.settings.masked else None

    def is_terminated(self, state: EnvState, params: EnvParams) -> Bool[Array, ""]:
        """Only the one-slot task ends by itself; the others have no end that a value function should know."""
        del state, params
        return jnp.asarray(self.settings.one_slot)

    @property
    def truncates(self) -> bool:
        """Whether episodes are ever cut: else no value is asked of an observation that nothing follows."""
        return not self.settings.one_slot

    def is_truncated(self, state: EnvState, params: EnvParams) -> Bool[Array, ""]:
        """A continuing task is cut at its time limit."""
        return jnp.asarray(not self.settings.one_slot) & (state.time >= params.max_steps_in_episode)

    @property
    def num_actions(self) -> int:
        """Assignments, (R + 1)^E, or those of at most `max_experts` experts."""
        return self.settings.num_actions

    @property
    def observation_size(self) -> int:
        """Length of the observation."""
        return observation_size(self.settings)

    def action_space(self, params: EnvParams | None = None) -> spaces.Discrete:
        """One of the assignments."""
        del params
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: EnvParams | None = None) -> spaces.Box:
        """Real vectors with the limits of the observation's fields; nothing bounds the SNR."""
        del params
        low, high = observation_limits(self.settings)
        return spaces.Box(low, high, (self.observation_size,), jnp.float32)

    def state_space(self, params: EnvParams) -> Any:
        """Shapes and types of the state, from tracing a reset."""
        return jax.eval_shape(lambda key: self.reset_env(key, params)[1], jax.random.key(0))
