"""What an algorithm is: pure functions of one agent. Whoever wants thousands of agents applies `jax.vmap` once."""

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxmoe.algorithms.networks import MLP
from jaxmoe.errors import InputError
from jaxmoe.names import short

if TYPE_CHECKING:
    from gymnax.environments.environment import Environment


class Clock(NamedTuple):
    """Where the run stands. It is the same for all agents and lives outside the agent axis."""

    iteration: Int[Array, ""]  # iterations finished
    iterations: Int[Array, ""]  # iterations over which schedules run
    begin: int | Int[Array, ""] = 0  # the iteration at which they begin

    def remaining(self) -> Float[Array, ""]:
        """Fraction of the schedule still ahead, from 1 down to 0."""
        done = jnp.asarray(self.iteration - self.begin)
        return 1.0 - done.astype(jnp.float32) / self.iterations.astype(jnp.float32)

    def falling(self, start: float | Array, final: float | Array) -> Float[Array, ""]:
        """What falls from `start` to the fraction `final` of it, linearly over the run, as learning rates do."""
        return start * (final + (1.0 - final) * self.remaining())


MOST_AT_ONCE = 2**20  # steps of a rollout, or rows that an update reads, which are in memory together
WIDEST = 2**16  # hidden layer
SMALLEST_LIMIT = 1e-6  # of a gradient's norm: a limit of 0 would mean that nothing is learned


class About(NamedTuple):
    """What a field of `Hypers` or `Config` means, and its limits, both allowed."""

    meaning: str
    low: float = 0.0
    high: float = float("inf")
    boolean: bool = False  # 1 and 0 stand for true and false
    whole: bool = False  # a count, of which there is nothing in between


@functools.cache
def about(settings: type) -> dict[str, About]:
    """Meaning and limits of each field of an algorithm's `Hypers` or `Config`."""
    found = {}
    for name, hint in get_type_hints(settings, include_extras=True).items():
        assert get_origin(hint) is Annotated, f"{settings.__name__}.{name} says nothing about itself"
        found[name] = get_args(hint)[1]
    return found


def require_choice(name: str, value: str, options: Iterable[str]) -> None:
    """Refuse a word of a `Config` that is none of the options."""
    if value not in options:
        raise InputError(f"{name} = {short(value)} is unknown; choose one of {', '.join(options)}")


def require_few_rows(what: str, rows: int) -> None:
    """Refuse a product of a `Config` that no memory holds."""
    if rows > MOST_AT_ONCE:
        raise InputError(f"{what} = {rows:,} are in memory at once, and may be at most {MOST_AT_ONCE:,}; give fewer")


class AgentState(NamedTuple):
    """All that one agent carries from iteration to iteration."""

    policy: Any  # parameters of the acting network: what is evaluated and exported
    learner: Any  # what only learning needs: critics, optimiser moments
    env_state: Any  # [N] states of the agent's parallel environments
    observation: Float[Array, "N O"]
    key: Array
    diverged: Bool[Array, ""]  # a gradient was infinite or not a number; nothing has been learned since
    memory: Any = ()  # replay, too large to be copied in a step


class InitFunction(Protocol):
    """Make a fresh agent from its key, hyperparameters and environment parameters."""

    def __call__(self, key: Array, hypers: Any, env_params: Any) -> AgentState: ...


class StepFunction(Protocol):
    """One iteration of collecting and learning; returns the agent and the iteration's scalar metrics."""

    def __call__(
        self, state: AgentState, hypers: Any, env_params: Any, clock: Clock
    ) -> tuple[AgentState, dict[str, Float[Array, ""]]]: ...


class ActFunction(Protocol):
    """Action of the learning policy, which explores, for one observation."""

    def __call__(self, policy: Any, observation: Float[Array, " O"], key: Array) -> Int[Array, ""]: ...


def adopt(state: AgentState, policy: Any) -> AgentState:
    """The agent with another acting network; what else it has learned is as it was."""
    return state._replace(policy=policy)


def hold(before: AgentState, after: AgentState, holding: Bool[Array, ""]) -> AgentState:
    """The agent after an iteration, with the acting network that it had before if it is held."""
    return after._replace(policy=held(before.policy, after.policy, holding))


def held(before: Any, after: Any, holding: Bool[Array, ""]) -> Any:
    """What was before, if it is held, else what is after."""
    return jax.tree.map(lambda old, new: jnp.where(holding, old, new), before, after)


class Algorithm(NamedTuple):
    """An algorithm, bound to an environment and a static `Config`."""

    name: str
    init: InitFunction
    step: StepFunction
    act: ActFunction
    preferences: Callable[[Any, Float[Array, " O"]], Float[Array, " A"]]  # its argmax is the greedy action
    actor: MLP  # the acting network, whose parameters are the policy; `actor.network` is what it is as data
    env_steps: int  # environment steps of one iteration
    adopt: Callable[[AgentState, Any], AgentState] = adopt  # a fresh agent that goes on from a trained acting network
    critics_begin: int | None = (
        None  # iteration from which critics learn that no policy brings; absent if there are none
    )
    hold: Callable[[AgentState, AgentState, Bool[Array, ""]], AgentState] = hold  # the policy, while these learn


def begin_environments(key: Array, env: "Environment", env_params: Any, num_envs: int) -> tuple[Array, Any]:
    """Observations and states of an agent's freshly reset environments."""
    return jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key, num_envs), env_params)
