"""What a gate and a judge must answer: JSON schemas for servers that enforce them, and strict parsers for all.

A reply is what was asked for as a whole, or it is invalid: nothing is searched in a text, clamped or filled.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model

from jaxmoe.collect.templates import Trusted

SCALES = {
    "integer": Trusted("a whole number from 0 to 10"),
    "decimal": Trusted("a number from 0 to 10 with at most two decimals"),
}
MAX_SCORE = 10
LONGEST_SUBTASK = 20_000  # characters, where none does
MAX_SUBTASK = 300  # characters, where a server enforces it: a small model may not find an end
COVERED = 0.95  # of the probability, at least, that must be read off for a weighted score

_DECIMALS = {"integer": 0, "decimal": 2}
_SURROGATE = re.compile("[\\ud800-\\udfff]")  # half of a character, which no file can hold

Schema = dict[str, Any]


class ReplyError(ValueError):
    """A reply that is not what was asked for; the message says why."""


class Task(NamedTuple):
    """What the gate says to one expert."""

    subtask: str
    relevance: float  # in [0, 1]


class Shape(BaseModel):
    """The fields of an object in an answer, each with what it must be; no other field is there."""

    model_config = ConfigDict(extra="forbid", strict=True)


class _Entry(Shape):
    subtask: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_SUBTASK, pattern=r"^[^\x00]*$"),
        Field(description=f"a text of whole characters that is not empty, at most {LONGEST_SUBTASK:,}"),
    ]
    relevance: Annotated[Decimal, Field(ge=0, le=1, description="a number from 0 to 1")]


_SCORES = {
    scale: create_model(
        "Score",
        __base__=Shape,
        score=(Decimal, Field(ge=0, le=MAX_SCORE, decimal_places=_DECIMALS[scale], description=words)),
    )
    for scale, words in SCALES.items()
}


class Structure(NamedTuple):
    """A structured answer: its schema, and the strict reading of a reply."""

    name: str
    schema: Schema
    parse: Callable[[str], Any]


class Token(NamedTuple):
    """A token of a reply, with the alternatives that the server names."""

    text: str
    alternatives: dict[str, float]  # text -> probability, itself included


def gate_structure(experts: Sequence[str]) -> Structure:
    """One subtask and one relevance for each expert."""
    steps = [step / 10 for step in range(11)]
    task = _object(
        {"subtask": {"type": "string", "maxLength": MAX_SUBTASK}, "relevance": {"type": "number", "enum": steps}}
    )
    return Structure("gate", _object(dict.fromkeys(experts, task)), lambda reply: parse_gate(reply, experts))


def judge_structure(scale: str) -> Structure:
    """One score from 0 to 10."""
    kind: Schema = {"type": "number"} if scale == "decimal" else {"type": "integer", "enum": list(range(MAX_SCORE + 1))}
    return Structure("judge", _object({"score": kind}), lambda reply: parse_score(reply, scale))


def gate_form(experts: Sequence[str]) -> Trusted:
    """How the gate's answer looks, for servers that enforce no schema."""
    return Trusted(json.dumps({expert: {"subtask": "...", "relevance": 0.5} for expert in experts}))


def unbounded(schema: Schema) -> Schema:
    """The schema without lengths of strings, which some servers do not take."""
    kept = {key: value for key, value in schema.items() if key != "maxLength"}
    if "properties" in kept:  # their names are not keywords
        kept["properties"] = {name: unbounded(value) for name, value in kept["properties"].items()}
    return kept


def whole_characters(text: str) -> str:
    """The text with a replacement character for each half of one, which JSON can hold and files cannot."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def parse_gate(reply: str, experts: Sequence[str]) -> dict[str, Task]:
    """The gate's answer. Raises `ReplyError` for anything but a subtask and a relevance in [0, 1] for each expert.

    >>> parse_gate('{"setting": {"subtask": "a storm", "relevance": 0.8}}', ["setting"])
    {'setting': Task(subtask='a storm', relevance=0.8)}
    """
    answer = parse_json(reply)
    if not isinstance(answer, dict) or set(answer) != set(experts):
        raise ReplyError(f"the answer must be an object with exactly the experts {', '.join(experts)}")
    entries = {expert: shaped(_Entry, answer[expert], f" of {expert}") for expert in experts}
    return {expert: Task(entry.subtask, float(entry.relevance)) for expert, entry in entries.items()}


def parse_score(reply: str, scale: str) -> float:
    """The judge's score: an object with the one field `score`, or the bare number. Raises `ReplyError` for all else.

    >>> parse_score('{"score": 7}', "integer"), parse_score("6.5", "decimal")
    (7.0, 6.5)
    """
    answer = parse_json(reply)
    found: Any = shaped(_SCORES[scale], answer if isinstance(answer, dict) else {"score": answer})
    return float(found.score) + 0.0  # no negative zero


def weighted_score(tokens: Sequence[Token]) -> float | None:
    """Mean of the whole scores from 0 to 10 under the probabilities of the token that begins the score.

    This is the expectation of Liu et al. 2023 (G-Eval, arXiv 2303.16634, section 3). A "1" may go on to "10": where
    the reply went that way, the next token tells how often; where it did not and there is no token "10", it is not
    known. None where less than `COVERED` of the probability can be read off.

    >>> weighted_score([Token('{"score": ', {}), Token("7", {"7": 0.75, "8": 0.25})])
    7.25
    """
    position = _score_position(tokens)
    if position is None:
        return None
    begin = tokens[position].alternatives
    mass: dict[int, float] = {}
    for text, probability in begin.items():
        if match := re.fullmatch(r"[^\d.-]*(\d+)(\D.*)?", text, re.DOTALL):
            for value, share in _continued(match, text, position, tokens).items():
                if 0 <= value <= MAX_SCORE:
                    mass[value] = mass.get(value, 0.0) + probability * share
    covered = math.fsum(mass.values())
    if covered < COVERED:
        return None
    return math.fsum(value * probability for value, probability in mass.items()) / covered


def _score_position(tokens: Sequence[Token]) -> int | None:
    """Which token holds the first digit of the score."""
    text = "".join(token.text for token in tokens)
    match = re.search(r'"score"\s*:\s*(\d)', text) or re.match(r"\s*(\d)", text)
    if match is None:
        return None
    end = 0
    for position, token in enumerate(tokens):
        end += len(token.text)
        if match.start(1) < end:
            return position
    return None


def _continued(match: re.Match[str], text: str, position: int, tokens: Sequence[Token]) -> dict[int, float]:
    """Which scores a token begins, and the share of each."""
    value = int(match[1])
    if match[2] is not None or value != 1:
        return {value: 1.0}
    if text == tokens[position].text and position + 1 < len(tokens):
        after = tokens[position + 1].alternatives
        ten = math.fsum(probability for following, probability in after.items() if following.startswith("0"))
        return {10: ten, 1: 1.0 - ten}
    if any(re.fullmatch(r"[^\d.-]*10(\D.*)?", other, re.DOTALL) for other in tokens[position].alternatives):
        return {1: 1.0}
    return {}


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_Shaped = TypeVar("_Shaped", bound=Shape)


def shaped(shape: type[_Shaped], answer: Any, of: str = "") -> _Shaped:
    """What is of this shape. Raises `ReplyError` for all else; ` of` says whose it is."""
    try:
        return shape.model_validate(answer)
    except ValidationError as error:
        found, fields = error.errors()[0], shape.model_fields
    if not found["loc"] or found["type"] in ("missing", "extra_forbidden"):
        exactly = f"exactly the field{'s' if len(fields) > 1 else ''} {' and '.join(fields)}"
        raise ReplyError(f"the {'entry' if of else 'answer'}{of} must be an object with {exactly}")
    name = str(found["loc"][0])
    given = repr(found["input"]) if isinstance(found["input"], str) else str(found["input"])
    raise ReplyError(f"the {name}{of} is {given[:20]}, it must be {fields[name].description}")


def parse_json(reply: str) -> Any:
    """The reply as JSON, alone or as one fenced block, its numbers exact, with no NaN and no name twice."""
    first, *lines = reply.strip().split("\n")
    fenced = lines and first.strip() in ("```", "```json") and lines[-1].strip() == "```"
    try:
        return json.loads(
            "\n".join(lines[:-1]) if fenced else reply,
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_no_constant,
            object_pairs_hook=_once,
        )
    except ReplyError:
        raise
    except (ValueError, ArithmeticError, RecursionError) as error:  # no JSON, or a number beyond all bounds
        raise ReplyError(f"the answer is not JSON ({error})") from None


def _no_constant(name: str) -> Any:
    raise ReplyError(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ReplyError("a name is there twice")
    return found
