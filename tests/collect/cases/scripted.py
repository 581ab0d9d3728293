"""A server on loopback that follows a script: rules say which requests it answers in a way of their own.

Where no rule speaks it answers as each stage of a collection wants, the same for the same messages. A request whose
target names a host came to it as to a proxy. It keeps all that it was asked, and all that it sent as a text.
"""

import hashlib
import json
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PROMPT_TOKENS, COMPLETION_TOKENS = 40, 20  # of each answer where nothing is wrong
USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": COMPLETION_TOKENS,
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
}
NONE: Mapping[str, Any] = MappingProxyType({})
TEXTS = ("expert", "fusion", "local")
STAGES = ("gate", *TEXTS, "judge")
_MARKS = {  # words of the shipped templates that tell the stages apart
    "judge": "Score the following story",
    "fusion": "Combine the following passages",
    "gate": "Give each expert a subtask",
    "expert": "Write your part of it",
    "local": "Write a short story:",
}


@dataclass
class Asked:
    """A request as it came in, and what became of it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    proxied: bool
    at: float = 0.0  # by the clock of `time.monotonic`
    times: int = 0  # that these messages came
    under_way: int = 0  # requests at the server, this one included
    status: int | None = None

    @property
    def said(self) -> str:
        """All messages as one text."""
        return "\n".join(message["content"] for message in self.body["messages"])

    @property
    def stage(self) -> str:
        """One of `STAGES`, or "probe" for a question of the client's own."""
        return next((stage for stage, words in _MARKS.items() if words in self.said), "probe")

    @property
    def key(self) -> str:
        """The key that came with it."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def structure(self) -> str:
        """The kind of structured answer that it asks for, "" for none."""
        return self.body.get("response_format", {}).get("type", "")

    @property
    def text(self) -> str:
        """What the server says where nothing is wrong."""
        digest = hashlib.sha256(json.dumps([self.stage, self.body["messages"]]).encode()).hexdigest()
        number = int(digest, 16)
        if self.stage == "gate":
            tasks = {name: {"subtask": f"about {name}", "relevance": number % 11 / 10} for name in _experts(self.said)}
            return json.dumps(tasks)
        if self.stage == "judge":
            return json.dumps({"score": number % 11})
        if self.stage == "probe":
            return '{"word": "seven", "score": 7}'
        return f"The {self.stage} told tale {digest[:8]}" + " and on it went" * (3 + number % 5) + "."


class Reply(NamedTuple):
    """What the server answers; what is left out is as where nothing is wrong."""

    status: int = 200
    body: Any = None  # in place of a completion: a text as it is, all else as JSON
    content: Any = None  # of the completion's message
    message: Mapping[str, Any] = NONE  # further fields of it, and so below; a field that is ... is left out
    choice: Mapping[str, Any] = NONE
    completion: Mapping[str, Any] = NONE
    visible: str | None = None  # the text in it, "" if there is none; the content if absent
    headers: Mapping[str, str] = NONE
    drop: str = ""  # how the connection breaks: "reset", "close" without a word
    delay_s: float = 0.0


Rule = Callable[[Asked], Reply | None]


def on(reply: Reply | Callable[[Asked], Reply], *, skip: int = 0, times: int | None = None, **when: Any) -> Rule:
    """A rule for requests that fit, see `fits`: it leaves out the first of them, and ends after so many."""
    seen = 0

    def rule(asked: Asked) -> Reply | None:
        nonlocal seen
        if not fits(asked, **when):
            return None
        seen += 1
        if not skip < seen <= skip + (times or seen):
            return None
        return reply(asked) if callable(reply) else reply

    return rule


def refusal(message: Any, status: int = 400, **when: Any) -> Rule:
    """A rule that refuses with a message in an error object."""
    return on(Reply(status, {"error": {"message": message}}), **when)


def fits(
    asked: Asked,
    stage: str | tuple[str, ...] = (),
    model: str = "",
    has: str | tuple[str, ...] = (),
    lacks: str | tuple[str, ...] = (),
    contains: str = "",
    structure: str = "",
    role: str = "",
    status: int | None = None,
    sent: dict[str, Any] | None = None,
    where: Callable[[Asked], bool] = lambda _: True,
) -> bool:
    """Whether all of these hold: `has` is for parameters, as `lacks`, and `sent` for some with their values."""
    return (
        (not stage or asked.stage in _listed(stage))
        and model in ("", asked.body["model"])
        and all(name in asked.body for name in _listed(has))
        and not any(name in asked.body for name in _listed(lacks))
        and contains in asked.said
        and structure in ("", asked.structure)
        and (not role or any(message["role"] == role for message in asked.body["messages"]))
        and status in (None, asked.status)
        and all(json.dumps(asked.body.get(name, [])) == json.dumps(value) for name, value in (sent or {}).items())
        and where(asked)
    )


def events(asked: Asked, *, usage: bool = True) -> Reply:
    """The answer as a stream of events, in three parts; the last one counts tokens."""
    text, cut = asked.text, len(asked.text) // 3
    parts = [text[:cut], text[cut : 2 * cut], text[2 * cut :]]
    deltas = [{"index": 0, "delta": {"content": part}, "finish_reason": None} for part in parts]
    pieces = [{"choices": [delta]} for delta in deltas]
    pieces += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    pieces += [{"choices": [], "usage": USAGE}] if usage else []
    lines = [json.dumps({"object": "chat.completion.chunk", "model": "streamed", **piece}) for piece in pieces]
    body = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
    return Reply(body=body, visible=text, headers={"Content-Type": "text/event-stream"})


@dataclass
class Scripted:
    """The first rule that gives a reply decides."""

    rules: tuple[Rule, ...] = ()
    served: str = "/v1"  # the path at which there are chat completions, perhaps with {model} in it
    host: str = "127.0.0.1"
    log: list[Asked] = field(default_factory=list)
    sent: set[str] = field(default_factory=set)  # as texts
    under_way: int = 0

    def __enter__(self):
        self.lock, self.times = threading.Lock(), Counter()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

            def do_POST(self):
                scripted.serve(self)

            def log_message(self, *arguments):
                pass

        kind = _Server6 if ":" in self.host else _Server
        self.http = kind((self.host, 0), Handler)
        self.port = self.http.server_port
        self.place = f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
        self.base_url = self.place + self.served
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()
        assert self.http.errors == []

    def asked(self, **when: Any) -> list[Asked]:
        """All requests that fit, in the order in which they came."""
        return [asked for asked in self.log if fits(asked, **when)]

    def count(self, **when: Any) -> int:
        """How many requests fit."""
        return len(self.asked(**when))

    def serve(self, http):
        length = int(http.headers["Content-Length"])
        text = http.rfile.read(length)
        if len(text) < length:  # the client is gone
            http.close_connection = True
            return
        body, target = json.loads(text), urlsplit(http.path)
        path = target.path + (f"?{target.query}" if target.query else "")
        headers = {name.lower(): value for name, value in http.headers.items()}
        asked = Asked(path, headers, body, proxied=bool(target.netloc))
        with self.lock:
            identity = json.dumps([body["model"], body["messages"], body.get("seed")])
            self.times[identity] += 1
            self.under_way += 1
            asked.at, asked.times, asked.under_way = time.monotonic(), self.times[identity], self.under_way
            self.log.append(asked)
            reply = next((found for rule in self.rules if (found := rule(asked))), Reply())
        time.sleep(reply.delay_s)
        content, visible = self._content(asked, reply)
        with self.lock:  # before the client can know of it, and ask for more
            self.under_way -= 1
            if visible:
                self.sent.add(visible.strip())
        with suppress(BrokenPipeError, ConnectionResetError):  # the client is gone
            _send(http, asked.status, content, reply)

    def _content(self, asked: Asked, reply: Reply) -> tuple[bytes, str | None]:
        """What is sent, and the text in it."""
        asked.status = reply.status
        if reply.body is not None:
            content = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
            return content.encode(), reply.visible
        if asked.path.partition("?")[0] != self.served.format(model=asked.body["model"]) + "/chat/completions":
            asked.status = 404
            return b'{"detail": "Not Found"}', None
        content = asked.text if reply.content is None else reply.content
        message = {"role": "assistant", "content": content, **reply.message}
        choice = {"index": 0, "finish_reason": "stop", "message": message, **reply.choice}
        completion = {"id": "1", "object": "chat.completion", "created": 1, "model": asked.body["model"]}
        completion |= {"choices": [choice], "usage": USAGE, **reply.completion}
        whole = {name: value for name, value in completion.items() if value is not ...}
        return json.dumps(whole).encode(), str(content) if reply.visible is None else reply.visible


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 256

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.errors = []  # of rules

    def handle_error(self, request, client_address):  # noqa: ARG002
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            self.errors.append(error)


class _Server6(_Server):
    address_family = socket.AF_INET6


def _send(http, status, content, reply):
    if reply.drop:
        http.close_connection = True
        if reply.drop == "reset":
            http.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            http.connection.close()
        return
    http.send_response(status)
    for name, value in ({"Content-Type": "application/json", **reply.headers}).items():
        http.send_header(name, value)
    http.send_header("Content-Length", str(len(content)))
    http.end_headers()
    http.wfile.write(content)


def _experts(said: str) -> list[str]:
    """Their names, as the gate is told them at the end, in the form of an answer."""
    form = said[said.rindex("of this form:") :]
    return list(json.loads(form[form.index("{") : form.rindex("}") + 1]))


def _listed(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names
