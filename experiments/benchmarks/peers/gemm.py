"""What the machine can at most: large matrix products on every device at once, and copies in a device's memory."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

REPETITIONS = 20
QUEUED = 4  # calls that an accelerator is given before the host waits for it
COPIED = 2**28  # numbers in float32; on a CPU a sixteenth


def gemm_peak_gflops(precision: str | None = None) -> float:
    """Multiplications and additions per second in float32, in 1e9, of the fastest of some repetitions.

    Args:
        precision: "highest" keeps float32 where a device would round factors for its matrix units.
    """
    size = 2048 if _on_cpu() else 8192  # rows and columns
    devices = jax.local_devices()
    mesh, split = Mesh(np.array(devices), ("devices",)), PartitionSpec("devices")

    def product(left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.matmul(left, right, precision=precision)

    multiply = jax.jit(jax.shard_map(product, mesh=mesh, in_specs=(split, split), out_specs=split))
    shape = (len(devices), size, size)
    factor = jax.device_put(jax.random.normal(jax.random.key(0), shape), NamedSharding(mesh, split))
    return 2e-9 * len(devices) * size**3 / _fastest(multiply, factor, factor)


def copy_gb_per_s() -> float:
    """Bytes read and written per second by one device, in 1e9, while numbers that fit no cache are changed."""
    numbers = jax.random.normal(jax.random.key(0), (COPIED // 16 if _on_cpu() else COPIED,))
    return 1e-9 * 2 * numbers.nbytes / _fastest(jax.jit(lambda numbers: numbers + 1.0), numbers)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _fastest(function: Callable[..., Any], *arguments: jax.Array) -> float:
    """Seconds of a call, in the fastest of some repetitions, after one that compiles."""
    calls = range(1 if _on_cpu() else QUEUED)
    jax.block_until_ready(function(*arguments))
    seconds = []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        jax.block_until_ready([function(*arguments) for _ in calls])
        seconds.append((time.perf_counter() - began) / len(calls))
    return min(seconds)
