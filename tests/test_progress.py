"""What a person sees of a long run."""

import io

from rich.console import Console

from jaxmoe import progress
from jaxmoe.cli import terminal
from jaxmoe.cli.terminal import Progress, Teller
from jaxmoe.progress import reporting
from jaxmoe.training.events import Advanced, Compiled, Evaluated, JobFailed, JobFinished, JobStarted, Noted, Planned

HALF = Progress(
    agents_done=512.4,
    agents=1024,
    env_steps=500,
    env_steps_total=1000,
    env_steps_per_s=250_000.0,
    seconds_left=300.0,
    train_qos=0.5,
    diverged=2,
)


def written(terminal):
    file = io.StringIO()
    with reporting(Console(file=file, force_terminal=terminal, width=200, highlight=False)) as report:
        report.stage("compiling")
        report.progress(HALF)
    return file.getvalue()


def told(monkeypatch, *events):
    """What is said of events that come a second after each other."""
    now, said = [0.0], []
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    teller = Teller(progress.Display(stage=said.append, progress=lambda at: said.append(at)))
    for event in events:
        now[0] += 1.0
        teller(event)
    return said


def test_it_says_how_many_agents_are_done_how_fast_and_what_is_left():
    assert str(HALF) == (
        "512 of 1,024 agents done (50%), 500 of 1,000 env steps each, 250,000 env steps/s, train QoS 0.500, "
        "5 min 0 s left, 2 diverged"
    )


def test_plain_lines_where_there_is_no_terminal():
    lines = written(terminal=False).splitlines()
    assert len(lines) == 2
    assert "\x1b" not in "".join(lines)
    assert lines[0].endswith("s  compiling")
    assert "500 of 1,000 env steps each, 250,000 env steps/s" in lines[1]


def test_a_moving_bar_on_a_terminal():
    assert "\x1b" in written(terminal=True)


def test_the_time_left_counts_training_alone_and_all_jobs_that_are_to_do(monkeypatch):
    said = told(
        monkeypatch,
        Planned(jobs=2, done=0, agents=16, agents_done=0, env_steps_to_do=16_000),
        JobStarted(job=0, what="ppo in oneshot", rows=8, env_steps_done=0),
        Compiled(job=0, seconds=60.0),
        Advanced(0, 8, 100, 1000, 800.0, 0.4, 0),
        Advanced(0, 8, 200, 1000, 800.0, 0.5, 1),
    )
    assert said[:2] == ["job 0: ppo in oneshot, 8 agents", "job 0: compiled in 1 min 0 s"]
    last = said[-1]
    assert (last.agents_done, last.agents, last.diverged) == (1.6, 16, 1)
    assert last.seconds_left == (16_000 - 8 * 200) / 800  # 800 env steps of all agents came in the last second


def test_what_compiles_counts_for_nothing_and_evaluations_count_by_their_requests(monkeypatch):
    said = told(
        monkeypatch,
        Planned(jobs=1, done=0, agents=8, agents_done=0, env_steps_to_do=8_000, requests_to_do=8 * 800),
        JobStarted(job=0, what="ppo in oneshot", rows=8, env_steps_done=0),
        Evaluated(0, 0, 0.2, 0.3, 100, 500),  # it may have compiled
        Compiled(job=0, seconds=600.0),
        Evaluated(0, 10, 0.3, 0.4, 100, 500),  # one second
        Advanced(0, 8, 20, 1000, 80.0, 0.3, 0, 100, 500),
        Evaluated(0, 20, 0.435, 0.5, 100, 500),
        Advanced(0, 8, 40, 1000, 160.0, 0.435, 0, 100, 500),
        Evaluated(0, 1000, 0.415, 0.45, 500, 500, last=True),
    )
    first, second = (each for each in said if isinstance(each, Progress))
    assert first.seconds_left == (8_000 - 160) / 80 + 6
    assert second.seconds_left == (8_000 - 320) / 160 + 5
    assert "train QoS 0.435 on 100 of 500 requests, " in str(second)
    assert said[-1] == "job 0: trained, train QoS 0.415 on all 500 requests, 0.450 of the best agent"


def test_a_job_that_goes_on_has_served_requests_before(monkeypatch):
    said = told(
        monkeypatch,
        Planned(jobs=1, done=0, agents=8, agents_done=0, env_steps_to_do=8_000, requests_to_do=8 * 800),
        JobStarted(job=0, what="ppo in oneshot", rows=8, env_steps_done=500, requests_done=600),
        Compiled(job=0, seconds=60.0),
        Evaluated(0, 510, 0.3, 0.4, 50, 500),
        Evaluated(0, 520, 0.3, 0.4, 50, 500),
        Advanced(0, 8, 600, 1000, 80.0, 0.3, 0, 50, 500),
    )
    assert said[-1].seconds_left == (8_000 - 4_800) / 80 + 2


def test_jobs_that_finish_fail_or_have_something_to_say(monkeypatch):
    said = told(
        monkeypatch,
        Planned(jobs=3, done=1, agents=24, agents_done=8, env_steps_to_do=16_000),
        JobStarted(job=1, what="ppo in oneshot", rows=8, env_steps_done=0),
        Advanced(1, 8, 1000, 1000, 800.0, 0.5, 2),
        JobFinished(job=1, agents=8, diverged=2, seconds=9.0, env_steps_per_s=800.0),
        JobFailed(job=2, what="ppo in oneshot", error="ValueError: no"),
        Noted("a sentence"),
        JobStarted(job=3, what="baselines in oneshot", rows=1, env_steps_done=0),
    )
    assert said[0] == "1 of 3 jobs are done from earlier on"
    assert said[-3:] == ["job 2, ppo in oneshot, failed: ValueError: no", "a sentence", "job 3: baselines in oneshot"]


def test_lines_do_not_come_faster_than_they_can_be_read(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    file = io.StringIO()
    with reporting(Console(file=file, force_terminal=False, width=200, highlight=False)) as report:
        for seconds in range(21):
            now[0] = float(seconds)
            report.progress(HALF._replace(agents_done=seconds))
        report.progress(HALF._replace(agents_done=1024))
    said = [line.split(" s  ")[1].split(" of ")[0] for line in file.getvalue().splitlines()]
    assert said == ["0", "5", "10", "15", "20", "1,024"]
