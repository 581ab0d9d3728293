"""Every test runs with strict dtypes and ranks, so that an accidental promotion fails where it happens."""

import os

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 2)
os.environ["JAXMOE_COMPILATION_CACHE"] = "off"  # what is tested is compiled, and nobody's home is written to
settings.register_profile("patient", deadline=None)  # the first example compiles
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _strict_promotion():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
