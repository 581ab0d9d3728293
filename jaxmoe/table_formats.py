"""Rows of table files: CSV, Excel, Parquet and JSON lines, as they stand, each row knowing where it came from.

Nothing is filled or converted on the way in. A cell is read through `Row.text` or `Row.number`, which raise an
`InputError` that names the file, the line and the prompt, so that whoever keeps the file can go there and repair it.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jaxmoe.errors import InputError

T = TypeVar("T")

csv.field_size_limit(2**31 - 1)  # a text may be longer than the 131,072 characters of the standard library

METADATA_KEY = b"jaxmoe.table"  # of the Parquet schema; its value is a JSON object
_NAMING_COLUMNS = ("prompt_id", "experts", "expert", "judge")  # what tells one row from another in an error


@dataclass(frozen=True)
class Row:
    """One row of a file: its cells by column name, unconverted."""

    file: Path
    line: int  # as an editor or a spreadsheet counts it, from 1; in Parquet the row, from 1
    cells: dict[str, Any]

    def error(self, problem: str) -> InputError:
        """The problem as an `InputError` that says in which file, line, prompt and subset."""
        names = [f"{name} {_as_text(self.cells.get(name))!r}" for name in _NAMING_COLUMNS if self.has(name)]
        return InputError(f"{self.file}, line {self.line}{' (' + ', '.join(names) + ')' if names else ''}: {problem}")

    def has(self, column: str) -> bool:
        """Whether the cell exists and is not empty."""
        return _as_text(self.cells.get(column)) != ""

    def text(self, column: str) -> str:
        """The cell as text without surrounding space. Raises `InputError` if it is empty."""
        if not self.has(column):
            raise self.error(f"{column} is empty, every row needs it.")
        return _as_text(self.cells[column])

    def number(self, column: str, low: float, high: float) -> float:
        """The cell as a number in [low, high]. Raises `InputError` for anything else: empty, NaN, text, outside."""
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise self.error(f"{column} is {text!r}, it must be a number from {low:g} to {high:,.10g}.")
        return value


def read_rows(path: Path, columns: Iterable[str]) -> list[Row]:
    """All rows of a ``.csv``, ``.xlsx`` or ``.parquet`` file.

    Raises `InputError` if the file has another suffix, cannot be read, has no rows, or lacks one of `columns`.
    """
    readers = {".csv": _csv_records, ".xlsx": _excel_records, ".parquet": _parquet_records}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: a table is a folder of raw records or a file that ends in {', '.join(readers)}.")
    records = reading(path, lambda: list(reader(path)))
    header = [_as_text(name) for name in records[0][1]] if records else []
    if missing := [column for column in columns if column not in header]:
        found = ", ".join(filter(None, header)) or "none"
        raise InputError(f"{path}: the column {missing[0]!r} is missing, the columns found are: {found}.")
    if repeated := [name for name in header if name and header.count(name) > 1]:
        raise InputError(f"{path}: the column {repeated[0]!r} is there twice, each column may appear once.")
    rows = [_row(path, line, header, cells) for line, cells in records[1:]]
    if not rows:
        raise InputError(f"{path}: there are no rows below the header, at least one prompt is needed.")
    return rows


def read_json_lines(path: Path) -> list[Row]:
    """All rows of a file with one JSON object per line. Raises `InputError` for a line that is not one."""
    lines = reading(path, lambda: path.read_text(encoding="utf-8")).split("\n")
    return [_json_row(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises `InputError` if it cannot be read or is not JSON."""
    text = reading(path, lambda: path.read_text(encoding="utf-8"))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: this is not JSON ({error.msg}).") from error


def read_parquet_metadata(path: Path) -> dict[str, Any] | None:
    """What `write_parquet` stored beside the columns, or None for a Parquet file of another writer."""
    import pyarrow.parquet as pq

    stored = (reading(path, lambda: pq.read_schema(path)).metadata or {}).get(METADATA_KEY)
    return None if stored is None else json.loads(stored)


def write_parquet(path: Path, columns: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Writes equally long columns, and `metadata` as JSON in the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)}), path)


def reading(path: Path, read: Callable[[], T]) -> T:
    """The result of `read`, with every way in which a file can be unreadable turned into an `InputError`."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file.")
    try:
        return read()
    except InputError:
        raise
    except Exception as error:  # each format's library has its own zoo of exceptions for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: the file cannot be read ({reason}).") from error


def _csv_records(path: Path) -> Iterator[tuple[int, list[Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        first_line = 1
        for cells in reader:  # a quoted cell may span lines: the row is where it begins
            if cells:
                yield first_line, cells
            first_line = reader.line_num + 1


def _excel_records(path: Path) -> Iterator[tuple[int, list[Any]]]:
    try:
        import openpyxl  # type: ignore[import-untyped]
    except ImportError:
        raise InputError(
            f'{path}: reading Excel needs openpyxl, install it with: pip install "jaxmoe[excel]".'
        ) from None
    sheet = openpyxl.load_workbook(path, data_only=True).worksheets[0]
    for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        if any(cell is not None for cell in cells):
            yield line, list(cells)


def _parquet_records(path: Path) -> Iterator[tuple[int, list[Any]]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    yield 0, list(table.column_names)
    columns = [column.to_pylist() for column in table.columns]
    yield from ((line, list(cells)) for line, cells in enumerate(zip(*columns, strict=True), start=1))


def _row(path: Path, line: int, header: list[str], cells: list[Any]) -> Row:
    if len(cells) != len(header):
        raise InputError(f"{path}, line {line}: the row has {len(cells)} cells, the header has {len(header)}.")
    return Row(path, line, dict(zip(header, cells, strict=True)))


def _json_row(path: Path, line: int, text: str) -> Row:
    try:
        cells = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {line}: this is not JSON ({error.msg}).") from error
    if not isinstance(cells, dict):
        raise InputError(f"{path}, line {line}: each line must be a JSON object, this is a {type(cells).__name__}.")
    return Row(path, line, cells)


def _as_text(value: Any) -> str:
    """A cell as text: nothing and NaN are empty, a spreadsheet's 3.0 is 3."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
