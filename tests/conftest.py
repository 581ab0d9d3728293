"""Every test runs with strict dtypes and ranks, so that an accidental promotion fails where it happens.

What one test has compiled, no other test and no process that a test starts compiles again; nobody's home is written to.
"""

import os
import tempfile

collect_ignore_glob = ["*conftest.py"]  # for doctests, of which they have none: modules of one name would clash

PROGRAMS = tempfile.TemporaryDirectory(prefix="jaxmoe-tests-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)
settings.register_profile("patient", deadline=None)  # the first example compiles
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _strict_promotion():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
