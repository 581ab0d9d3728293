"""Programs are lowered for accelerators where there are none, so that what does not lower is found here."""

import re
import sys

import jax
import jax.export
import pytest

import jaxmoe
from jaxmoe.training import baseline_cache, prepared

ELSEWHERE = ("cuda", "tpu")
LIBRARIES = {"cusolver_geqrf_ffi", "cusolver_orgqr_ffi", "Qr", "ProductOfElementaryHouseholderReflectors"}  # orthogonal
ROLLOUT = {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": [8]}
REPLAY = {"num_envs": 4, "rollout_length": 8, "hidden": [8], "replay_capacity": 512, "warmup_steps": 64, "updates": 1}
DRAWN = {"device_up_probability": 0.8, "slot_s": {"each_episode": {"uniform": [3.0, 5.0]}}}
FEW = {"env_steps": 256, "seeds": 2, "requests": 64, "evaluations": 1, "keep": "best", "stop": {"plateau": 2}}


class Lowered:
    """A function that is lowered for other platforms, too, when it is compiled."""

    def __init__(self, compiled, name, found):
        self.compiled, self.name, self.found = compiled, name, found

    def __call__(self, *arguments):
        return self.compiled(*arguments)  # as its shapes are asked for

    def lower(self, *kinds):
        module = jax.export.export(self.compiled, platforms=ELSEWHERE)(*kinds).mlir_module()
        self.found[self.name] = set(re.findall(r"custom_call @(\w+)", module))
        return self.compiled.lower(*kinds)


@pytest.fixture
def lowered(monkeypatch):
    """What the programs of jobs that run here call outside of XLA, once lowered; by the functions they are made of."""
    compile_, found = jax.jit, {}

    def watched(function, **options):
        compiled, caller = compile_(function, **options), sys._getframe(1)
        if not caller.f_globals["__name__"].startswith("jaxmoe.training"):
            return compiled
        name = f"{caller.f_back.f_globals['__name__']}:{caller.f_back.f_lineno} {len(found)}"
        found[name] = None
        return Lowered(compiled, name, found)

    monkeypatch.setattr(jax, "jit", watched)
    monkeypatch.setattr(prepared, "_PREPARED", {})  # what is compiled already would not be seen
    monkeypatch.setattr(baseline_cache, "_PROGRAMS", {})
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "sac"])
@pytest.mark.parametrize(
    "params", [{}, {"device_up_probability": 0.8, "slot_s": {"each_episode": {"uniform": [3, 5]}}}]
)
def test_every_program_of_a_job_lowers_for_gpus_and_tpus(algorithm, params, lowered):
    config = ROLLOUT if algorithm == "ppo" else REPLAY
    baselines = "all" if algorithm == "ppo" else "none"
    spec = {"algorithm": algorithm, "scenario": "queueing", "config": config, "params": params, "baselines": baselines}
    assert jaxmoe.sweep({**spec, **FEW}, compilation_cache=False).complete
    called = {name: outside for name, outside in lowered.items() if outside is not None}
    assert len(called) >= (5 if algorithm == "ppo" else 4)  # init, advance, evaluate, look, and baselines
    assert set().union(*called.values()) <= LIBRARIES  # and no callback of the host
