"""Evaluation: the same random numbers for every policy, every slot counted, nothing chosen on test prompts."""

import itertools
import math
from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import jaxmoe
from jaxmoe.env import evaluation, references

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


def qos(score, words, snr_db, experts=1):
    """QoS in `oneshot` by hand: 2e-4 per word, 0.16 per second of airtime, 46.5 bits per word, 3750 Hz."""
    airtime_s = words * 46.5 / (3750.0 * math.log2(1.0 + 10.0 ** (snr_db / 10.0)))
    return score / 10.0 - experts * (2e-4 * words + 0.16 * airtime_s)


# Sums


@pytest.mark.parametrize(("action", "experts"), [(0, 0), (1, 1), (3, 2)])
def test_a_constant_policy_earns_what_it_does_by_hand(table, action, experts):
    env, params = jaxmoe.make("oneshot", table)
    params = params.replace(snr_min_db=10.0, snr_max_db=10.0)
    tally = evaluation.tally(always(action), env, params, slots=1600)
    for prompt, name in enumerate(("tall", "short")):
        expected = qos(SCORES[name, "train"][action], WORDS[name], 10.0, experts)
        means = tally.sums[:, prompt].sum(axis=0) / tally.counts[:, prompt].sum()
        assert means[0] == pytest.approx(expected, abs=1e-5)
        assert means[1] == pytest.approx(SCORES[name, "train"][action], rel=1e-5)  # without the judge's noise
        assert means[2] == pytest.approx(experts * 2e-4 * WORDS[name], abs=1e-6)
    names = evaluation.metric_names(table.experts)
    means = dict(zip(names, tally.mean(), strict=True))
    assert means["arrived_share"] == float(action > 0)
    assert (means["share_a"], means["share_b"]) == (action & 1, action >> 1)


def test_a_constant_policy_earns_its_expectation_over_the_channel(table):
    env, params = jaxmoe.make("oneshot", table, "test")
    tally = evaluation.tally(always(1), env, params, slots=2**15)
    expected, _ = integrate.quad(lambda snr_db: qos(2.0, 100, snr_db) / 20.0, 0.0, 20.0)
    assert tally.mean()[0] == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize(("scenario", "length"), [("oneshot", 1), ("queueing", 5)])
def test_every_slot_is_counted_once(table, scenario, length):
    env, params = jaxmoe.make(scenario, table)
    params = params.replace(max_steps_in_episode=5)
    assert evaluation.episode_slots(env, params) == length
    tally = evaluation.tally(always(1), env, params, slots=1600)
    assert tally.counts.shape == (1, 3)
    assert tally.sums.shape == (1, 3, len(evaluation.metric_names(table.experts)))
    assert tally.counts.sum() == 1600
    assert tally.counts[:, 2].sum() == 0  # the test prompt
    assert tally.sums[:, 2].sum() == 0.0


def test_a_tally_of_all_prompts_is_made_of_those_of_its_prompts(table):
    env, params = jaxmoe.make("oneshot", table, "all")
    tally = evaluation.tally(always(1), env, params, slots=1600)
    by_prompt = tally.sums.sum(axis=0) / tally.counts.sum(axis=0)[:, None]
    shares = tally.counts.sum(axis=0) / tally.counts.sum()
    np.testing.assert_allclose(shares, 1 / 3, atol=0.05)
    np.testing.assert_allclose(tally.mean(), shares @ by_prompt)


@pytest.mark.parametrize(
    ("slots", "length", "episodes"), [(16_384, 1, 16_384), (16_384, 64, 256), (1, 64, 1), (1000, 30, 34)]
)
def test_episodes_make_at_least_the_slots_asked_for(slots, length, episodes):
    assert evaluation.episodes_for(slots, length) == episodes


# Common random numbers


def test_every_policy_meets_the_same_requests(table):
    env, params = jaxmoe.make("queueing", table)
    params = params.replace(max_steps_in_episode=5)
    busy, again, idle, other = (
        evaluation.tally(policy, env, params, seed, slots=1600)
        for policy, seed in ((always(1), 1), (always(1), 1), (references.fixed_subset(env, 0).act, 1), (always(1), 2))
    )
    np.testing.assert_array_equal(busy.counts, idle.counts)
    np.testing.assert_array_equal(busy.sums, again.sums)
    assert not np.array_equal(busy.sums, idle.sums)
    assert not np.array_equal(busy.sums, other.sums)


def test_the_empty_subset_is_never_to_ask_anyone(table):
    env, params = jaxmoe.make("oneshot", table)
    nobody, zero = references.fixed_subset(env, 0).act, always(0)
    tallies = [evaluation.tally(policy, env, params, slots=1600) for policy in (nobody, zero)]
    np.testing.assert_array_equal(tallies[0].sums, tallies[1].sums)


# References


@pytest.fixture(scope="module")
def tallies(table):
    env, train = jaxmoe.make("oneshot", table)
    _, test = jaxmoe.make("oneshot", table, "test")
    return evaluation.tally_references(env, {"train": train, "test": test}, slots=1600)


def test_the_winner_of_each_family_is_chosen_on_train_prompts(tallies):
    assert list(tallies["train"]) == list(tallies["test"])
    assert len(tallies["train"]) == 6
    train, test = ({name: tally.mean()[0] for name, tally in tallies[split].items()} for split in ("train", "test"))
    assert train["fixed_subset(1)"] > train["random"] + 0.1
    assert test["fixed_subset(1)"] < test["random"] - 0.1  # fixed_subset(2) would have been far better


def test_a_family_is_tallied_as_its_member_alone(table, tallies):
    for split in ("train", "test"):
        env, params = jaxmoe.make("oneshot", table, split)
        alone = evaluation.tally(always(1), env, params, slots=1600)
        np.testing.assert_allclose(tallies[split]["fixed_subset(1)"].sums, alone.sums, rtol=1e-5)
        np.testing.assert_array_equal(tallies[split]["fixed_subset(1)"].counts, alone.counts)


def test_no_reference_beats_the_optimum_where_it_is_exact(tallies):
    for split, name in itertools.product(("train", "test"), tallies["train"]):
        brought = tallies[split]
        assert brought[name].mean()[0] <= brought["one_slot_optimum"].mean()[0] + 1e-6
        assert brought["random"].mean()[0] < brought["one_slot_optimum"].mean()[0] - 0.1


def test_the_best_reference_is_exact_in_oneshot_and_plans_elsewhere():
    best = {scenario: evaluation.best_reference(jaxmoe.make(scenario)[0]) for scenario in ("oneshot", "queueing")}
    assert best == {"oneshot": "one_slot_optimum", "queueing": "lookahead"}
