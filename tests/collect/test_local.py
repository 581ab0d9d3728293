"""The small real model on this machine, with no key: from prompts to a trained agent, and one text."""

import contextlib
import json
import subprocess
import sys

import command_line
import openai
import pandas as pd
import pytest
from user_files import Files

from jaxmoe.collect import collecting
from jaxmoe.collect.local import small_model
from jaxmoe.table import load_table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served():
    with small_model() as address:
        yield address


@pytest.fixture
def at_hand(served, monkeypatch):
    """The server that runs already is the one that a command starts."""
    monkeypatch.setattr(collecting, "small_model", lambda: contextlib.nullcontext(served))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(
        tmp_path_factory.mktemp("local"), prompts=("A keeper guides a whale home.", "Two bakers share one oven.")
    )


@pytest.fixture(scope="module")
def collected(files):
    """What is said by a command that starts the model itself."""
    return collect(files)


def jaxmoe(*arguments):
    done = command_line.run(*arguments)
    assert done.code == 0, done.out + done.error
    return done.out


def collect(files):
    where = ("--prompts", files.prompts, "--experts", files.experts, "--out", files.out)
    return jaxmoe("collect", *where, "--local", "--max-tokens", 20, "--samples", 1, "--logprobs")


def requests_sent(said):
    return [line for line in said.splitlines() if "requests sent" in line]


def test_a_table_is_collected_without_a_key(files, collected):
    assert "The table is complete" in collected
    assert "scores are noise" in collected
    table = load_table(files.out / "table.parquet")
    assert table.num_prompts == 2
    assert table.words.min() > 0
    assert set(pd.read_csv(files.out / "scores.csv").status) == {"done"}
    assert "answered as smollm2-135m-instruct" in (files.out / "README.md").read_text()


@pytest.mark.usefixtures("at_hand")
def test_the_same_command_asks_nothing_again(files, collected):
    assert requests_sent(collect(files)) == requests_sent(collected) != []


def test_one_text_by_the_experts_that_a_policy_chooses_in_a_process_of_its_own():
    arguments = ("generate", "A keeper guides a whale home.", "--snr-db", "12,3,18,7", "--local", "--max-tokens", "20")
    done = subprocess.run([sys.executable, "-m", "jaxmoe", *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "QoS that predict_then_optimise expects: action" in done.stdout
    assert "costs: computing" in done.stdout


@pytest.mark.usefixtures("at_hand")
def test_an_exported_policy_chooses_and_the_small_model_writes(trained_folder, tmp_path):
    policy = tmp_path / "policy.safetensors"
    jaxmoe("export", trained_folder, "--out", policy)
    arguments = ("--snr-db", "12,3,18,7", "--policy", policy, "--local", "--max-tokens", 20)
    said = jaxmoe("generate", "A keeper guides a whale home.", *arguments)
    assert "probability of each action by the policy (ppo)" in said


def test_the_small_model_answers_in_the_form_of_a_schema(served):
    schema = {"type": "object", "properties": {"score": {"enum": [3, 4]}}, "required": ["score"]}
    with openai.OpenAI(base_url=served.url, api_key="none") as client:
        answer = client.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "Score: "}],
            max_tokens=40,
            response_format={"type": "json_schema", "json_schema": {"name": "score", "strict": True, "schema": schema}},
        )
    assert json.loads(answer.choices[0].message.content)["score"] in (3, 4)


@pytest.mark.usefixtures("quick_compilation")
def test_an_agent_is_trained_on_the_table(files, collected):
    assert collected
    sizes = ("--num-envs", 4, "--rollout-length", 8, "--epochs", 1, "--minibatches", 1, "--hidden", 8)
    where = ("--table", files.out, "--out", files.folder / "run")
    said = jaxmoe("train", "ppo", *where, "--steps", 256, "--seeds", 1, "--evaluations", 1, *sizes)
    assert "ppo (1 agent)" in said
