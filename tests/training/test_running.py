"""A job: the same results whoever runs it, on however many devices, however often it is stopped."""

import errno
import io
import itertools
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest

from jaxmoe.algorithms import registered_algorithm, registry
from jaxmoe.errors import InputError, StorageError
from jaxmoe.training import prepared, training_run
from jaxmoe.training.arrays import pieces, read_arrays
from jaxmoe.training.events import (
    Advanced,
    CheckpointSaved,
    Compiled,
    Evaluated,
    JobFinished,
    JobStarted,
    Noted,
    guarded,
)
from jaxmoe.training.running import run_job
from jaxmoe.training.storage import Folder, Memory
from jaxmoe.training.stored import is_done, read_done

FILES = ("results.parquet", "curves.parquet", "evaluation.parquet", "policies.safetensors", "state.safetensors")


def results(storage, job):
    """The content of all files of the attempt that counts."""
    about = read_done(storage, job)
    return {name: storage.read(f"{job.folder}/{about['attempt']}/{name}") for name in FILES}


def table(storage, job, name):
    return pd.read_parquet(io.BytesIO(results(storage, job)[name]))


def after(looks):
    """Wants the end when it is asked after so many looks; an evaluation of these agents has six."""
    asked = itertools.count()
    return lambda: next(asked) >= looks


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module", autouse=True)
def short_segments():
    """The host looks after each iteration."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxmoe.training.trainer.SEGMENT_S", 0.0)
        yield


@pytest.fixture(scope="module")
def whole(planned):
    """A finished job, what it has stored, and what was told."""
    storage, [job] = planned()
    events = []
    assert run_job(job, storage, events.append).complete
    return storage, job, events


@pytest.fixture(scope="module")
def expected(whole):
    storage, job, _ = whole
    return results(storage, job)


def on_disk(storage, path):
    folder = Folder(path)
    for name, content in storage.contents.items():
        folder.write(name, content)
    return folder


# What a job leaves behind, and tells


def test_a_finished_job_says_what_it_has_stored(whole):
    storage, job, _ = whole
    assert is_done(storage, job)
    about = json.loads(storage.read("jobs/000000/done.json"))
    sizes = {name: storage.size(f"{job.folder}/{about['attempt']}/{name}") for name in FILES}
    assert {name: of["bytes"] for name, of in about["files"].items()} | {FILES[-1]: about["state"]["bytes"]} == sizes
    assert (about["agents"], about["agents_per_device"], about["env_steps"], about["diverged"]) == (5, 2, 256, 0)
    assert about["device"]["platform"] == "cpu"
    assert {"jaxmoe", "jax", "python"} <= set(about["versions"])
    assert not storage.list("jobs/000000/checkpoint/")


def test_its_tables_have_a_row_per_agent_and_per_agent_and_evaluation(whole):
    storage, job, _ = whole
    rows, curves = (table(storage, job, name) for name in FILES[:2])
    assert rows["agent"].tolist() == list(range(5))
    assert curves["env_steps"].unique().tolist() == list(job.evaluate_at)
    assert len(curves) == 5 * len(job.evaluate_at)
    last = curves[curves["env_steps"] == 256].reset_index(drop=True)
    np.testing.assert_allclose(rows["train_qos"], last["train_qos"])
    evaluation = table(storage, job, FILES[2])
    by_prompt = evaluation[(evaluation["by"] == "prompts") & (evaluation["split"] == "train")]
    sums = by_prompt.groupby("agent")[["qos", "requests"]].sum()
    assert (sums["requests"] == 64).all()
    np.testing.assert_allclose(sums["qos"] / sums["requests"], rows["train_qos"], rtol=1e-5)


def test_it_tells_what_happens(whole):
    _, job, events = whole
    assert events[0] == JobStarted(0, "ppo in oneshot", 5, 0)
    assert isinstance(events[-1], JobFinished)
    evaluated = of_kind(events, Evaluated)
    assert [event.env_steps for event in evaluated] == list(job.evaluate_at)
    assert evaluated[-1].requests == evaluated[-1].requests_total == job.requests
    assert [event.env_steps for event in of_kind(events, Advanced)] == list(range(64, 257, 32))
    [compiled] = of_kind(events, Compiled)
    assert compiled.seconds > 0
    assert not of_kind(events, CheckpointSaved)
    assert not of_kind(events, Noted)


def test_a_job_that_is_done_is_not_done_again(whole):
    storage, job, _ = whole
    before, events = dict(storage.contents), []
    assert run_job(job, storage, events.append).complete
    assert storage.contents == before
    assert not events


def test_a_job_whose_results_are_missing_or_cut_short_is_not_done(whole):
    storage, job, _ = whole
    about = read_done(storage, job)
    name = f"{job.folder}/{about['attempt']}/results.parquet"
    for damaged in (
        {key: value for key, value in storage.contents.items() if key != name},
        storage.contents | {name: storage.contents[name][:-1]},
    ):
        other = Memory()
        other.contents = damaged
        assert not is_done(other, job)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"{}",
        b'{"attempt": "../..", "files": {}}',
        b'{"attempt": "0123abcd", "files": []}',
        b'{"attempt": "0123abcd", "files": {"../../experiment.json": {"bytes": 1}}}',
        b'{"attempt": "0123abcd", "files": {"results.parquet": 17}}',
        b'{"attempt": "0123abcd", "files": {"results.parquet": {"bytes": "1"}}}',
    ],
)  # fmt: skip
def test_a_done_that_says_anything_else_is_one_sentence(planned, content):
    storage, [job] = planned()
    storage.write("jobs/000000/done.json", content)
    with pytest.raises(InputError, match=r"done\.json is damaged: .*; delete it to have"):
        run_job(job, storage)


# Who runs it


def test_the_same_job_twice_is_the_same_bit_by_bit(planned, expected):
    storage, [job] = planned()
    run_job(job, storage)
    assert results(storage, job) == expected


def worker(folder, number=0, devices=2):
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-m", "jaxmoe.training.worker", str(folder), str(number)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_bare_second_process_gives_the_same_results(planned, expected, tmp_path):
    storage, [job] = planned()
    folder = on_disk(storage, tmp_path)
    process = worker(tmp_path)
    said, complained = process.communicate(timeout=300)
    assert (process.returncode, said, complained) == (0, "", "")
    assert results(folder, job) == expected


@pytest.mark.cluster
def test_of_two_processes_that_finish_the_same_job_at_once_the_first_counts(planned, expected, tmp_path):
    storage, [job] = planned()
    folder = on_disk(storage, tmp_path)
    processes = [worker(tmp_path) for _ in range(2)]
    assert [process.communicate(timeout=300) for process in processes] == [("", "")] * 2
    assert [process.returncode for process in processes] == [0, 0]
    assert results(folder, job) == expected
    attempts = {name.split("/")[2] for name in folder.list("jobs/") if name.endswith("results.parquet")}
    assert read_done(folder, job)["attempt"] in attempts
    assert sum(name.endswith("done.json") for name in folder.list()) == 1


def test_of_two_attempts_the_first_counts_and_nothing_is_mixed(planned, expected):
    storage, [job] = planned()

    def other_process(event):
        if isinstance(event, Evaluated) and event.env_steps == 256:
            run_job(job, storage)

    finished = run_job(job, storage, other_process)
    assert finished.complete
    assert results(storage, job) == expected
    assert sum(name.endswith("results.parquet") for name in storage.list()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: python -m jaxmoe.training.worker DIR JOB"),
        (["nowhere", "x"], "usage: "),
        (["nowhere", "0"], "has no job 0"),
    ],
)
def test_a_worker_says_what_is_wrong_in_one_sentence(arguments, said, capsys):
    from jaxmoe.training.worker import main

    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_another_kind_of_device_is_refused(planned):
    storage, [job] = planned()
    with pytest.raises(InputError, match="job 0 of memory is planned for gpu, and this process has cpu"):
        run_job(job._replace(platform="gpu"), storage)
    assert not storage.list("jobs/")


def test_agents_that_the_plan_lacks_are_refused(planned):
    storage, [job] = planned()
    with pytest.raises(InputError, match="memory: the plan has no agent 5, which job 0 is about"):
        run_job(job._replace(rows=(0, 5)), storage)


def test_a_table_that_was_exchanged_is_refused(planned, monkeypatch):
    storage, [job] = planned()
    monkeypatch.setattr(prepared, "_TABLES", {})
    with pytest.raises(InputError, match=r"table\.parquet is not the expert table that"):
        run_job(job._replace(signature=job.signature._replace(table="0" * 64)), storage)


def test_an_agents_results_depend_on_no_other_agent_of_the_job(planned, expected):
    storage, [job] = planned()
    part = job._replace(rows=(3, 1))
    run_job(part, storage)
    found, all_of = table(storage, part, "results.parquet"), pd.read_parquet(io.BytesIO(expected["results.parquet"]))
    pd.testing.assert_frame_equal(found, all_of.iloc[[3, 1]].reset_index(drop=True))


def test_jobs_of_one_signature_compile_once(planned, monkeypatch):
    storage, jobs = planned(devices__agents_per_job=4, hypers__clip=0.25)
    assert [len(job.rows) for job in jobs] == [4, 1]
    traces, make = [], registered_algorithm("ppo").make

    def counted(*arguments):
        algorithm = make(*arguments)

        def step(*arguments):
            traces.append(1)
            return algorithm.step(*arguments)

        return algorithm._replace(step=step)

    monkeypatch.setattr(prepared, "_PREPARED", {})
    monkeypatch.setitem(registry._ALGORITHMS, "ppo", registered_algorithm("ppo")._replace(make=counted))
    run_job(jobs[0], storage)
    once = len(traces)
    assert once > 0
    run_job(jobs[1], storage)
    assert len(traces) == once


# Stopping, and going on


@pytest.fixture(scope="module")
def half(planned):
    """The files of a job that was stopped on the way."""
    storage, [job] = planned()
    events = []
    assert not run_job(job, storage, events.append, stop=after(28)).complete
    assert of_kind(events, CheckpointSaved) == [CheckpointSaved(0, 160)]
    assert not is_done(storage, job)
    return storage.contents


def copy(files):
    storage = Memory()
    storage.contents = dict(files)
    return storage


def test_wherever_it_is_stopped_it_ends_as_if_it_had_not_been(planned, expected):
    storage, [job] = planned()
    rounds = 0
    while not run_job(job, storage, stop=after(9)).complete:
        rounds += 1
    assert rounds > 2
    assert results(storage, job) == expected


def test_a_process_that_is_killed_goes_on_from_its_last_checkpoint(planned, expected):
    storage, [job] = planned()

    class KilledError(BaseException):
        pass

    def kill(event):
        if isinstance(event, Advanced) and event.env_steps >= 160:
            raise KilledError

    with pytest.raises(KilledError):
        run_job(job, storage, kill, checkpoint_every_s=0.0)
    assert storage.list("jobs/000000/checkpoint/")
    events = []
    assert run_job(job, storage, events.append, checkpoint_every_s=0.0).complete
    [started] = of_kind(events, JobStarted)
    assert 0 < started.env_steps_done < 256
    assert results(storage, job) == expected


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 3])
def test_it_goes_on_with_other_devices_in_another_process(planned, expected, half, tmp_path, devices):
    _, [job] = planned()
    folder = on_disk(copy(half), tmp_path)
    process = worker(tmp_path, devices=devices)
    assert process.communicate(timeout=300) == ("", "")
    assert results(folder, job) == expected


@pytest.mark.slow
def test_it_goes_on_with_batches_of_another_width(planned, expected, half):
    storage, [job] = copy(half), planned()[1]
    run_job(job._replace(agents_per_device=4), storage)
    for name in ("results.parquet", "curves.parquet"):  # the last bits change with the width
        found, same = table(storage, job, name), pd.read_parquet(io.BytesIO(expected[name]))
        pd.testing.assert_frame_equal(found, same, rtol=0.05, atol=0.05)
    assert read_done(storage, job)["agents_per_device"] == 4


def test_a_corrupt_checkpoint_is_set_aside_and_said_and_the_job_starts_again(planned, expected, half):
    storage, [job] = copy(half), planned()[1]
    [name] = [name for name in storage.list("jobs/000000/checkpoint/") if name.endswith(".safetensors")]
    content = bytearray(storage.contents[name])
    content[len(content) // 2] ^= 1
    storage.contents[name] = bytes(content)
    events = []
    run_job(job, storage, events.append)
    [noted] = of_kind(events, Noted)
    assert "is corrupt (its checksum differs)" in noted.text
    assert of_kind(events, JobStarted)[0].env_steps_done == 0
    assert results(storage, job) == expected
    assert bytes(content) in [storage.read(each) for each in storage.list(f"{name}.corrupt-")]


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no"), MemoryError(), OSError(errno.ENOSPC, "full")])
def test_a_checkpoint_that_cannot_be_read_now_is_kept_and_the_error_raised(planned, half, error):
    storage, [job] = copy(half), planned()[1]
    read = storage.read

    def failing(name, *place):
        if name.endswith(".safetensors"):
            raise error
        return read(name, *place)

    storage.read = failing
    with pytest.raises(type(error)):
        run_job(job, storage)
    assert storage.contents == half


def test_a_disk_that_is_full_at_the_end_loses_nothing(planned, expected, half):
    storage, [job] = copy(half), planned()[1]
    write = storage.write

    def full(name, content):
        if name.endswith("evaluation.parquet"):
            raise StorageError("the disk is full")
        write(name, content)

    storage.write = full
    with pytest.raises(StorageError, match="the disk is full"):
        run_job(job, storage)
    assert not is_done(storage, job)
    storage.write = write
    events = []
    run_job(job, storage, events.append)
    assert of_kind(events, JobStarted)[0].env_steps_done > 0
    assert results(storage, job) == expected


def test_agents_go_on_from_final_states_as_if_they_had_been_trained_at_once(planned):
    at_once, [longer] = planned(env_steps=512, schedule_steps=512, evaluations=4)
    run_job(longer, at_once)
    storage, [first] = planned(schedule_steps=512)
    run_job(first, storage)
    second = longer._replace(
        number=1, evaluate_at=tuple(at for at in longer.evaluate_at if at >= 256),
        start=longer.start._replace(kind="states", rows=tuple((0, row) for row in range(5))),
    )  # fmt: skip
    run_job(second, storage, stop=after(9))
    run_job(second, storage)
    for name in ("evaluation.parquet", "policies.safetensors", "state.safetensors"):
        assert results(storage, second)[name] == results(at_once, longer)[name]
    curves, whole_curves = table(storage, second, "curves.parquet"), table(at_once, longer, "curves.parquet")
    pd.testing.assert_frame_equal(curves, whole_curves[whole_curves["env_steps"] > 256].reset_index(drop=True))
    state, again = f"jobs/000000/{read_done(storage, first)['attempt']}/state.safetensors", second._replace(number=2)
    content = storage.read(state)
    storage.write(state, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"state\.safetensors is not what was written"):
        run_job(again, storage)
    storage.delete(state)
    with pytest.raises(InputError, match="the final states of job 0 were not kept"):
        run_job(again, storage)
    storage.delete("jobs/000000/done.json")
    with pytest.raises(InputError, match="job 0, whose agents go on, is not done yet"):
        run_job(again, storage)


@pytest.mark.slow
def test_agents_begin_with_a_policy_of_the_experiment(planned, whole):
    done, _, _ = whole
    storage, [job] = planned()
    stacked = f"jobs/000000/{read_done(*whole[:2])['attempt']}/policies.safetensors"
    policy = {name: leaf[2] for name, leaf in read_arrays(done, stacked).items()}
    storage.write("start/policy.safetensors", pieces(policy))
    run_job(job._replace(start=job.start._replace(kind="policy", policy="start/policy.safetensors")), storage)
    first = table(storage, job, "curves.parquet").query("env_steps == 0")
    assert len(set(first["train_qos"])) == 1
    weights = f"{job.folder}/{read_done(storage, job)['attempt']}/policies.safetensors"
    assert len({leaf.tobytes() for leaf in read_arrays(storage, weights)["layer0/kernel"]}) == len(job.rows)


# Memory


@pytest.mark.slow
def test_what_does_not_fit_is_trained_in_narrower_batches_and_said(planned, monkeypatch):
    storage, [job] = planned(devices__agents_per_device=4)
    prepare = training_run.prepare

    def limited(*arguments):
        found = prepare(*arguments)

        def advance(batch, agents, clock, iterations):
            if agents.seed.shape[0] > 2 * jax.local_device_count():
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte.")
            return found.program.advance(batch, agents, clock, iterations)

        return found._replace(program=found.program._replace(advance=advance))

    monkeypatch.setattr(training_run, "prepare", limited)
    events = []
    assert run_job(job, storage, events.append).complete
    assert of_kind(events, Noted) == [Noted("job 0 does not fit the memory: training 2 agents per device at once")]
    assert read_done(storage, job)["agents_per_device"] == 2


@pytest.mark.parametrize(("text", "width"), [("RESOURCE_EXHAUSTED", 1), ("INTERNAL", 2)])
def test_what_fits_in_no_width_or_is_another_error_is_raised(planned, monkeypatch, text, width):
    storage, [job] = planned()
    prepare = training_run.prepare

    def broken(*arguments):
        def advance(batch, agents, clock, iterations):
            raise jax.errors.JaxRuntimeError(f"{text}: no {iterations} iterations of {len(agents), batch, clock}")

        found = prepare(*arguments)
        return found._replace(program=found.program._replace(advance=advance))

    monkeypatch.setattr(training_run, "prepare", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match=text):
        run_job(job._replace(agents_per_device=width), storage)


RESTORING = """
import io, sys, time, threading
import jax
import pandas as pd
import psutil
from pathlib import Path
from jaxmoe.training import checkpoints, training_run
from jaxmoe.training.job import find_job
from jaxmoe.training.storage import Folder
from jaxmoe.training.trainer import Trainer

storage = Folder(Path(sys.argv[1]))
job = find_job(storage, 0)
run = training_run.TrainingRun(job, storage, print, 1e9, lambda: False, job.agents_per_device)
run.prepared = training_run.prepare(job.signature, run.table, job.requests)
engine = training_run.bind(
    run.prepared.program, run._agents({}), job.agents_per_device, training_run.purpose_key(job.root_seed, job.purpose)
)
process, peak, watching = psutil.Process(), 0, True

def watch():
    global peak
    while watching:
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.001)

threading.Thread(target=watch).start()
try:
    content = io.BytesIO()
    pd.DataFrame({"agent": [0]}).to_parquet(content)
    pd.read_parquet(content)  # what is loaded for it is no part of it
    trainer = Trainer([training_run.Leg(engine, 8, 0, 8)])
    trainer.batches = jax.block_until_ready(engine.init())  # compiles, which is no part of it
    size = sum(leaf.nbytes for batch in trainer.batches for leaf in jax.tree.leaves(batch))
    peak = before = process.memory_info().rss
    saver = checkpoints.Saver(storage, job, "0123abcd")
    saver.save(trainer, [pd.DataFrame({"agent": [0]})])
    saving = (peak - before) / size
    trainer.batches = []
    peak = before = process.memory_info().rss
    restored, said = checkpoints.restore(storage, job, engine.shape()[0], job.agents_per_device)
    restoring = (peak - before) / size
    print(size / 2**20, saving, restoring, len(restored.batches))
finally:
    watching = False
"""


@pytest.mark.slow
def test_neither_saving_nor_restoring_copies_all_agents(planned, tmp_path):
    storage, _ = planned(
        algorithm=["dqn"], seeds=8, config={"hidden": [[8]], "replay_capacity": [2**17]}, keep_states=False
    )
    on_disk(storage, tmp_path)
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", RESTORING, str(tmp_path)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr
    size, saving, restoring, batches = map(float, found.stdout.split())
    assert size > 100
    assert batches == 2
    assert saving < 0.3, (saving, restoring, size)
    assert restoring < 1.3, (saving, restoring, size)


# Callbacks


def test_a_callback_that_raises_changes_nothing_and_is_not_called_again(planned, expected, caplog):
    storage, [job] = planned()
    calls = []

    def broken(event):
        calls.append(event)
        raise ValueError("no such thing")

    assert run_job(job, storage, broken).complete
    assert results(storage, job) == expected
    assert len(calls) == 1
    assert [record.message for record in caplog.records] == [
        "a callback failed and is not called again: ValueError: no such thing"
    ]


def test_the_others_are_told_of_one_that_raises():
    one, other = [], []

    def broken(event):
        one.append(event)
        raise ValueError("no")

    tell = guarded((broken, other.append))
    tell(Noted("first"))
    tell(Noted("second"))
    said = Noted("a callback failed and is not called again: ValueError: no")
    assert one == [Noted("first")]
    assert other == [said, Noted("first"), Noted("second")]


def test_all_of_them_may_raise(caplog):
    calls = []

    def one(event):
        calls.append(("one", event.text))
        raise ValueError("one")

    def other(event):
        calls.append(("other", event.text))
        raise ValueError("other")

    tell = guarded((one, other))
    tell(Noted("first"))
    tell(Noted("second"))
    said = "a callback failed and is not called again: ValueError: one"
    assert calls == [("one", "first"), ("other", said)]
    assert [record.message for record in caplog.records] == [
        "a callback failed and is not called again: ValueError: other"
    ]
