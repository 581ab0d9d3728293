"""Keys: read from the environment, checked before a header holds them, and kept out of all that is said or written.

Servers, proxies and the log of a library repeat what they were sent, in forms of their own: escaped as in JSON or
Python, URL-encoded, as HTML, split by line ends, or in base64 as in basic authentication. Only what a server says
*about* a request is searched for them, never what a model or a person wrote.
"""

import base64
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from jaxmoe.errors import InputError

REDACTED = "[API key]"
SHORT = 8  # characters: a shorter key may stand in an ordinary word, and is redacted only where it stands alone
LONG = 16  # a key of so many that are not all letters is no word of any text
_PREFIX = 16  # of a long key that a server cut
_LEVELS = 3  # of escapes within escapes
_ESCAPES = re.compile(
    r"(?P<line_end>\\[nrt])"
    r"|%(?P<url>[0-9A-Fa-f]{2})|\\u00(?P<json>[0-9A-Fa-f]{2})|\\x(?P<python>[0-9A-Fa-f]{2})|&\#x(?P<hex>[0-9A-Fa-f]{2});"
    r"|&\#(?P<number>\d{2,3});|&(?P<name>quot|amp|lt|gt|apos);"
    r"|\\(?P<escaped>.)",
    re.VERBOSE,
)
_LINE_ENDS = re.compile(r"(?P<line_end>\\[nrt])")
_NAMED = {"quot": '"', "amp": "&", "lt": "<", "gt": ">", "apos": "'"}
_BASE64 = re.compile(r"[A-Za-z0-9+/_=-]")


class _View(NamedTuple):
    """A text in which escapes are undone and white space is left out, and where each of its characters comes from."""

    text: str
    places: list[tuple[int, int]]  # begin and end in the original


def read_key(variable: str) -> str:
    """The key in an environment variable, "" if there is none. White space at its ends is left out.

    Raises `InputError` for a character that no header may hold; the sentence does not show it.
    """
    key = os.environ.get(variable, "").strip()
    for place, character in enumerate(key, start=1):
        if not " " <= character <= "~":
            what = "not an ASCII character" if character > "~" and character != "\x7f" else "a control character"
            what += " (a line end)" if character in "\r\n" else ""
            raise InputError(
                f"the key in {variable} cannot be sent: character {place} of {len(key)} is {what}; "
                "copy the key again, as one line"
            )
    return key


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Text without any of the secrets, in whatever form they are there.

    A secret of fewer than eight characters is looked for as it is and where it stands alone; one of letters alone, such
    as servers on one's own machine have, only after the name of an authentication scheme.

    >>> redacted("wrong key sk-canary!", {"sk-canary"})
    'wrong key [API key]!'
    >>> redacted("login?key=sk%2Bcanary%2F1", {"sk+canary/1"})
    'login?key=[API key]'
    """
    secrets = [secret for secret in secrets if secret]
    short = [secret for secret in secrets if len(secret) < SHORT]
    spans = [span for secret in short for span in _alone(text, secret)]
    needles = [(secret, "".join(secret.split())) for secret in secrets if len(secret) >= SHORT]
    if needles:
        for view in _views(text):
            spans += [span for _, needle in needles for span in _plain(view, needle)]
            spans += [span for secret, _ in needles for span in _in_base64(view, secret)]
    return _cut(text, spans)


def repeats_secret(text: str, secrets: Iterable[str]) -> bool:
    """Whether a text holds a secret as it is, and one that no text would hold by chance."""
    squeezed = "".join(text.split())
    return any(
        "".join(secret.split()) in squeezed for secret in secrets if len(secret) >= LONG and not secret.isalpha()
    )


@contextmanager
def redacting_logs(secrets: set[str]) -> Iterator[None]:
    """While the block runs, handlers of the root logger write no secret: libraries log what they send and get."""

    def clean(record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage(), secrets), None
        if record.exc_info:
            record.exc_text = redacted(logging.Formatter().formatException(record.exc_info), secrets)
        return True

    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(clean)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(clean)


def _alone(text: str, secret: str) -> list[tuple[int, int]]:
    """Where a short secret stands by itself; a word, where it is said to be a key."""
    before = r"(?i:\b(?:bearer|basic))\s+" if secret.isalpha() else r"(?<![A-Za-z0-9])"
    found = re.finditer(rf"{before}(?P<secret>{re.escape(secret)})(?![A-Za-z0-9])", text)
    return [match.span("secret") for match in found]


def _views(text: str) -> Iterator[_View]:
    """The text as it is, without escaped line ends, and with escapes undone once, twice, ...; no white space in any."""
    kept = [(place, place + 1) for place, character in enumerate(text) if not character.isspace()]
    view = _View("".join(text[begin] for begin, _ in kept), kept)
    yield view
    if "\\" in view.text:
        yield _replaced(view, _LINE_ENDS)
    for _ in range(_LEVELS):
        following = _replaced(view, _ESCAPES)
        if following.text == view.text:
            return
        yield (view := following)


def _replaced(view: _View, escapes: re.Pattern[str]) -> _View:
    parts: list[str] = []
    places: list[tuple[int, int]] = []
    end = 0
    for match in escapes.finditer(view.text):
        parts.append(view.text[end : match.start()])
        places += view.places[end : match.start()]
        if character := _meant(match.groupdict()):
            parts.append(character)
            places.append((view.places[match.start()][0], view.places[match.end() - 1][1]))
        end = match.end()
    return _View("".join([*parts, view.text[end:]]), [*places, *view.places[end:]])


def _meant(escape: dict[str, str | None]) -> str:
    """The character that an escape stands for, "" for white space."""
    if escape["line_end"]:
        return ""
    if name := escape["name"]:
        return _NAMED[name]
    digits = escape["url"] or escape["json"] or escape["python"] or escape["hex"]
    character = (
        chr(int(digits, 16)) if digits else chr(int(escape["number"])) if escape["number"] else escape["escaped"]
    )
    return "" if character is None or character.isspace() else character


def _plain(view: _View, needle: str) -> list[tuple[int, int]]:
    """Where a secret stands; of a long one, also its beginning, as far as it goes."""
    head = needle[:_PREFIX] if len(needle) >= 2 * _PREFIX else needle
    spans = []
    begin = view.text.find(head)
    while begin >= 0:
        pairs = zip(needle, view.text[begin : begin + len(needle)], strict=False)
        same = next((place for place, (one, other) in enumerate(pairs) if one != other), 0) or len(needle)
        same = min(same, len(view.text) - begin)
        spans.append((view.places[begin][0], view.places[begin + same - 1][1]))
        begin = view.text.find(head, begin + same)
    return spans


def _in_base64(view: _View, secret: str) -> list[tuple[int, int]]:
    """Runs of base64 that hold a secret, whatever stands before it: `user:KEY`, `Bearer KEY`."""
    text = view.text.replace("-", "+").replace("_", "/")
    spans = []
    for core in _cores(secret):
        begin = text.find(core)
        while begin >= 0:
            end = begin + len(core)
            first, last = _run(view, begin, -1), _run(view, end - 1, 1)
            spans.append((view.places[first][0], view.places[last][1]))
            begin = text.find(core, end)
    return spans


def _run(view: _View, place: int, step: int) -> int:
    """The last place, going on from one by steps, of signs of base64 with no white space between them."""
    while 0 <= place + step < len(view.text) and _BASE64.fullmatch(view.text[place + step]):
        one, other = sorted((view.places[place], view.places[place + step]))
        if one[1] != other[0]:
            break
        place += step
    return place


def _cores(secret: str) -> list[str]:
    """Base64 of a secret after 0, 1 and 2 other bytes, without the digits that depend on its neighbours."""
    content, cores = secret.encode(), []
    for before in range(3):
        digits = base64.b64encode(bytes(before) + content).decode()
        cores.append(digits[-(-before * 8 // 6) : (before + len(content)) * 8 // 6])
    return cores


def _cut(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with each span, or several that touch, in the place of which the mark stands."""
    parts, end = [], 0
    for begin, until in sorted(spans):
        if begin >= end:
            parts += [text[end:begin], REDACTED]
        end = max(end, until)
    return "".join([*parts, text[end:]])
