"""Tables: files as editors and spreadsheets write them."""

import json

import pandas as pd
import pytest
from scripted import Scripted
from user_files import EXPERTS

MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"  # of byte order, which some editors write first


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("experts.json", MARK + json.dumps(EXPERTS), id="a byte-order mark in experts"),
        pytest.param(
            "prompts.csv",
            f'{MARK}prompt_id,split,prompt\r\np00,train,"a whale\r\nwho is lost"\r\np01,test,two bakers at night\r\n',
            id="a byte-order mark in prompts, and line ends of Windows",
        ),
        pytest.param(
            "prompts.csv",
            "prompt_id,split,prompt,note\np00,train,a whale,x\n,,,\np01,test,two bakers,\n,,,\n , ,\t,\n,,,\n",
            id="rows of nothing but commas",
        ),
    ],
)
def test_files_are_read_as_editors_and_spreadsheets_write_them(user, name, text):
    user.write(name, text)
    with Scripted() as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert server.count(contains=MARK) == 0
    assert server.count(stage="expert", contains="You write of places.") == 2


def test_a_byte_order_mark_in_a_template_is_not_sent(user):
    user.write("own/local.txt", f"{MARK}[user]\nWrite a short story: {{prompt}} Be kind.")
    with Scripted() as server:
        done = user.collect(server, "--templates", "own")
    assert done.code == 0
    assert len(done.texts) == 8
    assert server.count(contains=MARK) == 0
    assert server.count(stage="local", contains="Be kind.") == 2


def test_prompts_are_read_from_excel(user):
    rows = [("p00", "train", "a whale who is lost"), ("p01", "test", "two bakers at night")]
    pd.DataFrame(rows, columns=["prompt_id", "split", "prompt"]).to_excel(user.folder / "prompts.xlsx", index=False)
    with Scripted() as server:
        done = user.collect(server, "--prompts", "prompts.xlsx")
    assert done.code == 0
    assert len(done.texts) == 8
    assert server.count(stage="gate", contains="two bakers at night") == 1
    assert (user.folder / "out" / "prompts.csv").read_text().splitlines()[2] == "p01,test,two bakers at night"


def test_semicolons_between_cells_are_said_before_anything_is_sent(user):
    user.write("prompts.csv", "prompt_id;split;prompt\np00;train;a whale who is lost\np01;test;two bakers\n")
    with Scripted() as server:
        done = user.collect(server)
    assert done.code == 2
    assert server.log == []
    assert done.says("semicolons?.*commas?")


def test_a_prompt_in_both_splits_is_said(user):
    user.write("prompts.csv", "prompt_id,split,prompt\np00,train,a whale\np01,train,two bakers\nq07,test,a whale\n")
    with Scripted() as server:
        done = user.collect(server)
    assert done.code == 0
    for text in (done.said, done.card):
        assert "p00" in text
        assert "q07" in text
    assert done.says("train.{0,80}test|test.{0,80}train|both splits")


def test_decimal_commas_are_said(user):
    rows = (
        'p0,local,"4,5",10,',
        'p0,setting,"6,0",20,"0,5"',
        'p0,action,"7,25",30,"0,9"',
        'p0,setting+action,"8,0",60,',
    )
    user.write("table.csv", "\n".join(["prompt_id,experts,score,words,relevance", *rows]))
    done = user.run(None, "table", "check", "table.csv")
    assert done.code == 2
    assert done.says(r"'\d,\d+', which has a decimal comma; write \d\.\d")


def test_a_column_for_each_combination_is_read_as_far_as_it_goes(user):
    """Such a table needs words as well."""
    header, rows = "prompt_id,prompt,local,setting,action,setting+action", ("p0,a whale,4,6,7,8", "p1,bakers,3,5,6,9")
    user.write("mine.csv", "\n".join([header, *rows]))
    scores_alone = user.run(None, "table", "check", "mine.csv", "--no-relevance")
    assert scores_alone.code == 2
    assert scores_alone.says("one row per prompt.*missing here: words:local, words:setting")
    words = [",".join(f"words:{name}" for name in header.split(",")[2:]), "10,20,30,50", "11,21,31,51"]
    user.write("mine.csv", "\n".join(f"{row},{more}" for row, more in zip([header, *rows], words, strict=True)))
    whole = user.run(None, "table", "check", "mine.csv", "--no-relevance")
    assert whole.code == 0
    assert "2 prompts" in whole.said
