"""Wide tables: a column per combination of experts reads like a row per combination, and what is missing is named."""

import itertools
import re
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from jaxmoe.errors import InputError
from jaxmoe.table import load_table
from jaxmoe.table.wide import WIDE, WIDE_RULE, is_wide

WIDE_CSV = """\
prompt_id,split,prompt,notes,local,a,b,a+b,words:local,words:a,words:b,words:a+b,relevance:a,relevance:b
p,train,A storm.,good,1,4,3,8,50,100,80,150,0.9,0.2
q,test,A calm.,,0,5,6,10,60,120,90,160,0.5,0.7
"""
LONG_CSV = """\
prompt_id,split,prompt,experts,score,words,relevance
p,train,A storm.,local,1,50,
p,train,A storm.,a,4,100,0.9
p,train,A storm.,b,3,80,0.2
p,train,A storm.,a+b,8,150,
q,test,A calm.,local,0,60,
q,test,A calm.,a,5,120,0.5
q,test,A calm.,b,6,90,0.7
q,test,A calm.,a+b,10,160,
"""
RULE = re.escape(f"a table without a column experts has {WIDE_RULE}; ")


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def widened(long: pd.DataFrame) -> pd.DataFrame:
    """The frame of a table with a column per combination."""
    keys = [name for name in ("prompt_id", "split", "prompt", "judge") if name in long]
    parts = []
    for measure in (name for name in ("score", "words", "score_std", "relevance") if name in long):
        part = long.pivot_table(index=keys, columns="experts", values=measure, sort=False)
        parts.append(part if measure == "score" else part.add_prefix(f"{measure}:"))
    return pd.concat(parts, axis=1).reset_index()


def saved(frame: pd.DataFrame, path: Path) -> Path:
    writers = {".csv": frame.to_csv, ".xlsx": frame.to_excel, ".parquet": frame.to_parquet}
    writers[path.suffix](path, index=False)
    return path


# ---- reading


def test_a_wide_table_reads_like_the_long_one(tmp_path):
    wide = load_table(written(tmp_path / "wide.csv", WIDE_CSV))
    assert wide.meta == load_table(written(tmp_path / "long.csv", LONG_CSV)).meta
    np.testing.assert_array_equal(wide.score_mean, np.float32([[1, 4, 3, 8], [0, 5, 6, 10]]))
    np.testing.assert_array_equal(wide.relevance, np.float32([[0.9, 0.2], [0.5, 0.7]]))


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".parquet"])
def test_the_shipped_table_survives_being_wide(suffix, tmp_path):
    table = load_table()
    copy = load_table(saved(widened(table.to_frame()), tmp_path / f"wide{suffix}"))
    assert copy.meta == table.meta
    assert copy.experts == table.experts
    assert copy.meta.provenance.endswith(f"; {WIDE}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (",a+b,", ",b+a,"),
        (",a+b,", ", b + a ,"),
        ("words:a+b", " words : b +a"),
        (",local,a,b,", ",local, a,b ,"),
        ("notes", "pros+cons"),
        ("notes", "grade A+"),
        ("notes", "words"),
        ("notes", "words:prompt"),
        ("notes", ""),
        ("notes", "time: s"),
        ("prompt_id,", '"\ufeffprompt_id",'),
    ],
)
def test_names_are_free_in_blanks_and_order_and_other_columns_are_not_read(old, new, tmp_path):
    assert WIDE_CSV.count(old) == 1
    wide = load_table(written(tmp_path / "wide.csv", WIDE_CSV.replace(old, new)))
    assert wide.meta == load_table(written(tmp_path / "long.csv", LONG_CSV)).meta


def test_experts_come_in_the_order_of_their_columns(tmp_path):
    frame = pd.read_csv(written(tmp_path / "wide.csv", WIDE_CSV))
    order = ["a+b", "relevance:a", "words:a", "b", "words:a+b", "a"]
    frame = frame[[*order, *(name for name in frame if name not in order)]]
    wide = load_table(saved(frame, tmp_path / "other.csv"))
    assert wide.meta == load_table(tmp_path / "wide.csv").select_experts(["b", "a"]).meta


def test_one_expert_has_no_column_with_a_plus(tmp_path):
    path = written(tmp_path / "wide.csv", "prompt_id,local,plot twist,words:local,words:plot twist\n7,1,2,30,40\n")
    table = load_table(path, relevance="none")
    assert (table.experts, table.meta.prompt_ids, table.meta.splits) == (("plot twist",), ("7",), ("train",))
    np.testing.assert_array_equal(table.score_mean, np.float32([[1, 2]]))


def test_a_row_per_prompt_and_judge(tmp_path):
    rows = "p,1,1,4,50,100\np,2,2,6,50,100\n"
    table = load_table(
        written(tmp_path / "wide.csv", f"prompt_id,judge,local,a,words:local,words:a\n{rows}"), relevance="none"
    )
    np.testing.assert_array_equal(table.score_mean, np.float32([[1.5, 5]]))
    np.testing.assert_array_equal(table.score_std, np.float32([[0.5, 1]]))


def test_relevance_that_is_not_wanted_is_not_read(tmp_path):
    text = WIDE_CSV.replace("0.9,0.2", "none,")
    table = load_table(written(tmp_path / "wide.csv", text), relevance="none")
    assert not table.relevance.any()
    assert table.meta.provenance.endswith(f"; {WIDE}; without relevance")


@pytest.mark.parametrize(
    ("header", "wide"),
    [
        (["prompt_id", "local"], True),
        (["prompt_id", "a", "a+b"], True),
        (["prompt_id", "a", "words:a"], True),
        (["prompt_id", "pros+cons"], False),
        (["prompt_id", "expert", "score", "words"], False),
        (["prompt_id", "experts", "score", "words", "local", "a", "a+b"], False),
    ],
)
def test_which_headers_are_wide(header, wide):
    assert is_wide(header) is wide


NAMES = st.text("abcxyzäß-_: 0", min_size=1, max_size=4).map(str.strip).filter(bool)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_tables_survive_being_wide(data):
    experts = data.draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    names = [*("+".join(e) for n in range(1, 4) for e in itertools.combinations(experts, n)), "local"]
    numbers = {"score": st.floats(0, 10), "words": st.floats(0, 9999), "relevance": st.floats(0, 1)}
    rows = [
        {"prompt_id": prompt_id, "experts": name, **{what: data.draw(draw) for what, draw in numbers.items()}}
        for prompt_id in data.draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
        for name in names
    ]
    long = pd.DataFrame(rows)
    long.loc[~long["experts"].isin(experts), "relevance"] = np.nan
    with tempfile.TemporaryDirectory() as folder:
        found = load_table(saved(widened(long), Path(folder) / "wide.csv"))
        assert found.meta == load_table(saved(long, Path(folder) / "long.csv")).meta


# ---- errors


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("words:a,", "worte:a,", f"{RULE}missing here: words:a\\.$"),
        (",local,", ",lokal,", f"{RULE}missing here: local\\.$"),
        (",b,a+b", ",c,a+b", f"{RULE}missing here: b\\.$"),
        (",a+b,", ",a+c,", rf"{RULE}missing here: a\+b, c, b\+c, words:c, words:a\+c, words:b\+c and 1 more\.$"),
        ("relevance:a", "gate:a", f"{RULE}missing here: relevance:a\\.$"),
        ("notes", "score_std:a", rf"{RULE}missing here: score_std:local, score_std:b, score_std:a\+b\.$"),
        ("notes", "b + a", r"the columns 'b \+ a' and 'a\+b' are of the same combination, it may have one\.$"),
        ("notes", "words: b+a", r"the columns 'words: b\+a' and 'words:a\+b' are of the same combination"),
        ("notes", "a+a", r"column 'a\+a': the expert 'a' is there twice in 'a\+a', each may appear once\.$"),
        ("notes", "a+local", r"column 'a\+local': unknown expert 'local', allowed are a, b joined by '\+', or local"),
        ("notes", "words:a", "column 'words:a' is there twice"),
        ("prompt_id", "id", "the column 'prompt_id' is missing, the columns found are: id, split"),
    ],
)
def test_bad_columns(old, new, message, tmp_path):
    path = written(tmp_path / "wide.csv", WIDE_CSV.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as caught:
        load_table(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("good,1,4", "good,1,45", r"line 2 \(prompt_id 'p', experts 'a'\): score is '45', it must be a number from 0"),
        ("good,1,4", 'good,1,"4,5"', r"line 2 .*experts 'a'\): score is '4,5', which has a decimal comma; write 4\.5"),
        ("good,1,4,3,8", "good,1,4,3,", r"line 2 \(prompt_id 'p', experts 'a\+b'\): score is empty"),
        ("160,0.5", "x,0.5", r"line 3 \(prompt_id 'q', experts 'a\+b'\): words is 'x'"),
        ("160,0.5", "160,", r"line 3 \(prompt_id 'q', experts 'a'\): relevance is empty"),
        ("q,test", "p,test", r"line 3 \(prompt_id 'p', experts 'local'\): prompt or split differs"),
        ("q,test", ",test", r"line 3 .*prompt_id is empty"),
        ("q,test,A calm.", "p,train,A storm.", r"line 3 .*experts 'local'\): words differs from an earlier row"),
        ("q,test", "q,dev", "split is 'dev'"),
        ("relevance:a,", "relevance:a+b,", rf"{RULE}missing here: relevance:a\.$"),
    ],
)
def test_bad_cells_are_checked_as_in_long_tables(old, new, message, tmp_path):
    assert WIDE_CSV.count(old) == 1
    with pytest.raises(InputError, match=message):
        load_table(written(tmp_path / "wide.csv", WIDE_CSV.replace(old, new)))


def test_scores_alone_are_no_table_and_the_sentence_says_what_is_missing(tmp_path):
    path = written(tmp_path / "wide.csv", "prompt_id,prompt,local,a,b,a+b\np,A storm.,1,4,3,8\n")
    with pytest.raises(InputError, match=rf"{RULE}missing here: words:local, words:a, words:b, words:a\+b\.$"):
        load_table(path, relevance="none")
    written(path, "prompt_id,prompt,local,a,b\np,A storm.,1,4,3\n")
    with pytest.raises(InputError, match=f"{RULE}no expert is found in the columns prompt_id, prompt, local, a, b"):
        load_table(path, relevance="none")


def test_too_many_experts_are_counted_before_their_combinations(tmp_path):
    names = [f"words:e{number}" for number in range(40)]
    path = written(tmp_path / "wide.csv", f"prompt_id,{','.join(names)}\np{',1' * 40}\n")
    with pytest.raises(InputError, match="there are 40 experts, a table has 1 to 16"):
        load_table(path)


def test_judges_and_their_spread_exclude_each_other(tmp_path):
    header = "prompt_id,judge,local,a,words:local,words:a,score_std:local,score_std:a"
    with pytest.raises(InputError, match="a table has a column judge or a column score_std, not both"):
        load_table(written(tmp_path / "wide.csv", f"{header}\np,1,1,2,3,4,0,0\n"), relevance="none")


def test_gaps_are_cells_and_columns_that_are_missing(tmp_path):
    text = WIDE_CSV.replace(",10,", ",,").replace("0.5,0.7", "0.5,").replace("words:b,", "length:b,")
    table = load_table(written(tmp_path / "wide.csv", text), missing="keep")
    assert table.gaps() == [("p", "b"), ("q", "relevance"), ("q", "b"), ("q", "a+b")]


# ---- the command


def test_table_check_states_the_rule_of_a_wide_table(tmp_path, capsys):
    from jaxmoe.cli.table import table_check

    table_check(written(tmp_path / "wide.csv", WIDE_CSV))
    out = capsys.readouterr().out
    assert out.startswith("The table is complete: 2 prompts (1 train, 1 test), 4 subsets each.\n")
    assert f"columns  the source has {WIDE_RULE}\n" in out
    table_check(written(tmp_path / "long.csv", LONG_CSV))
    assert "columns" not in capsys.readouterr().out
