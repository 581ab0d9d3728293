"""What the README shows works as it stands, in smaller sizes."""

import re
import tomllib
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

import jaxmoe
from jaxmoe.cli import app
from jaxmoe.sweeps import training
from jaxmoe.sweeps.plan import make_plan
from jaxmoe.sweeps.spec import load_spec

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
    plan = make_plan(load_spec(tomllib.loads(text)), jaxmoe.load_table())
    assert plan.num_agents == 2 * 64 * 16
    assert [group.algorithm for group in plan.groups] == ["ppo", "dqn"]


def test_the_job_of_the_readme_can_be_planned(tmp_path):
    text, _ = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    job = tmp_path / "job.toml"
    job.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["collect", str(job), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "30 requests" in next(line for line in done.output.splitlines() if line.startswith("all"))
    assert "qwen3 at http://192.168.1.7:8000/v1" in done.output


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    code, _ = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    jaxmoe.load_table().save(tmp_path / "my_table.csv")
    smaller = {"seeds=16": "seeds=2", "500_000": "1_000", "my_table.csv": str(tmp_path / "my_table.csv")}
    smaller |= {"0.05})": "0.05}, slots=256)"}
    monkeypatch.setattr(training, "tally_references", partial(training.tally_references, slots=256))
    for shown, run in smaller.items():
        assert shown in code
        code = code.replace(shown, run)
    found = {}
    exec(code, found)
    assert len(found["training"].results) == 2
    assert found["env"].num_actions == 16
    assert "rows x 6 columns" in capsys.readouterr().out
