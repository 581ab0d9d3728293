"""Checkpoints: what is restored is what was saved, and what is damaged is set aside, not used and not lost."""

import errno
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.env.scenarios import make
from jaxmoe.errors import StorageError
from jaxmoe.training import checkpoints
from jaxmoe.training.checkpoints import Saver
from jaxmoe.training.job import Job, Phase, Signature, Start
from jaxmoe.training.keys import purpose_key
from jaxmoe.training.program import Agents, bind, make_program
from jaxmoe.training.storage import Folder, Memory
from jaxmoe.training.trainer import Leg, Trainer

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIGS = {
    "ppo": {"num_envs": 4, "rollout_length": 4, "epochs": 1, "minibatches": 1, "hidden": (8,)},
    "dqn": {"num_envs": 4, "rollout_length": 4, "replay_capacity": 64, "warmup_steps": 16, "hidden": (8,)}
    | {"replay_dtype": "bfloat16"},
    "sac": {"num_envs": 4, "rollout_length": 4, "replay_capacity": 64, "warmup_steps": 16, "hidden": (8,)},
}
CURVES = pd.DataFrame({"agent": [0, 1, 2], "train_qos": [0.25, np.nan, 1.0], "diverged": [False, True, False]})
JOB = Job(
    number=3, round=0, kind="train", signature=Signature("ppo", {}, "queueing", {}, {}, ""), rows=(0, 1, 2), numbers=(),
    agents_per_device=1, root_seed=0, purpose=0, phases=(Phase(128),), evaluate_at=(0, 128), requests=64, families=(),
    start=Start(), keep_states=False, matmul_precision="default", platform="cpu",
)  # fmt: skip
STATE, FOLDER = "jobs/000003/checkpoint/state.json", "jobs/000003/checkpoint/"
MINE = "0123abcd"  # an attempt


def engine_of(name, agents_per_device=1):
    """Three agents: two batches on two devices, the second one padded."""
    module = registered_algorithm(name)
    env, params = make("queueing")
    hypers = jax.tree.map(lambda value: jnp.full(3, value, jnp.float32), module.Hypers())
    program = make_program(module.make(env, module.Config(**CONFIGS[name]), params), params)
    agents = Agents(jnp.array([3, 4, 9]), hypers, {"latency_weight": jnp.array([0.0, 0.1, 0.2])})
    return bind(program, agents, agents_per_device, purpose_key(0, 0))


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name == "ppo" else pytest.mark.slow) for name in CONFIGS],
)
def each_engine(request):
    return engine_of(request.param)


@pytest.fixture(scope="module")
def engine():
    return engine_of("ppo")


def trainer(engine):
    return Trainer([Leg(engine, 8, 0, 8)])


def at(engine, iterations):
    training = trainer(engine)
    training.batches = engine.init()
    list(training.advance_to(iterations))
    return training


def restored(storage, engine):
    """A trainer as the checkpoint has it, and its curves; nothing where none can be used. And what was said."""
    found, said = checkpoints.restore(storage, JOB, engine.shape()[0], engine.agents_per_device)
    if found is None:
        return None, None, said
    training = trainer(engine)
    training.batches, training.reached, training.measured = found.batches, found.reached, found.measured
    [curves] = found.curves
    return training, curves, said


def plain(engine, batches):
    """All leaves of all agents."""
    arrays = checkpoints.state_arrays(batches, engine.agents)
    return {name: np.concatenate(list(parts.parts())) for name, parts in arrays.items()}


def assert_same_agents(engine, one, other):
    found, expected = plain(engine, one.batches), plain(engine, other.batches)
    assert list(found) == list(expected)
    for name, leaf in found.items():
        assert len(leaf) == 3
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


@pytest.fixture(scope="module")
def saved(engine):
    """A storage with a checkpoint, whose files tests may change in copies."""
    storage = Memory()
    Saver(storage, JOB, MINE).save(at(engine, 2), [CURVES])
    return storage.contents


def copy(saved):
    storage = Memory()
    storage.contents = dict(saved)
    return storage


def test_restored_agents_end_as_if_they_had_never_stopped(each_engine, tmp_path):
    whole, half = at(each_engine, 8), at(each_engine, 5)
    half.measured = 2
    storage = Folder(tmp_path)
    Saver(storage, JOB, MINE).save(half, [CURVES, CURVES])
    training, curves, said = restored(storage, each_engine)
    assert said == ""
    pd.testing.assert_frame_equal(curves, pd.concat([CURVES, CURVES], ignore_index=True))
    assert (training.reached, training.measured) == (5, 2)
    list(training.advance_to(8))
    assert_same_agents(each_engine, training, whole)


def test_agents_go_on_in_batches_of_another_width(engine, saved):
    wider = engine_of("ppo", agents_per_device=4)
    training, _, _ = restored(copy(saved), wider)
    [batch] = training.batches
    assert {leaf.shape[0] for leaf in jax.tree.leaves(batch)} == {4 * jax.local_device_count()}
    assert_same_agents(engine, training, at(engine, 2))


def test_an_attempt_keeps_its_newest_checkpoint_only_and_removes_no_other_files(engine, saved):
    storage = copy(saved)
    storage.write(f"{FOLDER}notes of a user.txt", b"mine")
    other = Saver(storage, JOB, "ffffffff")
    for iterations in (3, 4):
        other.save(at(engine, iterations), [CURVES])
    names = {"notes of a user.txt", "state.json", f"{MINE}-2.safetensors", "ffffffff-4.safetensors"}
    assert {name.removeprefix(FOLDER) for name in storage.list()} == names
    assert restored(storage, engine)[0].reached == 4
    other.drop()
    assert {name.removeprefix(FOLDER) for name in storage.list()} == names - {"ffffffff-4.safetensors"}


def test_without_a_checkpoint_there_is_nothing_to_say(engine):
    assert restored(Memory(), engine) == (None, None, "")


def test_one_that_was_not_finished_is_not_seen(engine, saved):
    storage = copy(saved)
    write = storage.write

    def killed(name, content):
        if name == STATE:
            raise KeyboardInterrupt
        write(name, content)

    storage.write = killed
    with pytest.raises(KeyboardInterrupt):
        Saver(storage, JOB, "ffffffff").save(at(engine, 3), [CURVES])
    assert restored(storage, engine)[0].reached == 2


def change_state(**changes):
    return lambda files: files | {STATE: json.dumps(json.loads(files[STATE]) | changes).encode()}


def change_file(change):
    name = f"{FOLDER}{MINE}-2.safetensors"
    return lambda files: files | {name: change(files[name])}


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        change_file(flipped),
        change_file(lambda content: content[:-1]),
        change_file(lambda content: content[:0]),
        change_state(sha256="0" * 64),
        change_state(bytes=1),
        change_state(file="ffffffff-2.safetensors"),
        lambda files: {STATE: files[STATE]},
    ],
)
def test_a_damaged_one_is_set_aside_and_said(engine, saved, damage):
    storage = copy(damage(dict(saved)))
    before = sorted(storage.contents.values())
    training, _, said = restored(storage, engine)
    assert training is None
    assert "the checkpoint memory/jobs/000003/checkpoint/" in said
    assert "is corrupt" in said
    assert "and its job starts again" in said
    assert sorted(storage.contents.values()) == before
    assert all(".corrupt-" in name for name in storage.list() if name != f"{FOLDER}{MINE}-2.safetensors")
    assert restored(storage, engine) == (None, None, "")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"17", b"{}", b"\xff", b"[" * 100_000]
    + [
        json.dumps(
            {"file": f"{MINE}-2.safetensors", "sha256": "0", "bytes": 1, "reached": 1, "measured": 1} | each
        ).encode()
        for each in (
            {"file": "../../../done.json"},
            {"file": 3},
            {"file": None},
            {"reached": -1},
            {"reached": 1.5},
            {"measured": "1"},
            {"bytes": None},
            {"sha256": 7},
        )
    ],
)
def test_a_state_that_says_anything_else_is_set_aside_and_said(engine, content):
    storage = Memory()
    storage.write(STATE, content)
    training, _, said = restored(storage, engine)
    assert training is None
    assert "state.json is corrupt" in said
    [name] = storage.list()
    assert storage.read(name) == content


def test_one_of_other_agents_is_set_aside_and_said(engine):
    storage = Memory()
    other = at(engine, 1)
    other.batches = [part._replace(totals={"reward": part.totals["reward"]}) for part in other.batches]
    Saver(storage, JOB, MINE).save(other, [CURVES])
    training, _, said = restored(storage, engine)
    assert training is None
    assert "lacks totals/" in said


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "no"), MemoryError(), OSError(errno.ENOSPC, "full"), TimeoutError()]
)
def test_one_that_cannot_be_read_now_is_kept(engine, saved, error):
    for bad in (STATE, f"{FOLDER}{MINE}-2.safetensors"):
        storage = copy(saved)
        read = storage.read

        def failing(name, *place, read=read, bad=bad):
            if name == bad:
                raise error
            return read(name, *place)

        storage.read = failing
        with pytest.raises(type(error)):
            restored(storage, engine)
        assert storage.contents == saved


def test_one_that_another_process_replaces_meanwhile_is_not_called_corrupt(engine, saved):
    storage = copy(saved)
    newer = copy(saved)
    saver = Saver(newer, JOB, MINE)
    saver._own = [f"{MINE}-2.safetensors"]
    saver.save(at(engine, 3), [CURVES])
    size = storage.size

    def late(name):
        storage.contents, storage.size = newer.contents, size  # it reads the old state.json, and finds the new files
        return size(name)

    storage.size = late
    training, _, said = restored(storage, engine)
    assert said == ""
    assert training.reached == 3


def test_a_folder_that_cannot_be_written_is_one_sentence(engine, tmp_path):
    (tmp_path / "jobs").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        Saver(Folder(tmp_path), JOB, MINE).save(at(engine, 1), [CURVES])
