"""The processor's cores as JAX devices."""

import contextlib
import os

import jax


def use_all_cores() -> None:
    """Give JAX one host device per core, unless it has started already or somebody has chosen a number.

    JAX fixes its devices when it first computes. This concerns the CPU only.
    """
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen or jax.config.jax_num_cpu_devices > 0:  # type: ignore[attr-defined]
        return
    with contextlib.suppress(RuntimeError):  # it has started
        jax.config.update("jax_num_cpu_devices", _num_cores())


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
