"""Numbers, lists, keys, texts and files that are too large: counted first, and refused before anything is made."""

import itertools
import os

import fuzzing
import numpy as np
import pytest
import tiny

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.experiment import engines, search
from jaxmoe.experiment.spec import load_spec
from jaxmoe.training.inputs import plain_seeds
from jaxmoe.values import MOST, MOST_AGENTS, plain

BASE = {"algorithm": "ppo", "env_steps": 64, "seeds": 2, "evaluations": 1, "requests": 64}
HEAD = 'algorithm = "ppo"\nenv_steps = 64\nseeds = 2\nevaluations = 1\nrequests = 64\n'
RANGE = {"learning_rate": {"log_uniform": [1e-4, 1e-2]}}
FRACTIONS = [number / 1000 + 0.01 for number in range(100)]
DIGITS = "9" * 5000
PARTS = ".".join(["a"] * 200_000)


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    def run(*_):
        raise AssertionError("a job was run")

    monkeypatch.setattr(engines, "run_job", run)


def refused(tmp_path, *arguments):
    """What a command says that writes nothing."""
    done = fuzzing.keeps_the_rule(*arguments, root=tmp_path)
    assert done.code == 2
    assert not (tmp_path / "out").exists()
    return done.error


TOO_MANY = [
    ({"env_steps": 2**31}, r"env_steps = 2147483648 is not allowed; it must be less than or equal to 2147483647"),
    ({"env_steps": 2**63}, r"env_steps = 9223372036854775808 is too large; whole numbers have at most 64 bits"),
    ({"seeds": 10**400}, r"seeds = 1000.*000 is too large"),
    ({"seeds": 2**31 - 1}, r"seeds = 2147483647 is not allowed; it must be less than or equal to 131072"),
    ({"evaluations": 2**31}, r"evaluations = 2147483648 is not allowed; it must be less than or equal to 10000"),
    ({"seeds": 10**5, "evaluations": 10**4}, r"asks for 1,000,000,000 evaluations of all agents, and .* 16,777,216"),
    ({"requests": 2**31}, r"requests = 2147483648 is not allowed; it must be less than or equal to 16777216"),
    ({"root_seed": 2**31}, r"root_seed = 2147483648 is not allowed; it must be less than or equal to 2147483647"),
    ({"config": {"num_envs": 2**31}}, r"num_envs = 2147483648 must be from 1 to 1,048,576"),
    ({"config": {"num_envs": 2**20}}, r"num_envs \* rollout_length = 33,554,432 are in memory at once"),
    ({"config": {"epochs": 10**9}}, r"epochs = 1000000000 must be from 1 to 1,000"),
    ({"config": {"hidden": [10**9]}}, r"hidden = 1000000000 must be from 1 to 65,536"),
    ({"config": {"hidden": [65_536, 65_536]}}, r"one agent takes [0-9.]+ GiB of memory in training, and a device has"),
    ({"config": {"hidden": [8] * 10**6}}, r"hidden has more than 131,072 entries"),
    ({"config": {"hidden": [8] * 100}}, r"hidden has 100 numbers; at most 64 are allowed"),
    ({"algorithm": "dqn", "config": {"updates": 10**9}}, r"updates = 1000000000 must be from 1 to 1,048,576"),
    ({"algorithm": "dqn", "config": {"replay_capacity": 2**31}}, r"replay_capacity = 2147483648 must be at most 2,147"),
    ({"algorithm": "dqn", "config": {"replay_capacity": 2**31 - 2**9}}, r"one agent takes .* GiB of memory"),
    ({"devices": {"agents_per_device": 10**9}}, r"agents_per_device = 1,000,000,000 takes .* of memory in training"),
    ({"hypers": dict.fromkeys(["learning_rate", "clip", "value_coef"], FRACTIONS)}, r"asks for 2,000,000 agents"),
    ({"search": {"method": "sobol", "samples": MOST}, "hypers": RANGE}, r"asks for 4,294,967,294 agents"),
    ({"search": {"method": "random", "samples": 10**6}, "hypers": RANGE}, r"asks for 2,000,000 agents"),
    ({"scenario": "queueing", "params": {"max_steps_in_episode": 10**9}}, r"1,000,000,000 is more than the 16,777,216"),
    ({"settings": {"split": "test"}}, r"unknown setting 'split'"),
    ({"settings": {"table": "x.csv"}}, r"unknown setting 'table'"),
    ({"objective": {"limits": {"qos": float("nan")}}}, r"qos = nan is not allowed; it must be a finite number"),
]


@pytest.mark.parametrize(("change", "said"), TOO_MANY, ids=[said for _, said in TOO_MANY])
def test_what_is_too_much_is_refused_before_it_is_planned(tmp_path, change, said):
    with fuzzing.within_limits(), pytest.raises(InputError, match=said) as error:
        jaxmoe.sweep(BASE | change, tmp_path / "out")
    assert len(str(error.value)) <= fuzzing.LONGEST
    assert not (tmp_path / "out").exists()


FILES = {
    "a number of many digits": (f"[hypers]\nclip = {DIGITS}\n", "a number in it is too long"),
    "a float of many digits": (f"[hypers]\nclip = {DIGITS}.0\n", "clip = inf is not a finite number"),
    "a key of many parts": (f"{PARTS} = 1\n", "a key in it has too many parts; it may have 64"),
    "a section of many parts": (f"[{PARTS}]\n", "a key in it has too many parts"),
    "quoted parts": (" . ".join(["'a'"] * 1000) + " = 1\n", "a key in it has too many parts"),
    "an inline key of many parts": (f"a = {{ b = 1, {PARTS} = 1 }}\n", "a key in it has too many parts"),
    "deep lists": (f"a = {'[' * 10_000}{']' * 10_000}\n", "its lists are too deep"),
    "lists that Python reads": (f"[hypers]\nclip = {'[' * 100}1{']' * 100}\n", "clip is nested too deep"),
    "a long text": (f"table = '{'x' * 10**6}'\n", "(1,000,000 characters) is too long"),
    "a long key": (f"{'x' * 10**6} = 1\n", "a key has at most 200 characters"),
    "NUL in a path": ('table = "a\\u0000b"\n', "is no path: it holds a null character"),
    "a long name": (f"table = '{'x' * 300}'\n", "is no path: it, or a name in it, is too long"),
    "half of a character": (b'table = "\xed\xa0\x80"\n', "it is not UTF-8"),
    "UTF-16": ("a = 1\n".encode("utf-16"), "the key 'algorithm' is missing"),
    "binary": (bytes(range(256)) * 100, "the file cannot be read"),
    "a large file": (b"#" * (5 * 2**20), "the file is larger than 4 MiB"),
}


@pytest.mark.parametrize("content", FILES)
def test_files_that_hold_too_much(tmp_path, content):
    text, said = FILES[content]
    (tmp_path / "spec.toml").write_bytes(text if isinstance(text, bytes) else (HEAD + text).encode())
    assert said in refused(tmp_path, "sweep", "spec.toml", "--out", "out", "--dry-run")


@pytest.mark.parametrize(
    "path",
    [".", "fifo", "/dev/zero", "nowhere.toml", "x" * 5000, "x/" * 3000, "a\ud800b"],
    ids=["folder", "fifo", "device", "missing", "long name", "long path", "half"],
)
def test_what_is_no_file(tmp_path, path):
    os.mkfifo(tmp_path / "fifo")
    with fuzzing.within_limits(), pytest.raises(InputError) as error:
        load_spec(tmp_path / path if path == "fifo" else path)
    assert len(str(error.value)) <= fuzzing.LONGEST


OVERRIDES = [
    (f"{PARTS}=1", "the key has 200,000 parts; it may have 16"),
    (f"hypers={{{PARTS}=1}}", "a key in it has too many parts"),
    (f"hypers.clip={DIGITS}", "too long a number"),
    (f"hypers.clip={'9' * 400}", "is too large"),
    (f"hypers.clip={'[' * 10_000}", "too deep"),
    (f"hypers.clip={'[' * 100}{']' * 100}", "is nested too deep"),
    (f"seeds={'x' * 10**5}", "(100,000 characters) is too long"),
    ("table=a\ud800", "holds half of a character"),
]


@pytest.mark.parametrize(("text", "said"), OVERRIDES, ids=range(len(OVERRIDES)))
def test_overrides_that_hold_too_much(text, said):
    with fuzzing.within_limits(), pytest.raises(InputError) as error:
        load_spec(BASE, [text])
    assert said in str(error.value)


@pytest.mark.parametrize(
    "value",
    [str(2**31), str(2**63), "-1", "9" * 400, DIGITS, "many", "x" * 100_000],
    ids=["2^31", "2^63", "-1", "400 digits", "5,000 digits", "a word", "a long word"],
)
@pytest.mark.parametrize(
    "option", ["--env-steps", "--evaluations", "--requests", "--root-seed", "--num-envs", "--epochs"]
)
def test_options_of_train_that_are_no_counts(tmp_path, option, value):
    refused(tmp_path, "train", "ppo", "--out", "out", option, value)


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--requests"],
        ["evaluate", "--seed"],
        ["sweep", "spec.toml", "--out", "out", "--shard"],
        ["export", "nowhere", "--out", "x.onnx", "--agent"],
        ["launch", "slurm", "spec.toml", "--out", "out", "--nodes", "2", "--time"],
        ["launch", "slurm", "spec.toml", "--out", "out", "--time", "60", "--nodes"],
        ["collect", "--samples"],
    ],
)
def test_options_of_others_that_are_no_counts(tmp_path, words):
    (tmp_path / "spec.toml").write_text(HEAD)
    for value in (str(2**63), "-1", DIGITS, f"0/{DIGITS}", "x" * 100_000):
        refused(tmp_path, *words, value)


@pytest.mark.parametrize("seed", [-1, 2**31, 2**64, 0.5, True, "1"])
def test_seeds_have_the_same_limits_everywhere(seed):
    calls = [
        lambda: jaxmoe.train(root_seed=seed),
        lambda: jaxmoe.sweep(BASE | {"root_seed": seed}),
        lambda: jaxmoe.sweep(BASE | {"search": {"method": "random", "seed": seed}}),
        lambda: jaxmoe.sweep(BASE | {"seeds": [seed]}),
        lambda: jaxmoe.evaluate(seed=seed),
        lambda: plain_seeds([seed]),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"seed.* = "):
            call()
    assert plain_seeds([MOST]) == load_spec(BASE | {"seeds": [MOST], "root_seed": MOST}).seeds == [MOST]


PASSED = [
    (range(2**40), "has more than 131,072 entries"),
    (itertools.count(), "has more than 131,072 entries"),
    (np.zeros(10**6), "has more than 131,072 entries"),
    (fuzzing.deep(900), "is nested too deep"),
    ("x" * 10**6, "is too long"),
    ({"x" * 1000: 1}, "a key has at most 200 characters"),
    (10**5000, "is too large"),
]


@pytest.mark.parametrize(("given", "said"), PASSED, ids=range(len(PASSED)))
def test_what_users_pass_is_bounded(given, said):
    with fuzzing.within_limits(), pytest.raises(InputError) as error:
        plain(given, "it")
    assert said in str(error.value)
    assert len(str(error.value)) <= fuzzing.LONGEST


def test_as_many_agents_as_can_be_planned():
    search.require_few(MOST_AGENTS)
    with pytest.raises(InputError, match=r"more than 10\^400 agents"):
        search.require_few(10**400)


def test_a_value_that_no_sample_has_is_refused_too():
    hypers = {"learning_rate": {"uniform": [0.1, 0.2]}, "discount": {"uniform": [0.5, 5.0]}}
    with pytest.raises(InputError, match=r"discount = 5\.0 must be from 0 to 1"):
        jaxmoe.sweep(BASE | {"search": {"method": "random", "samples": 1, "seed": 1}, "hypers": hypers})
    with pytest.raises(InputError, match=r"hypers\.clip\.1 = None is no value; leave it out"):
        jaxmoe.sweep(BASE | {"hypers": {"clip": [0.1, None]}})


@pytest.mark.parametrize("most", [2**31, 2**31 - 1, 2**64, -1, 0])
def test_nothing_is_added_that_cannot_be_planned(swept, most):
    before = tiny.contents(swept)
    found = jaxmoe.load(swept)
    calls = [lambda: found.extend(seeds=most), lambda: found.confirm(seeds=most), lambda: found.extend(samples=most)]
    for call in calls:
        with fuzzing.within_limits(), pytest.raises(InputError) as error:
            call()
        assert len(str(error.value)) <= fuzzing.LONGEST
    assert tiny.contents(swept) == before
