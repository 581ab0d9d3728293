"""Tables that end at subsets of a few experts: read, saved and told apart from those with gaps."""

import json
import math

import many_experts
import numpy as np
import pytest
from command_line import run as command
from many_experts import EXPERTS, sheet, sheet_file, small_subsets, small_table

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.table import describe, load_table
from jaxmoe.table.subsets import MAX_EXPERTS


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return small_table(tmp_path_factory.mktemp("few"))


def same(found, expected):
    assert found.meta == expected.meta
    for name in ("relevance", "words", "score_mean", "score_std", "fused_words"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    return True


def test_a_sheet_of_at_most_two_of_twelve_experts_is_complete_up_to_two(table):
    assert (table.experts, table.num_prompts, table.complete_up_to()) == (EXPERTS, 8, 2)
    assert table.score_mean.shape == (8, 4096)
    sizes = np.array([subset.bit_count() for subset in range(4096)])
    np.testing.assert_array_equal(np.isnan(table.score_mean), np.tile(sizes > 2, (8, 1)))
    assert not np.isnan(table.words).any()
    assert table.gaps(1) == table.gaps(2) == []
    assert len(table.gaps(3)) == 8 * math.comb(12, 3)
    assert table.gaps(3)[0] == ("p0", "e0+e1+e2")
    assert len(table.gaps()) == 8 * (4096 - 79)


def test_its_numbers_are_those_of_the_sheet(table):
    row = sheet().set_index(["prompt_id", "experts"]).loc["p5", "e2+e11"]
    subset = (1 << 2) + (1 << 11)
    found = [getattr(table, name)[5, subset] for name in ("score_mean", "score_std", "fused_words")]
    np.testing.assert_allclose(found, [row["score"], row["score_std"], row["words"]], rtol=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_it_is_saved_without_the_subsets_that_nobody_has(table, suffix, tmp_path):
    table.save(tmp_path / f"copy{suffix}")
    assert same(load_table(tmp_path / f"copy{suffix}"), table)
    assert same(load_table(tmp_path / f"copy{suffix}", missing="keep"), table)
    assert len(table.to_frame()) == 8 * 79


def test_raw_records_end_at_small_subsets_too(table, tmp_path):
    rows = sheet()
    rows[["prompt_id", "split", "prompt"]].drop_duplicates().to_csv(tmp_path / "prompts.csv", index=False)
    (tmp_path / "experts.json").write_text(json.dumps([{"expert": name} for name in EXPERTS]))
    alone = rows[rows["experts"].isin(EXPERTS)].rename(columns={"experts": "expert"})
    alone[["prompt_id", "expert", "relevance"]].to_csv(tmp_path / "gate.csv", index=False)
    texts = zip(rows["prompt_id"], rows["experts"], rows["words"], strict=True)
    lines = [json.dumps({"prompt_id": p, "experts": e, "text": "word " * int(words)}) for p, e, words in texts]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    scores = rows.assign(judge="1", status="done")[["prompt_id", "experts", "judge", "score", "status"]]
    scores.to_csv(tmp_path / "scores.csv", index=False)
    found = load_table(tmp_path)
    assert found.complete_up_to() == 2
    np.testing.assert_array_equal(found.score_mean, table.score_mean)
    np.testing.assert_array_equal(found.fused_words, table.fused_words)
    scores[scores["experts"] != "e3+e4"].to_csv(tmp_path / "scores.csv", index=False)
    with pytest.raises(InputError, match=r"has no row for 'e3\+e4'.*; without rows of larger subsets it does for max"):
        load_table(tmp_path)


def test_a_wide_sheet_ends_at_small_subsets_too(table, tmp_path):
    rows = sheet()
    pieces = {"": "score", "words:": "words", "score_std:": "score_std"}
    wide = rows.drop_duplicates("prompt_id").set_index("prompt_id")[["split", "prompt"]]
    for mark, column in pieces.items():
        wide = wide.join(rows.pivot_table(index="prompt_id", columns="experts", values=column).add_prefix(mark))
    alone = rows[rows["experts"].isin(EXPERTS)].pivot_table(index="prompt_id", columns="experts", values="relevance")
    wide = wide.join(alone.add_prefix("relevance:"))
    order = [mark + name for mark in pieces for name in small_subsets(2)]
    wide = wide[["split", "prompt", *order, *(f"relevance:{name}" for name in EXPERTS)]]
    wide.to_csv(tmp_path / "wide.csv")
    assert same(load_table(tmp_path / "wide.csv"), table)
    wide.drop(columns="words:e0+e1").to_csv(tmp_path / "wide.csv")
    with pytest.raises(InputError, match=r"missing here: words:e0\+e1\.$"):
        load_table(tmp_path / "wide.csv")


def test_a_subset_that_one_prompt_lacks_is_a_gap(tmp_path):
    rows = sheet()
    rows[(rows["prompt_id"] != "p3") | (rows["experts"] != "e1+e7")].to_csv(tmp_path / "gap.csv", index=False)
    with pytest.raises(
        InputError,
        match=r"the prompt 'p3' has no row for 'e1\+e7', .*; without rows of larger subsets it does for "
        r"max_experts = 1\.$",
    ):
        load_table(tmp_path / "gap.csv")
    kept = load_table(tmp_path / "gap.csv", missing="keep")
    assert (kept.complete_up_to(), kept.gaps(2)) == (1, [("p3", "e1+e7")])
    assert jaxmoe.make("oneshot", kept, max_experts=1)[0].num_actions == 13
    rows[rows["experts"].str.count(r"\+") == 0].to_csv(tmp_path / "ones.csv", index=False)
    assert load_table(tmp_path / "ones.csv").complete_up_to() == 1


@pytest.mark.parametrize(
    ("without", "needed"), [("local", r"local, e0, e1, e0\+e1, .*, \.\.\.\."), ("e5", "e0, e1, e2, .*, e11.")]
)
def test_nothing_is_complete_without_local_or_an_expert(without, needed, tmp_path):
    rows = sheet()
    lacking = rows[(rows["prompt_id"] != "p3") | (rows["experts"] != without)]
    lacking.to_csv(tmp_path / "gap.csv", index=False)
    with pytest.raises(InputError, match=f"has no row for '{without}', every prompt needs one for each of {needed}$"):
        load_table(tmp_path / "gap.csv")
    kept = load_table(tmp_path / "gap.csv", missing="keep")
    assert kept.complete_up_to() == 0
    with pytest.raises(InputError, match=r"not complete for max_experts = 1: .* of no use$"):
        jaxmoe.make("oneshot", kept, max_experts=1)


def test_a_whole_table_is_complete_up_to_all_its_experts():
    whole = jaxmoe.load_table()
    assert whole.complete_up_to() == 4
    assert whole.select_experts(["action"]).complete_up_to() == 1


def test_a_part_of_its_experts_may_be_whole(table):
    assert table.select_experts(["e7", "e2"]).complete_up_to() == 2
    assert table.select_experts(["e7", "e2", "e0"]).complete_up_to() == 2
    assert jaxmoe.make("oneshot", table.select_experts(["e7", "e2"]))[0].num_actions == 4


def test_make_takes_what_the_table_has_and_says_what_it_would_take(table):
    for limit, actions in ((1, 13), (2, 79)):
        assert jaxmoe.make("oneshot", table, max_experts=limit)[0].num_actions == actions
    missing = r"\d+ entries are missing, the first is 'e0\+e1\+e2' of the prompt 'p0'; complete it with .*"
    for settings, asked in (({}, ""), ({"max_experts": 12}, ""), ({"max_experts": 3}, " for max_experts = 3")):
        said = f"is not complete{asked}: {missing}; or set max_experts = 2, for which it has all that is needed$"
        with pytest.raises(InputError, match=said):
            jaxmoe.make("oneshot", table, **settings)


def test_only_its_own_subsets_are_described(table):
    rows = describe(table)
    assert sorted(rows["experts"]) == sorted(small_subsets(2))
    row = rows.set_index("experts").loc["e2+e11"]
    expected = table.score_mean[:4, (1 << 2) + (1 << 11)]
    assert row["train_score"] == pytest.approx(expected.mean(), rel=1e-6)


def test_the_command_says_up_to_how_many_experts(tmp_path):
    path = sheet_file(tmp_path / "few.csv")
    said = command("table", "check", path)
    assert said.code == 0, said.error
    assert "complete up to 2 of 12 experts: 8 prompts (4 train, 2 validation, 2 test), 79 subsets each" in said.out
    assert "--set settings.max_experts=2" in said.out
    facts = json.loads(command("table", "check", path, "--json").out)
    assert (facts["subsets"], facts["max_experts"]) == (79, 2)
    whole = command("table", "check")
    assert "max_experts" not in whole.out
    assert command("table", "show", path).out.count("\n") == 80
    refused = command("table", "report", path, "--out", tmp_path / "report")
    assert (refused.code, (tmp_path / "report").exists()) == (2, False)
    assert "has all subsets of at most 2 of 12 experts" in refused.error


def test_more_experts_than_a_table_can_have(tmp_path):
    names = tuple(f"e{number}" for number in range(MAX_EXPERTS + 1))
    path = sheet_file(tmp_path / "many.csv", size=1, experts=names)
    with pytest.raises(InputError, match=f"there are {MAX_EXPERTS + 1} experts, a table has 1 to {MAX_EXPERTS}"):
        load_table(path)
    found = many_experts.small_table(tmp_path, size=2, experts=names[:-1])
    assert jaxmoe.make("oneshot", found, max_experts=2)[0].num_actions == 137
