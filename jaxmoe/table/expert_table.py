"""The expert table: what each subset of experts writes for each prompt, how long it is and how it was scored.

It is step 5 of the demonstration of Wang et al. (arXiv 2402.06942): scores and word counts, here with the gate's
relevance beside them. A subset is a bitmask, bit e standing for expert e; subset 0 is ``local``, the text that the
user's own device writes without any expert. This module works on the host, without JAX; `jaxmoe.env` registers
`ExpertTable` as a pytree and simulates with its arrays.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jaxmoe.errors import InputError
from jaxmoe.files import with_home, write_whole
from jaxmoe.names import csv_file, listed, short
from jaxmoe.table.formats import read_parquet_metadata, write_parquet
from jaxmoe.table.records import RAW_FILES, Records, read_file, read_folder, subset_name
from jaxmoe.table.splits import SPLITS
from jaxmoe.table.subsets import subset_sizes
from jaxmoe.values import whole

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Bool, Float32, Int32


@dataclass(frozen=True)
class TableMeta:
    """What a table says in words. Two are equal, and hash alike, when their digests do."""

    prompt_ids: tuple[str, ...] = field(compare=False)
    prompts: tuple[str, ...] = field(compare=False)  # the requests themselves, "" where the source has none
    splits: tuple[str, ...] = field(compare=False)  # one of `SPLITS` for each prompt
    experts: tuple[str, ...] = field(compare=False)
    provenance: str = field(compare=False)  # the source's name and checksum, and what was done to it
    digest: str  # sha256 of the arrays and of everything above except the provenance


@dataclass(frozen=True, eq=False)
class ExpertTable:
    """P prompts, E experts and all 2^E subsets of them, NaN where one is absent. Compare tables by their `meta`.

    Made by `load_table` and `build_table`, which check what they are given. The constructor checks and converts
    nothing, because JAX calls it with tracers in place of arrays.
    """

    relevance: Float32[np.ndarray, "P E"]  # from the gate, in [0, 1]
    words: Float32[np.ndarray, "P E"]  # of each expert's passage
    score_mean: Float32[np.ndarray, "P 2**E"]  # over judges, in [0, 10]
    score_std: Float32[np.ndarray, "P 2**E"]  # over judges, in [0, 5]
    fused_words: Float32[np.ndarray, "P 2**E"]  # of the text of each subset; of one expert, its passage
    meta: TableMeta

    @property
    def num_prompts(self) -> int:
        """P."""
        return len(self.meta.prompt_ids)

    @property
    def num_experts(self) -> int:
        """E."""
        return len(self.meta.experts)

    @property
    def experts(self) -> tuple[str, ...]:
        """The names; the expert at position e is bit e of a subset."""
        return self.meta.experts

    def prompt_indices(self, split: str) -> Int32[np.ndarray, " N"]:
        """Positions of the prompts of a split, in the table's order.

        Args:
            split: ``"train"``, ``"validation"``, ``"test"`` or ``"all"``.

        Raises:
            InputError: it is another one, or has no prompts.

        >>> load_table().prompt_indices("test")
        array([24, 25, 26, 27, 28, 29, 30, 31], dtype=int32)
        """
        if not isinstance(split, str) or split not in (*SPLITS, "all"):
            raise InputError(f"split is {short(split)}, it must be one of {', '.join(SPLITS)}, all.")
        indices = [index for index, name in enumerate(self.meta.splits) if split in (name, "all")]
        if not indices:
            raise InputError(
                f"the table has no {split} prompts, its splits are {', '.join(sorted(set(self.meta.splits)))}."
            )
        return np.asarray(indices, np.int32)

    def gaps(self, max_experts: int | None = None) -> list[tuple[str, str]]:
        """What an incomplete table lacks, as pairs of prompt and subset; ``relevance`` stands for what the gate says.

        Args:
            max_experts: leave out subsets of more experts than this; with None, none.

        >>> load_table().gaps()
        []
        """
        lacking = self._lacking()
        if max_experts is not None:
            lacking &= subset_sizes(self.num_experts) <= whole(max_experts, "max_experts")
        gate = np.isnan(np.asarray(self.relevance)).any(axis=1)
        return [
            (prompt_id, name)
            for prompt_id, without, of_prompt in zip(self.meta.prompt_ids, gate, lacking, strict=True)
            for name in [
                *(["relevance"] if without else []),
                *(subset_name(int(subset), self.experts) for subset in np.flatnonzero(of_prompt)),
            ]
        ]

    def complete_up_to(self) -> int:
        """The largest k such that every prompt has every subset of at most k experts; 0 if even k = 1 has gaps.

        An environment can be made of the table with any `max_experts` up to it.

        >>> load_table().complete_up_to()
        4
        """
        if np.isnan(np.asarray(self.relevance)).any():
            return 0
        sizes = subset_sizes(self.num_experts)[self._lacking().any(axis=0)]
        return max(0, int(sizes.min(initial=self.num_experts + 1)) - 1)

    def _lacking(self) -> Bool[np.ndarray, "P 2**E"]:
        return np.isnan(np.asarray(self.score_mean)) | np.isnan(np.asarray(self.fused_words))

    def expected_words(self) -> Float32[np.ndarray, " E"]:
        """Mean words of each expert's passages over the train prompts, or over all where there is no train prompt.

        It is what can be known of a passage's length before it is written.
        """
        split = "train" if "train" in self.meta.splits else "all"
        passages = np.asarray(self.words)[self.prompt_indices(split)]
        return passages.mean(axis=0, dtype=np.float64).astype(np.float32)

    def select_experts(self, names: Iterable[str]) -> ExpertTable:
        """The table of these experts alone, in this order.

        Args:
            names: of the experts.

        Raises:
            InputError: a name is unknown or repeated, or there is none.

        >>> load_table().select_experts(["action", "setting"]).score_mean.shape
        (32, 4)
        """
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise InputError(f"the experts to select are {short(names)}, give a list of names.")
        names = tuple(names)
        if unknown := [name for name in names if name not in self.experts]:
            raise InputError(f"unknown expert {short(unknown[0])}, allowed are {listed(self.experts)}.")
        if not names or len(set(names)) < len(names):
            chosen, allowed = listed(names) or "none", listed(self.experts)
            raise InputError(f"the experts to select are {chosen}, name one or more of {allowed}, each once.")
        experts = [self.experts.index(name) for name in names]
        bits = np.arange(1 << len(names))[:, None] >> np.arange(len(names)) & 1
        subsets = bits @ (1 << np.asarray(experts))
        records = Records(
            self.meta.prompt_ids,
            self.meta.prompts,
            self.meta.splits,
            names,
            np.asarray(self.relevance)[:, experts],
            np.asarray(self.score_mean)[:, subsets],
            np.asarray(self.score_std)[:, subsets],
            np.asarray(self.fused_words)[:, subsets],
        )
        return _table(records, f"{self.meta.provenance}; experts {', '.join(names)}")

    def folds(self, count: int) -> list[ExpertTable]:
        """The table with other splits, for cross-validation: in fold k every `count`-th prompt from k on is for test.

        Args:
            count: of folds.

        Raises:
            InputError: there are fewer than two folds, or more than prompts.

        >>> [fold.prompt_indices("test").tolist() for fold in load_table().folds(16)[:2]]
        [[0, 16], [1, 17]]
        """
        count = whole(count, "count")
        if not 2 <= count <= self.num_prompts:
            raise InputError(f"{count} folds of {self.num_prompts} prompts, allowed are 2 to {self.num_prompts}.")
        return [self._split_anew(fold, count) for fold in range(count)]

    def _split_anew(self, fold: int, count: int) -> ExpertTable:
        splits = tuple("test" if prompt % count == fold else "train" for prompt in range(self.num_prompts))
        records = Records(
            self.meta.prompt_ids,
            self.meta.prompts,
            splits,
            self.experts,
            np.array(self.relevance),
            np.array(self.score_mean),
            np.array(self.score_std),
            np.array(self.fused_words),
        )
        return _table(records, f"{self.meta.provenance}; fold {fold + 1} of {count}")

    def to_frame(self) -> pd.DataFrame:
        """One row per prompt and subset, in the form that `load_table` reads.

        Columns: ``prompt_id, split, prompt, experts, score, score_std, words, relevance``; ``relevance`` is empty but
        for single experts, and ``prompt`` is left out where the table has no texts of prompts. A subset of several
        experts that no prompt has is left out.
        """
        import pandas as pd

        return pd.DataFrame(self._columns())

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes the table to ``.parquet`` (everything) or ``.csv`` (everything but the provenance).

        The file is written whole and renamed.

        Args:
            path: of the file.
            overwrite: whether one that exists is replaced.

        Raises:
            InputError: the suffix is another one, the file exists, or its folder does not.
        """
        path = with_home(path)
        writers = {".parquet": self._write_parquet, ".csv": self._write_csv}
        if path.suffix.lower() not in writers:
            raise InputError(f"{path}: a table is saved to a file that ends in {' or '.join(writers)}.")
        write_whole(path, writers[path.suffix.lower()], overwrite=overwrite)

    def _columns(self) -> dict[str, list[Any]]:
        there = ~(np.isnan(np.asarray(self.score_mean)) & np.isnan(np.asarray(self.fused_words))).all(axis=0)
        subsets = np.flatnonzero(there | (subset_sizes(self.num_experts) <= 1))
        relevance = np.full(self.score_mean.shape, np.nan)
        relevance[:, 1 << np.arange(self.num_experts)] = self.relevance
        columns: dict[str, list[Any]] = {
            "prompt_id": [prompt_id for prompt_id in self.meta.prompt_ids for _ in subsets],
            "split": [split for split in self.meta.splits for _ in subsets],
            "prompt": [prompt for prompt in self.meta.prompts for _ in subsets],
            "experts": [subset_name(int(subset), self.experts) for subset in subsets] * self.num_prompts,
            "score": _shortest(self.score_mean[:, subsets]),
            "score_std": _shortest(self.score_std[:, subsets]),
            "words": _shortest(self.fused_words[:, subsets]),
            "relevance": _shortest(relevance[:, subsets]),
        }
        return columns if any(self.meta.prompts) else {k: v for k, v in columns.items() if k != "prompt"}

    def _write_parquet(self, path: Path) -> None:
        about = {"experts": self.experts, "provenance": self.meta.provenance, "digest": self.meta.digest}
        write_parquet(path, self._columns(), about)

    def _write_csv(self, path: Path) -> None:
        columns = self._columns()
        path.write_bytes(csv_file(columns, zip(*columns.values(), strict=True)))


def load_table(
    path: str | os.PathLike[str] | None = None,
    *,
    relevance: Literal["required", "none"] = "required",
    missing: Literal["error", "keep"] = "error",
) -> ExpertTable:
    """The shipped table (32 prompts, 4 experts), or the one at a path.

    Args:
        path: of a folder or a file, as described below.
        relevance: "none" needs no relevance, reads none, and has zeros in its place.
        missing: "keep" allows gaps, as while a table is being collected: they are NaN, `ExpertTable.gaps` names them,
            and `jaxmoe.make` refuses the table.

    Raises:
        InputError: something is missing, doubled, unknown or out of range, with file and row; the file is larger than
            `jaxmoe.table.limits` allow; or a Parquet file was changed after `ExpertTable.save` wrote it.

    A table may end at subsets of k experts: if no prompt has a larger one, none is missing, and it is read by either
    value of `missing`; `jaxmoe.make` takes it with ``max_experts=k``.

    A path is a folder of raw records (see `build_table`) or a ``.csv``, ``.xlsx`` or ``.parquet`` file with one row
    per prompt and subset. Its columns are ``prompt_id, experts, score, words`` and, if wanted, ``judge`` (several rows
    per subset), ``score_std`` (instead of judges), ``prompt``, ``split`` (without it all are train prompts), and
    ``relevance`` on the rows of single experts. A cell of ``experts`` is ``local`` or names joined by ``+``. Experts
    and prompts come in the order in which they first appear.

    A file without a column ``experts`` may be wide: one row per prompt (or per prompt and ``judge``) and one column per
    combination. A column named ``local``, an expert, or experts joined by ``+`` holds the scores of that combination,
    ``words:COMBINATION`` the words of its text, ``relevance:EXPERT`` the relevance and, if wanted,
    ``score_std:COMBINATION`` the spread of its scores over judges. Experts come in the order of their columns. The
    provenance says that a table was read this way.

    >>> load_table().experts
    ('setting', 'character', 'action', 'science')
    """
    if not isinstance(relevance, str) or relevance not in ("required", "none"):
        raise InputError(f"relevance is {short(relevance)}, it must be 'required' or 'none'.")
    if not isinstance(missing, str) or missing not in ("error", "keep"):
        raise InputError(f"missing is {short(missing)}, it must be 'error' or 'keep'.")
    path = _shipped_path() if path is None else with_home(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    if path.is_dir():
        records, provenance = read_folder(path, relevance, missing), _provenance(path)
    elif path.suffix.lower() == ".parquet" and (about := read_parquet_metadata(path)):
        records, provenance = read_file(path, relevance, tuple(about["experts"]), missing), about["provenance"]
        if relevance == "required" and _digest(records) != about["digest"]:
            raise InputError(f"{path}: the table does not match its own digest, it was changed after it was written.")
    else:
        records, provenance = read_file(path, relevance, missing=missing), _provenance(path)
    notes = [records.note, "" if relevance == "required" else "without relevance"]
    return _table(records, "; ".join(filter(None, [provenance, *notes])))


def given_table(table: ExpertTable | str | os.PathLike[str] | None) -> ExpertTable:
    """The table that somebody gives: itself, or its path; the shipped one if absent."""
    if isinstance(table, ExpertTable):
        return table
    if table is None or isinstance(table, str | os.PathLike):
        return load_table(table)
    raise InputError(f"table = {short(table)} is neither an expert table nor the path of one")


def build_table(folder: str | os.PathLike[str]) -> ExpertTable:
    """The table of a folder of raw records: ``prompts.csv, experts.json, gate.csv, texts.jsonl, scores.csv``.

    Scores are averaged over judges (population standard deviation); words are counted by splitting at white space.
    Raises `InputError` as `load_table` does.
    """
    if not with_home(folder).is_dir():
        raise InputError(f"{folder}: there is no such folder, a table is built from a folder of raw records.")
    return load_table(folder)


def describe(table: ExpertTable) -> pd.DataFrame:
    """One row per subset that some prompt has: its experts, and by split the means over prompts of scores and words.

    Columns: ``experts``, then for each split that has prompts ``{split}_score``, ``{split}_score_std`` (population
    standard deviation over prompts of the mean score) and ``{split}_words``.
    """
    import pandas as pd

    subsets = np.flatnonzero(~np.isnan(np.asarray(table.score_mean)).all(axis=0))
    columns: dict[str, Any] = {"experts": [subset_name(int(subset), table.experts) for subset in subsets]}
    for split in (split for split in SPLITS if split in table.meta.splits):
        prompts = table.prompt_indices(split)
        columns[f"{split}_score"] = table.score_mean[prompts].mean(axis=0)[subsets]
        columns[f"{split}_score_std"] = table.score_mean[prompts].std(axis=0)[subsets]
        columns[f"{split}_words"] = table.fused_words[prompts].mean(axis=0)[subsets]
    return pd.DataFrame(columns)


def _table(records: Records, provenance: str) -> ExpertTable:
    passages = records.words[:, 1 << np.arange(len(records.experts))]
    arrays = (records.relevance, passages, records.score_mean, records.score_std, records.words)
    for array in arrays:
        array.flags.writeable = False  # or the digest would no longer be true
    names = (records.prompt_ids, records.prompts, records.splits, records.experts)
    return ExpertTable(*arrays, TableMeta(*names, provenance, _digest(records)))


def _digest(records: Records) -> str:
    names = (records.prompt_ids, records.prompts, records.splits, records.experts)
    sha256 = hashlib.sha256(json.dumps(names).encode())
    for array in (records.relevance, records.score_mean, records.score_std, records.words):
        sha256.update(array.astype("<f4", order="C").tobytes())
    return sha256.hexdigest()


def _provenance(path: Path) -> str:
    """The source's name and the sha256 of its content, in the order of `RAW_FILES` for a folder."""
    files = [path / name for name in RAW_FILES if (path / name).is_file()] if path.is_dir() else [path]
    sha256 = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return f"{'raw records' if path.is_dir() else 'file'} {path.resolve().name}, sha256 {sha256}"


def shipped_experts_path() -> Path:
    """The file that says who the experts of the shipped table are."""
    installed = Path(__file__).parents[1] / "stories_experts.json"
    return installed if installed.is_file() else Path(__file__).parents[2] / "data" / "stories" / "experts.json"


def _shipped_path() -> Path:
    """Beside this module in an installed wheel, in the data folder of a checkout."""
    installed = Path(__file__).parents[1] / "stories.parquet"
    return installed if installed.is_file() else Path(__file__).parents[2] / "data" / "stories" / "table.parquet"


def _shortest(array: np.ndarray) -> list[float | None]:
    """The shortest decimals that give back the same float32 numbers (0.1, not 0.10000000149), None for NaN."""
    return [None if np.isnan(value) else float(str(value)) for value in array.astype(np.float32).ravel()]
