"""Replay memory of one agent: a ring of transitions of which each rollout overwrites the oldest.

Where the ring stands follows from the `Clock`, which is the same for all agents: under `vmap` the write keeps one index
for all of them and happens in place. A sample costs what it reads, whatever the capacity.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from jaxmoe.algorithms.algorithm import Clock
from jaxmoe.algorithms.categorical import of_action
from jaxmoe.algorithms.returns import n_step_return
from jaxmoe.algorithms.rollout import Transition

DTYPES = ("float32", "float16", "bfloat16")
_BITS = {4: jnp.uint32, 2: jnp.uint16}  # unsigned integers by the bytes that they take


class Layout(NamedTuple):
    """Which step of which environment a row holds: the N environments of a step one after the other, then the next."""

    capacity: int  # rows, a multiple of those of a rollout
    num_envs: int
    rollout_length: int
    n_step: int  # steps of a window
    dtype: str  # of observations


class Memory(NamedTuple):
    """Transitions, one in each of R rows.

    Observations are kept as bits: to read 16-bit floats, XLA would first convert the whole memory on a CPU.
    """

    observation: UInt[Array, "R O"]
    next_observation: UInt[Array, "R O"]  # after the step, before a reset
    outcome: Float[Array, "R 4"]  # action, reward, terminated, done: one read for all


class Batch(NamedTuple):
    """Experience as an off-policy update reads it: B windows of steps that one environment took in a row."""

    observation: Float[Array, "B O"]
    action: Int[Array, " B"]
    reward: Float[Array, " B"]  # discounted sum over the window, or to the end of the episode in it
    next_observation: Float[Array, "B O"]  # after the last of these steps, before a reset
    terminated: Bool[Array, " B"]  # by that step
    discount: Float[Array, " B"]  # of the value of `next_observation`


def empty(layout: Layout, observation_size: int) -> Memory:
    """A memory that holds nothing yet."""
    observations = _to_bits(jnp.zeros((layout.capacity, observation_size)), layout.dtype)
    return Memory(observations, observations, jnp.zeros((layout.capacity, 4)))


def insert(memory: Memory, rollout: Transition, clock: Clock, layout: Layout) -> Memory:
    """Overwrite the oldest rows by the rollout of the clock's iteration."""
    outcome = (rollout.action, rollout.reward, rollout.terminated, rollout.done)
    stacked = Memory(
        _to_bits(rollout.observation, layout.dtype),
        _to_bits(rollout.final_observation, layout.dtype),
        jnp.stack([leaf.astype(jnp.float32) for leaf in outcome], axis=-1),
    )
    begin = clock.iteration % _rollouts(layout) * _rollout_rows(layout)

    def overwrite(ring: Array, rows: Array) -> Array:
        return jax.lax.dynamic_update_slice(ring, rows.reshape(-1, rows.shape[-1]), (begin, 0))

    return jax.tree.map(overwrite, memory, stacked)


def draw(key: Array, shape: tuple[int, ...], clock: Clock, layout: Layout) -> Int[Array, "*shape"]:
    """First rows of windows, each equally likely, once the rollout of the clock's iteration is in.

    A window lies wholly in what is stored, and does not run on from the newest step into the oldest.
    """
    inserted = clock.iteration + 1
    held = jnp.minimum(inserted, _rollouts(layout))  # rollouts that are still there
    oldest = (inserted - held) % _rollouts(layout) * _rollout_rows(layout)
    begins = held * _rollout_rows(layout) - (layout.n_step - 1) * layout.num_envs
    return _wrapped(oldest + jax.random.randint(key, shape, 0, begins), layout)


def read(memory: Memory, first: Int[Array, " B"], discount: Float[Array, ""], layout: Layout) -> Batch:
    """What the windows hold that begin at these rows."""
    later = jnp.arange(layout.n_step) * layout.num_envs
    outcome = memory.outcome[_wrapped(first[:, None] + later[None, :], layout)]
    _, rewards, terminated, done = jnp.moveaxis(outcome, -1, 0)
    reward, weight, last = jax.vmap(n_step_return, in_axes=(0, 0, None))(rewards, done > 0.5, discount)
    ending = _wrapped(first + last * layout.num_envs, layout)
    return Batch(
        observation=_from_bits(memory.observation[first], layout.dtype),
        action=outcome[:, 0, 0].astype(jnp.int32),
        reward=reward,
        next_observation=_from_bits(memory.next_observation[ending], layout.dtype),
        terminated=of_action(terminated, last) > 0.5,
        discount=weight,
    )


def _rollout_rows(layout: Layout) -> int:
    return layout.num_envs * layout.rollout_length


def _rollouts(layout: Layout) -> int:
    """Rollouts that the memory holds when it is full."""
    return layout.capacity // _rollout_rows(layout)


def _wrapped(row: Int[Array, "*shape"], layout: Layout) -> Int[Array, "*shape"]:
    """Rows past the end begin anew; a comparison is cheaper than a remainder, which would be taken for each element."""
    return jnp.where(row < layout.capacity, row, row - layout.capacity)


def _to_bits(values: Float[Array, "*shape"], dtype: str) -> UInt[Array, "*shape"]:
    rounded = values.astype(dtype)
    return jax.lax.bitcast_convert_type(rounded, _BITS[rounded.dtype.itemsize])


def _from_bits(bits: UInt[Array, "*shape"], dtype: str) -> Float[Array, "*shape"]:
    return jax.lax.bitcast_convert_type(bits, jnp.dtype(dtype)).astype(jnp.float32)
