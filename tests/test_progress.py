"""What a person sees of a long run."""

import io

import pytest
from rich.console import Console

from jaxmoe import progress
from jaxmoe.progress import Progress, SweepProgress, reporting

HALF = Progress(
    env_steps=500, env_steps_total=1000, agents=8, seconds=3.0, env_steps_per_s=400.0, train_qos=0.5, diverged=1
)


def written(terminal):
    file = io.StringIO()
    with reporting(Console(file=file, force_terminal=terminal, width=120, highlight=False)) as report:
        report.stage("compiling")
        report.progress(HALF)
    return file.getvalue()


def test_the_time_left_follows_from_the_speed_of_all_agents():
    assert HALF.seconds_left == pytest.approx(500 * 8 / 400)


def test_plain_lines_where_there_is_no_terminal():
    lines = written(terminal=False).splitlines()
    assert len(lines) == 2
    assert "\x1b" not in "".join(lines)
    assert lines[0].endswith("s  compiling")
    assert "8 agents, 500 of 1,000 env steps each, 400 env steps/s, train QoS 0.500, 10 s left, 1 diverged" in lines[1]


def test_a_moving_bar_on_a_terminal():
    assert "\x1b" in written(terminal=True)


SWEEP = SweepProgress(
    agents_done=512,
    agents=1024,
    share_done=0.5,
    env_steps_per_s=250_000.0,
    seconds_left=300.0,
    best_qos=0.574,
    best="ppo in oneshot, configuration 3",
    diverged=2,
)


def test_a_sweep_says_how_many_agents_are_done_what_is_best_and_what_diverged():
    assert str(SWEEP) == (
        "512 of 1,024 agents done (50%), 250,000 env steps/s, 5 min 0 s left, "
        "best train QoS 0.574 (ppo in oneshot, configuration 3), 2 diverged"
    )


def test_lines_do_not_come_faster_than_they_can_be_read(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    file = io.StringIO()
    with reporting(Console(file=file, force_terminal=False, width=200, highlight=False)) as report:
        for seconds in range(21):
            now[0] = float(seconds)
            report.progress(SWEEP._replace(agents_done=seconds))
        report.progress(SWEEP._replace(agents_done=1024, share_done=1.0))
    said = [line.split(" s  ")[1].split(" of ")[0] for line in file.getvalue().splitlines()]
    assert said == ["0", "5", "10", "15", "20", "1,024"]
