"""The small real model on this machine, with no key: from prompts to a trained agent, and one text."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from user_files import Files

from jaxmoe.collect.local import small_model
from jaxmoe.table import load_table

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'jaxmoe'; from jaxmoe.cli import main; main()"]


def jaxmoe(*arguments):
    without_keys = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], env=without_keys, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_from_prompts_to_a_trained_agent_without_a_key(tmp_path):
    files = Files(tmp_path, prompts=("A keeper guides a whale home.", "Two bakers share one oven."))
    where = ("--prompts", files.prompts, "--experts", files.experts, "--out", files.out)
    said = jaxmoe("collect", *where, "--local", "--max-tokens", 40, "--samples", 2, "--logprobs")
    assert "The table is complete" in said
    assert "scores are noise" in said
    table = load_table(files.out / "table.parquet")
    assert table.num_prompts == 2
    assert table.words.min() > 0
    assert set(pd.read_csv(files.out / "scores.csv").status) == {"done"}
    assert "answered as smollm2-135m-instruct" in (files.out / "README.md").read_text()
    again = jaxmoe("collect", *where, "--local", "--max-tokens", 40, "--samples", 2, "--logprobs")
    assert [line for line in again.splitlines() if "requests sent" in line] == [
        line for line in said.splitlines() if "requests sent" in line
    ]
    trained = jaxmoe("train", "ppo", "--table", files.out, "--steps", 2_048, "--seeds", 1, "--out", tmp_path / "run")
    assert "ppo (1 agent)" in trained


def test_one_text_by_the_experts_that_a_policy_chooses():
    said = jaxmoe("generate", "A keeper guides a whale home.", "--snr-db", "12,3,18,7", "--local", "--max-tokens", 40)
    assert "QoS that predict_then_optimise expects: action" in said
    assert "costs: computing" in said


def test_an_exported_policy_chooses_and_the_small_model_writes(tmp_path):
    run, policy = tmp_path / "run", tmp_path / "policy.safetensors"
    jaxmoe("train", "ppo", "--steps", 2_048, "--seeds", 1, "--out", run)
    jaxmoe("export", run, "--out", policy)
    arguments = ("--snr-db", "12,3,18,7", "--policy", policy, "--local", "--max-tokens", 40)
    said = jaxmoe("generate", "A keeper guides a whale home.", *arguments)
    assert "probability of each action by the policy (ppo)" in said


def test_the_small_model_answers_in_the_form_of_a_schema():
    import openai

    schema = {"type": "object", "properties": {"score": {"enum": [3, 4]}}, "required": ["score"]}
    with small_model() as address, openai.OpenAI(base_url=address.url, api_key="none") as client:
        answer = client.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "Score: "}],
            max_tokens=40,
            response_format={"type": "json_schema", "json_schema": {"name": "score", "strict": True, "schema": schema}},
        )
    assert json.loads(answer.choices[0].message.content)["score"] in (3, 4)
