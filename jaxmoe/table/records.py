"""From rows to the arrays of an expert table, with every check that a table has to pass.

Two forms are read. A folder of raw records keeps one file per stage of the collection: ``prompts.csv``,
``experts.json``, ``gate.csv``, ``texts.jsonl`` and ``scores.csv``. A single file keeps one row per prompt and subset
(and judge), as the demonstration of Wang et al. (arXiv 2402.06942) does, or the wide form of `jaxmoe.table.wide`, which
is turned into such rows. All come down to values keyed by prompt and subset, and a key without a value is an
`InputError`, or NaN where the caller allows gaps: nothing is filled.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np

from jaxmoe.errors import InputError
from jaxmoe.names import listed, short
from jaxmoe.table.formats import Row, read_json, read_json_lines, read_rows
from jaxmoe.table.limits import NUMBERS

if TYPE_CHECKING:
    from jaxtyping import Float32
from jaxmoe.table.splits import SPLITS
from jaxmoe.table.subsets import LOCAL, checked_experts, subset_index, subset_name, subset_sizes
from jaxmoe.table.wide import WIDE, is_wide, long_rows

MAX_SCORE = 10.0
MAX_WORDS = 1_000_000.0
RAW_FILES = ("prompts.csv", "experts.json", "gate.csv", "texts.jsonl", "scores.csv")

Relevance = Literal["required", "none"]
Missing = Literal["error", "keep"]
Key = tuple[str, int]  # (prompt id, subset or expert index)
K = TypeVar("K")
V = TypeVar("V")


class Records(NamedTuple):
    """A checked table, before it gets a digest: P prompts, E experts, 2^E subsets."""

    prompt_ids: tuple[str, ...]
    prompts: tuple[str, ...]  # the requests themselves, or "" for each
    splits: tuple[str, ...]  # each one of `SPLITS`
    experts: tuple[str, ...]
    relevance: Float32[np.ndarray, "P E"]  # in [0, 1]
    score_mean: Float32[np.ndarray, "P 2**E"]  # in [0, 10]
    score_std: Float32[np.ndarray, "P 2**E"]  # in [0, 5], over judges
    words: Float32[np.ndarray, "P 2**E"]  # of the text of each subset
    note: str = ""  # how the source was read, where that is to be said in the provenance


class _Prompt(NamedTuple):
    text: str
    split: str


def read_folder(folder: Path, relevance: Relevance, missing: Missing = "error") -> Records:
    """Raw records. A text's words are counted by splitting at white space; a judgement that failed has no score.

    Raises `InputError` for anything missing, doubled, unknown or out of range, naming file and row.
    """
    prompts_file, experts_file, gate_file, texts_file, scores_file = (folder / name for name in RAW_FILES)
    experts = read_experts(experts_file)
    prompts = _read_prompts(prompts_file)
    words: dict[Key, float] = {}
    for row in read_json_lines(texts_file):
        _put_once(words, _key(row, prompts, experts), _count_words(row), row)
    judged: dict[Key, dict[str, float]] = {}
    for row in read_scores(scores_file):
        _put_score(judged, _key(row, prompts, experts), row)
    gate = _read_gate(gate_file, prompts, experts) if relevance == "required" else None
    mean, std = _over_judges(judged)
    array = _subset_arrays(prompts, experts, [mean, words], missing, folder)
    return Records(
        *_prompt_columns(prompts),
        experts,
        _relevance_array(gate, prompts, experts, gate_file, missing),
        array(mean, scores_file),
        array(std, scores_file),
        array(words, texts_file),
    )


def read_scores(path: Path) -> list[Row]:
    """Rows of ``scores.csv`` that should have a score: all but judgements that failed, as their status says."""
    rows = read_rows(path, ["prompt_id", "experts", "judge", "score"])
    return [row for row in rows if row.has("score") or not _says_why(row)]


def read_file(
    path: Path, relevance: Relevance, experts: tuple[str, ...] | None = None, missing: Missing = "error"
) -> Records:
    """One row per prompt and subset (and judge): ``prompt_id, experts, score, words`` and optional columns.

    Optional are ``judge`` (several rows per subset, of which mean and population standard deviation are taken) or
    ``score_std`` (they were taken before), ``relevance`` (on the rows of single experts), ``prompt`` and ``split``
    (without it every prompt is a train prompt). Other columns are not read. `experts` gives their order; without it
    they come in the order in which their own rows appear, and so do prompts. A file without a column ``experts`` and
    with columns of combinations is read by `jaxmoe.table.wide.WIDE_RULE`.

    Raises `InputError` for anything missing, doubled, unknown, contradictory or out of range, naming the row.
    """
    columns = ["prompt_id", "experts", "score", "words", *(["relevance"] if relevance == "required" else [])]
    rows = read_rows(path, lambda header: ["prompt_id"] if is_wide(header) else columns)
    wide = is_wide(rows[0].cells)
    if wide:
        experts, rows = long_rows(rows, relevance, missing)
    experts = checked_experts(experts, path) if experts else _single_experts(rows, path)
    prompts: dict[str, _Prompt] = {}
    for row in rows:
        _put_same(prompts, row.text("prompt_id"), _prompt(row), row, "prompt or split")
    keyed = [(_key(row, prompts, experts), row) for row in rows]

    def having(column: str) -> list[tuple[Key, Row]]:
        return [(key, row) for key, row in keyed if missing == "error" or row.has(column)]

    words: dict[Key, float] = {}
    for key, row in having("words"):
        _put_same(words, key, row.number("words", 0.0, MAX_WORDS), row, "words")
    gate = _gate_of_single_experts(having("relevance"), experts) if relevance == "required" else None
    mean, std = _scores(having("score"))
    array = _subset_arrays(prompts, experts, [mean, words], missing, path)
    return Records(
        *_prompt_columns(prompts),
        experts,
        _relevance_array(gate, prompts, experts, path, missing),
        array(mean, path),
        array(std, path),
        array(words, path),
        WIDE if wide else "",
    )


def read_experts(path: Path) -> tuple[str, ...]:
    """Names in the order of ``experts.json``, a list of objects."""
    return expert_names(read_json(path), path)


def expert_names(content: Any, path: Path) -> tuple[str, ...]:
    """Names in the order of a list of objects, the content of this file. Raises `InputError` for anything else."""
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise InputError(f'{path}: the content must be a list of objects, each with an "expert".')
    return checked_experts((entry.get("expert") for entry in content), path)


def _single_experts(rows: list[Row], path: Path) -> tuple[str, ...]:
    """Every name that stands alone on some row, in order of appearance."""
    names = dict.fromkeys(row.text("experts") for row in rows)
    return checked_experts((name for name in names if name != LOCAL and "+" not in name), path)


def _read_prompts(path: Path) -> dict[str, _Prompt]:
    prompts: dict[str, _Prompt] = {}
    for row in read_rows(path, ["prompt_id", "split", "prompt"]):
        if row.text("prompt_id") in prompts:
            raise row.error("a second row for the same prompt, only one is allowed.")
        prompts[row.text("prompt_id")] = _prompt(row)
    return prompts


def _prompt(row: Row) -> _Prompt:
    split = row.text("split") if "split" in row.cells else "train"
    if split not in SPLITS:
        raise row.error(f"split is {short(split)}, it must be one of {', '.join(SPLITS)}.")
    return _Prompt(row.text("prompt") if "prompt" in row.cells else "", split)


def _read_gate(path: Path, prompts: dict[str, _Prompt], experts: tuple[str, ...]) -> dict[Key, float]:
    gate: dict[Key, float] = {}
    for row in read_rows(path, ["prompt_id", "expert", "relevance"]):
        expert = row.text("expert")
        if expert not in experts:
            raise row.error(f"unknown expert {short(expert)}, allowed are {listed(experts)}.")
        key = (_known_prompt(row, prompts), experts.index(expert))
        _put_once(gate, key, row.number("relevance", 0.0, 1.0), row)
    return gate


def _gate_of_single_experts(keyed: list[tuple[Key, Row]], experts: tuple[str, ...]) -> dict[Key, float]:
    gate: dict[Key, float] = {}
    expert_of_subset = {1 << expert: expert for expert in range(len(experts))}
    for (prompt_id, subset), row in keyed:
        if subset in expert_of_subset:
            key = (prompt_id, expert_of_subset[subset])
            _put_same(gate, key, row.number("relevance", 0.0, 1.0), row, "relevance")
        elif row.has("relevance"):
            raise row.error("relevance stands only on the rows of single experts, leave it empty here.")
    return gate


def _count_words(row: Row) -> float:
    if not isinstance(row.cells.get("text", ""), str):
        raise row.error("text must be a string.")
    return float(len(row.text("text").split()))


def _key(row: Row, prompts: dict[str, _Prompt], experts: tuple[str, ...]) -> Key:
    prompt_id, name = _known_prompt(row, prompts), row.text("experts")
    try:
        return prompt_id, subset_index(name, experts)
    except InputError as error:
        raise row.error(str(error)) from None


def _known_prompt(row: Row, prompts: dict[str, _Prompt]) -> str:
    prompt_id = row.text("prompt_id")
    if prompt_id not in prompts:
        raise row.error(f"unknown prompt {short(prompt_id)}, allowed are those of prompts.csv.")
    return prompt_id


def _put_once(values: dict[Key, float], key: Key, value: float, row: Row) -> None:
    if key in values:
        raise row.error("a second row for the same prompt and experts, only one is allowed.")
    values[key] = value


def _put_same(values: dict[K, V], key: K, value: V, row: Row, what: str) -> None:
    """For what several rows repeat (one per judge, say): it must be the same each time."""
    if values.setdefault(key, value) != value:
        raise row.error(f"{what} differs from an earlier row of the same prompt and experts, it must be the same.")


def _says_why(row: Row) -> bool:
    """Whether a row without a score says in its status that the judgement failed."""
    return row.has("status") and row.text("status") not in ("done", "length")


def _put_score(judged: dict[Key, dict[str, float]], key: Key, row: Row) -> None:
    judge = row.text("judge") if "judge" in row.cells else ""
    of_judge = judged.setdefault(key, {})
    if judge in of_judge:
        raise row.error("a second row for the same prompt and experts, only one is allowed for each judge.")
    of_judge[judge] = row.number("score", 0.0, MAX_SCORE)


def _scores(keyed: list[tuple[Key, Row]]) -> tuple[dict[Key, float], dict[Key, float]]:
    """Mean and standard deviation per key: over judges, or as the columns ``score`` and ``score_std`` give them."""
    judged: dict[Key, dict[str, float]] = {}
    for key, row in keyed:
        _put_score(judged, key, row)
    mean, std = _over_judges(judged)
    for key, row in keyed:
        if "score_std" in row.cells and "judge" in row.cells:
            raise row.error("a table has a column judge or a column score_std, not both.")
        if "score_std" in row.cells:
            std[key] = row.number("score_std", 0.0, MAX_SCORE / 2)
    return mean, std


def _over_judges(judged: dict[Key, dict[str, float]]) -> tuple[dict[Key, float], dict[Key, float]]:
    """Mean and population standard deviation; exact sums, so that the order of judges does not matter."""
    mean = {key: statistics.fmean(scores.values()) for key, scores in judged.items()}
    std = {key: statistics.pstdev(scores.values()) if len(scores) > 1 else 0.0 for key, scores in judged.items()}
    return mean, std


def _prompt_columns(prompts: dict[str, _Prompt]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    return tuple(prompts), tuple(p.text for p in prompts.values()), tuple(p.split for p in prompts.values())


def _subset_arrays(
    prompts: dict[str, _Prompt], experts: tuple[str, ...], known: list[dict[Key, float]], missing: Missing, path: Path
) -> Callable[[dict[Key, float], Path], Float32[np.ndarray, "P 2**E"]]:
    """A function of values and their file, which gives them as an array.

    Both raise `InputError`: for more numbers than a table may have, and for the first subset without a value, unless
    gaps are kept as NaN. A table ends at the largest number of experts of which anything is known for any prompt:
    larger subsets are no gaps.
    """
    sizes = subset_sizes(len(experts))
    if len(prompts) * len(sizes) > NUMBERS:
        raise InputError(
            f"{path}: {len(prompts):,} prompts by {len(sizes):,} subsets of experts are more than the {NUMBERS:,} "
            "numbers that a table has at most; leave out prompts or experts."
        )
    largest = max((subset.bit_count() for values in known for _, subset in values), default=1)
    needed = np.flatnonzero(sizes <= max(1, largest)).tolist()

    def array(values: dict[Key, float], path: Path) -> Float32[np.ndarray, "P 2**E"]:
        if missing == "error" and (gap := _first_gap(values, prompts, needed)):
            names = [subset_name(subset, experts) for subset in needed]
            raise _gap_error(path, gap[0], subset_name(gap[1], experts), names, _would_do(prompts, needed, known))
        return _array(values, prompts, len(sizes))

    return array


def _would_do(prompts: dict[str, _Prompt], needed: Sequence[int], known: list[dict[Key, float]]) -> str:
    """Up to how many experts a table is complete, if it is not."""
    lacking = {subset for subset in needed for prompt in prompts for values in known if (prompt, subset) not in values}
    enough = min((subset.bit_count() for subset in lacking), default=0) - 1
    return f"; without rows of larger subsets it does for max_experts = {enough}" if enough > 0 else ""


def _relevance_array(
    gate: dict[Key, float] | None,
    prompts: dict[str, _Prompt],
    experts: tuple[str, ...],
    path: Path,
    missing: Missing,
) -> Float32[np.ndarray, "P E"]:
    if gate is None:
        return np.zeros((len(prompts), len(experts)), np.float32)
    if missing == "error" and (gap := _first_gap(gate, prompts, range(len(experts)))):
        raise _gap_error(path, gap[0], experts[gap[1]], experts)
    return _array(gate, prompts, len(experts))


def _first_gap(values: dict[Key, float], prompts: dict[str, _Prompt], needed: Sequence[int]) -> Key | None:
    """The first key that has no value, of those of every prompt."""
    return next(((prompt, index) for prompt in prompts for index in needed if (prompt, index) not in values), None)


def _gap_error(path: Path, prompt_id: str, name: str, names: Sequence[str], advice: str = "") -> InputError:
    return InputError(
        f"{path}: the prompt {short(prompt_id)} has no row for {short(name)}, every prompt needs one for each of "
        f"{listed(names[:16], 16)}{', ...' if len(names) > 16 else ''}{advice}."
    )


def _array(values: dict[Key, float], prompts: dict[str, _Prompt], count: int) -> Float32[np.ndarray, "P N"]:
    """The values as an array, NaN where there is none."""
    rows = {prompt_id: row for row, prompt_id in enumerate(prompts)}
    array = np.full((len(prompts), count), np.nan, np.float32)
    for (prompt_id, index), value in values.items():
        array[rows[prompt_id], index] = value
    return array
