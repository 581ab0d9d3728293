"""Running one agent's function for many agents: in batches of a fixed width, each spread over all local devices.

A batch has `agents_per_device` agents on each device; the last batch is padded. Every agent is run by the same compiled
program, whatever the number of agents and of devices: an agent's numbers depend on no other agent, and more agents need
no further compilation. On a CPU few agents a device keep the working set in a core's cache.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmoe.training.compiled import Compiled


def batches(rows: Any, agents_per_device: int) -> list[Any]:
    """Cut arrays with the agent axis in front into batches on the devices; the last agent is repeated as padding."""
    count = jax.tree.leaves(rows)[0].shape[0]
    width, where = agents_per_device * jax.local_device_count(), NamedSharding(_mesh(), PartitionSpec("agents"))

    def batch(begin: int) -> Any:
        chosen = np.minimum(np.arange(begin, begin + width), count - 1)
        return jax.tree.map(lambda leaf: jax.device_put(leaf[chosen], where), rows)

    return [batch(begin) for begin in range(0, count, width)]


def batch_from(read: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> jax.Array:
    """An array of a batch, read part by part: for each device the agents at these positions of the batch."""
    where, positions = NamedSharding(_mesh(), PartitionSpec("agents")), np.arange(shape[0])

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None
        return read(positions[index[0]])

    return jax.make_array_from_callback(shape, where, part)


def joined(parts: list[Any], count: int) -> Any:
    """The first `count` agents of the batches, without padding, as arrays of the host. Inverse of `batches`."""
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves])[:count], *parts)


def for_each_agent(function: Callable[[Any, Any, Any], Any]) -> Compiled:
    """Turn `function(state, row, shared)` of one agent into a program of a batch of states and rows.

    It runs on all local devices. The states' memory is donated to the result; `shared` is the
    same for all agents and is not copied per agent.
    """
    split, whole = PartitionSpec("agents"), PartitionSpec()
    mesh, each = _mesh(), jax.vmap(function, in_axes=(0, 0, None))
    specs = (split, split, whole)
    sharded = jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)
    return Compiled(sharded, tuple(NamedSharding(mesh, spec) for spec in specs), donate_argnums=0)


def zeros(shapes: Any) -> Any:
    """Zeros of the given shapes and types."""
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)


def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("agents",))
