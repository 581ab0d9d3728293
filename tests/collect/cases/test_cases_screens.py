"""Screens: names and reasons are printed as they are, and a run that ends with gaps says why and what to do."""

import hashlib
import json

import pytest
from scripted import Reply, Scripted, on, refusal


@pytest.mark.parametrize(
    ("message", "said"),
    [
        pytest.param(
            "unexpected [/] before [/INST] in the template",
            "unexpected [/] before [/INST] in the template",
            id="a closing tag",
        ),
        pytest.param(
            "score of [bold]7[/bold] in [red] is odd", "score of [bold]7[/bold] in [red] is odd", id="a tag of style"
        ),
        pytest.param(
            "first line of the magpie\r\n\r\n\tsecond line\r\nthird\r\nfourth\r\nfifth",
            "first line of the magpie second line third fourth fifth",
            id="line ends and a tab",
        ),
    ],
)
def test_a_reason_is_shown_as_one_line_and_as_it_is(user, message, said):
    with Scripted((refusal(message, stage="judge"),)) as server:
        done = user.collect(server)
    assert done.code == 1
    assert len(done.texts) == 8
    assert said in done.said
    assert said in done.card
    assert done.lines <= 22


def test_names_of_experts_may_hold_brackets(user):
    experts = [{"expert": "setting [sea]", "system_prompt": "You write of places."}]
    experts += [{"expert": "action[/]", "system_prompt": "You write of events.", "model": "other"}]
    user.write("experts.json", json.dumps(experts))
    with Scripted((refusal("not today", model="other"),)) as server:
        done = user.collect(server)
    assert done.code == 1
    assert len(done.texts) == 4
    assert "not today" in done.said
    assert "the first is action[/] of p00" in done.said


def test_the_name_of_the_folder_may_hold_brackets(user):
    with Scripted() as server:
        done = user.collect(server, out="runs [final]")
    assert done.code == 0
    assert len(done.texts) == 8
    assert "The table is complete: runs [final]" in done.said


def test_names_of_models_may_hold_brackets(user):
    names = {"model": "lab/writer[q4]", "judge-model": "judge[bold]", "local-model": "small[i]"}
    options = [part for name, value in names.items() for part in (f"--{name}", value)]
    usual = ("--prompts", "prompts.csv", "--experts", "experts.json", "--out", "out", "--samples", "1")
    with Scripted() as server:
        done = user.run(server, "collect", *usual, "--base-url", server.base_url, *options, "--dry-run")
    assert done.code == 0
    assert server.log == []
    assert all(f"{name} at http" in done.said for name in names.values())


def test_failures_of_one_reason_are_one_line(user):
    """Eight of them, each with a request id of its own."""

    def cold(asked):
        digest = hashlib.sha256(asked.said.encode()).hexdigest()
        return Reply(500, {"error": {"message": f"The furnace is cold (request id {digest[:24]})"}})

    with Scripted((on(cold, stage="judge"),)) as server:
        done = user.collect(server, "--attempts", "1")
    assert done.code == 1
    assert done.scores == []
    assert done.said.count("furnace is cold") == 1
    assert "8 x judge failed" in done.said
    assert "The same command asks again what failed" in done.said


def test_gaps_say_why_and_what_to_do(user):
    reason = "the scales of the dragon are out of order"
    with Scripted((refusal(reason, stage="judge", contains="bakers"),)) as server:
        done = user.collect(server)
    assert done.code == 1
    assert len(done.scores) == 4
    assert f"4 x judge failed: 400: {reason}" in done.said
    assert "4 entries are missing" in done.said
    assert "The same command asks again what failed" in done.said


def test_subtasks_may_hold_markup(user):
    """`jaxmoe generate` shows them."""
    subtasks = {"setting": '[/b] "deep" [red]sea', "action": "a \N{WHALE} [bold]dives"}
    tasks = {name: {"subtask": subtask, "relevance": 0.5} for name, subtask in subtasks.items()}
    with Scripted((on(Reply(content=json.dumps(tasks)), stage="gate"),)) as server:
        options = ("--policy", "setting+action", "--experts", "experts.json", "--snr-db", "12,3")
        models = ("--model", "writer", "--base-url", server.base_url, "--local-model", "small")
        done = user.run(server, "generate", "a whale", *options, *models)
    assert done.code == 0
    assert all(part in done.said for part in ("[/b]", "[red]", "[bold]", "\N{WHALE}"))
    assert server.count(stage="fusion") == 1
