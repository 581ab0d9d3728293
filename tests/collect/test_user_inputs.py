"""Prompts and experts as users write them."""

import json

import pandas as pd
import pytest

from jaxmoe.collect.inputs import Expert, Prompt, load_experts, read_prompts
from jaxmoe.errors import InputError


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# ---- prompts


def test_prompts_as_they_are_written(tmp_path):
    text = 'prompt_id,split,prompt,note\nx7,test," A storm,\nat sea ",old\n1,train,Ein Wal für Ü.,\n'
    assert read_prompts(written(tmp_path / "prompts.csv", text)) == (
        Prompt("x7", "test", "A storm,\nat sea"),
        Prompt("1", "train", "Ein Wal für Ü."),
    )


def test_prompts_alone_are_numbered_and_all_for_training(tmp_path):
    assert read_prompts(written(tmp_path / "prompts.csv", "prompt\nA storm.\nA calm.\n")) == (
        Prompt("p00", "train", "A storm."),
        Prompt("p01", "train", "A calm."),
    )


@pytest.mark.parametrize(("count", "last"), [(1, "p00"), (100, "p99"), (101, "p100"), (1001, "p1000")])
def test_numbers_of_prompts_have_the_same_length(count, last, tmp_path):
    prompts = read_prompts(written(tmp_path / "prompts.csv", "prompt\n" + "A storm.\n" * count))
    assert prompts[-1].prompt_id == last
    assert len({len(prompt.prompt_id) for prompt in prompts}) == 1
    assert len({prompt.prompt_id for prompt in prompts}) == count


def test_prompts_from_excel_and_parquet(tmp_path):
    frame = pd.DataFrame({"prompt_id": [1.0, 2.0], "split": ["train", "test"], "prompt": ["A storm.", "A calm."]})
    frame.to_excel(tmp_path / "prompts.xlsx", index=False)
    frame.to_parquet(tmp_path / "prompts.parquet", index=False)
    for name in ("prompts.xlsx", "prompts.parquet"):
        assert read_prompts(tmp_path / name) == (Prompt("1", "train", "A storm."), Prompt("2", "test", "A calm."))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text\nA storm.\n", "the column 'prompt' is missing, the columns found are: text"),
        ("prompt\n", "there are no rows below the header"),
        ("", "the column 'prompt' is missing"),
        ('split,prompt\ntrain," "\n', "line 2: prompt is empty"),
        ("prompt_id,prompt\np,A storm.\n,A calm.\n", "line 3: prompt_id is empty"),
        ("prompt_id,prompt\np,A storm.\np,A calm.\n", r"line 3 \(prompt_id 'p'\): a second row for the same prompt"),
        ("split,prompt\ndev,A storm.\n", "line 2: split is 'dev', it must be one of train, validation, test"),
        ("split,prompt\n,A storm.\n", "line 2: split is empty"),
        ("prompt,prompt\nA storm.,A calm.\n", "'prompt' is there twice"),
        ("prompt\nA storm, at sea.\n", "line 2: the row has 2 cells, the header has 1"),
    ],
)
def test_prompts_that_cannot_be_used_are_named(text, message, tmp_path):
    path = written(tmp_path / "prompts.csv", text)
    with pytest.raises(InputError, match=message) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("name", "message"), [("none.csv", "there is no such file"), ("prompts.txt", r"ends in \.csv, \.xlsx, \.parquet")]
)
def test_prompts_that_are_no_file(name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / name)


# ---- experts

SETTING = {"expert": "setting", "system_prompt": "You write of places."}


def experts_file(tmp_path, *entries):
    return written(tmp_path / "experts.json", json.dumps(entries))


def test_experts_have_models_and_servers_of_their_own_if_wanted(tmp_path):
    action = {"expert": "action", "system_prompt": "Ü", "model": "m", "base_url": "http://10.0.0.7:8000/v1/"}
    assert load_experts(experts_file(tmp_path, SETTING, action)) == (
        Expert("setting", "You write of places.", None, None),
        Expert("action", "Ü", "m", "http://10.0.0.7:8000/v1"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system_promt": "x"}, "the field 'system_promt' is unknown, allowed are expert, system_prompt, model, base_"),
        ({"system_prompt": " "}, "system_prompt must be a text that is not empty"),
        ({"system_prompt": None}, "system_prompt must be a text that is not empty"),
        ({"model": ""}, "model must be a text that is not empty"),
        ({"model": 4}, "model must be a text that is not empty"),
        ({"model": None}, "model must be a text that is not empty"),
        ({"base_url": ""}, "base_url must be a text that is not empty"),
        ({"base_url": ["http://host"]}, "base_url must be a text that is not empty"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(change, message, tmp_path):
    path = experts_file(tmp_path, {"expert": "action", "system_prompt": "x"}, SETTING | change)
    with pytest.raises(InputError, match=rf"{path}, entry 2 \(setting\): {message}"):
        load_experts(path)


def test_an_expert_needs_a_system_prompt(tmp_path):
    with pytest.raises(InputError, match=r"entry 1 \(setting\): system_prompt must be"):
        load_experts(experts_file(tmp_path, {"expert": "setting"}))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"system_prompt": "x"}], "entry 1: expert is None"),
        ([SETTING | {"expert": "local"}], "entry 1: expert is 'local'"),
        ([SETTING | {"expert": "a+b"}], r"entry 1: expert is 'a\+b', it must be a name without '\+'"),
        ([SETTING | {"expert": " a"}], "entry 1: expert is ' a'"),
        ([SETTING, SETTING], "entry 2: a second expert 'setting'"),
        ([], "there are 0 experts, a table has 1 to 16"),
        ([SETTING | {"expert": f"e{number}"} for number in range(17)], "there are 17 experts"),
        (["setting"], "must be a list of objects"),
    ],
)
def test_experts_that_cannot_be_are_refused(entries, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_experts(experts_file(tmp_path, *entries))


@pytest.mark.parametrize(
    ("base_url", "message"),
    [("host/v1", "is not of the form http://host"), ("http://user:sk-canary@host/v1", "holds no user, password")],
)
def test_the_server_of_an_expert_is_checked_and_its_secret_not_said(base_url, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        load_experts(experts_file(tmp_path, SETTING | {"base_url": base_url}))
    assert "sk-canary" not in str(caught.value)


def test_experts_that_are_no_json(tmp_path):
    with pytest.raises(InputError, match="line 2: this is not JSON"):
        load_experts(written(tmp_path / "experts.json", "[\n{expert: setting}]"))
    with pytest.raises(InputError, match="there is no such file"):
        load_experts(tmp_path / "none.json")
