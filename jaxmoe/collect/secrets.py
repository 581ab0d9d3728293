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
from functools import lru_cache
from typing import NamedTuple

from jaxmoe.errors import InputError

REDACTED = "[API key]"
SHORT = 8  # characters: a shorter key may be a part of a word, and is redacted only where it stands alone
LONG = 12  # a key of so many, letters and digits, is in no text by chance
_PREFIX = 16  # of a long key that a server cut
_LEVELS = 4  # of escapes within escapes
_ENCODED = (
    r"%(?P<url>[0-9A-Fa-f]{2})|&#x(?P<hex>[0-9A-Fa-f]{2});|&#(?P<number>\d{2,3});|&(?P<name>quot|amp|lt|gt|apos);"
)
_ESCAPES = re.compile(
    r"(?P<line_end>\\[nrt])|\\u00(?P<json>[0-9A-Fa-f]{2})|\\x(?P<python>[0-9A-Fa-f]{2})"
    rf"|{_ENCODED}|\\(?P<escaped>.)"
)
_WITHOUT_BACKSLASH = re.compile(_ENCODED)  # which is a character like any other in HTML
_LINE_ENDS = re.compile(r"(?P<line_end>\\[nrt])")
_NAMED = {"quot": '"', "amp": "&", "lt": "<", "gt": ">", "apos": "'"}
_BASE64 = re.compile(r"[A-Za-z0-9+/_=-]")
_SHORTEST_CORE = 6  # characters of base64 that are no part of a word by chance


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

    A secret of fewer than eight characters is looked for where it stands alone; one of letters alone, such as servers
    on one's own machine have, only after the name of an authentication scheme.

    >>> redacted("wrong key sk-canary!", {"sk-canary"})
    'wrong key [API key]!'
    >>> redacted("login?key=sk%2Bcanary%2F1", {"sk+canary/1"})
    'login?key=[API key]'
    """
    known = {secret for secret in secrets if secret.strip()}
    words = {secret for secret in known if len(secret) < SHORT and (secret.isalpha() or secret.isdigit())}
    others = {secret: _needles(secret) for secret in known - words}
    spans = [span for word in words for span in _after_scheme(text, word)]
    for view in _views(text) if others else ():
        for secret, needles in others.items():
            spans += [span for needle in needles for span in _plain(view, needle)]
            spans += _in_base64(view, secret)
    return _cut(text, spans)


def repeats_secret(text: str, secrets: Iterable[str]) -> bool:
    """Whether a text holds a secret as it is, and one that no text would hold by chance."""
    squeezed = re.sub(r"\s|\\[nrt]", "", text)
    telling = [
        secret
        for secret in secrets
        if len(secret) >= LONG and re.search(r"\d", secret) and re.search("[A-Za-z]", secret)
    ]
    return any("".join(secret.split()) in squeezed for secret in telling)


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


def _after_scheme(text: str, word: str) -> list[tuple[int, int]]:
    """Where a word is said to be a key."""
    found = re.finditer(rf"(?i:\b(?:bearer|basic))\s+(?P<word>{re.escape(word)})(?![A-Za-z0-9])", text)
    return [match.span("word") for match in found]


@lru_cache(maxsize=64)
def _needles(secret: str) -> set[str]:
    """A secret as it looks in a view: what seems to be an escape in it undone, and a form's plus for a space."""
    undone = {view.text for view in _views(secret)}
    return {"".join(secret.split()), "+".join(secret.split())} | {text for text in undone if len(text) >= SHORT}


def _views(text: str) -> Iterator[_View]:
    """The text as it is, without escaped line ends, and with escapes undone once, twice, ...; no white space in any."""
    kept = [(place, place + 1) for place, character in enumerate(text) if not character.isspace()]
    view = _View("".join(text[begin] for begin, _ in kept), kept)
    yield view
    if "\\" in view.text:
        yield _replaced(view, _LINE_ENDS)
    for escapes in (_ESCAPES, _WITHOUT_BACKSLASH) if "\\" in view.text else (_ESCAPES,):
        inner = view
        for _ in range(_LEVELS):
            following = _replaced(inner, escapes)
            if following.text == inner.text:
                break
            yield (inner := following)


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
    found = {kind: value for kind, value in escape.items() if value is not None}
    [(kind, value)] = found.items()
    if kind == "line_end":
        return ""
    if kind == "name":
        return _NAMED[value]
    character = value if kind == "escaped" else chr(int(value, 10 if kind == "number" else 16))
    return "" if character.isspace() else character


def _plain(view: _View, needle: str) -> list[tuple[int, int]]:
    """Where a secret stands, a short one alone; of a long one, also its beginning, as far as it goes."""
    head = needle[:_PREFIX] if len(needle) >= 2 * _PREFIX else needle
    spans = []
    begin = view.text.find(head)
    while begin >= 0:
        pairs = zip(needle, view.text[begin : begin + len(needle)], strict=False)
        same = next((place for place, (one, other) in enumerate(pairs) if one != other), 0) or len(needle)
        same = min(same, len(view.text) - begin)
        if _is_telling(needle) or _is_alone(view, begin, begin + same):
            spans.append((view.places[begin][0], view.places[begin + same - 1][1]))
        begin = view.text.find(head, begin + same)
    return spans


def _is_telling(needle: str) -> bool:
    """Whether a secret is no name and no part of one, as `lm-studio` is."""
    return len(needle) >= SHORT and (len(needle) >= LONG or any(character.isdigit() for character in needle))


def _is_alone(view: _View, begin: int, end: int) -> bool:
    """Whether no letter, digit or hyphen stands right before or after a part, with nothing between."""
    joined = [
        view.text[place]
        for place, one, other in ((begin - 1, begin - 1, begin), (end, end - 1, end))
        if 0 <= place < len(view.text) and view.places[one][1] == view.places[other][0]
    ]
    return not any(character.isalnum() or character in "-_" for character in joined)


def _in_base64(view: _View, secret: str) -> list[tuple[int, int]]:
    """Runs of base64 that hold a secret, whatever stands before it: `user:KEY`, `Bearer KEY`."""
    text = view.text.replace("-", "+").replace("_", "/")
    spans = []
    for core in (core for core in _cores(secret) if len(core) >= _SHORTEST_CORE):
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


@lru_cache(maxsize=64)
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
