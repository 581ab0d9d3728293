"""How far an experiment is, at every moment of its life."""

from dataclasses import replace

import pandas as pd
import synthetic

from jaxmoe.analysis.status import standing, status_lines
from jaxmoe.analysis.tables import JobFacts, Objective, varies, with_ends


def test_a_finished_experiment_is_done(finished):
    at = standing(finished)
    assert at.complete
    assert (at.trained, at.agents, at.evaluated, at.environments, at.diverged) == (48, 48, 1, 1, 0)
    first, written, best = status_lines(finished)
    assert first == "finished: done; 48 of 48 agents trained, baselines evaluated in 1 of 1 environments"
    assert written == "last written to 0 s ago"
    assert best.startswith(
        "oneshot: best of 6 configurations so far, PPO with learning rate 0.005 and entropy coef 0.03: normalised score"
    )


def test_an_experiment_at_work_shows_what_is_done():
    tables = replace(synthetic.make(trained=24, baselines=False), environments=[0], unfinished=["job 2: 40 %"])
    at = standing(tables)
    assert not at.complete
    assert not tables.complete
    assert (at.trained, at.agents, at.evaluated, at.environments) == (24, 48, 0, 1)
    lines = status_lines(tables)
    assert lines[0].startswith("made: not done; 24 of 48 agents trained, baselines evaluated in 0 of 1 environments")
    assert "job 2: 40 %" in lines
    assert "best of 3 configurations so far, PPO with learning rate" in lines[-1]
    assert "QoS" in lines[-1]


def test_time_left_follows_what_finished_jobs_took():
    slow = JobFacts("ppo", 24, 1000, 2000.0, "1 x cpu", "")
    tables = replace(synthetic.make(trained=24), jobs=[slow, slow._replace(env_steps_per_s=0.0)])
    assert standing(tables).agents_per_s == 2.0
    assert "about 12 s of training left" in str(standing(tables))


def test_nothing_done_yet_is_a_status_too():
    lines = status_lines(synthetic.make(trained=0))
    assert lines[0].startswith("made: not done; 0 of 48 agents trained")
    assert len(lines) == 2


def test_agents_that_diverged_are_counted(crossed):
    assert f"{crossed.results['diverged'].sum()} diverged" in str(standing(crossed))


def test_one_in_memory_was_never_written(finished):
    assert not any("last written" in line for line in status_lines(replace(finished, where="memory")))


def test_an_objective_in_words():
    assert str(Objective()) == "mean normalised score on train prompts"
    said = str(Objective("latency_s", statistic="min", limits={"energy_j": 3.0, "qos": 0.25}))
    assert said == "min latency s on train prompts, energy_j at most 3, qos at most 0.25"


def test_a_setting_that_is_measured_too_stays_the_setting():
    agents = pd.DataFrame({"agent": [0, 1], "temperature": [0.1, 0.2]})
    ends = pd.DataFrame({"agent": [0, 1], "env_steps": [8, 8], "temperature": [0.3, 0.4]})
    found = with_ends(agents, ends)
    assert found["temperature"].tolist() == [0.1, 0.2]
    assert found["temperature_reached"].tolist() == [0.3, 0.4]


def test_what_differs_from_one_algorithm_to_another_alone_does_not_vary():
    rows = pd.DataFrame({"algorithm": ["ppo", "ppo", "dqn"], "clip": [0.1, 0.1, None], "discount": [0.9, 0.8, 0.9]})
    assert not varies(rows, "clip")
    assert varies(rows, "discount")


def test_a_scenario_may_have_numbers_of_its_own(crossed):
    spec = crossed.spec | {"params": {"queueing": {"latency_weight": [0.0, 0.04]}, "slot_s": 4.0}}
    assert replace(crossed, spec=spec).environment_columns == ["latency_weight"]
