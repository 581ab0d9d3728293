"""What baselines brought, kept for whoever asks for the same."""

import jax
import jax.numpy as jnp
import pandas as pd
import pytest

import jaxmoe
from jaxmoe import devices
from jaxmoe.env.baselines import BASELINES
from jaxmoe.training import baseline_cache
from jaxmoe.training.baseline_cache import Asked, baseline_rows
from jaxmoe.training.inputs import environments

pytestmark = pytest.mark.usefixtures("quick_compilation")

TABLE = jaxmoe.load_table()
OURS = ("random", "greedy_snr")


def asked(table=TABLE, settings=None, params=None, requests=256, families=OURS, **other):
    env, splits = environments("oneshot", table, settings or {}, params or {})
    return Asked(env, splits, table, requests, families, **other)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_CACHES", [tmp_path])
    return tmp_path / "baselines"


def nobody(*_):
    raise AssertionError("it is known already")


def test_what_is_known_is_not_evaluated_again(cache, monkeypatch):
    first = baseline_rows(asked())
    assert [path.stem for path in cache.iterdir()] == [asked().key]
    monkeypatch.setattr(baseline_cache, "_evaluate", nobody)
    pd.testing.assert_frame_equal(baseline_rows(asked()), first)
    pd.testing.assert_frame_equal(baseline_rows(asked(params={"latency_weight": 0})), first)  # its default
    with pytest.raises(AssertionError, match="known already"):
        baseline_rows(asked(seed=1))


def test_numbers_of_an_environment_share_a_program(monkeypatch):
    monkeypatch.setattr(baseline_cache, "_PROGRAMS", {})
    for weight in (0.0, 0.1):
        baseline_rows(asked(params={"latency_weight": weight}))
    assert len(baseline_cache._PROGRAMS) == 1
    baseline_rows(asked(settings={"num_replicas": 2}))
    assert len(baseline_cache._PROGRAMS) == 2


def test_a_key_holds_all_that_numbers_depend_on():
    other = jaxmoe.load_table().select_experts(TABLE.experts[:3])
    keys = [
        each.key
        for each in (
            asked(),
            asked(requests=512),
            asked(families=("random",)),
            asked(seed=1),
            asked(table=other),
            asked(params={"latency_weight": 0.1}),
            asked(params={"latency_weight": {"each_episode": {"uniform": [0.0, 0.2]}}}),
            asked(settings={"num_replicas": 2}),
        )
    ]
    with jax.default_matmul_precision("highest"):
        keys.append(asked().key)
    assert len(set(keys)) == len(keys)


def test_a_baseline_of_somebody_else_is_evaluated_anew_with_the_numbers_of_its_environment(cache, monkeypatch):
    def make(env, train):
        del env
        return lambda *_: jnp.int32(train.latency_weight > 0)

    monkeypatch.setitem(BASELINES, "theirs", BASELINES["random"]._replace(make=make))
    families = (*OURS, "theirs")
    found = [baseline_rows(asked(params={"latency_weight": weight}, families=families)) for weight in (0.0, 0.1)]
    first, second = (rows[rows["policy"] == "theirs"]["share_" + TABLE.experts[0]].sum() for rows in found)
    assert first == 0 < second
    assert len(list(cache.iterdir())) == 2  # of ours in both environments


def test_episodes_of_another_length_are_another_program():
    own = {"scenario": "queueing", "baselines": ["random"], "requests": 64}
    served = [set(jaxmoe.evaluate(params={"max_steps_in_episode": steps}, **own)["requests"]) for steps in (24, 16)]
    assert served == [{72}, {64}]
