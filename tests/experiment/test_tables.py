"""The tables of an experiment at every moment of its life, and the files that are made of them."""

import copy
import json
import os
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny

from jaxmoe.analysis.ranking import rankings
from jaxmoe.analysis.status import standing, status_lines
from jaxmoe.analysis.tables import IDENTITY
from jaxmoe.errors import InputError
from jaxmoe.experiment.tables import Made, finish, read_contents, tables_of
from jaxmoe.training.evaluation import metric_names
from jaxmoe.training.storage import Folder, Memory

EXPERTS = ("setting", "character", "action", "science")
TRAINED = {2: 6, 3: 6}  # agents of each training job; the jobs before them are the baselines'


@pytest.fixture(scope="module")
def whole():
    """A finished experiment in memory, of two training jobs."""
    return tiny.sweep(None, {"devices.agents_per_job": 8}).storage


@pytest.fixture
def storage(whole):
    return copy.deepcopy(whole)


@pytest.fixture(scope="module")
def tables(whole):
    return tables_of(whole)


def undo(storage, *jobs):
    """As if jobs were not done yet."""
    for job in jobs:
        storage.delete(f"jobs/{job:06d}/done.json")
    return storage


def attempt_of(storage, job):
    about = json.loads(storage.read(f"jobs/{job:06d}/done.json"))
    return f"jobs/{job:06d}/{about['attempt']}"


def test_results_say_who_an_agent_is_and_all_that_it_brings(tables):
    results = tables.results
    assert list(results)[: len(IDENTITY)] == list(IDENTITY)
    for split in ("train", "validation", "test"):
        means = [f"{split}_{metric}" for metric in metric_names(EXPERTS)]
        assert {*means, f"{split}_normalised"} <= set(results)
        assert np.isfinite(results[means].to_numpy(np.float64)).all()
    assert results["job"].value_counts().to_dict() == TRAINED
    assert results["agent"].tolist() == tables.agents["agent"].tolist()
    assert tables.experts == EXPERTS
    assert (tables.splits, tables.measure, tables.complete) == (["train", "validation", "test"], "normalised", True)
    assert (tables.environment_columns, tables.where, tables.environments) == (["latency_weight"], "memory", [0, 1])


def test_an_evaluation_has_a_row_of_sums_per_unit(tables):
    rows = tables.load_evaluation([1, 11])
    assert list(rows) == ["agent", "split", "by", "unit", "requests", *metric_names(EXPERTS)]
    assert set(rows["agent"]) == {1, 11}
    assert set(rows["by"]) == {"prompts", "look"}  # each request of `oneshot` is an episode of its own
    for of in (rows, tables.baselines):
        assert {str(of[name].dtype) for name in ("split", "by")} & {"category"} == set()
    who = ["environment", "policy"]
    assert set(tables.baselines) == {*who, *rows} - {"agent"}
    served = rows.groupby(["agent", "split", "by"])["requests"].sum()
    assert len(set(served)) == 1
    assert set(tables.baselines.groupby([*who, "split", "by"])["requests"].sum()) == set(served)


def test_curves_are_read_of_those_who_are_asked_for(tables):
    some = tables.load_curves([0, 9])
    assert set(some["agent"]) == {0, 9}
    every = tables.load_curves(None)
    pd.testing.assert_frame_equal(some, every[every["agent"].isin([0, 9])].reset_index(drop=True))
    assert every.groupby("agent")["env_steps"].max().eq(512).all()


def test_an_experiment_at_work_shows_what_is_done(storage, tables):
    found = tables_of(undo(storage, 3))
    done = tables.results[tables.results["job"] == 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.results, done)
    assert (len(found.agents), found.complete) == (12, False)
    at = standing(found)
    assert (at.trained, at.agents, at.evaluated, at.environments, at.complete) == (6, 12, 2, 2, False)
    assert set(found.load_evaluation(range(12))["agent"]) == set(done["agent"])
    assert status_lines(found)[0].startswith("experiment: not done; 6 of 12 agents trained")


def test_before_the_baselines_the_qos_ranks(storage):
    found = tables_of(undo(storage, 0, 1))
    assert found.measure == "qos"
    assert "train_normalised" not in found.results
    assert standing(found).evaluated == 0
    assert rankings(found)[0].table()["chosen"].is_monotonic_decreasing


def test_nothing_done_yet_is_an_experiment_too(storage):
    found = tables_of(undo(storage, 0, 1, 2, 3))
    assert (len(found.results), len(found.baselines), len(found.agents)) == (0, 0, 12)
    assert found.load_curves(None).empty
    assert status_lines(found) == [
        "experiment: not done; 0 of 12 agents trained, baselines evaluated in 0 of 2 environments"
    ]


@pytest.mark.parametrize("said", [b"{", b"[]", b"{}", b'{"env_steps": 1, "env_steps_total": 0}', b'{"env_steps": "x"}'])
def test_where_a_job_stands_is_told_unless_it_cannot_be_read(storage, said):
    undo(storage, 3).write("jobs/000003/progress.json", b'{"env_steps": 256, "env_steps_total": 512}')
    assert tables_of(storage).unfinished == ["job 3, ppo in oneshot: 50% of 6 agents' training"]
    storage.write("jobs/000003/progress.json", said)
    assert tables_of(storage).unfinished == []


def test_the_order_in_which_jobs_are_done_does_not_matter(storage, tables):
    for name in [name for name in storage.contents if name.startswith("jobs/")][::-1]:
        storage.contents[name] = storage.contents.pop(name)
    pd.testing.assert_frame_equal(tables_of(storage).results, tables.results)
    pd.testing.assert_frame_equal(tables_of(storage).load_curves(None), tables.load_curves(None))


@pytest.mark.parametrize(("damage", "message"), [(b"PAR1", "is not what was written"), (None, "is missing")])
def test_a_table_that_cannot_be_read_is_one_sentence(storage, damage, message):
    contents, name = read_contents(storage), f"{attempt_of(storage, 3)}/results.parquet"
    if damage is None:
        storage.delete(name)
    else:
        storage.write(name, damage)
    with pytest.raises(InputError, match=rf"memory/{name}.* {message}") as refusal:
        tables_of(storage, contents)
    assert "\n" not in str(refusal.value)


def test_the_tables_of_what_is_complete_are_written_and_are_the_same_again(storage):
    finish(storage)
    names = [f"{name}.parquet" for name in tiny.TABLES]
    first = {name: storage.read(name) for name in (*names, "made.json")}
    assert set(json.loads(first["made.json"])) == set(names)
    finish(storage)
    assert {name: storage.read(name) for name in first} == first


def test_what_is_made_is_replaced_and_what_is_somebody_elses_is_not():
    storage = Memory()

    def make(content):
        made = Made(storage, "report/made.json")
        made.write("page.html", content)
        made.close()

    make(b"one")
    make(b"two")
    assert storage.read("report/page.html") == b"two"
    storage.write("report/page.html", b"mine")
    with pytest.raises(InputError, match=r"memory/report/page\.html is not as jaxmoe made it; it is left alone"):
        make(b"three")
    assert storage.read("report/page.html") == b"mine"
    storage.write("report/page.html", b"three")  # the same by chance
    make(b"three")
    make(b"four")
    assert storage.read("report/page.html") == b"four"


def test_a_crash_between_two_files_makes_none_of_them_a_stranger():
    storage = Memory()
    made = Made(storage, "made.json")
    made.write("a", b"1")
    made.write("b", b"1")  # and no close
    again = Made(storage, "made.json")
    again.write("a", b"2")
    again.write("b", b"2")
    again.close()
    assert (storage.read("a"), storage.read("b")) == (b"2", b"2")


def test_what_is_not_made_any_more_is_removed_where_that_is_wanted_and_it_is_ours():
    storage = Memory()
    first = Made(storage, "made.json")
    for name in ("old", "touched", "kept"):
        first.write(name, b"1")
    first.close()
    storage.write("touched", b"mine")
    second = Made(storage, "made.json")
    second.write("kept", b"1")
    second.close(remove_others=False)
    assert set(json.loads(storage.read("made.json"))) == {"old", "touched", "kept"}
    third = Made(storage, "made.json")
    third.write("kept", b"1")
    third.close(remove_others=True)
    assert storage.list() == ["kept", "made.json", "touched"]


def test_what_a_kill_has_left_of_a_report_is_removed_later_and_nothing_else(tmp_path):
    for name, age_s in ((".report.html.0123abcd.partial", 7200), (".new.0123abcd.partial", 0), ("notes.partial", 7200)):
        (tmp_path / "report").mkdir(exist_ok=True)
        (tmp_path / "report" / name).write_bytes(b"half")
        os.utime(tmp_path / "report" / name, (time.time() - age_s,) * 2)
    Made(Folder(tmp_path), "report/made.json").close(remove_others=True)
    left = {path.name for path in (tmp_path / "report").iterdir()}
    assert left == {".new.0123abcd.partial", "notes.partial", "made.json"}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe"])
def test_a_list_of_what_is_ours_that_cannot_be_read_makes_nothing_ours(content):
    storage = Memory()
    storage.write("made.json", content)
    storage.write("table", b"mine")
    with pytest.raises(InputError, match="is not as jaxmoe made it"):
        Made(storage, "made.json").write("table", b"ours")


def test_baselines_that_are_not_told_apart_have_no_normalised_score(whole, tables):
    """QoS is told and ranked by in its place."""
    from jaxmoe.experiment import tables as module

    levels = module._levels(tables.baselines, tables.families, "prompts")
    assert levels
    assert np.isfinite(list(levels.values())).all()
    alike = tables.baselines.copy()
    best = (alike["policy"] == "one_slot_optimum") & (alike["split"] == "validation")
    swing = np.where(alike["unit"][best] % 2, 50.0, -50.0) * alike["requests"][best]
    alike.loc[best, "qos"] = swing.astype(alike["qos"].dtype)
    others = module._levels(alike, tables.families, "prompts")
    missing = {key for key, ends in others.items() if np.isnan(ends).all()}
    assert missing == {key for key in levels if key[1] == "validation"}
    columns = [name for name in tables.results if not str(name).endswith("_normalised")]
    results = module.with_normalised(tables.results[columns].copy(), others)
    assert results["validation_normalised"].isna().all()
    assert module._objective(read_contents(whole).spec, results).metric == "qos"
    assert replace(tables, results=results, baselines=alike).alike == ["validation"]
    assert tables.alike == []
