"""Keys: as they are copied, as servers repeat them, and as words that texts may hold."""

import base64
import json
from urllib.parse import quote

import pytest
from scripted import TEXTS, Reply, Scripted, on


def in_lines(key):
    """Wrapped after twenty characters, as in a page of plain text."""
    return "\n".join(key[place : place + 20] for place in range(0, len(key), 20))


def in_basic_authentication(key):
    return base64.b64encode(f":{key}".encode()).decode()


def plain(text):
    return {"body": text, "headers": {"Content-Type": "text/plain"}}


@pytest.mark.parametrize(
    ("key", "status", "answer", "said", "process"),
    [
        pytest.param(
            "sk-canary-90aa81bb72cc63dd",
            400,
            lambda key: {
                "body": {"error": f"heron refused header Authorization: Basic {in_basic_authentication(key)}"}
            },
            "heron",
            False,
            id="as basic authentication",
        ),
        pytest.param(
            'sk-"canary\\b1ab-4477-aa09-ffe2',
            422,
            lambda key: {
                "body": {"detail": [{"loc": ["header", "authorization"], "msg": "no walrus", "input": f"Bearer {key}"}]}
            },
            "walrus",
            False,
            id="escaped as in JSON",
        ),
        pytest.param(
            'sk-"canary\\b1ab-4477-aa09-ffe2',
            422,
            lambda key: plain(f"walrus: {json.dumps(f'Bearer {key}')}"),
            "walrus",
            False,
            id="escaped as in JSON in plain text",
        ),
        pytest.param(
            "sk+canary/91ab%41-77=de==",
            400,
            lambda key: {
                "body": {"message": f"log in at https://gate.example/login?key={quote(key, safe='')} (otter)"}
            },
            "otter",
            False,
            id="URL-encoded",
        ),
        pytest.param(
            "sk-canary-111122223333444455556666777788889999-end",
            400,
            lambda key: plain(f"badger says no. Credentials:\n{in_lines(key)}\nGood bye."),
            "badger",
            True,
            id="split by line ends, a real command",
        ),
    ],
)
def test_a_key_that_a_server_repeats_is_nowhere(user, key, status, answer, said, process):
    with Scripted((on(lambda asked: Reply(status, **answer(asked.key)), stage="judge"),)) as server:
        done = user.collect(server, key=key, process=process)
    assert done.code in (1, 2)
    assert said in done.said
    assert done.texts
    assert done.scores == []
    assert {asked.key for asked in server.log} == {key}


def test_a_key_that_is_repeated_in_full_when_it_is_refused(user):
    def no_such(asked):
        return Reply(401, {"error": {"message": f"No such key: {asked.key}. Look at your keys page.", "type": "auth"}})

    with Scripted((on(no_such),)) as server:
        done = user.collect(server, key="sk-canary-e0b4d2f7719c55aa8836")
    assert done.code == 2
    assert len(server.log) <= 6
    assert "keys page" in done.said


def test_the_log_of_the_client_library_holds_no_key(user):
    """A real command, for the library reads OPENAI_LOG when it is imported."""

    def echo(asked):
        headers = {"X-Echo": f"Bearer {asked.key}"}
        return Reply(400, {"error": {"message": f"tapir: {asked.key}"}}, headers=headers)

    with Scripted((on(echo, stage="judge"),)) as server:
        done = user.collect(server, key="sk-canary-c3d4e5f60718293a4b", env={"OPENAI_LOG": "debug"}, process=True)
    assert done.code == 1
    assert "DEBUG" in done.said
    assert "tapir" in done.card
    assert len(done.texts) == 8
    assert done.scores == []


@pytest.mark.parametrize(
    ("key", "said"),
    [
        pytest.param("key", "The monkey turned the key in the keyhole.", id="the word key"),
        pytest.param("test", "It was the last test, the greatest.", id="the word test"),
    ],
)
def test_a_key_that_is_a_word_leaves_texts_alone(user, key, said):
    user.write("prompts.csv", "prompt\na test pilot in the greatest storm without a key\n")
    subtasks = {"setting": f"the {key} field", "action": f"the latest {key}"}
    tasks = {name: {"subtask": subtask, "relevance": 0.5} for name, subtask in subtasks.items()}
    with Scripted(
        (
            on(Reply(content=json.dumps(tasks)), stage="gate"),
            on(lambda asked: Reply(content=f"{said} {asked.text}"), stage=TEXTS),
        )
    ) as server:
        done = user.collect(server, key=key)
    assert done.code == 0
    assert len(done.texts) == 4
    assert all(text.startswith(said) for text in done.texts)
    gate = (user.folder / "out" / "gate.csv").read_text()
    assert all(subtask in gate for subtask in subtasks.values())
    assert "a test pilot in the greatest storm without a key" in (user.folder / "out" / "prompts.csv").read_text()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        pytest.param("sk-canary-first-half-91c2\nsecond-half-canary-77d0", "a line end", id="a line end inside"),
        pytest.param("sk\N{EN DASH}canary4711f00dbead2290aa", "not an ASCII character", id="a typographic dash"),
    ],
)
def test_a_key_that_no_header_may_hold_is_said_before_anything_is_sent(user, key, said):
    with Scripted() as server:
        done = user.collect(server, key=key)
    assert done.code == 2
    assert server.log == []
    assert "the key in OPENAI_API_KEY cannot be sent" in done.said
    assert said in done.said
    assert done.lines <= 8


def test_white_space_at_the_ends_of_a_key_is_left_out(user):
    with Scripted() as server:
        done = user.collect(server, key="sk-canary-5b1f0c77aa90e3d2\n")
    assert done.code == 0
    assert len(done.texts) == 8
    assert {asked.headers["authorization"] for asked in server.log} == {"Bearer sk-canary-5b1f0c77aa90e3d2"}
