"""Adding seeds, samples and env steps: as if all had been planned at once, and no earlier file changes."""

import json
import shutil

import pandas as pd
import pytest
import tiny

import jaxmoe
from jaxmoe.errors import InputError

BOX = {"learning_rate": {"log_uniform": [1e-3, 1e-2]}}
SCHEDULED = {"schedule_steps": 1024, "evaluations": 1}


def unchanged(before, folder):
    """Files that were there are as they were, but for the tables that are made anew."""
    made = {folder / f"{name}.parquet" for name in tiny.TABLES} | {folder / "made.json"}
    after = tiny.contents(folder)
    return all(after[path] == content for path, content in before.items() if path not in made)


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory):
    """The folder of a sweep whose schedules run over twice as many env steps."""
    folder = tmp_path_factory.mktemp("scheduled") / "out"
    assert tiny.sweep(folder, SCHEDULED).complete
    return folder


def test_more_seeds_are_new_jobs_and_the_same_as_planned_at_once(tmp_path, swept):
    out = shutil.copytree(swept, tmp_path / "out")
    before = tiny.contents(out)
    found = jaxmoe.load(out).extend(seeds=5)
    assert found.complete
    assert unchanged(before, out)
    assert [(each.kind, len(each.jobs)) for each in found.contents.rounds] == [("spec", 3), ("extension", 1)]
    assert found.spec.seeds == 5
    once = tiny.sweep(None, {"seeds": 5})
    tiny.assert_equal_tables(found, once)
    pd.testing.assert_frame_equal(found.ranking(), once.ranking())
    assert "seeds = 3" in (out / "spec.toml").read_text()
    told = json.loads((out / "rounds" / "001" / "round.json").read_text())
    assert told["why"] == {"set": {"seeds": 5}}
    before = tiny.contents(out)
    assert jaxmoe.load(out).extend(seeds=5).complete
    assert tiny.contents(out) == before
    assert tiny.sweep(out).complete  # the command that began it goes on with all of it
    assert tiny.contents(out) == before


def test_chosen_seeds_must_hold_those_that_are_there(tmp_path, swept):
    out = shutil.copytree(swept, tmp_path / "out")
    before = tiny.contents(out)
    with pytest.raises(InputError, match=r"seeds = \[1, 2, 9\] lacks seed 0, which the experiment has; extending only"):
        jaxmoe.load(out).extend(seeds=[1, 2, 9])
    with pytest.raises(InputError, match="seeds = 2 lacks seed 2, which the experiment has"):
        jaxmoe.load(out).extend(seeds=2)
    with pytest.raises(InputError, match="seeds = 0 must be at least 1"):
        jaxmoe.load(out).extend(seeds=0)
    assert tiny.contents(out) == before
    found = jaxmoe.load(out).extend(seeds=[0, 1, 2, 9])
    assert sorted(set(found.results["seed"])) == [0, 1, 2, 9]


@pytest.mark.parametrize("method", [pytest.param("random", marks=pytest.mark.slow), "sobol"])
def test_more_samples_change_none_and_are_as_planned_at_once(method):
    own = {"search": {"method": method, "samples": 3}, "hypers": BOX, "params.latency_weight": {"uniform": [0.0, 0.01]}}
    own["devices.agents_per_device"] = 2  # or what is planned at once would be wider
    found = tiny.sweep(None, own)
    first = found.results
    assert found.extend(samples=5).complete
    few = found.results.merge(first[["agent"]], on="agent")
    pd.testing.assert_frame_equal(few, first, check_exact=True)
    once = tiny.sweep(None, {**own, "search": {"method": method, "samples": 5}})
    tiny.assert_equal_tables(found, once)
    assert found.extend(samples=6, seeds=4).complete
    tiny.assert_equal_tables(found, tiny.sweep(None, {**own, "search": {"method": method, "samples": 6}, "seeds": 4}))
    with pytest.raises(InputError, match=r"search.samples = 4 is fewer than the 6 that are there; extending only adds"):
        found.extend(samples=4)


def test_a_grid_has_all_its_points(tmp_path, swept):
    out = shutil.copytree(swept, tmp_path / "out")
    before = tiny.contents(out)
    with pytest.raises(InputError, match="a grid has all its points and cannot be extended by samples"):
        jaxmoe.load(out).extend(samples=8)
    assert tiny.contents(out) == before


def test_agents_go_on_and_are_as_planned_at_once_where_schedules_run_so_long(tmp_path, scheduled):
    out = shutil.copytree(scheduled, tmp_path / "out")
    before = tiny.contents(out)
    found = jaxmoe.load(out).extend(env_steps=1024)
    assert found.complete
    assert unchanged(before, out)
    assert found.results["env_steps"].eq(1024).all()
    assert found.spec.env_steps == 1024
    tiny.assert_equal_tables(found, tiny.sweep(None, {**SCHEDULED, "env_steps": 1024}))
    once = tiny.sweep(tmp_path / "once", {**SCHEDULED, "env_steps": 1024})
    mine, other = found.agents([7])[0].tensors, once.agents([7])[0].tensors
    assert all((mine[name] == other[name]).all() for name in other)


def test_default_schedules_end_and_the_sentence_says_both_ways_out(tmp_path, swept):
    out = shutil.copytree(swept, tmp_path / "out")
    before = tiny.contents(out)
    done = tiny.command("extend", out, "--env-steps", 1024)
    assert (done.code, len(done.stderr.splitlines())) == (2, 1)
    assert "schedules end at 512 env steps (the rate of default PPO is 0 there)" in done.stderr
    assert "would not learn on to 1,024; give --new-schedule" in done.stderr
    assert "or plan with schedule_steps = 1024 from the start" in done.stderr
    assert tiny.contents(out) == before
    first = jaxmoe.load(out).results
    found = jaxmoe.load(out).extend(env_steps=1024, new_schedule=True)
    assert found.complete
    assert found.results["env_steps"].eq(1024).all()
    assert (found.results["train_qos"] != first["train_qos"]).any()
    curves = found.curves
    assert sorted(set(curves["env_steps"]))[-2:] == [768, 1024] or sorted(set(curves["env_steps"]))[-1] == 1024
    assert not curves.duplicated(["agent", "env_steps"]).any()
    again = found.extend(env_steps=1536, new_schedule=True, seeds=4)
    assert again.complete
    assert again.results["env_steps"].eq(1536).all()
    assert len(again.results) == 16


@pytest.mark.parametrize("steps", [512, 256, 0])
def test_fewer_env_steps_are_refused_and_as_many_are_there(tmp_path, scheduled, steps):
    out = shutil.copytree(scheduled, tmp_path / "out")
    before = tiny.contents(out)
    if steps == 512:
        assert jaxmoe.load(out).extend(env_steps=512).complete
    else:
        said = "must be at least 1" if steps == 0 else "is not more than the 512 that agents are trained for"
        with pytest.raises(InputError, match=f"env_steps = {steps} {said}"):
            jaxmoe.load(out).extend(env_steps=steps)
    assert tiny.contents(out) == before


def test_agents_whose_states_were_not_kept_do_not_go_on(tmp_path, scheduled):
    for out in (shutil.copytree(scheduled, tmp_path / "gone"), tmp_path / "never"):
        tiny.sweep(out, SCHEDULED if out.name == "gone" else {**SCHEDULED, "keep_states": False, "seeds": 1})
        for path in out.rglob("state.safetensors"):
            path.unlink()
    for name, own in (("gone", SCHEDULED), ("never", {**SCHEDULED, "keep_states": False, "seeds": 1})):
        out = tmp_path / name
        assert tiny.sweep(out, own).complete  # absent states undo nothing
        before = tiny.contents(out)
        with pytest.raises(InputError, match=r"final states of its agents were not kept.*plan with keep_states = true"):
            jaxmoe.load(out).extend(env_steps=1024)
        assert tiny.contents(out) == before
        assert jaxmoe.load(out).extend(seeds=4).complete


def test_nothing_to_add_is_refused(swept):
    with pytest.raises(InputError, match="extend needs seeds, samples or env_steps; it was given none"):
        jaxmoe.load(swept).extend()
    done = tiny.command("extend", swept)
    assert (done.code, len(done.stderr.splitlines())) == (2, 1)


def test_an_extension_in_memory():
    width = {"devices.agents_per_device": 2}
    found = tiny.train(seeds=2, overrides=width)
    assert found.extend(seeds=3).complete
    tiny.assert_equal_tables(found, tiny.train(seeds=3, overrides=width))


def test_an_extension_whose_time_is_up_goes_on_with_the_same_command(tmp_path, swept):
    out = shutil.copytree(swept, tmp_path / "out")
    shutil.copytree(swept, tmp_path / "whole")
    jaxmoe.load(tmp_path / "whole").extend(seeds=4)
    done = tiny.command("extend", out, "--seeds", 4, "--time-budget", 0)
    assert done.code == 3, done.stderr
    assert not jaxmoe.load(out).complete
    assert len(jaxmoe.load(out).results) == 12
    again = tiny.command("extend", out, "--seeds", 4)
    assert again.code == 0, again.stderr
    assert "16 agents, 512 env steps each" in again.stdout
    tiny.assert_same(out, tmp_path / "whole")
