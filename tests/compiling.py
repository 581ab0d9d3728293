"""How programs of tests are compiled."""

from contextlib import contextmanager

import jax

OPTION = "jax_disable_most_optimizations"


@contextmanager
def unoptimised():
    """Programs that run once need no optimisation, and compile in two thirds of the time without."""
    before = jax.config.read(OPTION)
    jax.config.update(OPTION, True)
    try:
        yield
    finally:
        jax.config.update(OPTION, before)
