"""How an endpoint wants to be asked: servers that speak Chat Completions differ in what they take.

Structured answers come down a ladder, tried once per endpoint: a JSON schema with lengths of strings, one without, JSON
of any form, and in the end the words of the prompt alone. Parameters that a server refuses are renamed or left out,
each by itself, as its reason names them; where it names none, those that the fewest servers take go first.
"""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from jaxmoe.collect.answers import MAX_SCORE, SCALES, Shape, Structure, parse_json, shaped, unbounded
from jaxmoe.collect.reasons import Reason, any_of
from jaxmoe.collect.requests import Endpoint, Request
from jaxmoe.collect.templates import Message

LADDER = ("bounded_schema", "json_schema", "json_object", "prompt")
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
PROBE_TOKENS = 1024
MOST_ALTERNATIVES = 20  # of a token, with --logprobs; some servers give no more than the fewer
FEWER_ALTERNATIVES = 5
OWN = ("max_tokens", "temperature", "seed", "logprobs")  # parameters of ours; all others are the user's

_STRUCTURE = any_of(
    r"response[ _]?format|json[ _]?schema|json[ _]?object|json (mode|outputs?|format|responses?)\b|\bschema\b|grammar",
    r"structured|guided|constrained|samplers|max_?length|additional_?properties|\bstrict\b|\benum\b",
)
_SYSTEM = any_of(
    r"system[ _-]?(role|message|prompt|instruction)|roles?\b.{0,20}\bsystem\b|developer instruction",
    r"roles? must alternate|only.{0,20}\buser\b.{0,20}\broles?|messages?[.\[ ].{0,12}role",
    r"(unknown|unexpected|invalid|unsupported) (message )?role|\broles? must be|'system'|first message must",
    r"starts? with a user",
)
_STREAM = any_of(
    r"\bnon-?stream|(only|must|requires?|required|enable|set|use).{0,40}\bstream",
    r"\bstream\b.{0,40}\b(only|required|must)",
)
_LOGPROBS = any_of(r"log_?prob|log[ -]prob")
_LIMIT = any_of(r"max_?(completion_?|output_?|new_?)?tokens")
_VALUE = any_of(r"too (large|high|many|big)|at most|less than|exceed|maximum|context|greater|\brange\b|<=")
_INSTEAD = any_of(r"\b(use|instead|takes its place|not supported|unsupported|cannot be used|unknown|deprecated)\b")
_GENERIC = any_of(
    r"(unsupported|unrecogni[sz]ed|unknown|unexpected|requested|extra|additional|invalid) (request )?"
    r"(parameters?|arguments?|inputs?|fields?|options?|keys?)\b",
    r"(parameters?|arguments?|fields?)\b.{0,40}\b(is|are) not (supported|permitted|allowed)|additional propert(y|ies)",
)


class Dialect(NamedTuple):
    """What an endpoint takes."""

    structure: str = LADDER[0]
    token_limit: str = TOKEN_LIMITS[0]
    without: tuple[str, ...] = ()  # optional parameters that it refuses
    system: bool = True  # whether a message may have this role; its words go before the user's where not
    stream: bool = False  # whether answers come as a stream of events
    alternatives: int = MOST_ALTERNATIVES  # of a token, where log-probabilities are asked for
    probed: bool = False  # whether it is known how far down the ladder structured answers come

    def lower(self) -> "Dialect | None":
        """The next rung of the ladder, None at its end."""
        below = LADDER[LADDER.index(self.structure) + 1 :]
        return self._replace(structure=below[0]) if below else None

    def adapted(self, reason: Reason, request: Request) -> "Dialect | None":
        """What may work after a server has refused a request; None if its reason is about nothing that can change.

        What the server points at comes first, then what its sentence names earliest.
        """
        changes = list(self._changes(request, reason))
        pointed = [made for name in reason.names for pattern, made in changes if pattern.search(name)]
        named = [(found.start(), made) for pattern, made in changes if (found := pattern.search(reason.message))]
        for made in [*pointed, *(made for _, made in sorted(named, key=lambda pair: pair[0]))]:
            if (changed := made()) is not None:
                return changed
        if _GENERIC.search(reason.message) and not pointed and not named:
            return next((changed for _, made in changes if (changed := made()) is not None), None)
        return None

    def _changes(
        self, request: Request, reason: Reason
    ) -> Iterator[tuple[re.Pattern[str], Callable[[], "Dialect | None"]]]:
        """What of a request could be changed: words that speak of it, and the change; the least usual first."""
        for name in request.parameters:
            if name not in OWN and name not in self.without:
                yield _word(name), lambda name=name: self._leave_out(name)  # type: ignore[misc]
        if request.parameters.get("logprobs") and "logprobs" not in self.without:
            yield _LOGPROBS, lambda: self._fewer_logprobs(reason)
        if "seed" in request.parameters and "seed" not in self.without:
            yield _word("seed"), lambda: self._leave_out("seed")
        if request.structure is not None and self.structure != LADDER[-1]:
            yield _STRUCTURE, self.lower
        if self.system and any(message["role"] == "system" for message in request.messages):
            yield _SYSTEM, lambda: self._replace(system=False)
            yield re.compile("^role$"), lambda: self._replace(system=False)
        if not self.stream:
            yield _STREAM, lambda: self._replace(stream=True)
        elif "stream_options" not in self.without:
            yield _word("stream_options"), lambda: self._leave_out("stream_options")
        if self.token_limit == TOKEN_LIMITS[0]:
            yield _LIMIT, lambda: self._other_limit(reason)
        if request.parameters.get("temperature") is not None and "temperature" not in self.without:
            yield _word("temperature"), lambda: self._leave_out("temperature")

    def _leave_out(self, name: str) -> "Dialect":
        return self._replace(without=(*self.without, name))

    def _fewer_logprobs(self, reason: Reason) -> "Dialect":
        """Fewer alternatives where they are too many, else none."""
        of_number = "top_logprobs" in (*reason.names, *reason.message.split()) or _VALUE.search(reason.message)
        if of_number and self.alternatives > FEWER_ALTERNATIVES:
            return self._replace(alternatives=FEWER_ALTERNATIVES)
        return self._leave_out("logprobs")

    def _other_limit(self, reason: Reason) -> "Dialect | None":
        """The newer name of the limit of tokens, unless it is its value that does not fit."""
        if _VALUE.search(reason.message) and not _INSTEAD.search(reason.message):
            return None
        return self._replace(token_limit=TOKEN_LIMITS[1])


def body(request: Request, dialect: Dialect) -> dict[str, Any]:
    """The request as it is sent."""
    parameters = {
        name: value for name, value in request.parameters.items() if name not in dialect.without and value is not None
    }
    limit = parameters.pop("max_tokens")
    if parameters.pop("logprobs", False):
        parameters |= {"logprobs": True, "top_logprobs": dialect.alternatives}
    messages = request.messages if dialect.system else without_system(request.messages)
    found = {"model": request.endpoint.model, "messages": messages, dialect.token_limit: limit, **parameters}
    if request.structure is not None and dialect.structure != LADDER[-1]:
        found["response_format"] = _response_format(request.structure, dialect.structure)
    if dialect.stream:
        options = {} if "stream_options" in dialect.without else {"stream_options": {"include_usage": True}}
        found |= {"stream": True, **options}
    return found


def sent_parameters(sent: dict[str, Any]) -> dict[str, Any]:
    """What a body says beside model and messages, for the journal; of a structure its kind."""
    found = {name: value for name, value in sent.items() if name not in ("model", "messages", "response_format")}
    if "response_format" in sent:
        found["response_format"] = sent["response_format"]["type"]
    if not any(message["role"] == "system" for message in sent["messages"]):
        found["roles"] = "user"
    return found


def without_system(messages: list[Message]) -> list[Message]:
    """The same in the words of the user alone, what the system said first."""
    said = [message["content"] for message in messages if message["role"] == "system"]
    others = [message for message in messages if message["role"] != "system"]
    if not said or not others:
        return others or messages
    first = {"role": others[0]["role"], "content": "\n\n".join([*said, others[0]["content"]])}
    return [first, *others[1:]]


def probe(endpoint: Endpoint, parameters: dict[str, Any] | None = None) -> Request:
    """A short request that shows whether the endpoint takes a schema, and keeps to it."""
    question = 'Answer with nothing but a JSON object of this form: {"word": "seven", "score": 7}'
    own = {"max_tokens": PROBE_TOKENS, **(parameters or {})}
    return Request("probe", "", "", 1, endpoint, [{"role": "user", "content": question}], own, _PROBE)


def _word(name: str) -> re.Pattern[str]:
    """A name where it stands alone, also in camel case."""
    either = re.escape(name).replace("_", "[_ -]?")
    return re.compile(rf"(?<![A-Za-z0-9]){either}(?![A-Za-z0-9])", re.IGNORECASE)


class _Probed(Shape):
    word: Annotated[str, Field(description="a word")]
    score: Annotated[Decimal, Field(ge=0, le=MAX_SCORE, decimal_places=0, description=SCALES["integer"])]


def _parse_probe(reply: str) -> None:
    """A server that takes a schema and does not keep to it adds words, or leaves fields out."""
    shaped(_Probed, parse_json(reply))


_PROBE = Structure(
    "probe",
    {
        "type": "object",
        "properties": {
            "word": {"type": "string", "maxLength": 20},
            "score": {"type": "integer", "enum": list(range(MAX_SCORE + 1))},
        },
        "required": ["word", "score"],
        "additionalProperties": False,
    },
    _parse_probe,
)


def _response_format(structure: Structure, rung: str) -> dict[str, Any]:
    if rung == "json_object":
        return {"type": "json_object"}
    schema = structure.schema if rung == "bounded_schema" else unbounded(structure.schema)
    return {"type": "json_schema", "json_schema": {"name": structure.name, "strict": True, "schema": schema}}
