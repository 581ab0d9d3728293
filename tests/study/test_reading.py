"""Folders in every state: finished, at work, empty, damaged, something else."""

import json
import shutil

import pandas as pd
import pytest

from jaxmoe.errors import InputError
from jaxmoe.study.reading import read_study, with_ends
from jaxmoe.study.status import standing, status_lines


@pytest.fixture
def at_work(finished, tmp_path):
    """The same sweep when one of two chunks is done, and no reference."""
    folder = tmp_path / "sweep"
    shutil.copytree(finished, folder)
    chunk = folder / "chunks" / "agents-000-0000000"
    chunk.mkdir(parents=True)
    mine = range(24)
    for name in ("curves", "prompts"):
        rows = pd.read_parquet(folder / f"{name}.parquet")
        rows = rows[rows["agent"].isin(mine)].drop(columns=["configuration", "seed"], errors="ignore")
        rows = rows.drop(columns=[column for column in rows if column.endswith("_normalised")])
        rows.to_parquet(chunk / f"{name}.parquet", index=False)
    for name in ("results", "curves", "prompts", "references"):
        (folder / f"{name}.parquet").unlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    about = manifest["done"]["agents-000-0000000"]
    manifest["done"]["agents-000-0000000"] = about | {
        "agents": list(mine),
        "files": {"curves.parquet": "", "prompts.parquet": ""},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_sweep_at_work_shows_what_is_done(at_work, finished):
    study, whole = read_study(at_work), read_study(finished)
    assert (len(study.agents), len(study.results)) == (48, 24)
    assert not study.complete
    assert study.measure == "qos"
    expected = whole.results.head(24)[["agent", "learning_rate", "train_qos"]]
    pd.testing.assert_frame_equal(study.results[["agent", "learning_rate", "train_qos"]], expected)
    at = standing(study)
    assert (at.trained, at.agents, at.evaluated, at.environments) == (24, 48, 0, 1)
    assert "24 of 48 agents trained" in str(at)


def test_a_shard_plans_its_own_agents(at_work):
    manifest = json.loads((at_work / "manifest.json").read_text())
    (at_work / "manifest.json").write_text(json.dumps(manifest | {"shard": "1/3"}))
    study = read_study(at_work)
    assert study.agents["agent"].tolist() == list(range(1, 48, 3))
    assert study.environments == []


def test_the_status_says_what_is_best_so_far(at_work, finished):
    lines = status_lines(at_work)
    assert lines[0].startswith("sweep: not done; 24 of 48 agents trained")
    assert "best of 3 settings so far, PPO with learning rate" in lines[-1]
    assert status_lines(finished)[0].startswith("finished: done; 48 of 48 agents trained")


def test_nothing_done_yet_is_a_status_too(at_work):
    shutil.rmtree(at_work / "chunks")
    assert status_lines(at_work)[0].startswith("sweep: not done; 0 of 48 agents trained")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (None, "there is no such folder"),
        ({}, "holds no sweep: there is no manifest.json in it"),
        ({"manifest.json": "{"}, "manifest.json cannot be read"),
        ({"manifest.json": "[]"}, "is not the manifest of a sweep"),
        ({"manifest.json": '{"run": {}}'}, "holds a training run"),
        ({"manifest.json": '{"spec": {}, "done": {}, "shard": "0/1"}'}, "does not say which agents are planned"),
    ],
)
def test_a_folder_that_is_no_sweep_is_one_sentence(tmp_path, files, sentence):
    folder = tmp_path / "folder"
    if files is not None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_study(folder)


def test_a_damaged_table_is_one_sentence(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "sweep")
    (tmp_path / "sweep" / "results.parquet").write_text("PAR1")
    with pytest.raises(InputError, match=r"results\.parquet cannot be read"):
        read_study(tmp_path / "sweep")


def test_a_setting_that_is_measured_too_stays_the_setting():
    agents = pd.DataFrame({"agent": [0, 1], "temperature": [0.1, 0.2]})
    ends = pd.DataFrame({"agent": [0, 1], "env_steps": [8, 8], "temperature": [0.3, 0.4]})
    found = with_ends(agents, ends)
    assert found["temperature"].tolist() == [0.1, 0.2]
    assert found["temperature_reached"].tolist() == [0.3, 0.4]
