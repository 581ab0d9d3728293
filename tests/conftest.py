"""Every test runs with strict dtypes and ranks, so that an accidental promotion fails where it happens.

The shapes and types that env, algorithms and policy say of their arguments and results are checked as the tests run.

What one test has compiled, no other test and no process that a test starts compiles again; nobody's home is written to.
"""

import os
import secrets
import tempfile
import threading

collect_ignore_glob = ["*conftest.py"]  # for doctests, of which they have none: modules of one name would clash

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share the folder of whom they work for
    PROGRAMS = tempfile.TemporaryDirectory(prefix="jaxmoe-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS.name
    os.environ["JAXMOE_CACHE_DIR"] = PROGRAMS.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402
import pytest  # noqa: E402
from compiling import unoptimised  # noqa: E402
from hypothesis import settings  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402
from object_store import s3_server  # noqa: E402

install_import_hook(["jaxmoe.env", "jaxmoe.algorithms", "jaxmoe.policy"], "typechecking.checked")

import jaxmoe  # noqa: E402
from jaxmoe import plugins  # noqa: E402
from jaxmoe.algorithms import registry  # noqa: E402
from jaxmoe.env import scenarios  # noqa: E402
from jaxmoe.env.baselines import BASELINES  # noqa: E402
from jaxmoe.experiment import evaluating  # noqa: E402
from jaxmoe.training import baseline_cache, compiled, prepared  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)
settings.register_profile("patient", deadline=None)  # the first example compiles
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _strict_promotion():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="module", autouse=True)
def _forgotten_programs():
    """What a file has compiled goes with it: in one process all programs together are more than a process can map."""
    yield
    for programs in (prepared._PREPARED, baseline_cache._PROGRAMS, evaluating._AGENTS):
        programs.clear()
    jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def _forgotten_plugins():
    """What a file's plugins register goes with it: other files count baselines, scenarios and algorithms."""
    registries = (plugins._LOADED, registry._ALGORITHMS, scenarios.SCENARIOS, BASELINES)
    before = [dict(each) for each in registries]
    yield
    for each, was in zip(registries, before, strict=True):
        each.clear()
        each.update(was)


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory):
    """A training run of a few small agents with PPO in `oneshot`, made once; it is only read."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    sizes = {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": (8,)}
    few = {"requests": 256, "baselines": ["random", "one_slot_optimum"]}
    jaxmoe.train("ppo", seeds=3, env_steps=256, config=sizes, evaluations=2, out=folder, **few)
    return folder


@pytest.fixture(scope="module")
def quick_compilation():
    with unoptimised():
        yield


@pytest.fixture
def compilations(monkeypatch):
    """The threads in which our programs are compiled from here on, one for each."""
    found, cache = [], compiled._our_cache

    def noted():
        found.append(threading.current_thread())
        return cache()

    monkeypatch.setattr(compiled, "_our_cache", noted)
    return found


@pytest.fixture(scope="session")
def s3():
    """The address of a bucket on a real S3 server, and the trouble that can be made there."""
    with s3_server() as (address, trouble):
        yield address, trouble


@pytest.fixture
def bucket(s3):
    """The address of a place in a bucket that nobody else has."""
    address, trouble = s3
    trouble.decide = lambda *_: None
    yield f"{address}/{secrets.token_hex(4)}"
    trouble.decide = lambda *_: None
