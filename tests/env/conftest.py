"""What the tests of the environment share."""

import jax
import pytest


@pytest.fixture(scope="module")
def quick_compilation():
    """Programs that run once need no optimisation, and compile in half the time without."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
