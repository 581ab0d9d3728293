"""Running one agent's function for many agents: in blocks of a fixed width, each spread over all local devices.

A block has so many agents, the lanes, on each device; the last block is padded. Every agent is run by the same compiled
program, whatever the number of agents and whichever they are: an agent's numbers depend on no other agent, and more
agents need no further compilation. On a CPU few lanes keep the working set in a core's cache.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_LANES = {"cpu": 8}
_LANES_ELSEWHERE = 128


def lanes() -> int:
    """Agents of a block on each device of this kind."""
    return _LANES.get(jax.default_backend(), _LANES_ELSEWHERE)


def block_width() -> int:
    """Agents of a block."""
    return lanes() * jax.local_device_count()


def padded_count(agents: int) -> int:
    """Agents after padding to whole blocks."""
    return -(-agents // block_width()) * block_width()


def blocks(batched: Any) -> list[Any]:
    """Cut arrays with the agent axis in front into blocks on the devices; the last agent is repeated as padding."""
    count = jax.tree.leaves(batched)[0].shape[0]
    width, where = block_width(), NamedSharding(_mesh(), PartitionSpec("agents"))

    def block(begin: int) -> Any:
        rows = np.minimum(np.arange(begin, begin + width), count - 1)
        return jax.tree.map(lambda leaf: jax.device_put(leaf[rows], where), batched)

    return [block(begin) for begin in range(0, count, width)]


def joined(parts: list[Any], count: int) -> Any:
    """The first `count` agents of the blocks, without padding, as arrays of the host. Inverse of `blocks`."""
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves])[:count], *parts)


def for_each_agent(function: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Turn `function(state, settings, shared)` of one agent into one of a block of states and settings.

    The result is compiled and runs on all local devices. The states' memory is donated to the result; `shared` is the
    same for all agents and is not copied per agent.
    """
    split, whole = PartitionSpec("agents"), PartitionSpec()
    sharded = jax.shard_map(
        jax.vmap(function, in_axes=(0, 0, None)),
        mesh=_mesh(),
        in_specs=(split, split, whole),
        out_specs=split,
        check_vma=False,
    )
    return jax.jit(sharded, donate_argnums=0)


def zeros(shapes: Any) -> Any:
    """Zeros of the given shapes and types."""
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)


def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("agents",))
