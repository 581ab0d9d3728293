"""What servers and models send that no one expects: nothing of it ends a run, and no key gets into a file."""

import base64
import html
import json
import re
import sqlite3
import urllib.parse
from dataclasses import dataclass

import pytest
from chat_server import ChatServer, own_reply, send, stage_of
from user_files import EXPERTS, Files

from jaxmoe.cli import main
from jaxmoe.collect.answers import ReplyError, gate_structure, parse_gate, parse_score, unbounded
from jaxmoe.collect.completions import read_completion
from jaxmoe.collect.dialects import probe
from jaxmoe.collect.plan import Settings
from jaxmoe.collect.requests import Endpoint
from jaxmoe.collect.servers import checked_base_url
from jaxmoe.errors import InputError
from jaxmoe.table import load_table

KEY = "sk-canary-0123456789"


@pytest.mark.parametrize(
    "text", ["a \ud800 b", "x" * 200_000, "[" * 100_000, "```" + "\n" * 50_000, '{"score": 1e999999}']
)
def test_a_strange_reply_is_recorded_and_ends_no_run(files, text):
    def reply(asked):
        task = {"subtask": "x", "relevance": 0.5}
        gate = "Give each expert" in asked.body["messages"][-1]["content"]
        return json.dumps({"setting": task, "action": task}) if gate else text

    with ChatServer(reply=reply) as server:
        found = files.collect(server)
        asked = len(server.log)
        files.collect(server)
        assert len(server.log) == asked
    assert ("judge", "invalid") in found.statuses
    with pytest.raises(InputError, match="has no row for"):
        load_table(files.out)


@pytest.mark.parametrize("fields", [{"model": {"id": "x"}}, {"system_fingerprint": ["f"]}, {"model": None}])
def test_fields_of_another_type_are_stored_as_text(files, fields):
    with ChatServer(fault=lambda *_: fields) as server:
        assert files.collect(server).complete


def test_half_a_character_in_a_subtask_is_invalid():
    with pytest.raises(ReplyError, match="must be a text of whole characters"):
        parse_gate('{"setting": {"subtask": "a \\ud800", "relevance": 0.5}}', ["setting"])


def test_the_probe_reads_as_strictly_as_all_else():
    with pytest.raises(ReplyError):
        probe(Endpoint("http://host", "m")).structure.parse("[" * 100_000)


def test_a_score_is_never_a_negative_zero():
    assert str(parse_score("-0.0", "decimal")) == "0.0"


def test_an_expert_may_be_called_as_a_keyword():
    assert set(unbounded(gate_structure(["maxLength"]).schema)["properties"]) == {"maxLength"}


@pytest.mark.parametrize("top", [None, [{"token": "7", "logprob": 1000.0}], [{"token": None}], ["7"], "7", [[]]])
def test_log_probabilities_of_no_form_leave_the_answer(top):
    token = {"token": "7", "logprob": -0.1, "top_logprobs": top}
    choice = {"message": {"content": "7"}, "finish_reason": "stop", "logprobs": {"content": [token]}}
    answer = read_completion(json.dumps({"choices": [choice], "usage": None, "model": "m"}))
    assert (answer.status, answer.text, answer.weighted_score) == ("done", "7", None)


@pytest.mark.parametrize("place", ["model", "system_fingerprint", "error"])
def test_a_server_that_repeats_the_key_in_odd_places_gets_it_into_no_file(files, monkeypatch, place):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def fault(asked, _):
        if place == "error":
            return (500, "x" * 280 + " " + asked.authorization) if stage_of(asked.body) == "judge" else None
        return {place: asked.authorization}

    with ChatServer(fault) as server:
        files.collect(server, attempts=1)
    contents = [path.read_bytes() for path in files.out.iterdir()]
    assert not any(KEY[:9].encode() in content for content in contents)


# ---- a server that repeats the key wherever it can

KEYS = {
    "line end": "sk-canary-line-end-01\n",
    "quote and backslash": 'sk-"canary"\\quoted-02',
    "percent": "sk-can%2Fary+100%/of-03==",
    "a word": "key",
    "another word": "test",
    "long": "".join(f"sk{number:02}Canary" for number in range(20)),
    "space": "sk canary with spaces 06",
    "short": "k-1234",
    "base64": "c2stY2FuYXJ5LWFzLWJhc2U2NA==",
    "dots": "sk_canary.under_score.09",
}
WORDS = ("key", "test")
SAID = "The test of the key: a contest for a monkey, token=abc, Bearer of news; sk-1, k-12345 and 100%/of+it."


def in_base64(text):
    return base64.b64encode(text.encode()).decode()


def in_lines(text, length):
    return "\n".join(text[begin : begin + length] for begin in range(0, len(text), length))


def forms(key):
    """How servers repeat a key; none of it may be left anywhere."""
    return {
        "as it is": key,
        "JSON": json.dumps(key)[1:-1],
        "JSON in JSON": json.dumps(json.dumps(key)[1:-1])[1:-1],
        "URL": urllib.parse.quote(key, safe=""),
        "form": urllib.parse.quote_plus(key),
        "repr": repr(key)[1:-1],
        "HTML": html.escape(key),
        "basic": in_base64(f":{key}"),
        "basic of a user": in_base64(f"user:{key}"),
        "bearer in base64": in_base64(f"Bearer {key}"),
        "base64 in lines": in_lines(in_base64(f"a user:{key}"), 8),
        "lines": in_lines(key, 4),
        "escaped lines": in_lines(key, 4).replace("\n", "\\n"),
    }


@dataclass
class Parrot(ChatServer):
    """Repeats a key in every place and form; texts are the same whatever it is."""

    key: str = ""

    def _answer(self, http, asked, _):
        stage = stage_of(asked.body)
        text = SAID if stage == "text" else own_reply(asked)
        choice = {"message": {"content": text}, "finish_reason": f"stop; Bearer {self.key}"}
        content = {"choices": [choice], "model": f"m Bearer {self.key}", "system_fingerprint": f"Bearer {self.key}"}
        headers = {"X-Request-Id": self.key, "Retry-After": self.key, "Set-Cookie": f"k={self.key}"}
        if stage == "judge" and (said := self._said(asked.body["seed"])):
            if asked.body["seed"] % 3 == 0:
                return send(http, 500, said.encode(), kind="text/plain", headers=headers)
            if asked.body["seed"] % 3 == 1:
                return send(http, 500, json.dumps({"error": {"message": said}}).encode(), headers=headers)
            choice["message"] = {"content": None, "refusal": said}
        return send(http, 200, json.dumps(content).encode(), headers=headers)

    def _said(self, seed):
        """What is said of a judgement, None for the last two."""
        found = list(forms(self.key).values())
        return f"{SAID} Wrong: Bearer {found[(seed - 1) % len(found)]}, is it?" if seed <= 3 * len(found) else None


@pytest.mark.parametrize("shape", KEYS)
def test_the_key_is_nowhere_but_at_its_server(tmp_path, monkeypatch, capfd, shape):
    """No file and no line of output has it in any form; texts are as the server sent them."""
    key, files = KEYS[shape].strip(), Files(tmp_path, ["a tale"], EXPERTS[:1])
    monkeypatch.setenv("OPENAI_API_KEY", KEYS[shape])
    samples = 3 * len(forms(key)) + 2
    with Parrot(key=key) as server:
        where = {"prompts": files.prompts, "experts": files.experts, "out": files.out, "base-url": server.base_url}
        options = where | {"model": "writer", "judge-model": "judge", "local-model": "small"}
        options |= {"samples": samples, "subsets": "local,setting", "attempts": 1}
        monkeypatch.setattr(
            "sys.argv", ["jaxmoe", "collect", *(f"--{name}={value}" for name, value in options.items())]
        )
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    assert {asked.authorization for asked in server.log} == {f"Bearer {key}"}
    output = "".join(capfd.readouterr())
    assert "The table is complete" in output
    assert "[API key]" in output
    contents = {path.name: path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file()}
    assert "[API key]" in contents["README.md"]
    for name, content in {**contents, "output": output}.items():
        if key in WORDS:
            assert not re.search(rf"Bearer\s+{key}\b", content), name
            continue
        content = content.replace("k-12345", "")
        squeezed = "".join(content.split())
        for form, repeated in forms(key).items():
            assert repeated not in content, (name, form)
            assert "".join(repeated.split()) not in squeezed, (name, form)
    texts = [json.loads(line)["text"] for line in contents["texts.jsonl"].splitlines()]
    assert texts == [SAID, SAID]


@pytest.mark.parametrize("shape", KEYS)
def test_a_text_is_kept_as_it_is_or_not_at_all(files, monkeypatch, shape):
    """A text that repeats a long key is no text; one with a word that someone took for a key is one."""
    key = KEYS[shape].strip()
    monkeypatch.setenv("OPENAI_API_KEY", KEYS[shape])
    said = f"Once a {key} was lost."
    with ChatServer(reply=lambda asked: said if stage_of(asked.body) == "text" else own_reply(asked)) as server:
        files.collect(server)
    texts = [json.loads(line)["text"] for line in (files.out / "texts.jsonl").read_text().splitlines()]
    with sqlite3.connect(files.out / "journal.sqlite") as database:
        stages = "('expert', 'fusion', 'local')"
        rows = set(database.execute(f"SELECT status, text, error FROM requests WHERE stage IN {stages}"))
    if len(key) < 12:
        assert texts == [said] * 8
        assert rows == {("done", said, "")}
    else:
        assert texts == []
        assert rows == {("invalid", "", "the text repeats the API key")}
        assert not any(key.encode() in path.read_bytes() for path in files.out.iterdir())


@pytest.mark.parametrize("url", [f"user:{KEY}@host/v1", f"{KEY}@host/v1", f"https:/u:{KEY}@host", f"http://?k={KEY}"])
def test_a_base_url_with_a_secret_is_not_repeated(url):
    with pytest.raises(InputError) as caught:
        checked_base_url(url)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://host:abc/v1", "http://host:99999/v1", "http://h /v1", "ftp://host"]
)
def test_a_base_url_that_is_none_is_said(url):
    with pytest.raises(InputError, match="is not of the form"):
        checked_base_url(url)
    assert checked_base_url(" http://[::1]:8000/v1/\n") == "http://[::1]:8000/v1"


def test_a_server_that_cannot_be_probed_is_probed_once(files):
    with ChatServer(lambda asked, _: "500" if stage_of(asked.body) == "probe" else None) as server:
        files.collect(server, attempts=2)
    assert sum(stage_of(asked.body) == "probe" for asked in server.log) == 4  # two endpoints, two attempts each


def test_a_judge_is_not_named_twice():
    with pytest.raises(InputError, match="a judge is named twice"):
        Settings(model="m", judge_models=("j", "j"))


def test_the_database_of_another_program_is_left_alone(files):
    files.out.mkdir()
    with sqlite3.connect(files.out / "journal.sqlite") as database:
        database.execute("CREATE TABLE requests (mine)")
    database.close()
    with ChatServer() as server, pytest.raises(InputError, match="is a database of something else"):
        files.collect(server)


def test_a_gate_with_more_than_experts_is_invalid():
    with pytest.raises(ReplyError, match="exactly the experts"):
        parse_gate(json.dumps({"a": {"subtask": "x", "relevance": 1}, "b": {"subtask": "x", "relevance": 1}}), ["a"])
