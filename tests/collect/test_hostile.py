"""What servers and models send that no one expects: nothing of it ends a run, and no key gets into a file."""

import json
from types import SimpleNamespace

import pytest
from chat_server import ChatServer, stage_of

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
    with pytest.raises(ReplyError, match="half of a character"):
        parse_gate('{"setting": {"subtask": "a \\ud800", "relevance": 0.5}}', ["setting"])


def test_the_probe_reads_as_strictly_as_all_else():
    with pytest.raises(ReplyError):
        probe(Endpoint("http://host", "m")).structure.parse("[" * 100_000)


def test_a_score_is_never_a_negative_zero():
    assert str(parse_score("-0.0", "decimal")) == "0.0"


def test_an_expert_may_be_called_as_a_keyword():
    assert set(unbounded(gate_structure(["maxLength"]).schema)["properties"]) == {"maxLength"}


@pytest.mark.parametrize("top", [None, [SimpleNamespace(token="7", logprob=1000.0)]])
def test_log_probabilities_of_no_form_leave_the_answer(top):
    token = SimpleNamespace(token="7", logprob=-0.1, top_logprobs=top)
    message = SimpleNamespace(content="7", refusal=None)
    choice = SimpleNamespace(message=message, finish_reason="stop", logprobs=SimpleNamespace(content=[token]))
    answer = read_completion(SimpleNamespace(choices=[choice], usage=None, model="m"))
    assert (answer.text, answer.weighted_score) == ("7", None)


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
    import sqlite3

    files.out.mkdir()
    with sqlite3.connect(files.out / "journal.sqlite") as database:
        database.execute("CREATE TABLE requests (mine)")
    database.close()
    with ChatServer() as server, pytest.raises(InputError, match="is a database of something else"):
        files.collect(server)


def test_a_gate_with_more_than_experts_is_invalid():
    with pytest.raises(ReplyError, match="exactly the experts"):
        parse_gate(json.dumps({"a": {"subtask": "x", "relevance": 1}, "b": {"subtask": "x", "relevance": 1}}), ["a"])
