"""The processor's cores as JAX devices, and the cache of what is compiled for them."""

import contextlib
import os

import jax
import platformdirs

from jaxmoe.errors import InputError


def use_all_cores() -> None:
    """Give JAX one host device per core, unless it has started already or somebody has chosen a number.

    JAX fixes its devices when it first computes. This concerns the CPU only.
    """
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen or jax.config.jax_num_cpu_devices > 0:  # type: ignore[attr-defined]
        return
    with contextlib.suppress(RuntimeError):  # it has started
        jax.config.update("jax_num_cpu_devices", _num_cores())


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, so that a second start compiles nothing.

    Not if somebody has chosen a folder (`JAX_COMPILATION_CACHE_DIR`), or has set `JAXMOE_COMPILATION_CACHE=off`.
    """
    chosen = os.environ.get("JAXMOE_COMPILATION_CACHE", "on").lower()
    if chosen not in ("on", "off"):
        raise InputError(f"JAXMOE_COMPILATION_CACHE = {chosen!r} is not allowed; choose on or off")
    if chosen == "off" or jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("jaxmoe"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
