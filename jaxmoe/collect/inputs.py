"""What a user brings: prompts and experts."""

from pathlib import Path
from typing import NamedTuple

from jaxmoe.collect.servers import checked_base_url
from jaxmoe.errors import InputError
from jaxmoe.table_formats import read_json, read_rows
from jaxmoe.table_records import SPLITS, read_experts

_FIELDS = ("expert", "system_prompt", "model", "base_url")


class Prompt(NamedTuple):
    """A request to write something."""

    prompt_id: str
    split: str  # "train" or "test"
    text: str


class Expert(NamedTuple):
    """A text expert: a model with a system prompt."""

    name: str
    system_prompt: str
    model: str | None = None  # where it is not the common one
    base_url: str | None = None


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Rows of a CSV, Excel or Parquet file with a column ``prompt``.

    Without a column ``prompt_id`` prompts are called p00, p01, ...; without ``split`` all are train prompts. Raises
    `InputError` for an empty or doubled id, an unknown split and an empty prompt, naming the row.
    """
    rows = read_rows(path, ["prompt"])
    digits = max(2, len(str(len(rows) - 1)))
    prompts: dict[str, Prompt] = {}
    for number, row in enumerate(rows):
        prompt_id = row.text("prompt_id") if "prompt_id" in row.cells else f"p{number:0{digits}}"
        split = row.text("split") if "split" in row.cells else SPLITS[0]
        if prompt_id in prompts:
            raise row.error("a second row for the same prompt, only one is allowed.")
        if split not in SPLITS:
            raise row.error(f"split is {split!r}, it must be one of {', '.join(SPLITS)}.")
        prompts[prompt_id] = Prompt(prompt_id, split, row.text("prompt"))
    return tuple(prompts.values())


def load_experts(path: Path) -> tuple[Expert, ...]:
    """A JSON list of objects with ``expert`` and ``system_prompt``, and if wanted ``model`` and ``base_url``.

    Raises `InputError` for anything else, naming the entry.
    """
    names = read_experts(path)
    experts = []
    for number, (name, entry) in enumerate(zip(names, read_json(path), strict=True), start=1):
        where = f"{path}, entry {number} ({name})"
        if unknown := [field for field in entry if field not in _FIELDS]:
            raise InputError(f"{where}: the field {unknown[0]!r} is unknown, allowed are {', '.join(_FIELDS)}.")
        for field in (field for field in _FIELDS[1:] if field in entry or field == "system_prompt"):
            if not isinstance(entry.get(field), str) or not entry[field].strip():
                raise InputError(f"{where}: {field} must be a text that is not empty.")
        try:
            base_url = checked_base_url(entry["base_url"]) if "base_url" in entry else None
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        experts.append(Expert(name, entry["system_prompt"], entry.get("model"), base_url))
    return tuple(experts)
