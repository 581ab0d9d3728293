"""Evaluation: the same random numbers for every policy, every request counted, nothing chosen on test prompts."""

import itertools
import math
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import jaxmoe
from jaxmoe.algorithms import ppo
from jaxmoe.env import baselines
from jaxmoe.env.baselines import BASELINES, suited_baselines
from jaxmoe.env.params import Settings
from jaxmoe.training import evaluation
from jaxmoe.training.baselines import BaselineEvaluation
from jaxmoe.training.evaluation import AgentEvaluation, Schedule, evaluation_rows, metric_names
from jaxmoe.training.policies import evaluate_policy

pytestmark = pytest.mark.usefixtures("quick_compilation")

SCORES = {  # of local, a, b and a+b: expert a is the better one on train prompts, expert b on test prompts
    ("tall", "train"): (1.0, 9.0, 3.0, 9.2),
    ("short", "train"): (2.0, 8.0, 4.0, 8.1),
    ("other", "test"): (1.5, 2.0, 9.0, 9.1),
}
WORDS = {"tall": 200, "short": 50, "other": 100}  # of every passage of a prompt


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "tiny.csv"
    rows = ["prompt_id,split,experts,score,score_std,words,relevance"]
    for (prompt, split), scores in SCORES.items():
        for experts, score in zip(("local", "a", "b", "a+b"), scores, strict=True):
            rows.append(f"{prompt},{split},{experts},{score},0.8,{WORDS[prompt]},{0.5 if len(experts) == 1 else ''}")
    path.write_text("\n".join(rows))
    return jaxmoe.load_table(path)


@cache  # the same policy is the same program
def always(action):
    return lambda key, observation, state, params: jnp.int32(action)  # noqa: ARG005


def brought(policy, env, params, seed=0, requests=1600):
    """What a policy brings in one environment."""
    return evaluate_policy(policy, env, {"train": params}, requests, seed)["train"]


def qos(score, words, snr_db, experts=1):
    """QoS in `oneshot` by hand: 2e-4 per word, 0.16 per second of airtime, 46.5 bits per word, 3750 Hz."""
    airtime_s = words * 46.5 / (3750.0 * math.log2(1.0 + 10.0 ** (snr_db / 10.0)))
    return score / 10.0 - experts * (2e-4 * words + 0.16 * airtime_s)


# Sums


@pytest.mark.parametrize(("action", "experts"), [(0, 0), (1, 1), (3, 2)])
def test_a_constant_policy_earns_what_it_does_by_hand(table, action, experts):
    env, params = jaxmoe.make("oneshot", table)
    params = params.replace(snr_min_db=10.0, snr_max_db=10.0)
    found = brought(always(action), env, params)
    for prompt, name in enumerate(("tall", "short")):
        expected = qos(SCORES[name, "train"][action], WORDS[name], 10.0, experts)
        means = found.prompts.sums[0, prompt] / found.prompts.counts[0, prompt]
        assert means[0] == pytest.approx(expected, abs=1e-5)
        assert means[1] == pytest.approx(SCORES[name, "train"][action], rel=1e-5)  # without the judge's noise
        assert means[2] == pytest.approx(experts * 2e-4 * WORDS[name], abs=1e-6)
    means = dict(zip(metric_names(table.experts), found.mean()[0], strict=True))
    assert means["arrived_share"] == float(action > 0)
    assert (means["share_a"], means["share_b"]) == (action & 1, action >> 1)


def test_a_constant_policy_earns_its_expectation_over_the_channel(table):
    env, params = jaxmoe.make("oneshot", table, "test")
    expected, _ = integrate.quad(lambda snr_db: qos(2.0, 100, snr_db) / 20.0, 0.0, 20.0)
    assert brought(always(1), env, params, requests=2**15).mean()[0, 0] == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize("scenario", ["oneshot", "queueing"])
def test_every_request_is_counted_once_by_prompt_and_by_episode(table, scenario):
    env, params = jaxmoe.make(scenario, table)
    found = brought(always(1), env, params.replace(max_steps_in_episode=5))
    metrics = len(metric_names(table.experts))
    assert found.prompts.sums.shape == (1, 3, metrics)
    assert found.prompts.counts.shape == (1, 3)
    assert found.prompts.counts.sum() == 1600
    if scenario == "oneshot":
        assert found.episodes is None  # each request is one
    else:
        assert found.episodes.sums.shape == (1, evaluation.EPISODE_UNITS, metrics)
        assert found.episodes.counts.tolist() == [[1600 / evaluation.EPISODE_UNITS] * evaluation.EPISODE_UNITS]
        np.testing.assert_allclose(found.prompts.sums.sum(axis=1), found.episodes.sums.sum(axis=1), rtol=1e-4)
    assert found.prompts.counts[0, 2] == 0  # the test prompt
    assert not found.prompts.sums[0, 2].any()


def test_no_product_loses_digits_on_a_gpu_or_a_tpu():
    """They round the factors of a product to 10 or 8 bits unless they are told otherwise."""
    env, params = jaxmoe.make("queueing")
    for policy in (always(1), baselines.BASELINES["predict_then_optimise"].policy(env, params, 0)):
        program = jax.jit(lambda key, policy=policy: evaluation.sums(policy, env, params, key, Schedule(4, 2), 4))
        lowered = program.lower(jax.random.key(0)).as_text()
        products = [line for line in lowered.splitlines() if "dot_general" in line]
        assert products
        assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_an_agent_acts_with_all_digits_where_it_is_evaluated():
    env, params = jaxmoe.make("oneshot")
    algorithm = ppo.make(env, ppo.Config(hidden=(8,)), params)
    evaluate = AgentEvaluation(algorithm, env, {"train": params}, 64)
    agents = 2 * jax.local_device_count()
    policies = jax.vmap(lambda seed: algorithm.actor.initial(jax.random.key(seed)))(jnp.arange(agents))
    program = evaluate._run._jitted.lower(None, (policies, {}), (params, jax.random.key(0), jnp.int32(0))).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert len(products) > 2
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)


def test_the_mean_over_all_prompts_is_made_of_those_of_each(table):
    env, params = jaxmoe.make("oneshot", table, "all")
    found = brought(always(1), env, params)
    [sums], [counts] = found.prompts
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.05)
    np.testing.assert_allclose(found.mean()[0], counts / counts.sum() @ (sums / counts[:, None]))


@pytest.mark.parametrize("episodes", [1, 50, 501])
def test_requests_that_do_not_fill_groups_or_devices_are_counted_once_too(table, episodes, monkeypatch):
    monkeypatch.setattr(evaluation, "POLICY_GROUP", 64)
    env, params = jaxmoe.make("queueing", table)
    found = brought(always(1), env, params.replace(max_steps_in_episode=2), requests=2 * episodes)
    for each in found:
        assert each.counts.sum() == 2 * episodes
    assert found.episodes.counts.shape == (1, min(episodes, evaluation.EPISODE_UNITS))
    assert found.mean()[0, 0] > 0


def test_on_however_many_devices_the_same_requests_are_served(table, monkeypatch):
    monkeypatch.setattr(evaluation, "POLICY_GROUP", 64)
    env, params = jaxmoe.make("queueing", table)
    params = params.replace(max_steps_in_episode=3)
    one, all_of = (
        evaluate_policy(always(1), env, {"train": params}, 1000, one_device=one_device)["train"]
        for one_device in (True, False)
    )
    assert jax.local_device_count() > 1
    for each, same in zip(one, all_of, strict=True):
        np.testing.assert_array_equal(each.counts, same.counts)
        np.testing.assert_array_equal(each.sums, same.sums)


@pytest.mark.parametrize(
    ("requests", "length", "episodes", "groups"),
    [(16_384, 1, 16_384, (16, 1024)), (16_384, 64, 256, (16, 16)), (1, 64, 1, (1, 1)), (1000, 30, 34, (2, 32))],
)
def test_episodes_make_at_least_the_requests_asked_for(table, requests, length, episodes, groups):
    env, params = jaxmoe.make("oneshot" if length == 1 else "queueing", table)
    schedule = Schedule.of(env, params.replace(max_steps_in_episode=length), requests)
    assert schedule == (episodes, length)
    assert schedule.groups(1024) == groups


def test_units_of_an_evaluation_as_a_table_keep_all_sums(table):
    env, params = jaxmoe.make("queueing", table)
    found = {"train": brought(always(1), env, params.replace(max_steps_in_episode=5))}
    rows = evaluation_rows({"policy": ["a"]}, found, table.experts)
    assert list(rows.columns) == ["policy", "split", "by", "unit", "requests", *metric_names(table.experts)]
    units = {"prompts": 2, "episodes": evaluation.EPISODE_UNITS, "look": 1}
    assert rows["by"].value_counts().to_dict() == units
    served = {"prompts": 1600, "episodes": 1600, "look": 1020}
    for by, part in rows.groupby("by", observed=True):
        assert part["requests"].sum() == served[by]
        mean = found["train"].first_look() if by == "look" else found["train"].mean()
        assert part["qos"].sum() / served[by] == pytest.approx(mean[0, 0], rel=1e-5)


# Common random numbers


def test_every_policy_meets_the_same_requests(table):
    env, params = jaxmoe.make("queueing", table)
    params = params.replace(max_steps_in_episode=5)
    busy, again, idle, other = (
        brought(policy, env, params, seed).prompts
        for policy, seed in ((always(1), 1), (always(1), 1), (baselines.fixed_subset(env, 0).act, 1), (always(1), 2))
    )
    np.testing.assert_array_equal(busy.counts, idle.counts)
    np.testing.assert_array_equal(busy.sums, again.sums)
    assert not np.array_equal(busy.sums, idle.sums)
    assert not np.array_equal(busy.sums, other.sums)


def test_the_empty_subset_is_never_to_ask_anyone(table):
    env, params = jaxmoe.make("oneshot", table)
    nobody, zero = baselines.fixed_subset(env, 0).act, always(0)
    one, other = (brought(policy, env, params).prompts.sums for policy in (nobody, zero))
    np.testing.assert_array_equal(one, other)


# Baselines


@pytest.fixture(scope="module")
def found(table):
    env, train = jaxmoe.make("oneshot", table)
    _, test = jaxmoe.make("oneshot", table, "test")
    names = suited_baselines(env.settings)
    return BaselineEvaluation(env, train, 1600, names)({"train": train, "test": test})


def test_the_winner_of_each_family_is_chosen_on_train_prompts(found):
    assert list(found["train"]) == list(found["test"])
    assert len(found["train"]) == 6
    train, test = ({name: of.mean()[0, 0] for name, of in found[split].items()} for split in ("train", "test"))
    assert train["fixed_subset(1)"] > train["random"] + 0.1
    assert test["fixed_subset(1)"] < test["random"] - 0.1  # fixed_subset(2) would have been far better


def test_a_family_brings_what_its_member_brings_alone(table, found):
    for split in ("train", "test"):
        env, params = jaxmoe.make("oneshot", table, split)
        alone, member = brought(always(1), env, params), found[split]["fixed_subset(1)"]
        np.testing.assert_allclose(member.prompts.sums, alone.prompts.sums, rtol=1e-5)
        np.testing.assert_array_equal(member.prompts.counts, alone.prompts.counts)


def test_no_baseline_beats_the_optimum_where_it_is_exact(found):
    for split, name in itertools.product(("train", "test"), found["train"]):
        best = found[split]["one_slot_optimum"].mean()[0, 0]
        assert found[split][name].mean()[0, 0] <= best + 1e-6
        assert found[split]["random"].mean()[0, 0] < best - 0.1


def test_a_baseline_that_thinks_long_serves_the_first_requests_alone(table, monkeypatch, found):
    monkeypatch.setitem(BASELINES, "slow", BASELINES["random"]._replace(seconds=lambda _: 1e3))
    env, train = jaxmoe.make("oneshot", table)
    own = BaselineEvaluation(env, train, 1600, ("slow", "random"))({"train": train})["train"]
    assert list(own) == ["slow", "random"]
    first = evaluate_policy(BASELINES["random"].policy(env, train, 0), env, {"train": train}, 1024)["train"]
    assert [own[name].prompts.counts.sum() for name in own] == [1024, 1600]
    np.testing.assert_array_equal(own["slow"].prompts.sums, first.prompts.sums)
    np.testing.assert_array_equal(own["random"].prompts.sums, found["train"]["random"].prompts.sums)


@pytest.mark.parametrize(
    ("requests", "length", "most", "groups"),
    [(8192, 64, 1e9, 32), (8192, 64, 2100, 8), (8192, 64, 10, 4), (512, 64, 10, 2), (1000, 1, 0.5, 4)],
)
def test_so_many_first_groups_hold_at_most_so_many_requests_and_the_first_look(requests, length, most, groups):
    assert Schedule(-(-requests // length), length).first_groups(most) == groups


def test_planners_are_for_scenarios_of_more_than_one_slot():
    several, one = (set(suited_baselines(replace(Settings(), one_slot=one))) for one in (False, True))
    assert several - one == {
        "drift_plus_penalty",
        "lookahead",
    }


def test_the_devices_have_a_call_to_do_while_one_is_fetched():
    log = []
    calls = [lambda number=number: log.append(f"call {number}") or np.int32(number) for number in range(4)]
    for found in evaluation.fetched_in_turn(calls):
        log += [f"have {found}"]
    assert log == ["call 0", "call 1", "have 0", "call 2", "have 1", "call 3", "have 2", "have 3"]
