"""A whole job as one TOML file: its keys are the command's options, and its prompts and experts may stand in it."""

import pytest
from scripted import STAGES, Scripted

JOB = """
prompts = [
  {{ prompt_id = "w", split = "train", prompt = "a whale who is lost" }},
  {{ prompt_id = "b", split = "test", prompt = "two bakers at night" }},
]
out = "collected"
model = "writer"
base_url = "{base_url}"
judge_model = ["judge", "other judge"]
local_model = "small"
samples = 1
concurrency = 4
timeout = 5
templates = "own"

[[experts]]
expert = "setting"
system_prompt = "You write of places."

[[experts]]
expert = "action"
system_prompt = "You write of events."
model = "dancer"

[request_param]
num_ctx = 8192
chat_template_kwargs = {{ enable_thinking = false }}

[request_param.judge]
reasoning_effort = "low"
"""


def written(user, server, text=JOB):
    """A job in a folder of its own, beside which its paths are."""
    user.write("jobs/own/local.txt", "[user]\nWrite a short story: {prompt} Be kind.")
    user.write("jobs/mine.toml", text.format(base_url=server.base_url))


def run(user, server, *options, out="jobs/collected"):
    return user.run(server, "collect", "jobs/mine.toml", *options, out=out)


def test_a_job_is_one_file(user):
    with Scripted() as server:
        written(user, server)
        done = run(user, server)
        before = len(server.log)
        again = run(user, server)
    assert (done.code, again.code) == (0, 0)
    assert (len(done.texts), len(done.scores)) == (8, 16)
    assert before == len(server.log) == 18 + 8 + 3  # gate, texts and 16 judgements; a question to each of three models
    prompts = (user.folder / "jobs" / "collected" / "prompts.csv").read_text().splitlines()
    assert prompts[1:] == ["w,train,a whale who is lost", "b,test,two bakers at night"]
    assert server.count(stage="expert", model="dancer", contains="You write of events.") == 2
    assert server.count(stage="local", contains="Be kind.") == 2  # the template beside the file


def test_a_jobs_request_parameters_are_for_all_stages_or_for_one(user):
    with Scripted() as server:
        written(user, server)
        run(user, server)
    common = {"num_ctx": 8192, "chat_template_kwargs": {"enable_thinking": False}}
    assert server.count(stage=STAGES, sent=common) == server.count(stage=STAGES) == 26
    assert server.count(stage="judge", sent={"reasoning_effort": "low"}) == 16
    assert {asked.stage for asked in server.asked(has="reasoning_effort")} <= {"judge", "probe"}


def test_the_command_line_goes_before_the_job(user):
    """For an option that is a list it replaces all of it."""
    with Scripted() as server:
        written(user, server)
        done = run(user, server, "--judge-model", "third", "--model", "poet", "--out", "here", out="here")
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert {asked.body["model"] for asked in server.log} == {"poet", "dancer", "small", "third"}
    assert not (user.folder / "jobs" / "collected").exists()


def test_a_job_may_name_files_and_prompts_as_texts(user):
    """Paths are seen from the file; a list of texts is enough for prompts."""
    experts, prompts = JOB.index("[[experts]]"), JOB.index("out =")
    given = 'prompts = ["a whale who is lost"]\nexperts = "../experts.json"\n'
    with Scripted() as server:
        written(user, server, given + JOB[prompts:experts] + JOB[JOB.index("[request_param]") :])
        done = run(user, server)
    assert done.code == 0
    assert len(done.texts) == 4
    assert server.count(stage="expert", model="writer", contains="You write of events.") == 1


def test_a_dry_run_of_a_job_sends_nothing(user):
    with Scripted() as server:
        written(user, server, "dry_run = true\n" + JOB)
        done = run(user, server)
    assert done.code == 0
    assert server.log == []
    assert "writer at http" in done.said
    assert not (user.folder / "jobs" / "collected").exists()


def test_a_limit_in_a_job_holds(user):
    with Scripted() as server:
        written(user, server, "max_requests = 9\n" + JOB)
        done = run(user, server)
    assert done.code == 1
    assert len(server.log) == 9
    assert "--max-requests 9 is reached" in done.said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            ("samples =", "sample ="), "the key 'sample' is unknown, allowed are prompts", id="an unknown key"
        ),
        pytest.param(("samples = 1", 'samples = "1"'), "samples is '1', it must be a whole number", id="a text"),
        pytest.param(("samples = 1", "samples = true"), "samples is True, it must be a whole number", id="a boolean"),
        pytest.param(("timeout = 5", "timeout = [5]"), "timeout is [5], it must be a number", id="a list"),
        pytest.param(('model = "writer"', "model = 4"), "model is 4, it must be a text", id="a number"),
        pytest.param(("concurrency = 4", "concurrency = 0"), "concurrency", id="a number that is too small"),
        pytest.param(("samples = 1", "samples = "), "this is not TOML", id="no TOML"),
        pytest.param(("num_ctx = 8192", "model = 'x'"), "the request parameter model cannot be set", id="a parameter"),
        pytest.param(
            ("num_ctx = 8192", "since = 2026-01-01"),
            "request_param holds a value that JSON has not",
            id="a date",
        ),
        pytest.param(('expert = "setting"', 'name = "setting"'), "jobs/mine.toml", id="an expert without a name"),
        pytest.param(("a whale who is lost", " "), "prompt is empty", id="an empty prompt"),
    ],
)
def test_what_is_wrong_in_a_job_is_one_sentence_and_nothing_is_sent(user, change, said):
    with Scripted() as server:
        assert change[0] in JOB
        written(user, server, JOB.replace(*change, 1))
        done = run(user, server)
    assert done.code == 2
    assert server.log == []
    assert said in done.said
    if "concurrency" not in change[0]:  # which the parser of the command line says in a frame of its own
        assert done.lines == 1


def test_a_job_that_is_not_there_is_said(user):
    done = user.run(None, "collect", "jobs/mine.toml")
    assert done.code == 2
    assert "jobs/mine.toml" in done.said
