"""Programs compiled ahead of time, and a cache of them on disk that holds nobody else's.

JAX has one persistent cache for a process. Ours is in force only while one of our programs is compiled: a caller's own
functions never go into it, and the caller's configuration is as before. Where somebody has chosen a cache for JAX
(`JAX_COMPILATION_CACHE_DIR`), that one is used, as it is.

JAX (0.10, 0.11) looks a program up by the program itself but for its source lines, and with it shapes, shardings, key
implementation and matmul precision; by the version of jaxlib, which goes with that of jax; by the platform, its version
and its devices, of a CPU the instructions that it knows; by `XLA_FLAGS` and `LIBTPU_INIT_ARGS`, but for flags that only
write dumps or count host devices; and by all compiler options.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxmoe.devices import cache_in_use

PROGRAMS_BYTES = 4 * 2**30  # of compiled programs that are kept; the oldest go
DETERMINISTIC = {"xla_gpu_deterministic_ops": True, "xla_gpu_autotune_level": 0}  # no kernel is chosen by its speed
GENERATOR = "threefry2x32"  # of all keys, whatever the caller's is
PINNED = ("jax_default_prng_impl", "jax_threefry_partitionable", "jax_enable_x64", "jax_default_matmul_precision")

Check = Callable[[], None]  # called between two programs; raises to end what is done

_LOCK = threading.RLock()  # JAX's configuration is that of the whole process
_COMPILER_OPTIONS: ContextVar[Mapping[str, Any]] = ContextVar("_COMPILER_OPTIONS", default={})  # noqa: B039


class Compiled:
    """A function that is compiled ahead of time, once for each kind of arguments that it is called with.

    Arguments are brought first to where the program takes them: whether they are numbers of Python, arrays of NumPy, or
    arrays of JAX somewhere else makes no difference. What is pinned while it is compiled is part of the program.
    """

    def __init__(self, function: Callable[..., Any], shardings: Any, **options: Any) -> None:
        """Prepare to compile.

        Args:
            function: of arrays, by position.
            shardings: of its arguments, one for each, which may be a tree.
            options: what else `jax.jit` takes.
        """
        self._jitted = jax.jit(function, in_shardings=shardings, **options)
        self._shardings = shardings
        self._executables: dict[Any, jax.stages.Compiled] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Run the program, compiled now if it is not yet."""
        found = jax.device_put(arguments, self._shardings)
        return self._executable(found)(*found)

    def compile(self, *arguments: Any) -> jax.stages.Compiled:
        """Compile the program for arguments like these, of which shapes suffice."""
        return self._executable(jax.eval_shape(lambda *each: each, *arguments))

    def shape(self, *arguments: Any) -> Any:
        """Shapes and types of what it returns; nothing is compiled."""
        return jax.eval_shape(self._jitted, *arguments)

    def _executable(self, arguments: tuple[Any, ...]) -> jax.stages.Compiled:
        kinds = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
        leaves, tree = jax.tree.flatten(kinds)
        options = _COMPILER_OPTIONS.get()
        key = (tree, *leaves, *in_force().items())
        with _LOCK:
            if key not in self._executables:
                lowered = self._jitted.lower(*kinds)
                with _our_cache():
                    self._executables[key] = lowered.compile(compiler_options=dict(options))
            return self._executables[key]


def in_force() -> dict[str, str]:
    """What shapes programs that are compiled now, beside themselves: what is pinned, and options of the compiler."""
    pins = {name: str(getattr(jax.config, name)) for name in PINNED}
    return pins | {name: str(value) for name, value in _COMPILER_OPTIONS.get().items()}


@contextlib.contextmanager
def pinned(matmul_precision: str, deterministic: bool = False) -> Iterator[None]:
    """What shapes programs and an environment variable could change, in this thread: the same for every job.

    Args:
        matmul_precision: of the program's products, as JAX calls it; "default" is that of the device.
        deterministic: kernels are chosen by rule and not by their speed, so that bits are the same in every process.
    """
    by_rule = deterministic and jax.default_backend() != "tpu"  # where nothing is chosen, and the options are unknown
    options = _COMPILER_OPTIONS.set(DETERMINISTIC if by_rule else {})
    try:
        with (
            jax.default_prng_impl(GENERATOR),
            jax.threefry_partitionable(True),
            jax.enable_x64(False),
            jax.default_matmul_precision(None if matmul_precision == "default" else matmul_precision),
        ):
            yield
    finally:
        _COMPILER_OPTIONS.reset(options)


@contextlib.contextmanager
def _our_cache() -> Iterator[None]:
    """Let JAX look into our cache, if there is one, and nobody has chosen another."""
    folder = cache_in_use()
    if folder is None or jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        yield
        return
    ours = {
        "jax_compilation_cache_dir": str(folder / "programs"),
        "jax_compilation_cache_max_size": PROGRAMS_BYTES,  # a limit also has JAX lock the folder while it writes
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    theirs = {name: getattr(jax.config, name) for name in ours}
    _configure(ours)
    try:
        yield
    finally:
        _configure(theirs)


def _configure(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # or JAX stays with the folder of before
