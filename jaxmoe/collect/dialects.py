"""How an endpoint wants to be asked: servers that speak Chat Completions differ in what they take.

Structured answers come down a ladder, tried once per endpoint: a JSON schema with lengths of strings, one without, JSON
of any form, and in the end the words of the prompt alone. Parameters that a server refuses are renamed or left out.
"""

import re
from typing import Any, NamedTuple

from jaxmoe.collect.answers import MAX_SCORE, ReplyError, Structure, parse_json, unbounded
from jaxmoe.collect.requests import Endpoint, Request

LADDER = ("bounded_schema", "json_schema", "json_object", "prompt")
PROBE_TOKENS = 1024
_OPTIONAL = ("temperature", "seed", "logprobs")


class Dialect(NamedTuple):
    """What an endpoint takes."""

    structure: str = LADDER[0]
    token_limit: str = "max_tokens"  # or max_completion_tokens
    without: tuple[str, ...] = ()  # optional parameters that it refuses

    def lower(self) -> "Dialect | None":
        """The next rung of the ladder, None at its end."""
        below = LADDER[LADDER.index(self.structure) + 1 :]
        return self._replace(structure=below[0]) if below else None

    def adapted(self, complaint: str) -> "Dialect | None":
        """What may work after a server has refused a request; None if the complaint is about nothing that can change.

        >>> Dialect().adapted("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.").token_limit
        'max_completion_tokens'
        >>> Dialect().adapted("'temperature' does not support 0.7 with this model").without
        ('temperature',)
        """
        if self.token_limit == "max_tokens" and "max_completion_tokens" in complaint:
            return self._replace(token_limit="max_completion_tokens")
        for name in _OPTIONAL:
            if name in complaint and name not in self.without:
                return self._replace(without=(*self.without, name))
        if re.search(r"response_format|json_schema|json_object|schema|grammar", complaint):
            return self.lower()
        return None


def body(request: Request, dialect: Dialect) -> dict[str, Any]:
    """The request as it is sent."""
    parameters = {name: value for name, value in request.parameters.items() if name not in dialect.without}
    limit = parameters.pop("max_tokens")
    if parameters.pop("logprobs", False):
        parameters |= {"logprobs": True, "top_logprobs": 20}
    found = {"model": request.endpoint.model, "messages": request.messages, dialect.token_limit: limit, **parameters}
    if request.structure is not None and dialect.structure != "prompt":
        found["response_format"] = _response_format(request.structure, dialect.structure)
    return found


def probe(endpoint: Endpoint) -> Request:
    """A short request that shows whether the endpoint takes a schema, and keeps to it."""
    question = 'Answer with nothing but a JSON object of this form: {"word": "seven", "score": 7}'
    return Request(
        "probe", "", "", 1, endpoint, [{"role": "user", "content": question}], {"max_tokens": PROBE_TOKENS}, _PROBE
    )


def _parse_probe(reply: str) -> None:
    """A server that takes a schema and does not keep to it adds words, or leaves fields out."""
    answer = parse_json(reply)
    if not isinstance(answer, dict) or set(answer) != {"word", "score"} or answer["score"] not in range(MAX_SCORE + 1):
        raise ReplyError("the answer must be an object with a word and a score from 0 to 10")


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
