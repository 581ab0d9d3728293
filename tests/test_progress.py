"""What a person sees of a long run."""

import io

import pytest
from rich.console import Console

from jaxmoe.progress import Progress, reporting

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
