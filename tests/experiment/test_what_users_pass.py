"""NumPy's and JAX's numbers, arrays, ranges and paths are taken wherever Python's numbers, lists and texts are."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import jaxmoe
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.errors import InputError
from jaxmoe.experiment import search
from jaxmoe.experiment.dry_run import describe_plan
from jaxmoe.experiment.spec import load_spec
from jaxmoe.training.inputs import checked_config, checked_hypers, plain_seeds, seed_list
from jaxmoe.values import plain, whole

TABLE = jaxmoe.load_table()


def points(overrides=(), **content):
    return search.points(load_spec({"algorithm": "ppo", "env_steps": 10} | content, overrides), TABLE)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int8(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (jnp.float32(0.5), 0.5),
        (jnp.int32(3), 3),
        (np.array(3), 3),
        (np.arange(3), [0, 1, 2]),
        (jnp.arange(3), [0, 1, 2]),
        (np.array([[1], [2]]), [[1], [2]]),
        (np.array(["a", "b"]), ["a", "b"]),
        (range(2), [0, 1]),
        ((1, (np.int64(2),)), [1, [2]]),
        (Path("a/b"), str(Path("a/b"))),
        ({"grid": np.linspace(0, 1, 3)}, {"grid": [0.0, 0.5, 1.0]}),
    ],
)
def test_values_become_plain(given, expected):
    found = plain(given)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("given", [1j, np.complex64(1), lambda: 0, object(), b"bytes", np.array([object()])])
def test_what_no_spec_can_hold_is_refused(given):
    with pytest.raises(InputError, match=r"hypers, clip holds .* neither a number, a text, a list nor a section"):
        plain({"clip": given}, "hypers")
    with pytest.raises(InputError, match=r"has the key 3, and keys are texts"):
        plain({3: 1})


@pytest.mark.parametrize("given", [1.5, True, "4", np.float64(4), None])
def test_what_is_no_whole_number_is_refused(given):
    with pytest.raises(InputError, match=r"requests = .* is not a whole number"):
        whole(given, "requests")


@pytest.mark.parametrize(
    "given", [4, np.int64(4), np.array(4), jnp.int32(4), range(4), np.arange(4), [0, 1, 2, np.int8(3)], iter(range(4))]
)
def test_seeds(given):
    assert seed_list(given) == [0, 1, 2, 3]


@pytest.mark.parametrize("given", [True, 0, -1, [], [1, 1], [True], np.array([0.5]), 1.5, "4", [-1]])
def test_seeds_that_are_none(given):
    with pytest.raises(InputError, match="seeds = "):
        plain_seeds(given)


def test_a_spec_takes_numbers_of_numpy_everywhere():
    spec = load_spec(
        {
            "algorithm": np.array(["ppo"]),
            "env_steps": np.int32(64),
            "seeds": np.arange(2),
            "search": {"method": "random", "samples": np.int64(3)},
            "hypers": {"learning_rate": {"grid": np.linspace(0.25, 1, 4)}, "clip": np.array([0.25, 0.5])},
            "config": {"hidden": np.array([8, 8]), "num_envs": np.int64(4)},
            "params": {"latency_weight": {"uniform": np.array([0.0, 0.5])}},
        },
        {"requests": np.int64(64), "settings.one_slot": np.bool_(False)},
    )
    assert (spec.seeds, spec.env_steps, spec.requests, spec.search.samples) == ([0, 1], 64, 64, 3)
    assert spec.hypers == {"learning_rate": {"grid": [0.25, 0.5, 0.75, 1.0]}, "clip": [0.25, 0.5]}
    assert (spec.config, spec.settings) == ({"hidden": [8, 8], "num_envs": 4}, {"one_slot": False})
    assert len(search.points(spec, TABLE)) == 3


def test_training_with_numbers_of_numpy_is_training_with_pythons(tmp_path):
    table = tmp_path / "table.csv"
    TABLE.save(table)
    found = tiny.train(
        seeds=np.arange(3),
        env_steps=np.int32(512),
        hypers={"clip": np.float32(0.25)},
        params={"latency_weight": jnp.float32(0.0)},
        config={**tiny.CONFIG, "num_envs": np.int64(4), "hidden": np.array([8])},
        requests=np.int64(256),
        evaluations=np.int8(2),
        root_seed=np.uint8(0),
        baselines=np.array(["random", "one_slot_optimum"]),
        time_budget_s=np.float32(1000),
        table=str(table),
    )
    other = tiny.train(hypers={"clip": 0.25})
    tiny.assert_equal_tables(found, other, but=())
    assert found.spec.config["hidden"] == [8]
    assert found.policy(np.int64(1)).contract.agent["number"] == 1
    rows = found.evaluate(agents=np.array([0, 2]), requests=np.int64(64), baselines="none", params={"slot_s": 3})
    assert set(rows["policy"]) == {"ppo (2 agents)"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hypers": {"clip": [0.1, 0.2]}}, r"hypers.clip = \[0.1, 0.2\] is an axis; train has one configuration"),
        ({"hypers": {"clip": np.array([0.1])}}, "hypers.clip = .* is an axis"),
        ({"hypers": {"clip": "high"}}, "clip = 'high' is not a finite number"),
        ({"hypers": [0.1]}, r"hypers = \[0.1\] is not a mapping"),
        ({"seeds": np.float32(4)}, "seeds = 4.0 is not a whole number"),
        ({"env_steps": np.float32(1.5)}, "env_steps = 1.5 is not a whole number"),
        ({"requests": "many"}, "requests = 'many' is not a whole number"),
        ({"time_budget_s": "1h"}, "time_budget_s = '1h' is not a number of seconds"),
        ({"table": 3}, "table = 3 is neither an expert table nor the path of one"),
        ({"table": "nowhere.csv"}, r"nowhere.csv: there is no such file"),
        ({"out": 3}, "3 is no path"),
    ],
)
def test_what_train_does_not_take_is_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        tiny.train(**options)


def test_a_table_is_given_by_its_path_everywhere(found_table, monkeypatch):
    monkeypatch.setenv("HOME", str(found_table.parent))
    for table in (str(found_table), found_table, "~/mine.csv"):
        env, params = jaxmoe.make("oneshot", table, num_replicas=np.int64(2), one_slot=np.bool_(True))
        assert env.num_actions == 81
        assert params.table.meta.digest == TABLE.meta.digest
    rows = jaxmoe.evaluate(table="~/mine.csv", requests=64, baselines=["random"])
    assert set(rows["policy"]) == {"random"}
    with pytest.raises(InputError, match="table = 3 is neither"):
        jaxmoe.make("oneshot", 3)


def test_paths_of_other_calls(swept, found_table, tmp_path):
    found = jaxmoe.load(str(swept))
    rows = found.evaluate(agents=0, table=str(found_table), requests=64, baselines="none")
    assert set(rows["policy"]) == {"ppo (1 agent)"}
    jaxmoe.export(str(swept), str(tmp_path / "policy.safetensors"), agent=np.int64(1))
    assert jaxmoe.load_policy(str(tmp_path / "policy.safetensors")).contract.agent["number"] == 1
    for call in (jaxmoe.load, jaxmoe.load_policy, jaxmoe.report, lambda given: jaxmoe.export(given, "a.onnx")):
        with pytest.raises(InputError, match="3 is no path"):
            call(3)


@pytest.fixture
def found_table(tmp_path):
    path = tmp_path / "mine.csv"
    TABLE.save(path)
    return path


DQN = {"algorithm": "dqn"}


@pytest.mark.parametrize(
    ("content", "overrides"),
    [
        ({"hypers": {"double_q": [True, False]}}, ()),
        ({"hypers": {"double_q": {"grid": [True, False]}}}, ()),
        ({"hypers": {"dqn": {"double_q": np.array([True, False])}}}, ()),
        ({"hypers": {"double_q": [1, 0]}}, ()),
        ({}, ["hypers.double_q=[true, false]"]),
        ({}, ["hypers.double_q=[True, False]"]),
        ({}, {"hypers.double_q": (True, False)}),
    ],
)
def test_booleans_where_one_and_zero_mean_so(content, overrides):
    assert [point.hypers["double_q"] for point in points(overrides, **DQN, **content)] == [1.0, 0.0]


def test_booleans_elsewhere():
    assert points(algorithm="sac", hypers={"learn_temperature": True})[0].hypers == {"learn_temperature": 1.0}
    slots = points(["settings.one_slot=[true, False]"])
    assert [point.settings["one_slot"] for point in slots] == [True, False]
    with pytest.raises(InputError, match="discount = True is not a finite number"):
        points(hypers={"discount": [True, False]})
    with pytest.raises(InputError, match="holds a value twice"):
        points(**DQN, hypers={"double_q": [True, 1.0]})


def test_booleans_from_a_file(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text('algorithm = "dqn"\nenv_steps = 10\n[hypers]\ndouble_q = { grid = [true, false] }\n')
    assert [point.hypers["double_q"] for point in search.points(load_spec(path), TABLE)] == [1.0, 0.0]


def test_a_list_is_one_value_where_a_key_takes_a_list_and_an_axis_elsewhere():
    assert [point.config["hidden"] for point in points(config={"hidden": [16, 64]})] == [(16, 64)]
    assert [point.config["hidden"] for point in points(config={"hidden": {"grid": [[16], [64, 64]]}})] == [
        (16,),
        (64, 64),
    ]
    assert [point.config["num_envs"] for point in points(config={"num_envs": [16, 64]})] == [16, 64]
    with pytest.raises(InputError, match=r"config.hidden = .* each of its values is itself a list, as in"):
        points(config={"hidden": {"grid": [16, 64]}})


def test_one_value_as_earlier_versions_wrote_it_is_the_same():
    assert load_spec({**tiny.SPEC, "config": {"hidden": [[8]]}}) == load_spec({**tiny.SPEC, "config": {"hidden": [8]}})


def test_a_dry_run_names_the_axes():
    lines = describe_plan(
        {
            "algorithm": ["ppo", "dqn"],
            "env_steps": 64,
            "search": {"method": "random", "samples": 4},
            "hypers": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}, "dqn": {"double_q": [True, False]}},
            "config": {"hidden": {"grid": [[16], [64, 64]]}, "num_envs": 16},
            "params": {"latency_weight": [0.0, 0.05]},
        }
    )
    assert [line for line in lines if line.startswith("axis")] == [
        "axis hypers.learning_rate: log_uniform from 0.0001 to 0.01",
        "axis config.hidden: [16], [64, 64]",
        "axis params.latency_weight: 0, 0.05",
        "axis hypers.double_q: true, false (dqn)",
    ]
    assert not [line for line in describe_plan({"algorithm": "ppo", "env_steps": 64}) if line.startswith("axis")]


def test_functions_that_check_take_them_too():
    module = registered_algorithm("dqn")
    assert checked_hypers(module.Hypers, {"double_q": np.bool_(False)}).double_q == 0.0
    with pytest.raises(InputError, match=r"double_q = 0.5 must be true or false"):
        checked_hypers(module.Hypers, {"double_q": 0.5})
    assert checked_config(module.Config, {"hidden": np.array([4, 4])}).hidden == (4, 4)


MANY = np.arange(3)
WRONG = [
    lambda: TABLE.folds(MANY),
    lambda: TABLE.folds("x"),
    lambda: TABLE.gaps("x"),
    lambda: TABLE.gaps(MANY),
    lambda: TABLE.select_experts(None),
    lambda: TABLE.select_experts("action"),
    lambda: TABLE.prompt_indices(MANY),
    lambda: jaxmoe.load_table(relevance=MANY),
    lambda: jaxmoe.load_table(missing=MANY),
    lambda: jaxmoe.evaluate(baselines=3),
    lambda: jaxmoe.evaluate(params=MANY),
    lambda: jaxmoe.evaluate(requests=MANY),
]


@pytest.mark.parametrize("call", WRONG, ids=range(len(WRONG)))
def test_values_of_a_wrong_kind_are_one_sentence(call):
    with pytest.raises(InputError):
        call()
