"""Tables that are not complete: what is missing is named, nothing is filled, and nothing is trained on them."""

import json

import numpy as np
import pandas as pd
import pytest

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.table import load_table

SMALL = """\
prompt_id,split,prompt,experts,judge,score,words,relevance
p,train,A storm.,local,1,1,50,
p,train,A storm.,a,1,4,100,0.9
p,train,A storm.,a,2,6,100,0.9
p,train,A storm.,b,1,3,80,0.2
p,train,A storm.,a+b,1,8,150,
q,test,A calm.,local,1,0,60,
q,test,A calm.,a,1,5,120,0.5
q,test,A calm.,b,1,6,90,0.7
q,test,A calm.,a+b,1,10,160,
"""
NO_FUSION = ("p,train,A storm.,a+b,1,8,150,\n", "")
FOLDER = {
    "prompts.csv": "prompt_id,split,prompt\np,train,A storm.\nq,test,A calm.\n",
    "experts.json": '[{"expert": "a"}, {"expert": "b"}]',
    "gate.csv": "prompt_id,expert,relevance\np,a,0.9\np,b,0.2\nq,a,0.5\nq,b,0.7\n",
    "texts.jsonl": "".join(
        json.dumps({"prompt_id": prompt_id, "experts": experts, "text": "word " * count}) + "\n"
        for prompt_id, counts in (("p", (50, 100, 80, 150)), ("q", (60, 120, 90, 160)))
        for experts, count in zip(("local", "a", "b", "a+b"), counts, strict=True)
    ),
    "scores.csv": (
        "prompt_id,experts,judge,score,status\n"
        "p,local,1,1,done\np,a,1,4,done\np,a,2,6,done\np,b,1,3,done\np,a+b,1,8,done\n"
        "q,local,1,0,done\nq,a,1,5,done\nq,b,1,6,done\nq,a+b,1,10,done\n"
    ),
}
CASES = [  # of the single file: what is changed, and the gaps
    (*NO_FUSION, [("p", "a+b")]),
    ("p,train,A storm.,a+b,1,8,150,\n", "p,train,A storm.,a+b,1,,150,\n", [("p", "a+b")]),
    ("p,train,A storm.,a+b,1,8,150,\n", "p,train,A storm.,a+b,1,8,,\n", [("p", "a+b")]),
    ("p,train,A storm.,b,1,3,80,0.2\n", "", [("p", "relevance"), ("p", "b")]),
    ("p,train,A storm.,b,1,3,80,0.2\n", "p,train,A storm.,b,1,3,80,\n", [("p", "relevance")]),
    ("q,test,A calm.,local,1,0,60,\n", "", [("q", "local")]),
]
FOLDER_CASES = [
    ("scores.csv", "p,a+b,1,8,done\n", "", [("p", "a+b")]),
    ("scores.csv", "p,a+b,1,8,done\n", "p,a+b,1,,invalid\n", [("p", "a+b")]),
    ("scores.csv", "q,local,1,0,done\n", "q,local,1,,not asked\n", [("q", "local")]),
    ("texts.jsonl", FOLDER["texts.jsonl"], "", [(p, name) for p in "pq" for name in ("local", "a", "b", "a+b")]),
    ("gate.csv", "q,a,0.5\n", "", [("q", "relevance")]),
]


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def incomplete(tmp_path, old, new):
    assert SMALL.count(old) == 1
    return written(tmp_path / "table.csv", SMALL.replace(old, new))


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, text in FOLDER.items():
        written(folder / name, text)
    return folder


def change(folder, name, old, new):
    assert old in FOLDER[name]
    written(folder / name, FOLDER[name].replace(old, new))


@pytest.mark.parametrize(("old", "new", "gaps"), CASES)
def test_a_file_with_gaps(old, new, gaps, tmp_path):
    path = incomplete(tmp_path, old, new)
    assert load_table(path, missing="keep").gaps() == gaps
    with pytest.raises(InputError, match=r"has no row for|is empty"):
        load_table(path)


@pytest.mark.parametrize(("name", "old", "new", "gaps"), FOLDER_CASES)
def test_a_folder_with_gaps(name, old, new, gaps, raw):
    change(raw, name, old, new)
    assert load_table(raw, missing="keep").gaps() == gaps
    with pytest.raises(InputError, match=f"{raw / name}: the prompt '{gaps[0][0]}' has no row for"):
        load_table(raw)


def test_what_is_there_is_kept_and_nothing_is_filled(tmp_path):
    table, whole = load_table(incomplete(tmp_path, *NO_FUSION), missing="keep"), load_table(raw_csv(tmp_path))
    for name in ("score_mean", "score_std", "fused_words"):
        found, expected = getattr(table, name), getattr(whole, name).copy()
        expected[0, 3] = np.nan
        np.testing.assert_array_equal(found, expected, err_msg=name)
        assert found.dtype == np.float32
    np.testing.assert_array_equal(table.relevance, whole.relevance)
    np.testing.assert_array_equal(table.words, whole.words)
    assert table.meta.digest != whole.meta.digest


def raw_csv(tmp_path):
    return written(tmp_path / "whole.csv", SMALL)


def test_a_whole_table_has_no_gaps_and_is_the_same_either_way(raw, tmp_path):
    for path in (raw, raw_csv(tmp_path)):
        kept = load_table(path, missing="keep")
        assert kept.gaps() == []
        assert kept.meta == load_table(path).meta
    assert load_table(raw).meta == load_table(raw_csv(tmp_path)).meta


def test_a_judgement_that_failed_leaves_the_others(raw):
    change(raw, "scores.csv", "p,a,2,6,done\n", "p,a,2,,refused\n")
    for missing in ("error", "keep"):
        table = load_table(raw, missing=missing)
        assert (table.score_mean[0, 1], table.score_std[0, 1]) == (4.0, 0.0)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(("old", "new", "gaps"), CASES)
def test_a_table_with_gaps_reads_back(old, new, gaps, suffix, tmp_path):
    table = load_table(incomplete(tmp_path, old, new), missing="keep")
    copy = tmp_path / f"copy{suffix}"
    table.save(copy)
    found = load_table(copy, missing="keep")
    assert found.gaps() == gaps
    assert found.meta == table.meta
    for name in ("relevance", "words", "score_mean", "score_std", "fused_words"):
        np.testing.assert_array_equal(getattr(found, name), getattr(table, name), err_msg=name)
    with pytest.raises(InputError, match=r"has no row for|is empty"):
        load_table(copy)


def test_a_changed_parquet_file_with_gaps_is_refused(tmp_path):
    import pyarrow.parquet as pq

    load_table(incomplete(tmp_path, *NO_FUSION), missing="keep").save(tmp_path / "table.parquet")
    stored = pq.read_table(tmp_path / "table.parquet")
    for name in ("score", "score_std", "words"):
        values = stored.column(name).to_pylist()
        assert values[3] is None
        stored = stored.set_column(stored.column_names.index(name), name, [[*values[:3], 1.0, *values[4:]]])
    pq.write_table(stored, tmp_path / "table.parquet")
    with pytest.raises(InputError, match="does not match its own digest"):
        load_table(tmp_path / "table.parquet", missing="keep")


def test_excel_with_gaps_reads_like_csv(tmp_path):
    path = incomplete(tmp_path, "p,train,A storm.,a+b,1,8,150,\n", "p,train,A storm.,a+b,1,,150,\n")
    pd.read_csv(path).to_excel(tmp_path / "table.xlsx", index=False)
    assert load_table(tmp_path / "table.xlsx", missing="keep").meta == load_table(path, missing="keep").meta


def test_a_part_without_the_gap_is_complete(tmp_path):
    table = load_table(incomplete(tmp_path, *NO_FUSION), missing="keep")
    assert table.select_experts(["a"]).gaps() == []
    assert table.select_experts(["b", "a"]).gaps() == [("p", "b+a")]


def test_without_relevance_no_gate_is_missing(raw):
    change(raw, "gate.csv", "q,a,0.5\n", "")
    assert load_table(raw, relevance="none", missing="keep").gaps() == []


@pytest.mark.parametrize("scenario", ["oneshot", "fading", "queueing"])
def test_no_environment_is_made_of_a_table_with_gaps(scenario, tmp_path):
    table = load_table(incomplete(tmp_path, "p,train,A storm.,b,1,3,80,0.2\n", ""), missing="keep")
    with pytest.raises(
        InputError,
        match=r"the table is not complete: 2 entries are missing, the first is 'relevance' of the prompt 'p'; complete "
        "it with the same jaxmoe collect command without --subsets and --max-subset-size, and with --retry-failed",
    ):
        jaxmoe.make(scenario, table)
    jaxmoe.make(scenario, load_table(raw_csv(tmp_path)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a+b,1,8,150", "a+b,1,11,150", r"line 6 .*score is '11'.* from 0 to 10"),
        ("a+b,1,8,150", "a+b,1,nan,150", r"line 6 .*score is 'nan'"),
        ("a,2,6,100", "a,1,6,100", "line 4 .*second row"),
        ("a,2,6,100", "a,2,6,101", "line 4 .*words differs"),
        ("p,train,A storm.,a+b", "p,train,A storm.,a+c", "line 6 .*unknown expert 'c'"),
        ("a+b,1,8,150,\nq", "a+b,1,8,150,0.5\nq", "line 6 .*only on the rows of single experts"),
        ("p,train,A storm.,a+b", "p,train,A storm.,", "line 6 .*experts is empty"),
    ],
)
def test_gaps_excuse_nothing_else(old, new, message, tmp_path):
    path = incomplete(tmp_path, old, new)
    with pytest.raises(InputError, match=message):
        load_table(path, missing="keep")


@pytest.mark.parametrize("status", ["", "done", "length"])
@pytest.mark.parametrize("missing", ["error", "keep"])
def test_an_empty_score_needs_a_status_that_says_why(status, missing, raw):
    change(raw, "scores.csv", "p,a+b,1,8,done\n", f"p,a+b,1,,{status}\n")
    with pytest.raises(InputError, match=r"line 6 .*score is empty"):
        load_table(raw, missing=missing)


def test_missing_is_one_of_two_words():
    with pytest.raises(InputError, match="missing is 'fill', it must be 'error' or 'keep'"):
        load_table(missing="fill")
