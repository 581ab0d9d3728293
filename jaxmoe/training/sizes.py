"""How large agents are and how fast they train, as far as a plan needs it: nothing is compiled or measured for it.

Algorithms say their own speeds and memory; ours are those of `train_speed.py` (two CPU cores), `gpu.sh` (one H200) and,
rounded up, `memory_factors.py` in `experiments/benchmarks`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxmoe.algorithms.registry import memory_factor, speed
from jaxmoe.training.program import Agents, Program

MEMORY_SHARE = {"cpu": 0.5}  # of the memory, that a job may take
MEMORY_SHARE_ELSEWHERE = 0.75
JOB_S = 120.0  # s, about as long a job trains
MOST_AGENTS = {"cpu": 4_096}  # of a job
MOST_AGENTS_ELSEWHERE = 16_384
CACHE_AGENTS = 8  # of a batch on one core, so that a cache holds what it works on; 16 and 32 are no faster, 4 slower
MOST_EVALUATED = 4_096  # agents at once on an accelerator
KEPT_STATES = 2 * 2**30  # bytes of all final states together, up to which they are kept


def agents_per_device(algorithm: str, platform: str, devices: int, memory_gib: float, agents: int, agent: int) -> int:
    """Agents that one device trains in one batch, unless a spec says otherwise.

    All at once if they fit the memory of an accelerator; so many as a cache holds on a CPU. Each device has its part,
    so that few agents are no more work than they are.

    Args:
        algorithm: which.
        platform: of the devices.
        devices: how many.
        memory_gib: of one device.
        agents: how many are trained.
        agent: bytes of one's state.

    >>> [agents_per_device("ppo", "cpu", 16, 8.0, agents, 2**18) for agents in (1, 32, 1024)]
    [1, 2, 8]
    >>> [agents_per_device("ppo", "gpu", 1, 80.0, agents, 2**18) for agents in (1_024, 10**6)]
    [1024, 87771]
    """
    each = -(-agents // devices)
    if platform == "cpu":
        return min(CACHE_AGENTS, each)
    return max(1, min(each, int(_fitting(algorithm, platform, memory_gib, agent))))


def evaluated_per_device(platform: str, devices: int, agents: int) -> int:
    """Agents that one device evaluates in one batch, outside of training."""
    return min(CACHE_AGENTS if platform == "cpu" else MOST_EVALUATED, -(-agents // devices))


def training_bytes(algorithm: str, agents: int, at_once: int, agent: int) -> int:
    """Memory that a job takes: the states of its agents, and what the training of those at once adds."""
    return int(agent * (agents + (memory_factor(algorithm) - 1) * min(agents, at_once)))


def _fitting(algorithm: str, platform: str, memory_gib: float, agent: int) -> float:
    """Agents that can be trained at once in the share of so much memory that a job may take."""
    share = MEMORY_SHARE.get(platform, MEMORY_SHARE_ELSEWHERE)
    return share * memory_gib * 2**30 / (memory_factor(algorithm) * agent)


def bytes_per_agent(program: Program, make_hypers: Any, numbers: tuple[str, ...]) -> int:
    """Memory of one agent's state: networks, moments, environments, replay. Nothing is computed."""
    count = jax.local_device_count()
    ones = jnp.zeros(count, jnp.float32)
    hypers = make_hypers(*(ones for _ in make_hypers._fields))
    shape = program.shape(Agents(jnp.zeros(count, jnp.int32), hypers, dict.fromkeys(numbers, ones)))
    return sum(map(_bytes, jax.tree.leaves(shape))) // count


def agents_per_job(algorithm: str, platform: str, devices: int, memory_gib: float, env_steps: int, agent: int) -> int:
    """As many agents as train about `JOB_S`, fit the memory, and are not too many for one process and its files.

    Args:
        algorithm: which.
        platform: of the devices.
        devices: how many.
        memory_gib: of one device; of a CPU, of all together.
        env_steps: of each agent.
        agent: bytes of one.
    """
    by_time = JOB_S * devices * speed(algorithm, platform) / env_steps
    by_memory = _fitting(algorithm, platform, memory_gib * (1 if platform == "cpu" else devices), agent)
    return max(1, int(min(by_time, by_memory, MOST_AGENTS.get(platform, MOST_AGENTS_ELSEWHERE))))


def _bytes(leaf: Any) -> int:
    """Of an array's shape."""
    key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return math.prod(leaf.shape) * (8 if key else leaf.dtype.itemsize)
