"""Rows of table files: CSV, Excel, Parquet and JSON lines, as they stand, each row knowing where it came from.

Nothing is filled or converted on the way in; byte-order marks, blank rows and blank cells beyond the header, which
spreadsheets leave behind, are no content. A cell is read through `Row.text` or `Row.number`, which raise an
`InputError` that names the file, the line and the prompt, so that whoever keeps the file can go there and repair it.
"""

import codecs
import csv
import json
import math
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, TypeVar

from jaxmoe.errors import InputError
from jaxmoe.names import from_cell, listed, sentence, short
from jaxmoe.strict_json import from_json
from jaxmoe.table.limits import CELLS, COLUMNS, FILE_BYTES, ROWS, TEXT
from jaxmoe.table.packed import Record, excel_records, parquet_records, too_large

T = TypeVar("T")

csv.field_size_limit(TEXT)  # the standard library's own limit is 131,072 characters

LARGEST_TOML = 4 * 2**20  # bytes
_KEY_PARTS = 64
_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?:^|[\[{{,])[ \t]*{_KEY_PART}(?:[ \t]*\.[ \t]*{_KEY_PART}){{{_KEY_PARTS}}}", re.MULTILINE)
METADATA_KEY = b"jaxmoe.table"  # of the Parquet schema; its value is a JSON object
_NAMING_COLUMNS = ("prompt_id", "experts", "expert", "judge")  # what tells one row from another in an error
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"  # the byte-order mark, decoded
_ENCODINGS = (  # UTF-32 before UTF-16, whose little-endian mark it begins with
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_REASON = 200  # characters of what a library says of a file that it cannot read
_SAVE_AS_UTF8 = 'save it as UTF-8, in a spreadsheet as "CSV UTF-8"'
_SEPARATORS = {";": "semicolons (';')", "\t": "tabs", "|": "vertical bars ('|')"}
_CONTENTS = (  # what a binary file begins with, its suffix, and what it is
    (b"PK\x03\x04", ".xlsx", "an Excel file (.xlsx) or another zip archive"),
    (b"PAR1", ".parquet", "a Parquet file"),
    (b"\xd0\xcf\x11\xe0", ".xls", "an old Excel file (.xls) or one with a password"),
    (b"\x1f\x8b", ".gz", "a compressed file (gzip)"),
)
_NOT_READ = {
    ".xlsx": "; only the first sheet is read",
    ".parquet": "; columns of bytes, lists and structs are not read",
}
_THOUSANDS, _DECIMAL_COMMA = "separators between thousands", "a decimal comma"
_COMMA_NUMBERS = (  # a way to write numbers that Python does not read, the character to leave out, and what it has
    (re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", re.ASCII), ",", _THOUSANDS),
    (re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3}){2,}", re.ASCII), ".", _THOUSANDS),
    (re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+,\d+", re.ASCII), ".", f"{_THOUSANDS} and {_DECIMAL_COMMA}"),
    (re.compile(r"[-+]?\d*,\d+", re.ASCII), "", _DECIMAL_COMMA),
)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)  # Python reads 1_0 and ٣, too
_LINE = re.compile(r"[^\r\n]*(\r\n|\r|\n)|[^\r\n]+")
_GAPS = re.compile(
    r"(?<=[0-9])[\s'\N{RIGHT SINGLE QUOTATION MARK}](?=[0-9]{3})"
)  # between thousands, as in 1 234 and 1'234


@dataclass(frozen=True)
class Row:
    """One row of a file: its cells by column name, unconverted."""

    file: Path
    line: int  # as an editor or a spreadsheet counts it, from 1; in Parquet the row, from 1
    cells: dict[str, Any]

    def error(self, problem: str) -> InputError:
        """The problem as an `InputError` that says in which file, line, prompt and subset."""
        names = [f"{name} {short(_as_text(self.cells.get(name)))}" for name in _NAMING_COLUMNS if self.has(name)]
        return InputError(f"{self.file}, line {self.line}{' (' + ', '.join(names) + ')' if names else ''}: {problem}")

    def has(self, column: str) -> bool:
        """Whether the cell exists and is not empty."""
        return _as_text(self.cells.get(column)) != ""

    def text(self, column: str) -> str:
        """The cell as text without surrounding space. Raises `InputError` if it is empty or holds several values."""
        if not self.has(column):
            raise self.error(f"{column} is empty, every row needs it.")
        if isinstance(self.cells[column], list | dict):
            raise self.error(f"{column} is {short(self.cells[column])}, it must be a text or a number.")
        return _as_text(self.cells[column])

    def number(self, column: str, low: float, high: float) -> float:
        """The cell as a number in [low, high]. Raises `InputError` for anything else: empty, NaN, text, outside.

        The decimal sign is a point. A number with a decimal comma or with separators between thousands is not
        converted, because 1,234 may be either; the error says what to write.
        """
        text = self.text(column)
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not low <= value <= high:
            digits = ", in the digits 0 to 9" if not text.isascii() and any(map(str.isdigit, text)) else ""
            expected = f"it must be a number from {low:g} to {high:,.10g}{digits}."
            if isinstance(self.cells[column], date | time):
                raise self.error(
                    f"{column} is the date {short(text)}, which a spreadsheet made of a number; {expected}"
                )
            raise self.error(f"{column} is {short(text)}, {_what_to_write(text, low, high) or expected}")
        return value


def decoded(path: Path) -> str:
    """The content of a text file without its byte-order mark, and with one newline character at the end of a line.

    Read is UTF-8, and UTF-16 or UTF-32 where a byte-order mark says so. Raises `InputError` for any other encoding,
    naming the line.
    """
    return _with_its_line_ends(path).replace("\r\n", "\n").replace("\r", "\n")


def read_rows(path: Path, columns: Iterable[str] | Callable[[list[str]], Iterable[str]]) -> list[Row]:
    """All rows of a ``.csv``, ``.xlsx`` or ``.parquet`` file that are not blank; of a workbook, of its first sheet.

    `columns` are those that the file needs, or a function that tells them from the header. Raises `InputError` if the
    file has another suffix, cannot be read, has no rows, or lacks a column.
    """
    readers = {".csv": _csv_records, ".xlsx": excel_records, ".parquet": parquet_records}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        allowed = ", ".join(readers)
        raise InputError(
            f"{path}: a table is a folder of raw records or a file that ends in {allowed}; save it as one."
        )
    _check_content(path)
    records = reading(path, lambda: list(_not_blank(path, reader(path))))
    header = [_as_text(name) for name in records[0][1]] if records else []
    _check_header(path, header, columns(header) if callable(columns) else columns)
    rows = [_row(path, line, header, cells) for line, cells in records[1:]]
    if not rows:
        raise InputError(f"{path}: there are no rows below the header, at least one prompt is needed.")
    return rows


def read_json_lines(path: Path) -> list[Row]:
    """All rows of a file with one JSON object per line. Raises `InputError` for a line that is not one."""
    lines = [line.removeprefix(_MARK) for line in decoded(path).split("\n")]  # files put together keep their marks
    if len(lines) > ROWS:
        raise too_large(path, len(lines), 1)
    return [_json_row(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises `InputError` if it cannot be read or is not JSON."""
    text = decoded(path)
    try:
        return from_json(text)
    except ValueError as error:
        raise _no_json(path, getattr(error, "lineno", 1), error) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises `InputError` if it cannot be read, is too large or is not TOML."""
    if path.is_file() and path.stat().st_size > LARGEST_TOML:
        raise InputError(f"{path}: the file is larger than {LARGEST_TOML // 2**20} MiB, which no spec is.")
    text = decoded(path)
    require_short_keys(text, str(path))
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: this is not TOML ({error}).") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in thousands of lists
        raise InputError(f"{path}: a number in it is too long, or its lists are too deep.") from None


def require_short_keys(text: str, where: str) -> None:
    """Raises `InputError` for a dotted key of very many parts, whose beginnings tomllib would keep, each of them."""
    if _LONG_KEY.search(text):
        raise InputError(f"{where}: a key in it has too many parts; it may have {_KEY_PARTS}.")


def read_parquet_metadata(path: Path) -> dict[str, Any] | None:
    """What `write_parquet` stored beside the columns, or None for a Parquet file of another writer."""
    import pyarrow.parquet as pq

    _check_content(path)
    stored = (reading(path, lambda: pq.read_schema(path)).metadata or {}).get(METADATA_KEY)
    if stored is None:
        return None
    try:
        about = from_json(stored)
        texts = [*about["experts"], about["provenance"], about["digest"]]
    except (ValueError, TypeError, LookupError):
        texts = [None]
    if not all(isinstance(text, str) and len(text) <= TEXT for text in texts):
        raise InputError(f"{path}: what jaxmoe noted in the file beside its columns is damaged.")
    return about


def write_parquet(path: Path, columns: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Writes equally long columns, and `metadata` as JSON in the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)}), path)


def reading(path: Path, read: Callable[[], T]) -> T:
    """The result of `read`, with every way in which a file can be unreadable turned into an `InputError`."""
    if not path.is_file():
        raise InputError(
            f"{path}: {'this is a folder, or no plain file' if path.exists() else 'there is no such file'}."
        )
    try:
        if path.stat().st_size > FILE_BYTES:
            raise InputError(f"{path}: the file has {path.stat().st_size:,} bytes, a table at most {FILE_BYTES:,}.")
        return read()
    except InputError:
        raise
    except Exception as error:  # each format's library has its own zoo of exceptions for a damaged file
        reason = getattr(error, "strerror", None) or sentence(str(error), _REASON) or type(error).__name__
        raise InputError(f"{path}: the file cannot be read ({reason}).") from error


def _with_its_line_ends(path: Path) -> str:
    content = reading(path, path.read_bytes)
    encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = _last_line(error.object[: error.start].decode(encoding, "ignore"))
        name = encoding.removesuffix("-sig").upper()
        raise InputError(f"{path}, line {line}: the file cannot be read, it is not {name}; {_SAVE_AS_UTF8}.") from None
    if "\0" in text:
        line = _last_line(text.partition("\0")[0])
        raise InputError(
            f"{path}, line {line}: the file cannot be read, it has a NUL character, as files of other encodings and "
            f"damaged ones have; {_SAVE_AS_UTF8}."
        )
    return text.lstrip(_MARK)


def _last_line(text: str) -> int:
    """Number of the line in which a text ends."""
    return len(re.split("\r\n|\r|\n", text))


def _check_content(path: Path) -> None:
    """Raises `InputError` if a file begins like one of another format than its suffix says."""
    content = reading(path, lambda: _beginning(path))
    suffix, name = next(
        ((suffix, name) for beginning, suffix, name in _CONTENTS if content.startswith(beginning)),
        (".csv", "text or damaged"),
    )
    if b"vnd.oasis.opendocument" in content:
        suffix, name = ".ods", "an OpenDocument file (.ods)"
    if suffix != path.suffix.lower():
        raise InputError(
            f"{path}: the file cannot be read, its name ends in {path.suffix} but its content is {name}; open it in a "
            'spreadsheet and save it as .xlsx or as "CSV UTF-8".'
        )


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(128)


def _check_header(path: Path, header: list[str], columns: Iterable[str]) -> None:
    """Raises `InputError` for a column that is missing or there twice."""
    known = Counter(header)
    if missing := [column for column in columns if column not in known]:
        if path.suffix.lower() == ".csv":
            _check_separator(path, _with_its_line_ends(path))
        found, unread = listed(filter(None, header)) or "none", _NOT_READ.get(path.suffix.lower(), "")
        raise InputError(f"{path}: the column {missing[0]!r} is missing, the columns found are: {found}{unread}.")
    if repeated := [name for name in header if name and known[name] > 1]:
        raise InputError(f"{path}: the column {short(repeated[0])} is there twice, each column may appear once.")


def _check_separator(path: Path, text: str) -> None:
    """Raises `InputError` for a header that is not separated by commas, and for Excel's line ``sep=;``."""
    header = next((line for line in text.splitlines() if line.strip(", \t")), "")
    declared = re.match('"?sep=([^,])', header, re.IGNORECASE)
    commas = header.rstrip(", ").count(",")
    found = declared[1] if declared else next((sign for sign in _SEPARATORS if header.count(sign) > commas), None)
    if found is not None:
        raise InputError(
            f"{path}: the columns are separated by {_SEPARATORS.get(found, repr(found))}, they must be separated by "
            'commas; save the file with commas between columns and points in numbers, as "CSV UTF-8 (comma delimited)".'
        )


def _csv_records(path: Path) -> Iterator[Record]:
    text = _with_its_line_ends(path)
    reader = csv.reader((line.group() for line in _LINE.finditer(text)), strict=True)
    first_line = 1
    try:
        for cells in reader:  # a quoted cell may span lines: the row is where it begins
            if first_line > 1 or [cell.lower() for cell in cells[:1]] != ["sep="]:  # Excel's line for commas
                yield first_line, list(map(from_cell, cells))
            first_line = reader.line_num + 1
    except csv.Error as error:
        _check_separator(path, text)
        raise InputError(
            f"{path}, line {first_line}: the row cannot be read ({error}), a cell that begins with a quotation mark "
            "must end with one, and marks inside it must be doubled."
        ) from None


def _not_blank(path: Path, records: Iterable[Record]) -> Iterator[Record]:
    """Records that hold something. Raises `InputError` for more than a table may have."""
    rows = seen = 0
    for line, cells in records:
        rows, seen = rows + 1, seen + len(cells)
        if rows > ROWS or len(cells) > COLUMNS or seen > CELLS:
            raise too_large(path, rows, len(cells))
        if any(isinstance(cell, str) and len(cell) > TEXT for cell in cells):
            raise InputError(f"{path}, line {line}: a cell has more than {TEXT:,} characters.")
        if any(map(_as_text, cells)):
            yield line, cells


def _row(path: Path, line: int, header: list[str], cells: list[Any]) -> Row:
    """Cells by column. A row may end in more or fewer blank cells than the header does."""
    found, expected = max(_filled(cells), min(len(cells), len(header))), _filled(header)
    if found > len(header):
        raise InputError(
            f"{path}, line {line}: the row has {found} cells, the header has {expected}; a text with commas stands in "
            "quotation marks, and a number has no comma."
        )
    if found < expected:
        raise InputError(f"{path}, line {line}: the row has {found} cells, the header has {expected}.")
    return Row(path, line, dict(zip(header, cells, strict=False)))


def _filled(cells: list[Any]) -> int:
    """How many cells there are up to the last that is not blank."""
    return next((number for number in range(len(cells), 0, -1) if _as_text(cells[number - 1])), 0)


def _json_row(path: Path, line: int, text: str) -> Row:
    try:
        cells = from_json(text)
    except ValueError as error:
        raise _no_json(path, line, error) from None
    if not isinstance(cells, dict):
        raise InputError(f"{path}, line {line}: each line must be a JSON object, this is a {type(cells).__name__}.")
    return Row(path, line, cells)


def _no_json(path: Path, line: int, error: ValueError) -> InputError:
    return InputError(f"{path}, line {line}: this is not JSON ({getattr(error, 'msg', error)}).")


def _what_to_write(text: str, low: float, high: float) -> str | None:
    """What is said of a number with commas or with separators between thousands; of both readings the possible one."""
    plain = _GAPS.sub("", text)
    forms = [(what, plain.replace(sign, "")) for form, sign, what in _COMMA_NUMBERS if form.fullmatch(plain)]
    readings = [(what, number.replace(",", ".")) for what, number in forms]
    if plain != text and not readings and re.fullmatch(r"[-+]?\d+(\.\d+)?", plain):
        readings = [(_THOUSANDS, plain)]
    readings = [(what, number) for what, number in readings if low <= float(number) <= high] or readings
    if not readings:
        return None
    whats, numbers = (" or ".join(parts) for parts in zip(*readings, strict=True))
    return f"which has {whats}; write {numbers}."


def _as_text(value: Any) -> str:
    """A cell as text: nothing and NaN are empty, a spreadsheet's 3.0 is 3 and its midnight of a date is the date."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return str(value).strip().lstrip(_MARK).strip()
