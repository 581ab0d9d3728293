"""Checkpoints: what is restored is what was saved, and what is damaged is not used."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxmoe.env.scenarios import make
from jaxmoe.errors import InputError
from jaxmoe.sweeps import checkpoint
from jaxmoe.sweeps.engine import Agents, bind, make_program
from jaxmoe.sweeps.inputs import algorithm_module
from jaxmoe.sweeps.loop import Pace, Trainer

CONFIGS = {
    "ppo": {"num_envs": 4, "rollout_length": 4, "epochs": 1, "minibatches": 1, "hidden": (8,)},
    "dqn": {"num_envs": 4, "rollout_length": 4, "replay_capacity": 64, "warmup_steps": 16, "hidden": (8,)}
    | {"replay_dtype": "bfloat16"},
    "sac": {"num_envs": 4, "rollout_length": 4, "replay_capacity": 64, "warmup_steps": 16, "hidden": (8,)},
}
CURVES = pd.DataFrame({"agent": [0, 1], "train_qos": [0.25, np.nan], "diverged": [False, True]})


@pytest.fixture(scope="module", params=CONFIGS)
def engine(request):
    module = algorithm_module(request.param)
    env, params = make("queueing")
    hypers = jax.tree.map(lambda value: jnp.full(2, value, jnp.float32), module.Hypers())
    program = make_program(module.make(env, module.Config(**CONFIGS[request.param]), params), params)
    return bind(program, Agents(jnp.array([3, 4]), hypers, {"latency_weight": jnp.array([0.0, 0.1])}))


def at(engine, iterations):
    training = Trainer(engine, 8, Pace())
    list(training.advance_to(iterations))
    return training


def assert_same_agents(one, other):
    for part, twin in zip(one.blocks, other.blocks, strict=True):
        for leaf, same in zip(jax.tree.leaves(part), jax.tree.leaves(twin), strict=True):
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                leaf, same = jax.random.key_data(leaf), jax.random.key_data(same)
            np.testing.assert_array_equal(np.asarray(leaf)[:2], np.asarray(same)[:2])


def test_a_restored_run_ends_as_the_whole_one_does(engine, tmp_path):
    whole = at(engine, 8)
    half = at(engine, 5)
    half.measured = 2
    checkpoint.save(tmp_path / "saved", half, [CURVES, CURVES])
    restored = Trainer(engine, 8, Pace())
    [curves] = checkpoint.restore(tmp_path / "saved", restored)
    pd.testing.assert_frame_equal(curves, pd.concat([CURVES, CURVES], ignore_index=True))
    assert (restored.reached, restored.measured) == (5, 2)
    list(restored.advance_to(8))
    assert_same_agents(restored, whole)


def test_only_the_newest_is_kept_and_one_that_was_not_finished_is_not_seen(engine, tmp_path):
    checkpoint.save(tmp_path, at(engine, 1), [CURVES])
    checkpoint.save(tmp_path, at(engine, 2), [CURVES])
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
    (tmp_path / "7.orbax-checkpoint-tmp").mkdir()
    restored = Trainer(engine, 8, Pace())
    assert checkpoint.restore(tmp_path, restored) is not None
    assert restored.reached == 2


def test_a_damaged_one_or_one_of_other_agents_is_thrown_away(engine, tmp_path):
    training = Trainer(engine, 8, Pace())
    assert checkpoint.restore(tmp_path / "nowhere", training) is None
    (tmp_path / "damaged" / "3").mkdir(parents=True)
    assert checkpoint.restore(tmp_path / "damaged", training) is None
    assert not (tmp_path / "damaged").exists()
    other = at(engine, 1)
    other.blocks = [part._replace(totals={"reward": part.totals["reward"]}) for part in other.blocks]
    checkpoint.save(tmp_path / "other", other, [CURVES])
    assert checkpoint.restore(tmp_path / "other", training) is None
    assert training.reached == 0


def test_a_folder_that_cannot_be_written_is_one_sentence(engine, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot be written.*the chunks that are finished are kept"):
        checkpoint.save(tmp_path / "file" / "saved", at(engine, 1), [CURVES])
