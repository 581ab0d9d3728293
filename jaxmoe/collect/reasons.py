"""Why a server gave no answer, read from whatever it sent, and what follows from it.

Compatible servers agree on answers and on nothing else: a reason is an object under `error`, a text, a list of
validation errors under `detail`, JSON in a text under `metadata.raw`, a page of HTML, a line of plain text, or nothing.
"""

import email.utils
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from html.parser import HTMLParser
from typing import Any, NamedTuple


def any_of(*patterns: str) -> re.Pattern[str]:
    """A pattern that fits where one of these does, in upper or lower case."""
    return re.compile("|".join(patterns), re.IGNORECASE)


LONGEST_REASON = 300  # characters of what a server says
LONGEST_BODY = 100_000  # characters that are looked at
_MESSAGES = (
    "message",
    "detail",
    "msg",
    "errors",
    "error",
    "error_message",
    "error_msg",
    "error_description",
    "status_msg",
)
_MORE = ("title", "description", "reason", "reasons", "faultstring", "fault", "details", "statusText")
_DEEPER = (("metadata", "raw"), ("innererror",), ("inner_error",), ("original_error",), ("cause",), ("base_resp",))
_CODES = ("code", "type", "status", "reason", "error")
_PLACES = ("body", "query", "header", "path")  # of validation errors, before the name of what is wrong

# What a refusal means.
KEY, CREDIT, PROXY, PATH, MODEL = "key", "credit", "proxy", "path", "model"  # these end the run
CROWDED, TROUBLE, PASSING = "crowded", "trouble", "passing"  # these are tried again
FILTERED, REFUSED = "filtered", "refused"  # these are not; a refusal may be adapted to

_CROWDED = (429, 498, 503, 529)
_TROUBLE = (408, 424, 425, 502, 504, 520, 521, 522, 523, 524, 530, 598, 599)
_CREDIT_CODES = {
    *("insufficient_quota", "insufficient_user_quota", "insufficient_balance", "insufficient_credits", "credit_limit"),
    *("billing_not_active", "billing_hard_limit_reached", "budget_exceeded", "payment_required", "arrearage"),
}
_CREDIT = any_of(
    r"insufficient[ _-]?(balance|credits?|funds|quota)|(credit|account)s? balance|(credit|spending|key) limit",
    r"out of credits?|not enough (credits?|balance|funds)|(no|any) (remaining |more )?credits?\b|all available credits",
    r"(credits?|balance|quota|budget) (is|are|has been|have been) (used up|exhausted|exceeded|depleted|too low)",
    r"(requires|purchase|buy|add) (more )?credits|payment (required|method)",
    r"billing (is )?(not active|inactive|hard limit|details)",
    r"exceeded your current quota|(reached|exceeded) your .{0,20}usage limits?\b|failure to pay",
    r"top up your|please recharge",
    r"\b(payment|invoice|bill)s? (is |are )?(overdue|past[ -]due)\b|overdue[ -](payment|balance)",
    r"\bin arrears\b|\bin good standing\b",
    r"account\b.{0,40} (is )?(not active|inactive|suspended|deactivated|disabled)|余额不足|额度不足|欠费|充值",
)
_PER_TIME = any_of(
    r"per[ -]?(second|minute|hour|day)|/\s?(min|minute|day)\b|\b(rpm|tpm|rpd|tpd)\b|\brate[ _-]limit|slow down",
    r"(in|per|every|within) \d+ ?(s|secs?|seconds?|m|min|minutes?|h|hours?)\b",
)
_PER_TIME_CODE = any_of(r"rate_?limit|(^|_)(rpm|tpm|rpd|tpd)($|_)|limit_requests|limit_burst|throttl")
_TOO_LARGE = any_of(r"request too large|too large for model|reduce (your|the) (message|prompt|length)")
_KEY = any_of(
    r"\bapi[ _-]?key|\b(this|your|the|invalid|wrong|expired|missing|access|secret) key\b|credential|permission",
    r"\b(api|access|auth|bearer|your|invalid|expired|missing)[ _-]?token\b|authori[sz]|authentic",
    r"\bscopes?\b|subscription",
)
_FILTER_CODES = {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "data_inspection_failed"}
_FILTER = any_of(
    r"moderat|flagged|content[ _-]?(filter|polic|management|moderation|rule)|inappropriate|data.?inspection",
    r"sensitive content|usage polic|safety (system|filter|polic|setting)",
    r"(blocked|stopped) by .{0,40}(safety|filter|polic|rules)",
)
_MODEL_CODES = {"model_not_found", "model_not_available", "deploymentnotfound", "invalid_model", "model_not_exist"}
_MODEL = any_of(
    r"\b(invalid|unknown|no such|unsupported|not a valid) model\b|model not exist|not a valid model|try pulling",
    r"(model|deployment|engine)\b.{0,120}?\b(not found|not exist|unknown|not available|not supported here)",
    r"\b(could not|cannot|can't|unable to) find (the )?(model|deployment)",
)
_LOADING = any_of(r"\bmodel\b.{0,40}\b(loading|starting|warming)\b|loading model|overloaded")
_NUMBER_OF = r"\d+(?:\.\d+)?\s*(?:ms|milliseconds?|h|hours?|m|min|minutes?|s|sec|seconds?|d|days?)(?![a-z])"
_ASKED_WAIT = re.compile(
    rf"(?:try again|retry|wait|available again|resets?)\D{{0,30}}?((?:{_NUMBER_OF}\s*)+)", re.IGNORECASE
)
_SECONDS = {"ms": 0.001, "mi": 60.0, "h": 3600.0, "m": 60.0, "s": 1.0, "d": 86400.0}


class Reason(NamedTuple):
    """What a server says of a request that it did not answer."""

    message: str = ""  # one line, "" where it says nothing
    names: tuple[str, ...] = ()  # of parameters that it points at
    codes: frozenset[str] = frozenset()  # in lower case: insufficient_quota, model_not_found, ...
    wait_s: float | None = None  # that it asks for, in words
    is_page: bool = False  # whether it stands on a page of HTML

    @property
    def said(self) -> str:
        """The message, or that there is none."""
        return self.message or "the server gave no reason"


def read_reason(text: str, kind: str = "") -> Reason:
    """From a body and its content type.

    >>> read_reason('{"detail": [{"loc": ["body", "seed"], "msg": "not permitted"}]}')[:2]
    ('seed: not permitted', ('seed',))
    >>> read_reason("<html><head><title>502 Bad Gateway</title></head></html>", "text/html").message
    '502 Bad Gateway'
    """
    text = text[:LONGEST_BODY].strip()
    if text in ("null", "true", "false"):
        return Reason()
    content = _as_json(text)
    if content is not None:
        return of_content(content)
    if "html" in kind.lower() or _is_page(text):
        return of_words(_page(text))._replace(is_page=True)
    return of_words(text)


def of_content(content: Any) -> Reason:
    """From JSON, or a part of it."""
    message = _line("; ".join(_unique(_said(content))))
    if not message and has_words(content):
        message = _line(json.dumps(content, ensure_ascii=False))
    found = list(_walk(content))
    names = [name for part in found for name in _names(part)]
    codes = {part[key].lower() for part in found for key in _CODES if isinstance(part.get(key), str)}
    waits = [_duration(part["retryDelay"]) for part in found if isinstance(part.get("retryDelay"), str)]
    wait_s = next((wait for wait in waits if wait is not None), None)
    return Reason(message, tuple(_unique(names)), frozenset(codes), _asked_wait(message) if wait_s is None else wait_s)


def of_words(text: str) -> Reason:
    """From a line of text."""
    message = _line(text)
    return Reason(message, wait_s=_asked_wait(message))


def shortened(line: str) -> str:
    """The line up to a length that can be read."""
    return line if len(line) <= LONGEST_REASON else line[:LONGEST_REASON] + "..."


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that the headers ask to wait, in any of the three ways of saying so; None where they say nothing."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1000
        else:
            seconds = _seconds_until(headers.get("retry-after", "").strip())
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if 0.0 < seconds < math.inf else None


def meaning(status: int, reason: Reason, model: str, wait_s: float | None) -> str:
    """What an error of this status means: one of the words above."""
    message = reason.message
    if status == 407:
        return PROXY
    if status == 401:
        return KEY
    if _is_credit(status, reason, wait_s):
        return CREDIT
    if _is_filter(status, reason):
        return FILTERED
    if status == 403:
        return KEY if _KEY.search(message) else REFUSED
    if status in (404, 405) or 300 <= status < 400:
        return _not_found(status, reason)
    if status == 429 and _TOO_LARGE.search(message):
        return REFUSED
    if status in _CROWDED or (status in (400, 500, 502) and _LOADING.search(message)):
        return CROWDED
    if status in _TROUBLE:
        return TROUBLE
    if status >= 500 or status == 409:
        return PASSING
    return MODEL if _is_model(reason, model) else REFUSED


def _is_credit(status: int, reason: Reason, wait_s: float | None) -> bool:
    """402 always; codes and words of a used-up account, unless they speak of a limit in a time or of waiting."""
    if status == 402:
        return True
    if reason.wait_s is not None or _PER_TIME.search(reason.message) or any(map(_PER_TIME_CODE.search, reason.codes)):
        return False
    if reason.codes & _CREDIT_CODES:
        return True
    return wait_s is None and status in (400, 403, 412, 429, 500) and _CREDIT.search(reason.message) is not None


def _is_filter(status: int, reason: Reason) -> bool:
    return status in (400, 403, 422, 451) and bool(
        reason.codes & _FILTER_CODES or _FILTER.search(reason.message) or status == 451
    )


def _not_found(status: int, reason: Reason) -> str:
    """A model that is unknown, something that no provider offers, or a path at which there is nothing."""
    if re.search(r"no (endpoints?|providers?) (found|available)", reason.message, re.IGNORECASE):
        return REFUSED
    if reason.codes & _MODEL_CODES:
        return MODEL
    of_path = reason.is_page or re.search(
        r"\b(url|route|cannot (post|get))\b|unknown_url", reason.message, re.IGNORECASE
    )
    named = re.search(r"(?<![/:\w])(model|deployment)s?\b", reason.message, re.IGNORECASE)
    return MODEL if status == 404 and named and not of_path else PATH


def _is_model(reason: Reason, model: str) -> bool:
    """Whether a refusal speaks of the model's name, and not of what it cannot do."""
    if reason.codes & _MODEL_CODES or re.search(r"model not exist", reason.message, re.IGNORECASE):
        return True
    return model in reason.message and _MODEL.search(reason.message) is not None


def _said(content: Any) -> Iterator[str]:
    """What is said, the outermost first."""
    if isinstance(content, str):
        inner = _as_json(content.strip())
        yield from (
            _said(inner) if isinstance(inner, dict | list) else [_page(content) if _is_page(content) else content]
        )
    elif isinstance(content, list):
        for part in content[:3]:
            yield from _said(part)
    elif isinstance(content, dict):
        yield from _said_in(content)


def _said_in(content: dict[str, Any]) -> Iterator[str]:
    lower = {str(key).lower(): value for key, value in content.items()}
    if isinstance(lower.get("loc"), list) and isinstance(lower.get("msg"), str):
        place = ".".join(str(part) for part in lower["loc"] if part not in _PLACES)
        yield f"{place}: {lower['msg']}" if place else lower["msg"]
        return
    nested = [lower[key] for key in ("error", "fault") if isinstance(lower.get(key), dict | list)]
    for part in [*nested, *(lower.get(key.lower()) for key in (*_MESSAGES, *_MORE))]:
        if words := [word for word in _said(part) if word.strip()]:
            yield from words
            break
    for path in _DEEPER:
        deeper: Any = lower
        for key in path:
            deeper = deeper.get(key) if isinstance(deeper, dict) else None
        yield from (_said(deeper) if deeper is not None else ())
    yield from _by_field(lower.get("errors"))
    for part in lower["details"] if isinstance(lower.get("details"), list) else []:
        yield from _violations(part)


def _by_field(errors: Any) -> Iterator[str]:
    """Errors of validation as an object: what is wrong with each field."""
    for name, value in errors.items() if isinstance(errors, dict) else ():
        said = [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]
        if said and name not in _MESSAGES:
            yield f"{name}: {'; '.join(said)}"


def _violations(detail: Any) -> Iterator[str]:
    """What stands under `fieldViolations` of Google's errors."""
    found = detail.get("fieldViolations") if isinstance(detail, dict) else None
    for violation in found if isinstance(found, list) else []:
        if isinstance(violation, dict) and isinstance(violation.get("description"), str):
            yield violation["description"]


def _walk(content: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """All objects, also those in a text; what was sent and is repeated as `input` is left out."""
    if isinstance(content, str) and content.lstrip()[:1] in ("{", "["):
        content = _as_json(content.strip())
    if depth > 8:
        return
    if isinstance(content, dict):
        yield content
        for key, value in content.items():
            if key not in ("input", "ctx"):
                yield from _walk(value, depth + 1)
    elif isinstance(content, list):
        for value in content[:50]:
            yield from _walk(value, depth + 1)


def _names(part: dict[str, Any]) -> list[str]:
    """Parameters that an error points at."""
    named = [part[key] for key in ("param", "parameter", "field", "path") if isinstance(part.get(key), str)]
    place, errors = part.get("loc"), part.get("errors")
    named += (
        [name for name in place if isinstance(name, str) and name not in _PLACES] if isinstance(place, list) else []
    )
    return named + ([str(name) for name in errors] if isinstance(errors, dict) else [])


def has_words(content: Any) -> bool:
    """Whether there is a text or a number anywhere in it."""
    if isinstance(content, dict):
        return any(has_words(value) for value in content.values())
    return any(map(has_words, content)) if isinstance(content, list) else content not in (None, "")


def _as_json(text: str) -> Any:
    if text[:1] not in ("{", "[", '"'):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_page(text: str) -> bool:
    return re.match(r"\s*<(!doctype|html|head|body|\?xml|center|h1)\b", text, re.IGNORECASE) is not None


class _Words(HTMLParser):
    """The words of a page, without its programs and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style") and self._silent > 0

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.found.append(" ".join(data.split()))


def _page(text: str) -> str:
    """What a page of HTML says, each thing once."""
    words = _Words()
    words.feed(text)
    return "; ".join(
        part
        for number, part in enumerate(words.found)
        if not any(part in other for other in (*words.found[:number], *words.found[number + 1 :]) if other != part)
        and part not in words.found[:number]
    )


def _line(text: str) -> str:
    """One line without control characters and halves of characters."""
    return " ".join("".join(" " if not character.isprintable() else character for character in text).split())


def _unique(parts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _asked_wait(message: str) -> float | None:
    match = _ASKED_WAIT.search(message)
    return _duration(match[1]) if match else None


def _duration(text: str) -> float | None:
    """Seconds in a text such as 1.2s, 350ms, 6m0s or 2 minutes."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|milli|mi|h|m|s|d)", text.lower())
    seconds = sum(float(number) * _SECONDS["ms" if unit == "milli" else unit] for number, unit in parts)
    return seconds if parts else None


def _seconds_until(text: str) -> float:
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
