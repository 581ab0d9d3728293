"""Excel and Parquet: files that may hold a thousand times what they weigh, so what they hold is measured on the way."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxmoe.errors import InputError
from jaxmoe.names import short
from jaxmoe.table.limits import CELLS, COLUMNS, FILE_BYTES, MARKS, ROWS, SHEET_ROWS, UNPACKED_BYTES

Record = tuple[int, list[Any]]  # the line and its cells

_READ = (".xml", ".rels")  # members of a workbook that say something: others are pictures, fonts and programs
_ROWS_AT_ONCE = 65_536


def excel_records(path: Path) -> Iterator[Record]:
    """Rows of the first sheet, up to the width of its first row that is not blank."""
    try:
        import openpyxl  # type: ignore[import-untyped]
    except ImportError:
        raise InputError(
            f'{path}: reading Excel needs openpyxl, install it with: pip install "jaxmoe[excel]".'
        ) from None
    sheets = openpyxl.load_workbook(_unpacked(path), data_only=True, read_only=True).worksheets
    if not sheets:
        raise InputError(f"{path}: the workbook has no sheet.")
    sheet = sheets[0]
    sheet.reset_dimensions()  # which a file may say as it likes
    width = 0
    for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        if line > SHEET_ROWS:
            raise too_large(path, line, width)
        width = width or (len(cells) if any(cell is not None for cell in cells) else 0)
        yield line, [*cells, *[None] * (width - len(cells))]


def parquet_records(path: Path) -> Iterator[Record]:
    """The header as line 0, and the rows; columns of bytes, lists and structs are left out."""
    import pyarrow.parquet as pq

    facts = pq.read_metadata(path)
    unpacked = sum(facts.row_group(group).total_byte_size for group in range(facts.num_row_groups))
    if unpacked > FILE_BYTES:
        raise InputError(f"{path}: the file holds {unpacked:,} bytes when unpacked, a table at most {FILE_BYTES:,}.")
    if max(facts.num_rows / ROWS, facts.num_columns / COLUMNS, facts.num_rows * facts.num_columns / CELLS) > 1:
        raise too_large(path, facts.num_rows, facts.num_columns)
    schema = facts.schema.to_arrow_schema()
    names = [field.name for field in schema if _plain(field.type)]
    texts = [field.name for field in schema if _text(field.type)]
    yield 0, list(names)
    line = 0
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=names):
            columns = [_cells(column) for column in batch.columns]
            for cells in zip(*columns, strict=True):
                yield (line := line + 1), list(cells)


def too_large(path: Path, rows: int, columns: int) -> InputError:
    """What is said of a file with too many rows, columns or cells."""
    return InputError(
        f"{path}: the file has {rows:,} rows of up to {columns:,} cells or more; a table has at most {ROWS:,} rows, "
        f"{COLUMNS:,} columns and {CELLS:,} cells."
    )


def _unpacked(path: Path) -> io.BytesIO:
    """A workbook with nothing compressed and without pictures, each member as long as the archive says."""
    plain = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(plain, "w") as copy:
        members = {member.filename: member for member in archive.infolist() if member.filename.endswith(_READ)}
        size = sum(member.file_size for member in members.values())
        if size > UNPACKED_BYTES:
            raise InputError(
                f"{path}: the workbook holds {size:,} bytes when unpacked, a table at most {UNPACKED_BYTES:,}; save "
                "its sheet as a workbook of its own, or as CSV UTF-8."
            )
        for name, member in members.items():
            content = archive.read(member)
            copy.writestr(name, content)
            if content.count(b"<") > MARKS or b"<!DOCTYPE" in content.replace(b"\0", b""):  # of UTF-16, too
                raise InputError(
                    f"{path}: {short(name)} in the workbook declares what no workbook does, or has more than {MARKS:,} "
                    "marks; save its sheet as CSV UTF-8."
                )
    return plain


def _plain(kind: Any) -> bool:
    """Whether cells of an Arrow type are texts, numbers, dates or truth values."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    return _text(kind) or (types.is_primitive(kind) and not types.is_duration(kind)) or types.is_decimal(kind)


def _text(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _cells(column: Any) -> list[Any]:
    """Cells as Python values; texts that are the same are one."""
    import pyarrow.compute as pc
    import pyarrow.types as types

    if not types.is_dictionary(column.type):
        return column.to_pylist()
    used = pc.unique(column.indices).drop_null()
    texts = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
    return [texts.get(position) for position in column.indices.to_pylist()]
