"""How JAX is started: what its own settings forbid is one sentence."""

import os

import jax
import numpy as np
import pytest
from command_line import start

import jaxmoe
from jaxmoe import devices
from jaxmoe.errors import InputError

SENTENCE = "JAX is set to 64-bit numbers, and jaxmoe computes with 32-bit ones: unset JAX_ENABLE_X64"


def test_double_precision_is_one_sentence_in_every_call():
    calls = (
        lambda: jaxmoe.make("oneshot"),
        lambda: jaxmoe.train("ppo", seeds=1, env_steps=64),
        lambda: jaxmoe.sweep({"algorithm": "ppo", "env_steps": 64}),
        lambda: jaxmoe.evaluate(requests=64),
    )
    with jax.enable_x64(True):
        for call in calls:
            with pytest.raises(InputError, match=SENTENCE):
                call()


def test_an_exported_program_is_the_same_in_double_precision(trained_folder, tmp_path):
    policy = jaxmoe.load(trained_folder).policy(0)
    with jax.enable_x64(True):
        wide = policy.save(tmp_path / "wide.stablehlo")
    rows = [
        jaxmoe.evaluate(path, requests=64, baselines="none")["mean"]
        for path in (wide, policy.save(tmp_path / "policy.stablehlo"))
    ]
    np.testing.assert_array_equal(*rows)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("JAX_PLATFORMS", "cuda", "JAX cannot start on JAX_PLATFORMS = 'cuda': "),
        ("JAX_PLATFORMS", "abacus", "JAX cannot start on JAX_PLATFORMS = 'abacus': "),
        ("JAX_ENABLE_X64", "1", SENTENCE),
    ],
)
def test_the_command_says_so_and_ends_with_code_2(name, value, message):
    if value == "cuda" and jax.default_backend() == "gpu":
        pytest.skip("there is such a device")
    process = start("train", "ppo", "--seeds", 2, "--env-steps", 64, env={**os.environ, name: value})
    _, error = process.communicate()
    assert process.returncode == 2
    [line] = error.splitlines()
    assert line.startswith(f"jaxmoe: {message}")


def test_where_no_cache_can_be_made_none_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_CACHES", [])
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXMOE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    devices.use_caches()
    assert devices.cache_in_use() is None
    monkeypatch.setenv("JAXMOE_CACHE_DIR", str(tmp_path / "cache"))
    devices.use_caches()
    assert devices.cache_in_use() == tmp_path / "cache"
