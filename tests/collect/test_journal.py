"""What is in the journal stays, and is neither asked nor paid twice."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from jaxmoe.collect.journal import VERSION, Journal, Totals
from jaxmoe.collect.requests import ANSWERED, ASKED, DONE, FAILED, INVALID, LENGTH, REFUSED, Answer, Endpoint, Request
from jaxmoe.errors import InputError

SERVER = Endpoint("http://server/v1", "judge")
ANSWER = Answer(
    DONE,
    text='{"score": 7} ümläut\x00 "quoted"\n',
    returned_model="judge-0613",
    fingerprint="fp_1",
    finish_reason="stop",
    prompt_tokens=120,
    completion_tokens=6,
    latency_s=0.25,
    attempts=2,
    cost_usd=0.03,
    weighted_score=7.25,
    answered_at="2026-01-01T00:00:00+00:00",
    reasoning="A ship; seven, then.",
    sent='{"max_tokens": 9}',
)


def asking(sample=1, stage="judge"):
    messages = [{"role": "user", "content": "Score this."}]
    return Request(stage, "p00", "a+b", sample, SERVER, messages, {"max_tokens": 9, "seed": sample})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path):
    with closing(Journal(path)) as opened:
        yield opened


def settled(journal, sample=1, stage="judge", **changes):
    """The request of a row that is asked and has an answer."""
    request = asking(sample, stage)
    journal.ask(request, 0.5, 1)
    journal.settle(request.key, replace(ANSWER, **changes))
    return request


def test_an_answer_survives_reopening(path):
    with closing(Journal(path)) as journal:
        key = settled(journal).key
        value_is_not_stored = settled(journal, 2, value=7.0).key
    with closing(Journal(path)) as journal:
        assert journal.answered(key) == ANSWER
        assert journal.answered(value_is_not_stored) == ANSWER
        assert journal.answer("unknown") is None


def test_a_row_says_what_was_asked(journal):
    request = settled(journal)
    [row] = journal.rows()
    assert {name: row[name] for name in ("key", "stage", "prompt_id", "experts", "sample", "model", "base_url")} == {
        "key": request.key,
        "stage": "judge",
        "prompt_id": "p00",
        "experts": "a+b",
        "sample": 1,
        "model": SERVER.model,
        "base_url": SERVER.base_url,
    }
    assert row["messages"] == '[{"role": "user", "content": "Score this."}]'
    assert row["parameters"] == '{"max_tokens": 9, "seed": 1}'
    assert row["asked_at"]
    assert (row["status"], row["text"], row["attempts"]) == (DONE, ANSWER.text, 2)


@pytest.mark.parametrize("status", [DONE, LENGTH, REFUSED, INVALID, FAILED, ASKED])
def test_only_what_was_answered_is_not_asked_again(status, journal):
    key = settled(journal, status=status).key
    assert journal.answer(key).status == status
    assert (journal.answered(key) is None) == (status in (FAILED, ASKED))
    assert (status in ANSWERED) == (journal.answered(key) is not None)


def test_what_is_under_way_is_in_the_journal_at_its_worst(path):
    with closing(Journal(path)) as journal:
        journal.ask(asking(), 0.5, 1)
    with closing(Journal(path)) as journal:
        assert journal.answered(asking().key) is None
        assert journal.answer(asking().key) == Answer(ASKED, text=None, **unset(cost_usd=0.5, attempts=1))
        assert journal.totals() == Totals(1, 0.5, 0, 0)
        journal.ask(asking(), 0.9, 2)
        assert journal.totals() == Totals(2, 0.9, 0, 0)


def unset(**known):
    """Fields of an answer that is not there yet."""
    names = ("error", "returned_model", "fingerprint", "finish_reason", "latency_s", "answered_at", "reasoning", "sent")
    return dict.fromkeys(names) | known


def test_forgotten_rows_are_asked_again_and_their_cost_is_kept(journal):
    requests = {
        status: settled(journal, sample, status=status)
        for sample, status in enumerate((DONE, LENGTH, REFUSED, INVALID), start=1)
    }
    before = journal.totals()
    assert journal.forget([REFUSED, INVALID]) == 2
    assert journal.forget([REFUSED, INVALID]) == 0
    assert {status: journal.answered(request.key) is None for status, request in requests.items()} == {
        DONE: False,
        LENGTH: False,
        REFUSED: True,
        INVALID: True,
    }
    assert journal.totals() == before == Totals(8, pytest.approx(0.12), 0, 0)
    assert journal.answer(requests[INVALID].key).cost_usd == 0.03


def test_totals_count_attempts_and_say_what_has_no_price(journal):
    assert journal.totals() == Totals(0, 0.0, 0, 0)
    settled(journal, 1)
    settled(journal, 2, attempts=3, cost_usd=0.5)
    settled(journal, 3, attempts=1, cost_usd=None)
    journal.ask(asking(4), None, 1)
    assert journal.totals() == Totals(7, pytest.approx(0.53), 2, 0)


def test_totals_say_which_answers_were_not_counted(journal):
    settled(journal, 1)
    settled(journal, 2, prompt_tokens=None)
    settled(journal, 3, completion_tokens=None, status=INVALID)
    settled(journal, 4, prompt_tokens=None, completion_tokens=None, status=FAILED)  # is no answer
    journal.ask(asking(5), None, 1)
    assert journal.totals().uncounted == 2


def test_mean_lengths_are_those_of_each_stage(journal):
    settled(journal, 1, completion_tokens=6)
    settled(journal, 2, completion_tokens=9)
    settled(journal, 3, completion_tokens=None)
    settled(journal, 1, "fusion", completion_tokens=400)
    settled(journal, 1, "local", completion_tokens=None)
    assert journal.mean_completion_tokens() == {"judge": 7.5, "fusion": 400.0}


def test_rows_of_different_requests_are_kept_apart(journal):
    for sample in (1, 2, 3):
        settled(journal, sample, text=str(sample))
    assert [row["text"] for row in journal.rows()] == ["1", "2", "3"]
    assert [journal.answer(asking(sample).key).text for sample in (3, 1)] == ["3", "1"]


def test_dialects_are_remembered_for_each_model_of_a_server(path):
    other = SERVER._replace(model="writer")
    with closing(Journal(path)) as journal:
        journal.put_dialect(SERVER, {"structure": "json_object", "without": ["seed"]})
        journal.put_dialect(other, {"structure": "prompt"})
        journal.put_dialect(other, {"structure": "json_schema"})
    with closing(Journal(path)) as journal:
        assert journal.dialect(SERVER) == {"structure": "json_object", "without": ["seed"]}
        assert journal.dialect(other) == {"structure": "json_schema"}
        assert journal.dialect(SERVER._replace(base_url="http://other/v1")) is None


@pytest.mark.parametrize("content", [b"prompt_id,experts\n" * 100, b"SQLite format 3\x00" + b"\xff" * 200])
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(content, path):
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{path} cannot be used as a journal .*choose another folder"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_journal_in_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be used as a journal"):
        Journal(tmp_path / "none" / "journal.sqlite")


def test_a_journal_of_a_newer_version_is_refused(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(InputError, match=rf"newer jaxmoe \(journal version {VERSION + 1}, known is {VERSION}\)"):
        Journal(path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_an_older_journal_gains_what_it_lacks_and_keeps_what_it_has(path):
    with closing(Journal(path)) as journal:
        key = settled(journal).key
    with closing(sqlite3.connect(path)) as database:
        for name in ("reasoning", "sent"):
            database.execute(f"ALTER TABLE requests DROP COLUMN {name}")
        assert not {"reasoning", "sent"} & {row[1] for row in database.execute("PRAGMA table_info(requests)")}
    for _ in range(2):
        with closing(Journal(path)) as journal:
            assert journal.answered(key) == replace(ANSWER, reasoning="", sent="")
    with closing(Journal(path)) as journal:
        new = settled(journal, 2)
        assert journal.answered(new.key) == ANSWER
        assert len(journal.rows()) == 2


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_journal import Journal, settled
journal = Journal(Path(sys.argv[1]))
for sample in range(1, 1_000_000):
    print(settled(journal, sample, text=f"answer {sample}").key, flush=True)
"""


def test_sigkill_right_after_an_answer_loses_nothing(path):
    command = [sys.executable, "-c", CHILD, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        said = [child.stdout.readline().strip() for _ in range(25)]
        child.send_signal(signal.SIGKILL)
        said += [line.strip() for line in child.stdout if line.endswith("\n")]
    assert child.returncode == -signal.SIGKILL
    with closing(Journal(path)) as journal:
        assert [journal.answered(key).text for key in said] == [f"answer {n}" for n in range(1, len(said) + 1)]
        rows = journal.rows()
    assert len(said) <= len(rows) <= len(said) + 1
    assert {row["status"] for row in rows[: len(said)]} == {DONE}
