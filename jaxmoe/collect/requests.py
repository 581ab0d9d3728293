"""What is asked of a model, and what it answered."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from jaxmoe.collect.answers import Structure
from jaxmoe.collect.templates import Message

DONE = "done"  # a whole text, or a structured answer that says what was asked for
LENGTH = "length"  # a text that ended at the limit of tokens
REFUSED = "refused"
INVALID = "invalid"  # not what was asked for
FAILED = "failed"  # no answer after all retries
ASKED = "asked"  # under way, or cut off

USABLE = (DONE, LENGTH)
ANSWERED = (*USABLE, REFUSED, INVALID)  # paid, and never asked again unless the user says so

BUNDLED = "bundled"  # as base URL: the small model of the `local` extra, started here on whatever port is free
BUNDLED_MODEL = "smollm2-135m-instruct"

CHARACTERS_PER_TOKEN = 4  # of English, where a server does not count


class Endpoint(NamedTuple):
    """A model on a server."""

    base_url: str
    model: str

    def __str__(self) -> str:
        return f"{self.model} {'on this machine' if self.base_url == BUNDLED else 'at ' + self.base_url}"


@dataclass(frozen=True)
class Request:
    """One question to one model."""

    stage: str
    prompt_id: str
    experts: str  # subset whose text is written or judged, "" for the gate
    sample: int  # of several judgements, from 1
    endpoint: Endpoint
    messages: list[Message]
    parameters: dict[str, Any]  # max_tokens, temperature, seed, logprobs, and those of the user
    structure: Structure | None = None  # of the answer; a text otherwise

    @cached_property
    def key(self) -> str:
        """Digest of everything that could change the answer; which prompt it belongs to is not part of it."""
        schema = self.structure.schema if self.structure else None
        content = [self.stage, *self.endpoint, self.messages, self.parameters, schema, self.sample]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def estimated_prompt_tokens(self) -> int:
        """Of the messages, with a few for each turn."""
        characters = sum(len(message["content"]) for message in self.messages)
        return -(-characters // CHARACTERS_PER_TOKEN) + 4 * len(self.messages)

    @property
    def most_prompt_tokens(self) -> int:
        """A bound: a token is at least one byte; each turn has a few of its own, and a schema may be read as well."""
        schema = json.dumps(self.structure.schema) if self.structure else ""
        return sum(len(message["content"].encode()) + 16 for message in self.messages) + len(schema)


@dataclass(frozen=True)
class Answer:
    """What came of a request."""

    status: str
    text: str = ""
    error: str = ""  # why there is no usable answer
    returned_model: str = ""
    fingerprint: str = ""
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_s: float = 0.0
    attempts: int = 0
    cost_usd: float | None = None  # of all attempts; None where the price is unknown
    weighted_score: float | None = None  # by the judge's log-probabilities
    answered_at: str = ""
    reasoning: str = ""  # what the model thought, as far as the server says; no part of the text
    sent: str = ""  # JSON of the parameters as they were really sent
    value: Any = None  # of a structured answer: what was read, never stored

    @property
    def usable(self) -> bool:
        """Whether there is something to go on with."""
        return self.status in USABLE


NOT_ASKED = Answer("not asked", error="not asked yet")
