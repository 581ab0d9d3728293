"""Programs compiled ahead of time: how often, and what their cache on disk holds."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from jaxmoe.training.compiled import Compiled, pinned
from jaxmoe.training.running import run_job

SCRIPT = """
import pathlib, sys
import jax
import jaxmoe

written = []
jax.monitoring.register_event_listener(lambda name, **_: written.append(name.endswith("/cache_misses")))
programs = pathlib.Path(sys.argv[1]) / "programs"
config = {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": (8,)}

jaxmoe.make("oneshot")
before = dict(jax.config.values)
jaxmoe.train("ppo", seeds=2, env_steps=64, config=config, requests=64, baselines=["random"])
assert dict(jax.config.values) == before
ours = sorted(programs.glob("*-cache"))
assert len(ours) >= 4  # init, advance, evaluation of agents and of a baseline
jax.jit(lambda x: 2 * x + 1)(1.0)  # the caller's own
assert sorted(programs.glob("*-cache")) == ours
assert before["jax_compilation_cache_dir"] is None
print(sum(written))
"""


def program():
    """A program, and how often it was traced."""
    traces = []

    def function(state, row, shared):
        traces.append(1)
        return jax.tree.map(lambda leaf: leaf * row + shared, state)

    return Compiled(function, (SingleDeviceSharding(jax.local_devices()[0]),) * 3), traces


@pytest.mark.parametrize("other", [2.0, np.float32(2), np.float64(2), jnp.float32(2), "on another device"])
def test_arguments_of_other_kinds_need_no_further_compilation(other):
    run, traces = program()
    row, shared = np.ones(3, np.float32), jnp.float32(1)
    run({"a": row}, row, shared)
    if other == "on another device":
        other = jax.device_put(np.float32(2), jax.local_devices()[-1])
    assert run({"a": jnp.asarray(row)}, row, other)["a"].tolist() == [3.0] * 3
    assert len(traces) == 1


def test_it_compiles_for_shapes_without_running():
    run, traces = program()
    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    run.compile([shape], shape, 1.0)
    assert len(traces) == 1
    run([np.ones(3)], np.ones(3), 1.0)
    assert len(traces) == 1
    run([np.ones(4)], np.ones(4), 1.0)
    assert len(traces) == 2


def test_what_is_pinned_is_part_of_the_program():
    run, traces = program()
    for precision, deterministic in (("default", False), ("highest", False), ("default", True), ("default", False)):
        with pinned(precision, deterministic):
            assert run(2.0, 3.0, 1.0) == 7
    assert len(run._executables) == 3
    assert len(traces) == 2  # how it is compiled changes no program


def test_deterministic_programs_give_the_same_bits_on_a_cpu(planned):
    found = []
    for deterministic in (False, True):
        storage, [job] = planned(devices__agents_per_job=8, devices__deterministic=deterministic)
        assert job.deterministic == deterministic
        run_job(job, storage)
        [weights] = [name for name in storage.list("jobs/") if name.endswith("policies.safetensors")]
        found.append(storage.read(weights))
    assert found[0] == found[1]


def in_a_process(folder):
    """How many programs a training of its own has written."""
    left = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    environment = {name: value for name, value in os.environ.items() if name not in left}
    environment |= {"JAXMOE_CACHE_DIR": str(folder), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-c", SCRIPT, folder]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
def test_the_cache_holds_our_programs_alone_and_the_next_process_compiles_none(tmp_path):
    assert in_a_process(tmp_path) >= 4
    (tmp_path / "baselines").rename(tmp_path / "away")  # or it would look them up
    assert in_a_process(tmp_path) == 0
