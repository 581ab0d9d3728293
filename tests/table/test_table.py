"""The expert table: by hand on a small file, as properties on random ones, and every error once."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from jaxmoe.errors import InputError
from jaxmoe.table import ExpertTable, build_table, describe, load_table

STORIES = Path(__file__).parents[2] / "data" / "stories"
ARRAYS = [field.name for field in fields(ExpertTable) if field.name != "meta"]

# Two prompts, experts a and b, two judges, in the demonstration's form.
SMALL = """\
prompt_id,split,prompt,experts,judge,score,words,relevance
p,train,A storm.,local,1,1,50,
p,train,A storm.,local,2,2,50,
p,train,A storm.,a,1,4,100,0.9
p,train,A storm.,a,2,6,100,0.9
p,train,A storm.,b,1,3,80,0.2
p,train,A storm.,b,2,3,80,0.2
p,train,A storm.,b+a,1,8,150,
p,train,A storm.,a+b,2,7,150,
q,test,A calm.,local,1,0,60,
q,test,A calm.,local,2,0,60,
q,test,A calm.,a,1,5,120,0.5
q,test,A calm.,a,2,5,120,0.5
q,test,A calm.,b,1,6,90,0.7
q,test,A calm.,b,2,8,90,0.7
q,test,A calm.,a+b,1,10,160,
q,test,A calm.,a + b,2,9,160,
"""


@pytest.fixture
def small_csv(tmp_path: Path) -> Path:
    return _written(tmp_path / "small.csv", SMALL)


@pytest.fixture
def raw_folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORIES, tmp_path / "raw"))


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _assert_same(left: ExpertTable, right: ExpertTable) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
        assert getattr(left, name).dtype == np.float32
    for name in ("prompt_ids", "prompts", "splits", "experts", "digest"):
        assert getattr(left.meta, name) == getattr(right.meta, name), name


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


# ---- the shipped table


def test_shipped_table_is_the_one_built_from_the_raw_records():
    shipped, built = load_table(), build_table(STORIES)
    _assert_same(shipped, built)
    assert shipped.meta == built.meta
    assert shipped.meta.provenance == built.meta.provenance


def test_shipped_table_holds_what_the_raw_records_say():
    table = load_table()
    assert (table.num_prompts, table.num_experts) == (32, 4)
    assert table.experts == ("setting", "character", "action", "science")
    assert table.score_mean.shape == table.score_std.shape == table.fused_words.shape == (32, 16)
    assert table.relevance.shape == table.words.shape == (32, 4)
    scores = pd.read_csv(STORIES / "scores.csv").query("prompt_id == 'p07' and experts == 'setting+action'").score
    p07 = table.meta.prompt_ids.index("p07")
    np.testing.assert_allclose(table.score_mean[p07, 0b101], scores.mean(), rtol=1e-6)
    np.testing.assert_allclose(table.score_std[p07, 0b101], scores.std(ddof=0), rtol=1e-6)
    texts = [json.loads(line) for line in (STORIES / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    text = next(row["text"] for row in texts if row["prompt_id"] == "p07" and row["experts"] == "setting+action")
    assert table.fused_words[p07, 0b101] == len(text.split())


def test_passages_are_the_texts_of_single_experts():
    table = load_table()
    np.testing.assert_array_equal(table.words, table.fused_words[:, [1, 2, 4, 8]])


def test_arrays_cannot_be_changed_behind_the_digest():
    with pytest.raises(ValueError, match="read-only"):
        load_table().score_mean[0, 0] = 10.0


# ---- reading by hand


def test_csv_by_hand(small_csv: Path):
    table = load_table(small_csv)
    assert table.meta.prompt_ids == ("p", "q")
    assert table.meta.prompts == ("A storm.", "A calm.")
    assert table.meta.splits == ("train", "test")
    assert table.experts == ("a", "b")
    np.testing.assert_array_equal(table.relevance, np.float32([[0.9, 0.2], [0.5, 0.7]]))
    np.testing.assert_array_equal(table.words, np.float32([[100, 80], [120, 90]]))
    np.testing.assert_array_equal(table.score_mean, np.float32([[1.5, 5, 3, 7.5], [0, 5, 7, 9.5]]))
    np.testing.assert_array_equal(table.score_std, np.float32([[0.5, 1, 0, 0.5], [0, 0, 1, 0.5]]))
    np.testing.assert_array_equal(table.fused_words, np.float32([[50, 100, 80, 150], [60, 120, 90, 160]]))


def test_excel_and_plain_parquet_read_like_csv(small_csv: Path, tmp_path: Path):
    frame = pd.read_csv(small_csv)
    frame.to_excel(tmp_path / "small.xlsx", index=False)
    frame.to_parquet(tmp_path / "small.parquet", index=False)
    for name in ("small.xlsx", "small.parquet"):
        _assert_same(load_table(tmp_path / name), load_table(small_csv))


def test_excel_numbers_its_prompts_as_they_are_seen(small_csv: Path, tmp_path: Path):
    frame = pd.read_csv(small_csv).replace({"prompt_id": {"p": "1", "q": "2"}})
    frame["prompt_id"] = frame["prompt_id"].astype(float)
    frame.to_excel(tmp_path / "small.xlsx", index=False)
    assert load_table(tmp_path / "small.xlsx").meta.prompt_ids == ("1", "2")


def test_only_four_columns_are_needed_without_relevance(tmp_path: Path):
    path = _written(tmp_path / "least.csv", "prompt_id,experts,score,words\np,local,1,50\np,a,4,100\n")
    table = load_table(path, relevance="none")
    assert table.meta.splits == ("train",)
    assert table.meta.prompts == ("",)
    np.testing.assert_array_equal(table.relevance, np.zeros((1, 1)))
    np.testing.assert_array_equal(table.score_std, np.zeros((1, 2)))
    assert "prompt" not in table.to_frame()


def test_relevance_none_reads_none(small_csv: Path, raw_folder: Path):
    (raw_folder / "gate.csv").unlink()
    for path in (small_csv, raw_folder, None):
        table = load_table(path, relevance="none")
        assert not table.relevance.any()
        assert table.meta.provenance.endswith("without relevance")


def test_equal_scores_have_no_spread(tmp_path: Path):
    rows = [f"p,{experts},{judge},0.1,10,{'1' * (experts == 'a')}" for experts in ("local", "a") for judge in range(3)]
    path = _written(tmp_path / "same.csv", "\n".join(["prompt_id,experts,judge,score,words,relevance", *rows]))
    assert not load_table(path).score_std.any()


# ---- parts of a table


def test_prompt_indices():
    table = load_table()
    np.testing.assert_array_equal(table.prompt_indices("train"), np.arange(16))
    np.testing.assert_array_equal(table.prompt_indices("validation"), np.arange(16, 24))
    np.testing.assert_array_equal(table.prompt_indices("all"), np.arange(32))
    assert table.prompt_indices("test").dtype == np.int32
    with pytest.raises(InputError, match="'valid', it must be one of train, validation, test, all"):
        table.prompt_indices("valid")


def test_a_split_without_prompts_is_an_error(tmp_path: Path):
    path = _written(tmp_path / "train.csv", "prompt_id,experts,score,words\np,local,1,50\np,a,4,100\n")
    with pytest.raises(InputError, match="no test prompts"):
        load_table(path, relevance="none").prompt_indices("test")


def test_expected_words_are_the_mean_over_train_prompts(small_csv: Path, tmp_path: Path):
    np.testing.assert_array_equal(load_table(small_csv).expected_words(), np.float32([100, 80]))
    only_test = _written(tmp_path / "test.csv", SMALL.replace(",train,", ",test,"))
    np.testing.assert_array_equal(load_table(only_test).expected_words(), np.float32([110, 85]))


def test_select_experts_keeps_the_order_given():
    table = load_table()
    part = table.select_experts(["action", "setting"])
    assert part.experts == ("action", "setting")
    np.testing.assert_array_equal(part.score_mean, table.score_mean[:, [0b000, 0b100, 0b001, 0b101]])
    np.testing.assert_array_equal(part.words, table.words[:, [2, 0]])
    np.testing.assert_array_equal(part.relevance, table.relevance[:, [2, 0]])
    assert part.meta != table.meta
    _assert_same(table.select_experts(table.experts), table)
    _assert_same(table.select_experts(["science", "action", "setting"]).select_experts(["action", "setting"]), part)


@pytest.mark.parametrize("names", [[], ["setting", "setting"], ["poetry"]])
def test_select_experts_names_the_allowed_ones(names: list[str]):
    with pytest.raises(InputError, match="setting, character, action, science"):
        load_table().select_experts(names)


def test_describe(small_csv: Path):
    frame = describe(load_table(small_csv)).set_index("experts")
    assert list(frame.index) == ["local", "a", "b", "a+b"]
    assert list(frame) == [f"{split}_{name}" for split in ("train", "test") for name in ("score", "score_std", "words")]
    assert frame.loc["a+b", "train_score"] == 7.5
    assert frame.loc["a", "test_words"] == 120
    assert describe(load_table())["train_score_std"].iloc[0] == pytest.approx(load_table().score_mean[:16, 0].std())


# ---- writing and reading back


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_saved_table_reads_back(suffix: str, tmp_path: Path):
    table = load_table()
    table.save(tmp_path / f"copy{suffix}")
    copy = load_table(tmp_path / f"copy{suffix}")
    _assert_same(copy, table)
    assert copy.meta == table.meta
    assert hash(copy.meta) == hash(table.meta)
    assert [path.name for path in tmp_path.iterdir()] == [f"copy{suffix}"]
    if suffix == ".parquet":
        assert copy.meta.provenance == table.meta.provenance


def test_save_overwrites_only_when_told(tmp_path: Path):
    path = _written(tmp_path / "table.csv", "mine")
    with pytest.raises(InputError, match="exists already"):
        load_table().save(path)
    assert path.read_text() == "mine"
    load_table().save(path, overwrite=True)
    _assert_same(load_table(path), load_table())


@pytest.mark.parametrize(("name", "message"), [("t.xlsx", r"\.parquet or \.csv"), ("no/t.csv", "does not exist")])
def test_save_refuses_what_it_cannot_write(name: str, message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        load_table().save(tmp_path / name)


def test_changed_parquet_is_refused(tmp_path: Path):
    import pyarrow.parquet as pq

    table = pq.read_table(STORIES / "table.parquet")
    scores = table.column("score").to_pylist()
    changed = table.set_column(table.column_names.index("score"), "score", [[9.9, *scores[1:]]])
    pq.write_table(changed, tmp_path / "table.parquet")
    with pytest.raises(InputError, match="does not match its own digest"):
        load_table(tmp_path / "table.parquet")


NAMES = st.text("abcxyzäß-_ 0", min_size=1, max_size=4).map(str.strip).filter(lambda name: name not in ("", "local"))
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(str.strip)


@st.composite
def _frames(draw: st.DrawFn) -> pd.DataFrame:
    """Complete tables in the demonstration's form: up to 3 experts, 3 prompts and 3 judges."""
    experts = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    prompts = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    judges = range(draw(st.integers(1, 3)))
    score, words, relevance = st.floats(0, 10), st.floats(0, 9999), st.floats(0, 1)
    rows = []
    for prompt_id in prompts:
        split, prompt = draw(st.sampled_from(["train", "test"])), draw(TEXTS) or "untitled"
        for subset in range(1 << len(experts)):
            names = draw(st.permutations([name for bit, name in enumerate(experts) if subset >> bit & 1]))
            about = {"prompt_id": prompt_id, "split": split, "prompt": prompt, "experts": "+".join(names) or "local"}
            of_text = {"words": draw(words), "relevance": draw(relevance) if len(names) == 1 else None}
            rows += [{**about, **of_text, "judge": judge, "score": draw(score)} for judge in judges]
    return pd.DataFrame(rows)


@settings(max_examples=40, deadline=None)
@given(_frames())
def test_random_tables_survive_csv_and_parquet(frame: pd.DataFrame):
    with _folder() as folder:
        frame.to_csv(folder / "drawn.csv", index=False)
        table = load_table(folder / "drawn.csv")
        for name in ("copy.csv", "copy.parquet"):
            table.save(folder / name)
            _assert_same(load_table(folder / name), table)


@settings(max_examples=40, deadline=None)
@given(_frames(), st.randoms(use_true_random=False))
def test_order_of_rows_changes_only_the_order_of_prompts_and_experts(frame: pd.DataFrame, random):
    order = list(range(len(frame)))
    random.shuffle(order)
    with _folder() as folder:
        frame.to_csv(folder / "drawn.csv", index=False)
        frame.iloc[order].to_csv(folder / "shuffled.csv", index=False)
        table, shuffled = load_table(folder / "drawn.csv"), load_table(folder / "shuffled.csv")
    shuffled = shuffled.select_experts(table.experts)
    prompts = [shuffled.meta.prompt_ids.index(prompt_id) for prompt_id in table.meta.prompt_ids]
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(shuffled, name)[prompts], getattr(table, name), err_msg=name)


# ---- errors


SMALL_ERRORS = [
    (
        "missing subset",
        "q,test,A calm.,b,1,6,90,0.7\nq,test,A calm.,b,2,8,90,0.7\n",
        "",
        "prompt 'q' has no row for 'b'",
    ),
    ("score above 10", "a,1,4,100", "a,1,10.5,100", r"line 4 .*prompt_id 'p', experts 'a'.* from 0 to 10"),
    ("score below 0", "a,1,4,100", "a,1,-1,100", r"line 4 .*score is '-1'.* from 0 to 10"),
    ("score nan", "a,1,4,100", "a,1,nan,100", r"line 4 .*score is 'nan'.* from 0 to 10"),
    ("score is text", "a,1,4,100", "a,1,good,100", r"line 4 .*score is 'good'.* from 0 to 10"),
    ("score empty", "a,1,4,100", "a,1,,100", r"line 4 .*score is empty"),
    ("duplicate", "a,2,6,100", "a,1,6,100", r"line 5 .*second row .*only one is allowed for each judge"),
    ("duplicate by other order", "a+b,2,7", "a+b,1,7", r"line 9 .*second row"),
    ("unknown expert", "b+a,1,8", "b+c,1,8", r"line 8 .*unknown expert 'c', allowed are a, b"),
    ("expert twice", "b+a,1,8", "b+b,1,8", r"line 8 .*'b' is there twice"),
    ("experts empty", "b+a,1,8", ",1,8", "line 8 .*experts is empty"),
    ("relevance above 1", "a,1,4,100,0.9", "a,1,4,100,1.9", r"line 4 .*relevance is '1.9'.* from 0 to 1"),
    ("relevance empty", "a,1,4,100,0.9", "a,1,4,100,", "line 4 .*relevance is empty"),
    ("relevance differs by judge", "a,1,4,100,0.9", "a,1,4,100,0.8", "line 5 .*relevance differs"),
    ("relevance of a fusion", "b+a,1,8,150,", "b+a,1,8,150,0.5", "line 8 .*only on the rows of single experts"),
    ("no relevance", ",relevance\n", ",relevant\n", "column 'relevance' is missing"),
    ("words negative", "b,1,3,80", "b,1,3,-80", "line 6 .*words is '-80'"),
    ("words infinite", "b,1,3,80", "b,1,3,inf", "line 6 .*words is 'inf'"),
    ("words differ by judge", "b,1,3,80", "b,1,3,81", "line 7 .*words differs"),
    ("split unknown", "q,test,A calm.,local,1", "q,dev,A calm.,local,1", "line 10 .*'dev', it must be one of train"),
    ("split differs", "q,test,A calm.,local,2", "q,train,A calm.,local,2", "line 11 .*prompt or split differs"),
    ("prompt id empty", "q,test,A calm.,local,1", ",test,A calm.,local,1", "line 10 .*prompt_id is empty"),
    ("column missing", "score,words", "points,words", "column 'score' is missing, the columns found are: prompt_id"),
    ("column twice", "judge,score", "score,score", "column 'score' is there twice"),
    ("cell missing", "a,1,4,100,0.9", "a,1,4,100", "line 4: the row has 7 cells, the header has 8"),
    ("quote open", "p,train,A storm.,b,1", 'p,train,"A storm.,b,1', "cannot be read"),
]


@pytest.mark.parametrize(
    ("old", "new", "message"), [case[1:] for case in SMALL_ERRORS], ids=[c[0] for c in SMALL_ERRORS]
)
def test_bad_csv(old: str, new: str, message: str, tmp_path: Path):
    assert SMALL.count(old) == 1
    path = _written(tmp_path / "bad.csv", SMALL.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        load_table(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_lines_are_counted_across_quoted_line_ends_and_blank_lines(tmp_path: Path):
    text = SMALL.replace("A storm.", '"A\nstorm."').replace("q,test,A calm.,local,1,0", "\nq,test,A calm.,local,1,11")
    with pytest.raises(InputError, match="line 19 "):
        load_table(_written(tmp_path / "bad.csv", text))


def test_judges_and_their_spread_exclude_each_other(tmp_path: Path):
    path = _written(tmp_path / "both.csv", SMALL.replace("relevance\n", "score_std\n", 1))
    with pytest.raises(InputError, match="not both"):
        load_table(path, relevance="none")


def test_too_many_experts(tmp_path: Path):
    rows = "".join(f"p,e{number},1,1\n" for number in range(17))
    with pytest.raises(InputError, match="17 experts, a table has 1 to 16"):
        load_table(_written(tmp_path / "many.csv", f"prompt_id,experts,score,words\n{rows}"), relevance="none")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "column 'prompt_id' is missing"),
        ("header.csv", b"prompt_id,experts,score,words,relevance\n", "no rows below the header"),
        ("latin.csv", "prompt_id\nstör".encode("latin-1"), "cannot be read"),
        ("broken.parquet", b"PAR1", "cannot be read"),
        ("broken.xlsx", b"PK", "cannot be read"),
        ("table.ods", b"", r"a file that ends in \.csv, \.xlsx, \.parquet"),
    ],
)
def test_unreadable_file(name: str, content: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_table(tmp_path / name)


def test_missing_file_and_wrong_arguments(tmp_path: Path):
    with pytest.raises(InputError, match="no such file or folder"):
        load_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no such folder"):
        build_table(tmp_path / "none")
    with pytest.raises(InputError, match="'maybe', it must be 'required' or 'none'"):
        load_table(relevance="maybe")


RAW_ERRORS = [
    ("prompts.csv", "p01,train,", "p00,train,", "line 3 .*second row for the same prompt"),
    ("prompts.csv", "p01,train,", "p01,dev,", "line 3 .*split is 'dev'"),
    ("gate.csv", "p00,setting,winter storm over lighthouse cove,0.78\n", "", "prompt 'p00' has no row for 'setting'"),
    ("gate.csv", "cove,0.78", "cove,1.78", "line 2 .*relevance is '1.78'"),
    ("gate.csv", "p00,setting,", "p00,poetry,", "line 2 .*unknown expert 'poetry'"),
    ("scores.csv", "p00,local,1,0.9", "p99,local,1,0.9", "line 2 .*unknown prompt 'p99'"),
    ("scores.csv", "p00,local,1,0.9", "p00,local,2,0.9", "line 3 .*second row"),
    ("scores.csv", "p00,local,1,0.9", "p00,local,1,", "line 2 .*score is empty"),
    ("texts.jsonl", '{"prompt_id": "p00", "experts": "local", ', '{"prompt_id": "p00", ', "line 1 .*experts is empty"),
    ("texts.jsonl", '"experts": "local", "text": "In the', '"experts": "local", text: "In the', "line 1: .*not JSON"),
    ("texts.jsonl", '"p01", "experts": "local"', '"p00", "experts": "local"', "line .*second row"),
    ("experts.json", '"expert": "action"', '"expert": "setting"', "entry 3: a second expert 'setting'"),
    ("experts.json", '"expert": "action"', '"expert": "local"', "entry 3: expert is 'local'"),
    ("experts.json", '"expert": "action"', '"name": "action"', "entry 3: expert is None"),
    ("experts.json", "[\n", "", r"experts\.json, line .*not JSON"),
]


@pytest.mark.parametrize(("name", "old", "new", "message"), RAW_ERRORS)
def test_bad_raw_records(name: str, old: str, new: str, message: str, raw_folder: Path):
    text = (raw_folder / name).read_text(encoding="utf-8")
    assert old in text
    _written(raw_folder / name, text.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as caught:
        load_table(raw_folder)
    assert str(caught.value).startswith(str(raw_folder / name))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('["a list"]', "must be a JSON object"),
        ('{"prompt_id": "p00", "experts": "local", "text": " "}', "text is empty"),
        ('{"prompt_id": "p00", "experts": "local", "text": 3}', "text must be a string"),
        ("", "prompt 'p00' has no row for 'local'"),
    ],
)
def test_bad_text(row: str, message: str, raw_folder: Path):
    lines = (raw_folder / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    _written(raw_folder / "texts.jsonl", "\n".join([row, *lines[1:]]))
    with pytest.raises(InputError, match=message):
        load_table(raw_folder)


@pytest.mark.parametrize("name", ["prompts.csv", "experts.json", "gate.csv", "texts.jsonl", "scores.csv"])
def test_missing_raw_file(name: str, raw_folder: Path):
    (raw_folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}: there is no such file"):
        load_table(raw_folder)


def test_experts_that_are_no_list(raw_folder: Path):
    _written(raw_folder / "experts.json", '{"expert": "setting"}')
    with pytest.raises(InputError, match="must be a list of objects"):
        load_table(raw_folder)


def test_every_prompt_is_for_test_in_one_fold_and_nothing_but_the_split_changes():
    table = load_table()
    folds = table.folds(4)
    held_out = [fold.prompt_indices("test").tolist() for fold in folds]
    assert sorted(prompt for prompts in held_out for prompt in prompts) == list(range(32))
    assert {len(prompts) for prompts in held_out} == {8}
    assert len({fold.meta.digest for fold in folds}) == 4
    for fold in folds:
        assert fold.meta.splits.count("train") == 24
        np.testing.assert_array_equal(fold.score_mean, table.score_mean)


@pytest.mark.parametrize("count", [0, 1, 33])
def test_folds_that_cannot_be(count):
    with pytest.raises(InputError, match=f"{count} folds of 32 prompts, allowed are 2 to 32"):
        load_table().folds(count)
