"""How large agents are and how fast they train, as far as a plan needs it: nothing is compiled or measured for it.

Algorithms say their own speeds; ours are those of `experiments/benchmarks/train_speed.py` (two CPU cores; one H200).
The memory of training is that of the agents' state times a factor, the largest peak of
`experiments/benchmarks/agents_scaling.py` over it.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxmoe.algorithms.registry import speed
from jaxmoe.training.program import Agents, Program

MEMORY_FACTOR = 1.5  # of training over the agents' state
MEMORY_SHARE = 0.5  # of a device, that a job may take
JOB_S = 120.0  # s, about as long a job trains
MOST_AGENTS = 4096  # of a job
AGENTS_PER_DEVICE = {"cpu": 8}
AGENTS_PER_DEVICE_ELSEWHERE = 128
KEPT_STATES = 2 * 2**30  # bytes of all final states together, up to which they are kept


def agents_per_device(platform: str) -> int:
    """Agents that one device trains in one batch, unless a spec says otherwise."""
    return AGENTS_PER_DEVICE.get(platform, AGENTS_PER_DEVICE_ELSEWHERE)


def bytes_per_agent(program: Program, make_hypers: Any, numbers: tuple[str, ...]) -> int:
    """Memory of one agent's state: networks, moments, environments, replay. Nothing is computed."""
    count = jax.local_device_count()
    ones = jnp.zeros(count, jnp.float32)
    hypers = make_hypers(*(ones for _ in make_hypers._fields))
    shape = program.shape(Agents(jnp.zeros(count, jnp.int32), hypers, dict.fromkeys(numbers, ones)))
    return sum(map(_bytes, jax.tree.leaves(shape))) // count


def agents_per_job(algorithm: str, platform: str, devices: int, memory_gib: float, env_steps: int, agent: int) -> int:
    """As many agents as train about `JOB_S`, fit the memory, and are at most `MOST_AGENTS`.

    Args:
        algorithm: which.
        platform: of the devices.
        devices: how many.
        memory_gib: of one device; of a CPU, of all together.
        env_steps: of each agent.
        agent: bytes of one.
    """
    by_time = JOB_S * devices * speed(algorithm, platform) / env_steps
    memory = memory_gib * 2**30 * (1 if platform == "cpu" else devices)
    by_memory = MEMORY_SHARE * memory / (MEMORY_FACTOR * agent)
    return max(1, int(min(by_time, by_memory, MOST_AGENTS)))


def _bytes(leaf: Any) -> int:
    """Of an array's shape."""
    key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return math.prod(leaf.shape) * (8 if key else leaf.dtype.itemsize)
