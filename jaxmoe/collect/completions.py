"""What a server's reply holds, whatever form it has: servers that are compatible differ in what they leave out.

Nothing that is not a text becomes one: reasoning is told apart, a refusal, an error inside status 200 and a stop by a
filter are what they are, and a text that was cut at the limit of tokens is marked.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from jaxmoe.collect.answers import Token, weighted_score, whole_characters
from jaxmoe.collect.reasoning import told_apart
from jaxmoe.collect.reasons import Reason, has_words, of_content, read_reason
from jaxmoe.collect.requests import DONE, INVALID, LENGTH, REFUSED, Answer

_LIMIT = (
    *("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_tokens_reached", "max_length"),
    *("token_limit", "model_length", "context_length_exceeded", "model_context_window_exceeded"),
)
_FILTERED = re.compile(
    r"filter|safety|refus|block|prohibit|recitation|spii|sensitive|guardrail|policy|moderat|risk|language",
    re.IGNORECASE,
)
_BROKEN = re.compile(
    r"error|fail|abort|cancel|interrupt|timeout|time_limit|overload|unavailable|insufficient|network|disconnect",
    re.IGNORECASE,
)
_NO_TEXT = re.compile(r"tool|function|malformed|unexpected|^other$", re.IGNORECASE)
_REASONING = ("reasoning_content", "reasoning", "thinking")  # fields beside the content
_SAID_OF_ERRORS = (
    "message",
    "detail",
    "msg",
    "errors",
    "error_msg",
    "error_message",
    "error_code",
    "base_resp",
    "code",
)
_TEXT_PARTS = ("text", "output_text")


class RetryError(Exception):
    """There was no answer, and another attempt may bring one."""

    def __init__(self, reason: str, *, unpaid: bool = False) -> None:
        super().__init__(reason)
        self.unpaid = unpaid


class StrangeError(RetryError):
    """Something else than a completion came, such as a page of HTML: perhaps the address is not that of an API."""


class ErrorInside(Exception):  # noqa: N818 - it is what the server sent, and no fault of ours
    """A reply of status 200 that is an error; with the status that it names, if it does."""

    def __init__(self, status: int, reason: Reason) -> None:
        super().__init__(reason.said)
        self.status, self.reason = status, reason


def read_completion(text: str, kind: str = "application/json") -> Answer:
    """The answer in the body of a reply of status 200, and of this content type: JSON, or a stream of events.

    Raises `RetryError` if it holds none, and `ErrorInside` if it is an error.
    """
    streamed = "event-stream" in kind or text.lstrip().startswith(("data:", "event:", ":"))
    content = _assembled(text) if streamed else _json(text, kind)
    choices = content.get("choices")
    if not choices and (inside := _error_inside(content)):
        raise inside
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        strange = "choices" not in content
        raise (StrangeError if strange else RetryError)(f"the server sent a completion without choices{_why(content)}")
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, dict):
        raise RetryError("the server sent a choice without a message")
    finish = _plain(choice.get("finish_reason"))
    if has_words(error := choice.get("error") or content.get("error")):
        raise RetryError(of_content(error).said)
    if finish and _BROKEN.search(finish):
        raise RetryError(f"the server ended the text early (finish reason {finish})")
    return _answer(content, choice, message, finish)


def _answer(content: dict[str, Any], choice: dict[str, Any], message: dict[str, Any], finish: str) -> Answer:
    text, beside = _joined(message.get("content"))
    parts = told_apart(text)
    thought = [parts.reasoning, beside, *(_joined(message.get(name))[0] for name in _REASONING)]
    prompt_tokens, completion_tokens = _usage(content.get("usage"))
    answer = Answer(
        LENGTH if finish.lower().removeprefix("finish_reason_") in _LIMIT else DONE,
        text=whole_characters(parts.text),
        reasoning=whole_characters("\n".join(dict.fromkeys(part for part in thought if part))),
        returned_model=_plain(content.get("model")),
        fingerprint=_plain(content.get("system_fingerprint")),
        finish_reason=finish,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        weighted_score=_weighted(choice.get("logprobs")),
    )
    return _checked(answer, message.get("refusal"), parts.cut)


def _checked(answer: Answer, refusal: Any, cut: bool) -> Answer:
    """The answer, or that it is none."""
    finish = answer.finish_reason
    if refusal:
        return replace(answer, status=REFUSED, error=_plain(refusal), text="")
    if finish and _FILTERED.search(finish):
        return replace(
            answer, status=REFUSED, error=f"stopped by the server's filter (finish reason {finish})", text=""
        )
    if finish and _NO_TEXT.search(finish):
        return replace(answer, status=INVALID, error=f"this is no text (finish reason {finish})", text="")
    if cut:
        where = f"finish reason {finish}" if finish else "no finish reason"
        return replace(
            answer, status=INVALID, error=f"the answer was cut while the model was reasoning ({where})", text=""
        )
    if not _has_signs(answer.text):
        error = "there is reasoning and no text" if answer.reasoning else "the text is empty"
        error += f" (it was cut at the limit of tokens, finish reason {finish})" if answer.status == LENGTH else ""
        return replace(answer, status=INVALID, error=error)
    return answer


def _json(text: str, kind: str) -> dict[str, Any]:
    """The object in a body. Raises `RetryError` for anything else, saying what it is."""
    try:
        content = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if isinstance(content, dict):
        return content
    if not text.strip():
        raise RetryError("the server sent an empty answer")
    page = "html" in kind or text.lstrip()[:1] == "<"
    said = read_reason(text, "text/html" if page else kind).message if page or len(text) < 2000 else ""
    what = "a page of HTML in place of an answer" if page else "something that is no completion"
    broken = f"the server sent {what}{f': {said}' if said else ''}"
    raise RetryError(broken) if text.lstrip()[:1] == "{" else StrangeError(broken, unpaid=page)


def _error(error: Any) -> tuple[int, Reason]:
    """Status and reason of an error inside status 200."""
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    digits = str(code) if not isinstance(code, bool) else ""
    return int(digits) if re.fullmatch(r"[45]\d\d", digits) else 500, of_content({"error": error})


def _error_inside(content: dict[str, Any]) -> ErrorInside | None:
    """What a reply without choices says of itself, if it says anything."""
    if has_words(content.get("error")):
        return ErrorInside(*_error(content["error"]))
    reason = of_content({name: content[name] for name in _SAID_OF_ERRORS if has_words(content.get(name))})
    return ErrorInside(500, reason) if reason.message else None


def _has_signs(text: str) -> bool:
    """Whether there is anything to read: white space and signs that only format are nothing."""
    return any(not character.isspace() and unicodedata.category(character) != "Cf" for character in text)


def _why(content: dict[str, Any]) -> str:
    """What may be behind a reply without choices."""
    filtered = "prompt_filter_results" in content or "promptFeedback" in content
    return ", perhaps because of a content filter" if filtered else ""


def _assembled(text: str) -> dict[str, Any]:
    """A stream of events as the completion that it makes. Raises `RetryError` for a stream without its end."""
    whole: dict[str, Any] = {"choices": []}
    message: dict[str, Any] = {"content": ""}
    choice: dict[str, Any] = {"finish_reason": None, "message": message}
    done = False
    for event in _events(text):
        if event is None:
            done = True
            continue
        if event.get("error"):
            raise ErrorInside(*_error(event["error"]))
        whole |= {name: event[name] for name in ("model", "system_fingerprint", "usage") if event.get(name)}
        choices = event.get("choices")
        for part in choices if isinstance(choices, list) else []:
            if isinstance(part, dict) and part.get("index", 0) == 0:
                _add(choice, message, part)
                whole["choices"] = [choice]
    if not done and choice["finish_reason"] is None:
        raise RetryError("the stream of the server ended before its text did")
    return whole


def _events(text: str) -> Iterator[dict[str, Any] | None]:
    """The events of a stream, None for its end; comments and other fields are left out."""
    for line in re.split(r"\r\n|\n|\r", text):
        name, _, data = line.partition(":")
        if name.strip() != "data" or not data.strip():
            continue
        if data.strip() == "[DONE]":
            yield None
            continue
        try:
            event = json.loads(data)
        except ValueError:
            raise RetryError("the stream of the server is damaged") from None
        if isinstance(event, dict):
            yield event


def _add(choice: dict[str, Any], message: dict[str, Any], part: dict[str, Any]) -> None:
    """A piece's part of the first choice."""
    delta = part.get("delta") or part.get("message") or {}
    for name, value in delta.items() if isinstance(delta, dict) else ():
        if name in ("content", "refusal", *_REASONING):
            added = _joined(value)[0]
            message[name] = (message.get(name) or "") + added if added else message.get(name)
    choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
    choice["error"] = part.get("error") or choice.get("error")
    tokens = (part.get("logprobs") or {}).get("content") if isinstance(part.get("logprobs"), dict) else None
    if isinstance(tokens, list):
        choice.setdefault("logprobs", {"content": []})["content"] += tokens


def _joined(content: Any) -> tuple[str, str]:
    """A content that is a text or a list of parts: its text, and the parts of it that are reasoning."""
    if isinstance(content, str):
        return content, ""
    said, thought = "", ""
    for part in content if isinstance(content, list) else []:
        kind = part.get("type", "text") if isinstance(part, dict) else ""
        if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
            said += part["text"]
        elif isinstance(part, str):
            said += part
        elif isinstance(part, dict):
            thought += "".join(_joined(part.get(name))[0] for name in ("thinking", "reasoning", "text"))
    return said, thought


def _usage(usage: Any) -> tuple[int | None, int | None]:
    """Tokens of prompt and answer, None where they are not known: a text without a token was not counted.

    Some servers leave reasoning out of the answer's count and have it in the total; it is paid for.
    """
    if not isinstance(usage, dict):
        return None, None
    prompt, answer, total = (
        next((count for name in names if (count := _count(usage.get(name))) is not None), None)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"), ("total_tokens",))
    )
    if prompt is not None and total is not None and total - prompt > (answer or 0):
        answer = total - prompt
    details = usage.get("completion_tokens_details")
    thought = _count(details.get("reasoning_tokens")) if isinstance(details, dict) else None
    if answer is not None and thought is not None and thought > answer:  # so that it cannot be a part of it
        answer += thought
    return prompt or None, answer or None


def _count(value: Any) -> int | None:
    """A number of tokens; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return None
    return int(value)


def _weighted(logprobs: Any) -> float | None:
    """Score by log-probabilities, where the server gives some."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not content:
        return None
    try:
        return weighted_score(
            [
                Token(part["token"], {top["token"]: math.exp(top["logprob"]) for top in part["top_logprobs"]})
                for part in content
            ]
        )
    except (AttributeError, TypeError, KeyError, OverflowError):  # of no form that is known
        return None


def _plain(value: Any) -> str:
    """A text that can be stored, whatever a server puts in its place."""
    return "" if value is None else whole_characters(str(value))
