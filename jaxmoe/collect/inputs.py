"""What a user brings: prompts and experts."""

from pathlib import Path
from typing import Any, NamedTuple

from jaxmoe.collect.servers import checked_base_url
from jaxmoe.errors import InputError
from jaxmoe.table.formats import Row, read_json, read_rows, read_toml
from jaxmoe.table.records import expert_names
from jaxmoe.table.splits import SPLITS

_FIELDS = ("expert", "system_prompt", "model", "base_url")


class Prompt(NamedTuple):
    """A request to write something."""

    prompt_id: str
    split: str  # one of `SPLITS`
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
    rows = _prompt_rows(path)
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

    A TOML file, such as that of a job, has them as ``[[experts]]``. Raises `InputError` for anything else, naming the
    entry.
    """
    content = _of_toml(path, "experts") if path.suffix.lower() == ".toml" else read_json(path)
    experts = []
    for number, (name, entry) in enumerate(zip(expert_names(content, path), content, strict=True), start=1):
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


def _prompt_rows(path: Path) -> list[Row]:
    """Rows of a file, or the entries of ``prompts`` in a TOML file: tables, or the texts alone."""
    if path.suffix.lower() != ".toml":
        return read_rows(path, ["prompt"])
    entries = _of_toml(path, "prompts")
    rows = [entry if isinstance(entry, dict) else {"prompt": entry} for entry in entries]
    wrong = next((row for row in rows if not all(isinstance(value, str) for value in row.values())), None)
    if wrong is not None or not rows:
        raise InputError(f"{path}: prompts must be texts, or tables with a prompt, and there must be one at least.")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [Row(path, number, {name: row.get(name) for name in columns}) for number, row in enumerate(rows, start=1)]


def _of_toml(path: Path, name: str) -> Any:
    content = read_toml(path)
    if not isinstance(content.get(name), list):
        raise InputError(f"{path}: there is no list {name!r}.")
    return content[name]
