"""Names and texts that come from data are no paths, no markup, no HTML and no formulas: what they become where.

On a terminal and in a sentence `visible` and `short`, as the name of a file `slug`, in a CSV file `to_csv`; a page uses
`html.escape`, figures are drawn without mathtext. `alike` says which names a reader cannot tell apart.
"""

import codecs
import csv
import io
import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

QUOTED = 80  # characters of a value that a sentence quotes
SENTENCE = 1_000  # characters of a whole sentence, at most
_JOINERS = "\u200c\u200d"  # which the scripts of Persia and India, and emoji, are written with
_PLAIN = {"\u2248": "~", "\u2212": "-", "\u2013": "-", "\u2014": "-", "\u2026": "...", "\u00b1": "+-", "\u00d7": "x"}
_COMPUTED = re.compile(r"'*[=+\-@\t\r]")  # how a cell begins that a spreadsheet would compute
_NUMBER = re.compile(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?")
_LATIN = str.maketrans(  # letters of Cyrillic and Greek that are drawn as Latin ones, after case folding
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u03b1\u03bf\u03bd\u03c1\u03c5"
    "\u03b9\u03ba\u0442\u043c\u043a\u0432\u043d",
    "aeopcyxijshdqwaovpuiktmkbh",
)


def visible(text: str, keep: str = "") -> str:
    r"""A text whose every character is seen: what moves a cursor, turns the direction or is invisible stands escaped.

    >>> visible("a\x1b[2Jb\u202ec"), visible("two\nlines", keep="\n"), visible("Ωmega, 名前")
    ('a\\x1b[2Jb\\u202ec', 'two\nlines', 'Ωmega, 名前')
    """
    if text.isprintable():
        return text
    return "".join(sign if _is_seen(sign) or sign in keep else _escaped(sign) for sign in text)


def speak_plainly() -> None:
    """Have standard output and error show what their encoding lacks in signs that it has; never an exception."""
    codecs.register_error("plain", _in_plain_signs)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="plain")


def short(value: Any, longest: int = QUOTED) -> str:
    """A value as a sentence quotes it: as Python writes it, on one line, and no longer than a reader needs.

    >>> short("abc"), short([1, 2]), short("x" * 5000, 10)
    ("'abc'", '[1, 2]', "'xxxx…xxx' (5,000 characters)")
    """
    try:
        text = repr(value)
    except ValueError:  # a whole number with more digits than Python writes
        return f"a number of {value.bit_length():,} bits"
    except RecursionError:
        return "something nested too deep to be shown"
    if len(text) <= longest:
        return visible(text)
    half = longest // 2
    size = f" ({len(value):,} characters)" if isinstance(value, str) else ""
    return f"{visible(text[:half])}…{visible(text[1 - half :])}{size}"


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names as a sentence lists them: the first ones, joined by commas, and how many more there are.

    >>> listed(["a", "b"]), listed(map(str, range(20)), 3)
    ('a, b', '0, 1, 2 and 17 more')
    """
    names = list(names)
    shown = [name if len(name) <= QUOTED // 2 else f"{name[: QUOTED // 2]}…" for name in names[:most]]
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return visible(", ".join(shown)) + rest


def bare(key: Any, longest: int = QUOTED) -> str:
    """A key as a sentence names it: as `short`, without quotation marks.

    >>> bare("params.slot_s"), bare("x" * 5000, 10)
    ('params.slot_s', 'xxxxx…xxxxx')
    """
    text = str(key)
    return visible(text if len(text) <= longest else f"{text[: longest // 2]}…{text[-(longest // 2) :]}")


def sentence(text: str, longest: int = SENTENCE) -> str:
    """What is said to a user: one line, visible, and not as long as what was wrong may be.

    >>> sentence("name = " + 200 * "x" + " is too long", 40)
    'name = xxxxxxxxxxxxx … xxxxx is too long'
    """
    text = visible(re.sub(r"\s*[\r\n]+\s*", " ", text.strip()))
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} … {text[3 - half :]}"


def slug(text: str) -> str:
    """A name as part of the name of a file, of an anchor or an id: letters, digits, `_`, `.` and `-`, never a path.

    Names that are such already stay as they are. Others get the beginning of a hash, so that two stay two.

    >>> slug("oneshot"), slug("../../etc/x"), slug('"><img>')
    ('oneshot', 'etc-x-56da1a', 'img-003d28')
    """
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", text) and not text.endswith("."):
        return text
    import hashlib

    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", text[:40]).strip("-")
    return f"{plain}-{digest}" if plain else f"name-{digest}"


def to_csv(rows: "pd.DataFrame") -> bytes:
    """A table for readers as a CSV file that no spreadsheet computes, and every character of which is seen."""
    shown = rows.copy()
    for name in shown.columns:
        if shown[name].dtype.kind not in "biufcmM":
            shown[name] = shown[name].map(_in_readers_cell)
    shown.columns = [_in_readers_cell(name) for name in shown.columns]
    return shown.to_csv(index=False).encode("utf-8", "backslashreplace")


def in_cell(value: Any) -> Any:
    """A value as a cell of a CSV file: before a text that a spreadsheet would compute stands `'`.

    >>> in_cell("=1+1"), in_cell("'=1"), in_cell("-5"), in_cell("a=b"), from_cell(in_cell("'@x"))
    ("'=1+1", "''=1", '-5', 'a=b', "'@x")
    """
    return f"'{value}" if isinstance(value, str) and _COMPUTED.match(value) and not _NUMBER.fullmatch(value) else value


def _in_readers_cell(value: Any) -> Any:
    return in_cell(visible(value, keep="\n") if isinstance(value, str) else value)


def from_cell(text: str) -> str:
    """The text that stands in a cell; inverse of `in_cell`."""
    return text[1:] if text.startswith("'") and _COMPUTED.match(text) else text


def csv_file(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    """A CSV file in UTF-8, whose cells are texts and numbers and nothing that is computed."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(map(in_cell, header))
    writer.writerows(map(in_cell, row) for row in rows)
    return file.getvalue().encode("utf-8", "backslashreplace")


def alike(text: str) -> str:
    r"""What a reader sees of a name: two names with the same one cannot be told apart.

    Compatible forms are one (NFKC), as are capital and small letters, letters of Cyrillic and Greek that are drawn as
    Latin ones, and blanks; what is invisible is left out. After Unicode's identifiers (UAX 31) and, for letters drawn
    alike, a part of its confusables (UTS 39).

    >>> alike("Local") == alike("local"), alike("\u0430") == alike("a"), alike("gpt-4") == alike("gpt-5")
    (True, True, False)
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_LATIN)
    seen = "".join(sign for sign in folded if sign.isspace() or not _unseen(sign))
    return " ".join(seen.split())


def first_alike(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two names, if there are such, that a reader cannot tell apart.

    >>> first_alike(["action", "setting", "Action"])
    ('action', 'Action')
    """
    seen: dict[str, str] = {}
    for name in names:
        before = seen.setdefault(alike(name), name)
        if before != name:
            return before, name
    return None


def _is_seen(sign: str) -> bool:
    """Letters, blanks of any width, and what joins letters."""
    return sign.isprintable() or sign in _JOINERS or unicodedata.category(sign) == "Zs"


def _unseen(sign: str) -> bool:
    """Format and control characters, and those that choose between forms of the one before."""
    return unicodedata.category(sign) in ("Cf", "Cc") or sign in "\ufe0e\ufe0f"


def _in_plain_signs(error: UnicodeError) -> tuple[str, int]:
    """What stands for what an encoding lacks: our own signs in ASCII, others escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign, _escaped(sign)) for sign in found), error.end


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode()
