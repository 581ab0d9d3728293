"""The journal: every request and its answer in an SQLite file, so that nothing that was answered is asked again.

A row is written before a request is sent and completed when its answer is there; both are committed at once, and
survive the death of the process. A row that is still `asked` was cut off: it may have been paid, and is asked anew.
"""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from jaxmoe.collect.requests import ANSWERED, ASKED, USABLE, Answer, Endpoint, Request
from jaxmoe.errors import InputError

FILE = "journal.sqlite"
VERSION = 1
_KEPT = [field.name for field in fields(Answer) if field.name != "value"]
_ABOUT = ("key", "stage", "prompt_id", "experts", "sample", "model", "base_url", "messages", "parameters", "asked_at")


class Totals(NamedTuple):
    """What the journal's requests have taken so far."""

    requests: int  # attempts, the failed ones included
    cost_usd: float
    unpriced: int  # rows whose cost is unknown
    uncounted: int  # answers whose tokens the server did not count; their cost is that of the worst case


class Journal:
    """An open journal. Used by one process and one thread."""

    def __init__(self, path: Path) -> None:
        """Open the journal, or begin one. Raises `InputError` if the file is something else."""
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise InputError(
                    f"{path} was written by a newer jaxmoe (journal version {version}, known is {VERSION})"
                )
            if version == 0 and self._database.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise InputError(f"{path} is a database of something else; choose another folder")
            columns = ", ".join([f"{name} PRIMARY KEY" if name == "key" else name for name in (*_ABOUT, *_KEPT)])
            self._database.execute(f"CREATE TABLE IF NOT EXISTS requests ({columns})")
            self._add_columns()
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS dialects (base_url, model, dialect, PRIMARY KEY (base_url, model))"
            )
            self._database.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path} cannot be used as a journal ({error}); choose another folder") from None

    def _add_columns(self) -> None:
        """What an older journal of this version does not have."""
        known = {row[1] for row in self._database.execute("PRAGMA table_info(requests)")}
        for name in (name for name in _KEPT if name not in known):
            self._database.execute(f"ALTER TABLE requests ADD COLUMN {name} DEFAULT ''")

    def close(self) -> None:
        """Close the file; the write-ahead log is folded into it."""
        self._database.close()

    def answer(self, key: str) -> Answer | None:
        """What is known of a request, whatever its status."""
        row = self._database.execute(f"SELECT {', '.join(_KEPT)} FROM requests WHERE key = ?", (key,)).fetchone()
        return None if row is None else Answer(**dict(zip(_KEPT, row, strict=True)))

    def answered(self, key: str) -> Answer | None:
        """The answer, if there is one that is not to be asked for again."""
        found = self.answer(key)
        return found if found is not None and found.status in ANSWERED else None

    def ask(self, request: Request, cost_usd: float | None, attempts: int) -> None:
        """Note that a request is about to be sent, what it may cost at most, and that it is the n-th attempt."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        messages, parameters = json.dumps(request.messages), json.dumps(request.parameters)
        about = (request.key, request.stage, request.prompt_id, request.experts, request.sample)
        row = dict(zip(_ABOUT, (*about, *reversed(request.endpoint), messages, parameters, now), strict=True))
        self._write("requests", ("key",), row | {"status": ASKED, "cost_usd": cost_usd, "attempts": attempts})

    def settle(self, key: str, answer: Answer) -> None:
        """Write what came of a request."""
        assignments = ", ".join(f"{name} = ?" for name in _KEPT)
        values = [getattr(answer, name) for name in _KEPT]
        self._database.execute(f"UPDATE requests SET {assignments} WHERE key = ?", (*values, key))

    def forget(self, statuses: Iterable[str]) -> int:
        """Let rows of these statuses be asked again; how many there are. Their cost stays in the totals."""
        names = tuple(statuses)
        where = f"status IN ({', '.join('?' * len(names))})"
        return self._database.execute(f"UPDATE requests SET status = ? WHERE {where}", (ASKED, *names)).rowcount

    def totals(self) -> Totals:
        """Requests and cost so far."""
        return Totals(
            *self._database.execute(
                "SELECT COALESCE(SUM(attempts), 0), COALESCE(SUM(cost_usd), 0.0), COALESCE(SUM(cost_usd IS NULL), 0), "
                "COALESCE(SUM(status IN (?, ?, ?, ?) AND "
                "(prompt_tokens IS NULL OR completion_tokens IS NULL)), 0) FROM requests",
                ANSWERED,
            ).fetchone()
        )

    def mean_completion_tokens(self) -> dict[str, float]:
        """Mean length of the answers of each stage that has some."""
        return dict(
            self._database.execute(
                "SELECT stage, AVG(completion_tokens) FROM requests "
                "WHERE status IN (?, ?) AND completion_tokens IS NOT NULL GROUP BY stage",
                USABLE,
            ).fetchall()
        )

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order in which they were first asked."""
        cursor = self._database.execute("SELECT * FROM requests ORDER BY rowid")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def dialect(self, endpoint: Endpoint) -> dict[str, Any] | None:
        """How an endpoint wants to be asked, as it was found out."""
        row = self._database.execute(
            "SELECT dialect FROM dialects WHERE base_url = ? AND model = ?", tuple(endpoint)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def put_dialect(self, endpoint: Endpoint, dialect: dict[str, Any]) -> None:
        """Remember how an endpoint wants to be asked."""
        self._write("dialects", endpoint._fields, {**endpoint._asdict(), "dialect": json.dumps(dialect)})

    def _write(self, table: str, keys: tuple[str, ...], row: dict[str, Any]) -> None:
        """A new row, or new values in the place of the old ones."""
        marks, values = ", ".join("?" * len(row)), ", ".join(f"{name} = excluded.{name}" for name in row)
        self._database.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks}) "
            f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {values}",
            tuple(row.values()),
        )
