"""What ends an experiment before its end: signals, the time, a failing job, a full disk. Nothing is lost."""

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import tiny

import jaxmoe
from jaxmoe.errors import StorageError
from jaxmoe.experiment import engines, stopping
from jaxmoe.experiment.stopping import Stopping
from jaxmoe.training.events import JobFailed
from jaxmoe.training.storage import Folder

ENDLESS = {**tiny.SPEC, "env_steps": 100_000_000, "evaluations": 1, "baselines": "none"}
JOBS = {"devices.agents_per_job": 4, "baselines": "none"}  # three jobs, none of baselines


def wait_for(process, pattern):
    """Read what the process says until it says this."""
    for line in process.stderr:
        if re.search(pattern, line):
            return line
    raise AssertionError(f"the process ended without saying {pattern!r}")


# Signals


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_asks_for_the_end_and_what_was_there_before_is_restored(name):
    number, before = getattr(signal, name), signal.getsignal(getattr(signal, name))
    stop = Stopping(None)
    with stop.listening():
        assert not stop()
        os.kill(os.getpid(), number)
        assert (stop(), stop.why) == (True, "interrupted")
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_ends_at_once_and_a_second_hangup_says_nothing():
    stop = Stopping(None)

    def listen():
        with stop.listening():
            for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGINT):
                os.kill(os.getpid(), number)
                assert stop.why == "interrupted"
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        listen()


def test_a_hangup_under_nohup_is_not_heard():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = Stopping(None)
        with stop.listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_that_nobody_listens_to_is_exit_code_130(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(jaxmoe, "sweep", interrupted)
    done = tiny.command("sweep", tiny.spec_file(tmp_path / "spec.toml"), "--out", tmp_path / "out")
    assert done.code == 130
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_saves_and_ends_and_a_second_process_must_wait(tmp_path, name):
    out, spec = tmp_path / "out", tiny.spec_file(tmp_path / "spec.toml", ENDLESS)
    with tiny.process("sweep", spec, "--out", out) as process:
        line = wait_for(process, "agents done")
        assert re.search(r"0 of 12 agents done \(\d+%\), [\d,]+ of 100,000,000 env steps each, .* left", line)
        second = tiny.command("sweep", spec, "--out", out)
        assert second.code == 2
        assert "another process is at work in" in second.stderr.splitlines()[-1]
        assert "share the work with --shard i/n" in second.stderr.splitlines()[-1]
        began = time.monotonic()
        process.send_signal(getattr(signal, name))
        output, complaints = process.communicate(timeout=120)
    assert process.returncode == 130, complaints
    assert time.monotonic() - began < 30
    assert "what was done is kept, and the same command goes on from there" in output
    assert list(out.glob("jobs/000000/checkpoint/*.safetensors"))
    told = tiny.command("status", out)
    assert told.code == 0
    assert "not done; 0 of 12 agents trained" in told.stdout


@pytest.mark.slow
def test_ctrl_c_is_answered_within_seconds_while_baselines_are_at_work(tmp_path):
    spec = {**tiny.SPEC, "scenario": "queueing", "baselines": ["lookahead"], "requests": 400_000}
    file = tiny.spec_file(tmp_path / "spec.toml", spec)
    with tiny.process("sweep", file, "--out", tmp_path / "out") as process:
        wait_for(process, "baselines in queueing")
        time.sleep(12)  # it compiles, and serves requests
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, complaints = process.communicate(timeout=120)
    assert process.returncode == 130, complaints
    assert time.monotonic() - began < 15
    assert "the same command goes on from there" in output


DEAF = """
import hashlib, sys
from jaxmoe.cli.terminal import telling
with telling():
    print("deaf", file=sys.stderr, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)  # as a compilation, it lets no handler run for minutes
"""


def test_ctrl_c_is_answered_while_no_handler_can_run_and_a_second_one_ends():
    with subprocess.Popen([sys.executable, "-c", DEAF], stderr=subprocess.PIPE, text=True) as process:
        wait_for(process, "deaf")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        wait_for(process, "stopping as soon as the step at work ends; Ctrl-C again does not wait for it")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130


# The time is up


@pytest.fixture(scope="module")
def three_jobs(tmp_path_factory):
    """The folder of a finished sweep of three jobs."""
    folder = tmp_path_factory.mktemp("three") / "jobs"
    assert tiny.sweep(folder, JOBS).complete
    return folder


def test_when_the_time_is_up_the_tables_of_what_is_complete_are_written(tmp_path, three_jobs, monkeypatch):
    out, spec = tmp_path / "out", tiny.spec_file(tmp_path / "spec.toml")
    sets = [text for key, value in JOBS.items() for text in ("--set", f"{key}={value}")]
    run, clock = engines.run_job, time.monotonic

    def one_job(*arguments):
        finished = run(*arguments)
        monkeypatch.setattr(stopping.time, "monotonic", lambda: clock() + 3600)
        return finished

    monkeypatch.setattr(engines, "run_job", one_job)
    done = tiny.command("sweep", spec, *sets, "--out", out, "--time-budget", "30m")
    monkeypatch.undo()
    assert done.code == 3, done.stderr
    assert "The time is up: what was done is kept, and the same command goes on from there." in done.stdout
    assert "4 agents, 512 env steps each" in done.stdout
    found = jaxmoe.load(out)
    assert not found.complete
    assert len(found.results) == len(jaxmoe.load(three_jobs).results) // 3 == 4
    assert (out / "results.parquet").is_file()
    told = tiny.command("report", out)  # no configuration has been in both environments yet
    assert (told.code, len(told.stderr.splitlines())) == (2, 1)
    assert "no configuration has all its environments yet; 4 of 12 agents trained" in told.stderr
    again = tiny.command("sweep", spec, *sets, "--out", out)
    assert again.code == 0, again.stderr
    tiny.assert_same(out, three_jobs)


def test_no_time_at_all_plans_and_trains_nothing(tmp_path, three_jobs):
    found = tiny.sweep(tmp_path / "out", JOBS, time_budget_s=0)
    assert (found.complete, found.unfinished, len(found.results)) == (False, "time budget", 0)
    told = tiny.command("status", tmp_path / "out")
    assert "not done; 0 of 12 agents trained" in told.stdout
    assert tiny.sweep(tmp_path / "out", JOBS).complete
    tiny.assert_same(tmp_path / "out", three_jobs)


def test_what_is_in_memory_and_has_no_time_is_not_said_to_be_kept():
    options = ["train", "ppo", *tiny.train_options({"baselines": "none"}), "--time-budget", "0"]
    done = tiny.command(*options)
    assert done.code == 3
    assert "The time is up: without --out DIR nothing is kept; with it, the same command would go on" in done.stdout


@pytest.mark.parametrize("text", ["soon", "-3", "3w", "nan", "inf"])
def test_what_is_no_time_is_refused(tmp_path, text):
    done = tiny.command(
        "sweep", tiny.spec_file(tmp_path / "spec.toml"), "--out", tmp_path / "out", "--time-budget", text
    )
    assert (done.code, len(done.stderr.splitlines())) == (2, 1)
    assert not (tmp_path / "out").exists()


# A job fails


def test_a_job_that_fails_is_said_and_the_others_are_done(tmp_path, three_jobs, monkeypatch):
    out, spec, run, events = tmp_path / "out", tiny.spec_file(tmp_path / "spec.toml"), engines.run_job, []
    sets = [text for key, value in JOBS.items() for text in ("--set", f"{key}={value}")]

    def failing(job, *rest):
        if job.number == 1:
            raise FloatingPointError("a number of its own")
        return run(job, *rest)

    monkeypatch.setattr(engines, "run_job", failing)
    done = tiny.command("sweep", spec, *sets, "--out", out)
    assert done.code == 1, done.stderr
    assert "Failed: job 1; all others are done, and the same command tries again." in done.stdout
    assert "job 1, ppo in oneshot, failed: FloatingPointError: a number of its own" in done.stderr
    found = tiny.sweep(out, JOBS, callback=events.append)
    assert (found.failed, found.complete, len(found.results)) == ([1], False, 8)
    assert [event.job for event in events if isinstance(event, JobFailed)] == [1]
    monkeypatch.undo()
    assert tiny.sweep(out, JOBS).complete
    tiny.assert_same(out, three_jobs)


def test_agents_do_not_go_on_from_a_job_that_has_failed(tmp_path, three_jobs, monkeypatch):
    out, run = shutil.copytree(three_jobs, tmp_path / "out"), engines.run_job

    def failing(job, *rest):
        if job.number == 3:  # of the new seeds
            raise FloatingPointError("a number of its own")
        return run(job, *rest)

    monkeypatch.setattr(engines, "run_job", failing)
    found = jaxmoe.load(out).extend(seeds=4, env_steps=1024, new_schedule=True)
    assert (found.failed, found.complete) == ([3], False)
    assert sorted(found.contents.done) == [0, 1, 2, 4, 5, 6]
    monkeypatch.undo()
    assert jaxmoe.load(out).extend(seeds=4, env_steps=1024, new_schedule=True).complete


# A full disk


@pytest.mark.parametrize("call", [0, 1, 3, 5])
def test_a_disk_that_is_full_is_one_sentence_and_loses_nothing(tmp_path, three_jobs, monkeypatch, call):
    out, write, calls = tmp_path / "out", Folder._written, []

    def full(self, name, content):
        if name.startswith("jobs/"):
            calls.append(name)
            if len(calls) > call:
                raise StorageError(f"{self.path(name)} cannot be written: {os.strerror(errno.ENOSPC)}")
        return write(self, name, content)

    monkeypatch.setattr(Folder, "_written", full)
    spec = tiny.spec_file(tmp_path / "spec.toml")
    sets = [text for key, value in JOBS.items() for text in ("--set", f"{key}={value}")]
    done = tiny.command("sweep", spec, *sets, "--out", out)
    assert done.code == 2
    assert re.search("^jaxmoe: .* cannot be written: No space left on device", done.stderr.splitlines()[-1])
    monkeypatch.undo()
    assert tiny.sweep(out, JOBS).complete
    tiny.assert_same(out, three_jobs)


@pytest.mark.slow
def test_a_file_that_the_system_does_not_let_grow_is_one_sentence(tmp_path, three_jobs):
    spec, out = tiny.spec_file(tmp_path / "spec.toml"), tmp_path / "out"
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, {resource.RLIM_INFINITY})); "
    code = limit + "from jaxmoe.cli import main; main()"
    sets = [text for key, value in JOBS.items() for text in ("--set", f"{key}={value}")]
    command = [sys.executable, "-c", code, "sweep", str(spec), *sets, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2, done.stderr
    assert re.search(r"^jaxmoe: .* cannot be written: File too large", done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    assert tiny.sweep(out, JOBS).complete
    tiny.assert_same(out, three_jobs)


# What a process leaves


@pytest.mark.slow
def test_a_second_start_compiles_nothing(tmp_path):
    spec, cache = tiny.spec_file(tmp_path / "spec.toml"), tmp_path / "cache"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    kept["JAXMOE_CACHE_DIR"] = str(cache)

    def run(name, *options):
        command = ["sweep", spec, "--out", tmp_path / name, "--set", "baselines=none", *options]
        with tiny.process(*command, env=kept) as process:
            _, complaints = process.communicate(timeout=600)
        assert process.returncode == 0, complaints
        assert "Warning" not in complaints
        return {path.name for path in cache.rglob("*-cache")}

    programs = run("one")
    assert programs
    assert run("two") == programs
    assert run("other rates", "--set", "hypers.learning_rate=[2e-3, 3e-3]") == programs
    tiny.assert_same(tmp_path / "one", tmp_path / "two")
    torn = max(cache.rglob("*-cache"), key=lambda path: path.stat().st_size)
    os.truncate(torn, torn.stat().st_size // 2)  # as a process leaves it that is killed in the middle
    torn.with_name(torn.name.replace("-cache", "-atime")).unlink()
    assert run("torn") == programs
    tiny.assert_same(tmp_path / "one", tmp_path / "torn")


@pytest.mark.slow
@pytest.mark.cluster
def test_processes_that_compile_the_same_at_once_disturb_each_other_not(tmp_path):
    spec, out = tiny.spec_file(tmp_path / "spec.toml"), tmp_path / "out"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    kept["JAXMOE_CACHE_DIR"] = str(tmp_path / "cache")
    command = ["sweep", spec, "--out", out, "--set", "devices.agents_per_job=4", "--quiet"]
    together = [tiny.process(*command, "--shard", f"{index}/2", env=kept) for index in range(2)]
    for process in together:
        with process:
            _, complaints = process.communicate(timeout=600)
        assert (process.returncode, complaints) == (0, "")
    assert len(list((tmp_path / "cache").rglob("*-cache"))) > 1
