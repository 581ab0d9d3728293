"""A server on loopback that speaks Chat Completions over real sockets, and that fails in all the ways servers fail.

What it answers depends on the request alone, so that two runs can be compared; how it fails is the test's choice. It
keeps a log of what it was asked and of what it answered.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROMPT_TOKENS, COMPLETION_TOKENS = 40, 20  # billed for each answer, and for what was cut off


@dataclass
class Asked:
    """A request as it came in."""

    key: str
    body: dict
    authorization: str
    at: float


@dataclass
class ChatServer:
    """`fault(asked, times)` names a fault for a request that came for the n-th time, or None."""

    fault: object = None
    reply: object = None  # asked -> text, or the server's own
    latency_s: float = 0.0
    log: list = field(default_factory=list)
    answered: dict = field(default_factory=dict)  # key -> texts of whole answers
    billed: int = 0  # answers and cut-off answers
    under_way: int = 0
    most_under_way: int = 0

    def __enter__(self):
        self.lock, self.times = threading.Lock(), Counter()
        chat = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

            def do_POST(self):
                chat.serve(self)

            def log_message(self, *arguments):
                pass

        self.http = _Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def serve(self, http):
        body = json.loads(http.rfile.read(int(http.headers["Content-Length"])))
        key, authorization = (http.headers.get(name, "") for name in ("Idempotency-Key", "Authorization"))
        asked = Asked(key, body, authorization, time.monotonic())
        with self.lock:
            self.log.append(asked)
            self.times[asked.key] += 1
            times = self.times[asked.key]
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            time.sleep(self.latency_s)
            self._answer(http, asked, self.fault(asked, times) if self.fault else None)
        except (BrokenPipeError, ConnectionResetError):  # the client is gone
            pass
        finally:
            with self.lock:
                self.under_way -= 1

    def _answer(self, http, asked, fault):
        text = (self.reply or own_reply)(asked)
        if isinstance(fault, str) and fault in ERRORS:
            status, headers, error = ERRORS[fault]
            return send(http, status, json.dumps({"error": error}).encode(), headers=headers)
        if isinstance(fault, tuple):  # status and message of an error that the test makes up
            return send(http, fault[0], json.dumps({"error": {"message": fault[1]}}).encode())
        if fault == "html":
            return send(http, 200, b"<html><body>Bad gateway</body></html>", kind="text/html")
        if fault == "no json":
            return send(http, 200, b'{"id": "x", "choices": [')
        with self.lock:
            self.billed += 1
        if fault == "time-out":
            time.sleep(0.6)
        answer = completion(asked, text, fault)
        if fault == "drop":
            http.send_response(200)
            http.send_header("Content-Type", "application/json")
            http.send_header("Content-Length", str(len(answer)))
            http.end_headers()
            http.wfile.write(answer[: len(answer) // 2])
            http.close_connection = True
            return None
        with self.lock:
            self.answered.setdefault(asked.key, []).append(text)
        return send(http, 200, answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    block_on_close = False


ERRORS = {
    "429": (429, {}, {"message": "slow down", "type": "rate_limit"}),
    "429 retry-after": (429, {"Retry-After": "0.05"}, {"message": "slow down", "type": "rate_limit"}),
    "500": (500, {}, {"message": "oh no"}),
    "quota": (429, {}, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
    "key": (401, {}, {"message": "Incorrect API key provided"}),
    "model": (404, {}, {"message": "The model does not exist"}),
}
# Faults that pass, and those that are answers of no use.
PASSING = ("429", "429 retry-after", "500", "time-out", "drop", "html", "no json", "no choices")
USELESS = ("score 11", "fraction", "words", "refusal")


def own_reply(asked):
    """What the server says when nothing is wrong: it depends on the messages alone."""
    number = int(hashlib.sha256(json.dumps(asked.body["messages"]).encode()).hexdigest(), 16)
    stage = stage_of(asked.body)
    if stage == "gate":
        names = asked.body["response_format"]["json_schema"]["schema"]["required"]
        return json.dumps({name: {"subtask": f"about {name}", "relevance": number % 11 / 10} for name in names})
    if stage == "judge":
        return json.dumps({"score": (number + asked.body.get("seed", 0)) % 11})
    if stage == "probe":
        return '{"word": "seven", "score": 7}'
    return " ".join(f"word{number % 97}" for _ in range(20 + number % 30))


def stage_of(body):
    """The name of the schema, or "text"."""
    return body.get("response_format", {}).get("json_schema", {}).get("name", "text")


def completion(asked, text, fault=None):
    """A completion as bytes, with a fault in it if wanted."""
    judged = stage_of(asked.body) == "judge"
    texts = {"score 11": '{"score": 11}', "fraction": "10/10", "words": "I would say 7."}
    choice = {
        "index": 0,
        "finish_reason": "length" if fault == "length" else "stop",
        "message": {"role": "assistant", "content": texts.get(str(fault), text) if judged else text},
    }
    if fault == "refusal":
        choice["message"] = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
    content = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": asked.body["model"] + "-2026-01-01",
        "system_fingerprint": "fp_1",
        "choices": [] if fault == "no choices" else [choice],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        },
    }
    if isinstance(fault, dict):
        content |= fault  # fields of the completion that the test makes up
    if fault == "no usage":
        del content["usage"]
    return json.dumps(content).encode()


def send(http, status, content, kind="application/json", headers=None):
    """A whole reply."""
    http.send_response(status)
    http.send_header("Content-Type", kind)
    http.send_header("Content-Length", str(len(content)))
    for name, value in (headers or {}).items():
        http.send_header(name, value)
    http.end_headers()
    http.wfile.write(content)
