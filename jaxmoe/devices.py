"""The processor's cores as JAX devices, and the cache of what is compiled for them."""

import contextlib
import functools
import getpass
import os
import stat
import tempfile
import warnings
from pathlib import Path

import platformdirs

from jaxmoe.errors import InputError


def start_jax() -> None:
    """Start JAX as everything here needs it: with its devices, in single precision.

    Raises:
        InputError: the platform that is asked for is not there, or JAX is set to double precision.
    """
    import jax

    start_devices()
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise InputError(
            "JAX is set to 64-bit numbers, and jaxmoe computes with 32-bit ones: unset JAX_ENABLE_X64, or call "
            'jax.config.update("jax_enable_x64", False) first'
        )


@functools.cache
def start_devices() -> None:
    """Give JAX one host device per core, once, unless somebody has chosen a number, and let it find its devices.

    JAX fixes its devices when it first computes: where that has happened already and it has fewer, a warning says so.
    This concerns the CPU only.

    Raises:
        InputError: there is no such platform as JAX_PLATFORMS asks for.
    """
    import jax

    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not chosen and jax.config.jax_num_cpu_devices <= 0:  # type: ignore[attr-defined]
        _use_all_cores()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # it asserts where what is asked for is known and not installed
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        said = (str(error).strip().splitlines() or ["JAX finds no such device"])[0]
        raise InputError(
            f"JAX cannot start on JAX_PLATFORMS = {asked!r}: {said}; unset it, or install what it needs"
        ) from None


def _use_all_cores() -> None:
    import jax

    cores = num_cores()
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:  # it has started
        if jax.default_backend() == "cpu" and jax.local_device_count() < cores:
            warnings.warn(
                f"JAX was started before jaxmoe, with {jax.local_device_count()} of {cores} cores; call jaxmoe first, "
                f'or jax.config.update("jax_num_cpu_devices", {cores}) before JAX computes anything',
                stacklevel=5,
            )


def use_caches() -> None:
    """Keep compiled programs, and what baselines brought, in the user's cache folder for the next start.

    That is the folder `JAXMOE_CACHE_DIR` or the system's usual one; none if `JAXMOE_CACHE` is off. Programs are not
    kept there if somebody has chosen a folder for them (`JAX_COMPILATION_CACHE_DIR`); see `jaxmoe.training.compiled`.
    Nothing is kept where no folder can be made, as in a home that may only be read.
    """
    folder = cache_folder()
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        _CACHES.append(folder)
        _drop_torn(folder / "programs")


def _drop_torn(programs: Path) -> None:
    """Remove what a killed process has not written to its end: the time of its last use, which is written after it."""
    with contextlib.suppress(OSError):
        for entry in programs.glob("*-cache"):
            if not entry.with_name(f"{entry.name.removesuffix('-cache')}-atime").exists():
                entry.unlink(missing_ok=True)


_CACHES: list[Path] = []  # what was asked for; none until then


def cache_in_use() -> Path | None:
    """The user's cache folder, if somebody has asked for its use."""
    return _CACHES[-1] if _CACHES else None


def cache_folder() -> Path | None:
    """The user's cache folder; nothing if it is switched off."""
    chosen = os.environ.get("JAXMOE_CACHE", os.environ.get("JAXMOE_COMPILATION_CACHE", "on")).lower()
    if chosen not in ("on", "off"):
        raise InputError(f"JAXMOE_CACHE = {chosen!r} is not allowed; choose on or off")
    if chosen == "off":
        return None
    return Path(os.environ.get("JAXMOE_CACHE_DIR") or platformdirs.user_cache_dir("jaxmoe")).expanduser().absolute()


def use_caches_of_node() -> None:
    """The same on the node's own disk, where nobody has chosen a folder: homes are often on another machine's."""
    if "JAXMOE_CACHE_DIR" not in os.environ:
        folder = Path(tempfile.gettempdir()) / f"jaxmoe-{getpass.getuser()}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            about = folder.lstat()
        except OSError:
            return
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():  # somebody else's programs are not run
            return
        os.environ["JAXMOE_CACHE_DIR"] = str(folder)
    use_caches()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
