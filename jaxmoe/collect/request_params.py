"""Request parameters of the user's own: what a server takes beside what jaxmoe sends, for all stages or for one."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from jaxmoe.collect.templates import STAGES
from jaxmoe.errors import InputError

_OURS = {
    "model": "--model",
    "messages": "--templates",
    "stream": "nothing: it is found out",
    "stream_options": "nothing: it is found out",
    "response_format": "nothing: it is found out",
    "max_tokens": "--max-tokens and --answer-tokens",
    "max_completion_tokens": "--max-tokens and --answer-tokens",
    "logprobs": "--logprobs",
    "top_logprobs": "--logprobs",
}


def parse_request_params(texts: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` or `STAGE.KEY=VALUE`, a value being JSON or else a text; further dots lead into objects.

    Raises `InputError` for anything else.

    >>> parse_request_params(["enable_thinking=false", "judge.reasoning_effort=low"])
    {'enable_thinking': False, 'judge': {'reasoning_effort': 'low'}}
    >>> parse_request_params(["chat_template_kwargs.enable_thinking=false"])
    {'chat_template_kwargs': {'enable_thinking': False}}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        path = [part.strip() for part in name.split(".")]
        if not equals or not all(path):
            raise InputError(
                f"--request-param {text!r} is not of the form KEY=VALUE or STAGE.KEY=VALUE, as in num_ctx=8192 or "
                f"judge.reasoning_effort=low; stages are {', '.join(STAGES)}"
            )
        _put(found, path, _value(value.strip()), text)
    return found


def check_request_params(params: Mapping[str, Any]) -> None:
    """Parameters by name, and objects of them by stage. Raises `InputError` for those that are set in another way."""
    for stage in (stage for stage in STAGES if stage in params):
        if not isinstance(params[stage], Mapping):
            raise InputError(f"request parameters of the stage {stage} are {params[stage]!r}, they must have names")
    for stage in ("", *STAGES):
        for name, value in of_stage(params, stage).items():
            if name in _OURS:
                raise InputError(f"the request parameter {name} cannot be set here; what sets it is {_OURS[name]}")
            _check_json(name, value)
            if name == "n" and value != 1:
                raise InputError(
                    f"the request parameter n is {value!r}, it must be 1: one text is taken, and all are paid"
                )


def of_stage(params: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Those of a stage, which go before those of all.

    >>> of_stage({"top_p": 0.9, "judge": {"top_p": 1.0}, "gate": {"min_p": 0.1}}, "judge")
    {'top_p': 1.0}
    """
    return {name: value for name, value in params.items() if name not in STAGES} | dict(params.get(stage, {}))


def _check_json(name: str, value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise InputError(f"the request parameter {name} is {value!r}, which JSON cannot hold") from None


def _put(found: dict[str, Any], path: list[str], value: Any, text: str) -> None:
    for part in path[:-1]:
        found = found.setdefault(part, {})
        if not isinstance(found, dict):
            raise InputError(f"--request-param {text!r}: {part} is a value already, and cannot hold others")
    if path[-1] in found:
        raise InputError(f"--request-param {text!r}: {path[-1]} is set twice")
    found[path[-1]] = value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
