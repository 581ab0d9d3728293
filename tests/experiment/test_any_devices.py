"""The numbers of an experiment do not depend on how many devices there are."""

import os
import subprocess
import sys

import pytest
import tiny

import jaxmoe

SPEC = {**tiny.SPEC, "requests": 1100, "devices": {"agents_per_device": 2}, "baselines": ["random", "one_slot_optimum"]}
SCRIPT = f"import sys, jaxmoe; jaxmoe.sweep({SPEC!r}, sys.argv[1])"


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    return on(2, tmp_path_factory.mktemp("two"))


def on(devices, folder):
    """The experiment as a process of its own makes it, that has so many devices."""
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # they run once
    environment["JAXMOE_CACHE_DIR"] = str(folder / "cache")  # or baselines would be looked up
    subprocess.run([sys.executable, "-c", SCRIPT, str(folder / "run")], env=environment, check=True)
    found = jaxmoe.load(folder / "run")
    assert found.status().complete
    return found


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 3, 8])
def test_agents_and_baselines_are_the_same_bit_by_bit(on_two, devices, tmp_path):
    found = on(devices, tmp_path)
    tiny.assert_equal_tables(found, on_two, but=())
    assert set(found.comparison()["requests"]) == {2 * 1100}  # in two environments, of agents and baselines alike
