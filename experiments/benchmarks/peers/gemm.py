"""What the machine can compute at most: a large matrix product on every host device at once."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SIZE = 2048  # rows and columns
REPETITIONS = 20


def gemm_peak_gflops() -> float:
    """Multiplications and additions per second in float32, in 1e9, of the fastest of some repetitions."""
    devices = jax.local_devices()
    mesh, split = Mesh(np.array(devices), ("devices",)), PartitionSpec("devices")
    multiply = jax.jit(jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(split, split), out_specs=split))
    shape = (len(devices), SIZE, SIZE)
    factor = jax.device_put(jax.random.normal(jax.random.key(0), shape), NamedSharding(mesh, split))
    jax.block_until_ready(multiply(factor, factor))
    seconds = []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        jax.block_until_ready(multiply(factor, factor))
        seconds.append(time.perf_counter() - began)
    return 2e-9 * len(devices) * SIZE**3 / min(seconds)
