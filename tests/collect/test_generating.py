"""One text: what is chosen, asked and said."""

import json

import command_line
import pytest
from chat_server import ChatServer, own_reply, stage_of

import jaxmoe
from jaxmoe.collect.generating import Decision, generate_text
from jaxmoe.collect.inputs import Expert
from jaxmoe.collect.plan import Settings
from jaxmoe.errors import InputError

EXPERTS = (Expert("setting", "You write of places."), Expert("action", "You write of events."))


def generate(server, subset, prompt="a whale"):
    settings = Settings(model="writer", base_url=server.base_url, local_model="small")
    return generate_text(prompt, EXPERTS, lambda relevance: Decision(subset, {}, str(relevance)), settings)


@pytest.mark.parametrize(
    ("subset", "systems", "models"),
    [
        (0, [], ["small"]),
        (2, ["You write of events."], ["writer"]),
        (3, ["You write of places.", "You write of events.", "You join passages"], ["writer"] * 3),
    ],
)
def test_only_the_chosen_experts_are_asked(subset, systems, models):
    with ChatServer() as server:
        found = generate(server, subset)
    asked = [asked.body for asked in server.log if stage_of(asked.body) == "text"]
    assert [body["model"] for body in asked] == models
    said = [body["messages"][0]["content"] for body in asked if len(body["messages"]) == 2]
    assert all(any(text.startswith(system) for text in said) for system in systems)
    assert len(said) == len(systems)
    assert found.text in server.answered[server.log[-1].key]
    assert found.requests == len(server.log)


def test_the_policy_sees_the_gates_relevance():
    with ChatServer() as server:
        found = generate(server, 1)
    assert found.decision.meaning == str([task.relevance for task in found.tasks.values()])


def test_a_gate_that_says_nothing_of_use_is_said():
    def reply(asked):
        return "no idea" if stage_of(asked.body) == "gate" else own_reply(asked)

    with (
        ChatServer(reply=reply) as server,
        pytest.raises(InputError, match=r"as gate gave no usable answer .*not JSON"),
    ):
        generate(server, 1)


def test_an_empty_prompt_is_refused():
    with ChatServer() as server, pytest.raises(InputError, match="the prompt is empty"):
        generate(server, 1, prompt=" ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--snr-db", "12,3"], "snr_db has 2 values, and there are 4 experts"),
        (["--snr-db", "12,x,1,2"], "--snr-db '12,x,1,2' is not a list of numbers"),
        (["--snr-db", "12,3,nan,7"], "snr_db must be finite numbers"),
        (["--snr-db", "1,2,3,4", "--policy", "best"], "unknown expert 'best'"),
        (["--snr-db", "1,2,3,4", "--scenario", "moon"], "unknown scenario 'moon'"),
        (["--snr-db", "1,2,3,4", "--model", ""], "--model says which model writes"),
    ],
)
def test_bad_input_is_one_sentence(arguments, said):
    done = command_line.run("generate", "a whale", *arguments)
    assert done.code == 2
    assert said in done.error


def test_an_exported_policy_chooses(trained_folder, tmp_path):
    """A real agent, trained a little, exported, and asked through the command line."""
    path = tmp_path / "policy.safetensors"
    jaxmoe.export(trained_folder, path)
    with ChatServer() as server:
        said = ask(server, "--policy", path)
        wrong = ask(server, "--policy", path, "--experts", experts_file(tmp_path), code=2)
    [gate] = [json.loads(server.answered[asked.key][0]) for asked in server.log if stage_of(asked.body) == "gate"]
    relevance = [task["relevance"] for task in gate.values()]
    chosen = jaxmoe.load_policy(path).select(relevance=relevance, snr_db=[12, 3, 18, 7])
    assert f"chosen: {'+'.join(chosen.experts) or 'local'}\n" in said
    assert "probability of each action by the policy (ppo)" in said
    assert "name them in this order with --experts" in wrong


def test_a_policy_is_told_the_network_that_it_works_in(tmp_path):
    """What must be said beside channels: idle devices, a full battery, the numbers of the scenario."""
    sizes = {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": (8,)}
    anew = {"seconds_per_word": {"each_episode": {"uniform": [0.01, 0.09]}}, "device_up_probability": 0.9}
    few = {"seeds": 1, "env_steps": 64, "requests": 64, "evaluations": 1, "baselines": "none"}
    path = jaxmoe.train("ppo", "queueing", params=anew, config=sizes, **few).policy(0).save(tmp_path / "p.safetensors")
    seconds = [0.01, 0.02, 0.05, 0.09]
    with ChatServer() as server:
        said = ask(server, "--policy", path, "--scenario", "queueing", "--set", f"params.seconds_per_word={seconds}")
    [gate] = [json.loads(server.answered[asked.key][0]) for asked in server.log if stage_of(asked.body) == "gate"]
    chosen = jaxmoe.load_policy(path).select(
        relevance=[task["relevance"] for task in gate.values()], snr_db=[12, 3, 18, 7], backlog_s=[0] * 4,
        battery_j=100.0, available=[1] * 4, seconds_per_word=seconds,
    )  # fmt: skip
    assert f"chosen: {'+'.join(chosen.experts) or 'local'}\n" in said


def experts_file(folder):
    path = folder / "experts.json"
    path.write_text(json.dumps([{"expert": name, "system_prompt": "You write."} for name in ("setting", "action")]))
    return path


def ask(server, *arguments, code=0):
    where = ["--model", "gpt-4o-mini", "--base-url", server.base_url, "--local-model", "gpt-4o-mini"]
    channels = "12,3" if "--experts" in arguments else "12,3,18,7"
    done = command_line.run("generate", "a whale", "--snr-db", channels, *where, *arguments)
    assert done.code == code, done.error
    return done.out + done.error


def test_the_same_as_json():
    where = ("--snr-db", "12,3,18,7", "--model", "gpt-4o-mini", "--json", "--quiet")
    with ChatServer() as server:
        done = command_line.run("generate", "a whale", *where, "--base-url", server.base_url)
        texts = [server.answered[asked.key][0] for asked in server.log]
    assert (done.code, done.error) == (0, "")
    found = json.loads(done.out, parse_constant=pytest.fail)
    assert found["text"] in texts
    assert found["requests"] == len(server.log)
    assert [each["snr_db"] for each in found["experts"]] == [12, 3, 18, 7]
    assert found["chosen"] == max(found["values"], key=found["values"].get)


def test_the_command_says_what_was_chosen_and_why():
    where = ("--snr-db", "12,3,18,7", "--model", "gpt-4o-mini")
    with ChatServer() as server:
        done = command_line.run(
            "generate",
            "a whale",
            *where,
            "--base-url",
            server.base_url,
            env={"OPENAI_API_KEY": "none of your business"},
        )
    assert done.code == 0, done.error
    [values] = [line for line in done.out.splitlines() if line.startswith("QoS that predict_then_optimise expects")]
    [chosen] = [line for line in done.out.splitlines() if line.startswith("chosen: ")]
    assert values.split(": ")[1].startswith(chosen.removeprefix("chosen: ") + " ")
    assert values.count(",") == 15
    assert "US dollars" in done.out
