"""What a server's reply holds, whatever form it has: servers that are compatible differ in what they leave out."""

import email.utils
import math
import time
from dataclasses import replace
from typing import Any

import openai

from jaxmoe.collect.answers import Token, weighted_score, whole_characters
from jaxmoe.collect.requests import DONE, INVALID, LENGTH, REFUSED, Answer

LONGEST_RETRY_AFTER_S = 600.0
LONGEST_MESSAGE = 300  # characters of what a server says


class RetryError(Exception):
    """There was no answer, and another attempt may bring one."""

    def __init__(
        self, reason: str, *, pause_s: float | None = None, crowded: bool = False, unpaid: bool = False
    ) -> None:
        super().__init__(reason)
        self.pause_s, self.crowded, self.unpaid = pause_s, crowded, unpaid


def read_completion(completion: Any) -> Answer:
    """The answer in a completion. Raises `RetryError` if it holds none."""
    try:
        choice = completion.choices[0]
        text, refusal = choice.message.content or "", getattr(choice.message, "refusal", None)
        usage = completion.usage
        answer = Answer(
            LENGTH if choice.finish_reason == "length" else DONE,
            text=_plain(text),
            returned_model=_plain(completion.model),
            fingerprint=_plain(getattr(completion, "system_fingerprint", None)),
            finish_reason=_plain(choice.finish_reason),
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            weighted_score=_weighted(choice),
        )
    except (AttributeError, IndexError, TypeError):
        kind = (
            "a completion without choices"
            if hasattr(completion, "choices")
            else "no completion, perhaps a page of HTML"
        )
        raise RetryError(f"the server sent {kind}") from None
    if refusal or choice.finish_reason == "content_filter":
        return replace(answer, status=REFUSED, error=_plain(refusal) or "stopped by the content filter")
    if not answer.text.strip():
        return replace(answer, status=INVALID, error="the text is empty")
    return answer


def _weighted(choice: Any) -> float | None:
    """Score by log-probabilities, where the server gives some."""
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    if not content:
        return None
    try:
        return weighted_score(
            [Token(part.token, {top.token: math.exp(top.logprob) for top in part.top_logprobs}) for part in content]
        )
    except (AttributeError, TypeError, OverflowError):  # of no form that is known
        return None


def _plain(value: Any) -> str:
    """A text that can be stored, whatever a server puts in its place."""
    return "" if value is None else whole_characters(str(value))


def message_of(error: openai.APIStatusError) -> str:
    """What the server says, as one line."""
    text = error.body.get("message") if isinstance(error.body, dict) else None
    return " ".join(_plain(text or error.message).split())


def shortened(line: str) -> str:
    """The line up to a length that can be read."""
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + "..."


def retry_after_s(headers: Any) -> float | None:
    """Seconds that the server asks to wait, in any of the three ways of saying so."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1000
        else:
            seconds = _seconds_until(headers.get("retry-after"))
    except (TypeError, ValueError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else None


def _seconds_until(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return email.utils.parsedate_to_datetime(text).timestamp() - time.time()
