"""Real processes that are killed at random moments: what they go on to is the uninterrupted run, bit for bit."""

import random
import shutil
import signal
import subprocess

import pytest
import tiny

import jaxmoe

LONG = {"env_steps": 40_000, "seeds": 8, "evaluations": 4}
OFTEN = ("--checkpoint-every", "0")
EARLIEST, LATEST = 1.0, 9.0  # s; a process needs the first few to start

few_or_many = pytest.mark.parametrize("kills", [3, pytest.param(None, marks=[pytest.mark.crash, pytest.mark.slow])])


def killed(arguments, out, kills, prepare, moments):
    """Run the command and kill it, so many times; in a new folder where it has come to its end. The folders."""
    folders, done = [], 0
    while done < kills:
        if not folders or folders[-1][1]:
            folders.append([out.with_name(f"{out.name}-{len(folders)}"), False])
            prepare(folders[-1][0])
        with tiny.process(*arguments(folders[-1][0]), *OFTEN) as process:
            try:
                _, complaints = process.communicate(timeout=moments.uniform(EARLIEST, LATEST))
                assert process.returncode == 0, complaints
                folders[-1][1] = True
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                done += 1
    return [folder for folder, _ in folders]


@few_or_many
def test_a_sweep_that_was_killed_is_the_uninterrupted_one(tmp_path, kills):
    spec = {**tiny.SPEC, **LONG}
    tiny.sweep(tmp_path / "whole", spec=spec)
    file = tiny.spec_file(tmp_path / "spec.toml", spec)
    arguments = lambda out: ["sweep", file, "--out", out]  # noqa: E731
    for out in killed(arguments, tmp_path / "killed", kills or 20, lambda _: None, random.Random(0)):
        assert tiny.sweep(out, spec=spec).complete
        tiny.assert_same(out, tmp_path / "whole")


@few_or_many
def test_a_training_that_was_killed_is_the_uninterrupted_one(tmp_path, kills):
    own = {**LONG, "seeds": 16}
    tiny.train(tmp_path / "whole", **own)
    arguments = lambda out: ["train", "ppo", *tiny.train_options(own), "--out", out]  # noqa: E731
    for out in killed(arguments, tmp_path / "killed", kills or 10, lambda _: None, random.Random(1)):
        assert tiny.train(out, **own).complete
        tiny.assert_same(out, tmp_path / "whole")


@few_or_many
def test_an_extension_that_was_killed_is_the_uninterrupted_one(tmp_path, kills, swept):
    shutil.copytree(swept, tmp_path / "whole")
    more = {"seeds": 8, "env_steps": 40_000, "new_schedule": True}
    jaxmoe.load(tmp_path / "whole").extend(**more)
    arguments = lambda out: ["extend", out, "--seeds", 8, "--env-steps", 40_000, "--new-schedule"]  # noqa: E731
    prepare = lambda out: shutil.copytree(swept, out)  # noqa: E731
    for out in killed(arguments, tmp_path / "killed", kills or 5, prepare, random.Random(2)):
        assert jaxmoe.load(out).extend(**more).complete
        tiny.assert_same(out, tmp_path / "whole")
