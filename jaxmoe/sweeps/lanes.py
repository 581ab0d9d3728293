"""Running one agent's function for many agents: sharded over devices, and on each device a few lanes at a time.

Agents are cut into groups of a fixed number of lanes. A group is vmapped; the groups of a device follow one another, so
that the working set of a group stays in the processor's cache. Since every group has the same width, padded if need
be, an agent's numbers do not depend on how many others there are or which they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

_LANES = {"cpu": 4}  # the working set of four agents stays in a core's cache
_LANES_ELSEWHERE = 128


def lanes() -> int:
    """Agents of a group on this kind of device."""
    return _LANES.get(jax.default_backend(), _LANES_ELSEWHERE)


def padded_count(agents: int) -> int:
    """Agents after padding: the same number of whole groups for every local device."""
    multiple = lanes() * jax.local_device_count()
    return -(-agents // multiple) * multiple


def pad(batched: Any, count: int) -> Any:
    """Repeat the last agent until there are `count`."""

    def pad_leaf(leaf: Array) -> Array:
        missing = count - leaf.shape[0]
        return jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))]) if missing else leaf

    return jax.tree.map(pad_leaf, batched)


def for_each_agent(function: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Turn `function(state, settings, shared)` of one agent into one over the leading axis of states and settings.

    The result is compiled and runs on all local devices. The states' memory is donated to the result; `shared` is the
    same for all agents and is not copied per agent. The number of agents must be a `padded_count`.
    """
    mesh, width = Mesh(np.array(jax.local_devices()), ("agents",)), lanes()

    def on_device(states: Any, settings: Any, shared: Any) -> Any:
        def on_group(group: tuple[Any, Any]) -> Any:
            return jax.vmap(function, in_axes=(0, 0, None))(*group, shared)

        grouped = jax.tree.map(lambda leaf: leaf.reshape(-1, width, *leaf.shape[1:]), (states, settings))
        results = jax.lax.map(on_group, grouped)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)

    split, whole = PartitionSpec("agents"), PartitionSpec()
    sharded = jax.shard_map(on_device, mesh=mesh, in_specs=(split, split, whole), out_specs=split, check_vma=False)
    return jax.jit(sharded, donate_argnums=0)
