"""What DQN and SAC have in common: collect, remember, and learn from random parts of what is remembered."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jaxmoe.algorithms import replay
from jaxmoe.algorithms.algorithm import (
    MOST_AT_ONCE,
    WIDEST,
    About,
    AgentState,
    Clock,
    StepFunction,
    begin_environments,
    require_choice,
    require_few_rows,
)
from jaxmoe.algorithms.categorical import any_action, legal_in, legality
from jaxmoe.algorithms.networks import ACTIVATIONS
from jaxmoe.algorithms.rollout import collect
from jaxmoe.errors import InputError

if TYPE_CHECKING:
    from gymnax.environments.environment import Environment


@dataclass(frozen=True)
class Config:
    """What shapes the compiled program."""

    num_envs: Annotated[int, About("parallel environments of one agent", 1, MOST_AT_ONCE)] = 16
    rollout_length: Annotated[int, About("steps per iteration in each environment", 1, MOST_AT_ONCE)] = 32
    updates: Annotated[int, About("updates per iteration", 1, MOST_AT_ONCE)] = 16
    batch_size: Annotated[int, About("transitions per update", 1, MOST_AT_ONCE)] = 256
    replay_capacity: Annotated[int, About("transitions that are remembered", 1)] = 131_072
    replay_dtype: Annotated[str, About(f"type of remembered observations: {', '.join(replay.DTYPES)}")] = "float32"
    warmup_steps: Annotated[int, About("env steps of random actions before learning begins")] = 2_048
    n_step: Annotated[int, About("rewards of a target before it bootstraps", 1)] = 1
    hidden: Annotated[tuple[int, ...], About("widths of the networks", 1, WIDEST)] = (64, 64)
    activation: Annotated[str, About(f"function of the hidden layers: {', '.join(ACTIVATIONS)}")] = "relu"

    @property
    def env_steps(self) -> int:
        """Environment steps of one iteration."""
        return self.num_envs * self.rollout_length

    @property
    def warmup_iterations(self) -> int:
        """Iterations that only collect."""
        return -(-self.warmup_steps // self.env_steps)

    @property
    def layout(self) -> replay.Layout:
        """Of the replay memory."""
        return replay.Layout(self.replay_capacity, self.num_envs, self.rollout_length, self.n_step, self.replay_dtype)

    def __post_init__(self) -> None:
        require_choice("activation", self.activation, ACTIVATIONS)
        require_choice("replay_dtype", self.replay_dtype, replay.DTYPES)
        require_few_rows("num_envs * rollout_length", self.env_steps)
        require_few_rows("batch_size * n_step", self.batch_size * self.n_step)
        if self.replay_capacity % self.env_steps:
            raise InputError(
                f"replay_capacity = {self.replay_capacity} is not a multiple of num_envs * rollout_length = "
                f"{self.env_steps}, the steps of a rollout"
            )
        if self.n_step > (held := self._steps_held_when_learning_begins()):
            raise InputError(
                f"n_step = {self.n_step} is more than the {held} steps of each environment that are remembered when "
                "learning begins; raise warmup_steps or replay_capacity"
            )

    def _steps_held_when_learning_begins(self) -> int:
        steps = (self.warmup_iterations + 1) * self.rollout_length
        return min(steps, self.replay_capacity // self.num_envs)


# Policy, observations, uniforms, hyperparameters, clock -> actions of the policy that explores.
ActFunction = Callable[[Any, Float[Array, "N O"], Float[Array, " N"], Any, Clock], Int[Array, " N"]]
# Policy, learner and whether the agent has diverged; batch, hyperparameters, clock, number of the update in the run
# -> the first three anew, metrics.
Networks = tuple[Any, Any, Bool[Array, ""]]
UpdateFunction = Callable[
    [Networks, replay.Batch, Any, Clock, Int[Array, ""]], tuple[Networks, dict[str, Float[Array, ""]]]
]


def begin(key: Array, env: "Environment", env_params: Any, config: Config, policy: Any, learner: Any) -> AgentState:
    """An agent with these networks, with fresh environments and nothing in its memory."""
    key_env, key = jax.random.split(key)
    observation, env_state = begin_environments(key_env, env, env_params, config.num_envs)
    memory = replay.empty(config.layout, observation.shape[1])
    return AgentState(policy, learner, env_state, observation, key, jnp.array(False), memory)


def make_step(env: "Environment", config: Config, act: ActFunction, update: UpdateFunction) -> StepFunction:
    """One iteration: a rollout, then `config.updates` updates, each on a batch of its own, once the warm-up is over.

    `act` chooses as the learning policy does, and `update` changes policy and learner.
    """
    legal = legality(env)

    def step(
        state: AgentState, hypers: Any, env_params: Any, clock: Clock
    ) -> tuple[AgentState, dict[str, Float[Array, ""]]]:
        key_rollout, key_rows, key = jax.random.split(state.key, 3)
        warming_up = clock.iteration < config.warmup_iterations
        num_actions = env.action_space(env_params).n

        def choose(observation: Array, uniform: Array) -> tuple[Array, tuple[()]]:
            action = act(state.policy, observation, uniform, hypers, clock)
            anything = any_action(num_actions, uniform, legal_in(observation, legal))
            return jnp.where(warming_up, anything, action), ()

        env_state, observation, rollout = collect(
            key_rollout, choose, env, state.env_state, state.observation, env_params, config.rollout_length
        )
        memory = replay.insert(state.memory, rollout, clock, config.layout)

        def learn(networks: Networks) -> tuple[Networks, dict[str, Array]]:
            rows = replay.draw(key_rows, (config.updates, config.batch_size), clock, config.layout)
            numbers = clock.iteration * config.updates + jnp.arange(config.updates)

            def learn_once(networks: Networks, sample: tuple[Array, Array]) -> tuple[Networks, dict[str, Array]]:
                first, number = sample
                batch = replay.read(memory, first, hypers.discount, config.layout)
                return update(networks, batch, hypers, clock, number)

            networks, metrics = jax.lax.scan(learn_once, networks, (rows, numbers))
            return networks, jax.tree.map(jnp.mean, metrics)

        networks = (state.policy, state.learner, state.diverged)
        metrics_shape = jax.eval_shape(learn, networks)[1]
        nothing = jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), metrics_shape)  # missing, not 0
        networks, metrics = jax.lax.cond(warming_up, lambda networks: (networks, nothing), learn, networks)
        policy, learner, diverged = networks
        after = AgentState(policy, learner, env_state, observation, key, diverged, memory)
        return after, {"reward": jnp.mean(rollout.reward), **metrics}

    return step


def moved_target(
    target: Any, learned: Any, tau: float | Float[Array, ""], period: float | Float[Array, ""], number: Int[Array, ""]
) -> Any:
    """Target parameters after an update: `tau` of those learned enters them each `period` updates, else nothing.

    >>> [moved_target(jnp.zeros(1), jnp.ones(1), 0.5, 2.0, jnp.int32(number)).tolist() for number in range(4)]
    [[0.0], [0.5], [0.0], [0.5]]
    """
    due = (number + 1) % jnp.int32(period) == 0
    return optax.incremental_update(learned, target, jnp.where(due, jnp.float32(tau), 0.0))
