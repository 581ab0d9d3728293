"""What the README shows works as it stands, in smaller sizes."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import jaxmoe
from jaxmoe.cli import app
from jaxmoe.experiment.dry_run import describe_plan

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_policy_of_the_readme_is_loaded(trained_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    jaxmoe.export(trained_folder, "policy.safetensors")
    _, code = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(code, {})
    assert "('setting', 'character', 'action', 'science')" in capsys.readouterr().out


def test_every_link_of_the_readme_leads_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target


def test_the_sweep_of_the_readme_can_be_begun():
    _, text = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    lines = describe_plan(tomllib.loads(text))
    assert lines[0].startswith(f"{2 * 64 * 16:,} agents, from 128 configurations and 16 seeds")
    assert [line.split(":")[0] for line in lines if " in queueing:" in line] == ["ppo in queueing", "dqn in queueing"]
    assert [line.split(":")[0] for line in lines if line.startswith("axis")]


def test_the_commands_of_the_readme_exist():
    shown = set(re.findall(r"^jaxmoe (\w+)", README, flags=re.MULTILINE))
    assert {"train", "sweep", "status", "extend", "best", "confirm", "report", "export", "evaluate"} <= shown
    assert shown <= set(get_command(app).commands)


def test_the_job_of_the_readme_can_be_planned(tmp_path):
    text, _ = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    job = tmp_path / "job.toml"
    job.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["collect", str(job), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "30 requests" in next(line for line in done.output.splitlines() if line.startswith("all"))
    assert "qwen3 at http://192.168.1.7:8000/v1" in done.output
    same = CliRunner().invoke(app, ["collect", str(job), "--dry-run", "--json", "--quiet"])
    assert json.loads(same.stdout)["plan"] == done.output.splitlines()


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_the_python_of_the_readme_runs(tmp_path, capsys):
    code, _ = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    jaxmoe.load_table().save(tmp_path / "my_table.csv")
    smaller = {"seeds=16": "seeds=2, requests=256", "500_000": "1_000"}
    smaller |= {name: str(tmp_path / name) for name in ("my_table.csv", "runs/mine")}
    for shown, run in smaller.items():
        assert shown in code
        code = code.replace(shown, run)
    found = {}
    exec(code, found)
    assert found["experiment"].complete
    assert jaxmoe.load(tmp_path / "runs" / "mine").results.equals(found["experiment"].results)
    assert found["env"].num_actions == 16
    printed = capsys.readouterr().out
    assert "[2 rows x " in printed
    assert "[390 rows x 10 columns]" in printed  # the agents, stay_local and eight baselines, on three splits
