"""Statistics against hand-computed values, against the definitions of the published package, and for their coverage."""

import numpy as np
import pytest
from scipy import stats

from jaxmoe.analysis import statistics
from jaxmoe.analysis.statistics import divergence_rate, improvement, interval, iqm, performance_profile, with_interval

GENERATOR = np.random.default_rng(7)
SCORES = GENERATOR.gamma(2.0, 0.4, (5, 11))  # tasks x runs


def test_aggregates_are_those_of_the_published_package():
    """rliable.metrics, where scores are runs x tasks: `aggregate_iqm` is `trim_mean(scores, 0.25, axis=None)`, etc."""
    runs_by_tasks = SCORES.T
    assert iqm(SCORES) == pytest.approx(stats.trim_mean(runs_by_tasks, proportiontocut=0.25, axis=None))
    assert statistics.mean(SCORES) == pytest.approx(np.mean(np.mean(runs_by_tasks, axis=0)))
    assert statistics.median(SCORES) == pytest.approx(np.median(np.mean(runs_by_tasks, axis=0)))
    assert statistics.optimality_gap(SCORES, 1.0) == pytest.approx(1.0 - np.mean(np.minimum(runs_by_tasks, 1.0)))


def test_probability_of_improvement_is_that_of_the_published_package():
    """`probability_of_improvement`: Mann-Whitney U of each task over the pairs, averaged over tasks."""
    other = np.round(GENERATOR.gamma(2.0, 0.3, (5, 7)), 1)
    first = np.round(SCORES, 1)
    each = [
        stats.mannwhitneyu(x, y, alternative="greater").statistic / (len(x) * len(y))
        for x, y in zip(first, other, strict=True)
    ]
    assert statistics.probability_of_improvement(first, other) == pytest.approx(np.mean(each))
    found = improvement(first, other)
    assert found.mean == pytest.approx(np.mean(each))
    assert found.low < found.mean < found.high


def test_an_iqm_by_hand():
    scores = np.array([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 1000.0]])
    assert iqm(scores) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert iqm(np.array([[3.0]])) == 3.0


def test_the_optimality_gap_does_not_make_good_above_the_target():
    assert statistics.optimality_gap(np.array([[0.9, 5.0]])) == pytest.approx(0.05)


def test_a_profile_falls_from_all_to_none():
    profile = performance_profile(SCORES, np.linspace(-0.1, SCORES.max(), 30))
    assert profile[0] == 1.0
    assert profile[-1] == 0.0
    assert np.all(np.diff(profile) <= 0)


def test_configurations_side_by_side_are_as_one_by_one():
    configurations = np.stack([SCORES, SCORES[::-1] * 2])
    together = with_interval(iqm, configurations, resamples=500)
    for number, scores in enumerate(configurations):
        alone = with_interval(iqm, scores, resamples=500)
        assert [part[number] for part in together] == pytest.approx(alone)


def test_resampling_stays_within_tasks():
    """Runs that do not differ within a task leave nothing to resample, however much tasks differ."""
    same = np.tile(np.array([[0.0], [10.0]]), (1, 6))
    assert interval(statistics.mean, same, resamples=200) == (5.0, 5.0, 5.0)


def test_the_interval_of_the_mean_is_that_of_students_t():
    scores = GENERATOR.normal(size=(1, 12))
    found = interval(statistics.mean, scores, resamples=20_000)
    reach = stats.t.ppf(0.975, 11) * scores.std(ddof=1) / np.sqrt(12)
    assert found.high - found.low == pytest.approx(2 * reach, rel=0.1)


def test_an_interval_is_the_same_again_and_of_one_run_there_is_none():
    assert interval(iqm, SCORES, resamples=300) == interval(iqm, SCORES, resamples=300)
    assert np.isnan(interval(iqm, SCORES[:, :1]).low)


def test_the_divergence_rate_by_hand():
    found = divergence_rate(np.array([True, False, False, False]))
    assert found.mean == 0.25
    assert (found.low, found.high) == pytest.approx((0.0456, 0.6994), abs=1e-4)  # Wilson 1927, 1 of 4


def test_more_resamples_than_fit_at_once_are_drawn_in_parts(monkeypatch):
    monkeypatch.setattr(statistics, "BATCH_NUMBERS", 100)
    found = interval(iqm, SCORES, resamples=157)
    assert found.low < found.mean < found.high


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 4, 5, 8, 32, 64])
@pytest.mark.parametrize("kind", ["normal", "skewed", "some fail"])
def test_the_interval_of_the_iqm_covers_the_true_one(seeds, kind):
    """1,000 simulated studies: in 93 to 97 % of them the interval holds the interquartile mean of the population.

    Of few runs in up to 98.5 %: no method is exact there.
    """
    generator = np.random.default_rng(3)

    def studies(count, runs):
        drawn = generator.normal(0.9, 0.05, (count, 1, runs))
        if kind == "skewed":
            return generator.beta(8.0, 2.0, (count, 1, runs))
        failed = generator.random(drawn.shape) < 0.15
        return np.where(failed, generator.normal(0.2, 0.1, drawn.shape), drawn) if kind == "some fail" else drawn

    truth = float(iqm(studies(100, 40_000)).mean())
    covered = 0
    for number, scores in enumerate(studies(1000, seeds)):
        found = interval(iqm, scores, resamples=1000, seed=number)
        covered += found.low <= truth <= found.high
    assert 930 <= covered <= (970 if seeds >= 32 else 985), covered


def test_of_few_runs_the_interval_is_students_and_may_leave_their_range():
    scores = SCORES[:1, :4]
    reach = stats.t.ppf(0.975, 3) * scores.std(ddof=1) * np.sqrt(1.2 / 4)
    found = interval(iqm, scores)
    assert (found.low, found.high) == pytest.approx((found.mean - reach, found.mean + reach))
    pair = interval(iqm, SCORES[:1, :2])
    assert pair.low < SCORES[0, :2].min() < SCORES[0, :2].max() < pair.high


def test_of_single_runs_no_comparison_has_an_interval():
    one, other = SCORES[:, :1], SCORES[:, 1:2]
    assert np.isnan(improvement(one, other).low)
    assert np.isnan(statistics.difference(iqm, one, other).high)


def test_two_seeds_that_win_are_no_certainty():
    """Wilson's interval of as many trials as the smaller side has seeds, by hand: 1/(1 + z^2/2) = 0.342."""
    found = improvement(np.array([[3.0, 4.0]]), np.array([[0.0, 1.0, 2.0]]))
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 / (1 + 1.959964**2 / 2))
    assert improvement(SCORES[:, :2] + 99, SCORES[:, :2]).low == pytest.approx(1 / (1 + 1.959964**2 / 10))  # five tasks


def test_no_mann_whitney_statistic_varies_more_than_its_interval_says():
    """At most p(1 - p)/min(m, n): reached where one side is a constant."""
    draws = np.random.default_rng(0).random((4000, 6)) < 0.3
    wins = [statistics.probability_of_improvement(np.ones((1, 9)), 2.0 * each[None]) for each in draws]
    assert np.var(wins) == pytest.approx(0.3 * 0.7 / 6, rel=0.05)


def test_a_difference_of_the_same_few_seeds_is_paired():
    one, other = SCORES[:1, :5], SCORES[1:2, :5]
    apart = (one - other)[0]
    reach = stats.t.ppf(0.975, 4) * apart.std(ddof=1) * np.sqrt(1.14 / 5)
    found = statistics.difference(iqm, one, other, paired=True)
    assert found.high - found.mean == pytest.approx(reach)
    assert found.mean == pytest.approx(iqm(one) - iqm(other))
    assert statistics.difference(iqm, one + 1, one, paired=True) == pytest.approx((1, 1, 1))


def test_a_difference_of_other_few_seeds_is_welchs():
    one, other = SCORES[:1, :3], SCORES[1:2, :2]
    expected = stats.ttest_ind(one[0], other[0], equal_var=False).confidence_interval()
    assert statistics.difference(statistics.mean, one, other)[1:] == pytest.approx((expected.low, expected.high))


def test_many_paired_seeds_have_the_same_draws():
    found = statistics.difference(iqm, SCORES + 1, SCORES, paired=True)
    assert found == pytest.approx((1, 1, 1))
    apart = statistics.difference(iqm, SCORES + 1, SCORES)
    assert apart.high - apart.low > 0.1


def test_few_runs_of_several_tasks_are_not_resampled():
    """Two runs each of two tasks: t(2) with the variances of both added, twice as much as of their mean."""
    scores = SCORES[:2, :2]
    reach = stats.t.ppf(0.975, 2) * np.sqrt(2 * scores.var(axis=1, ddof=1).sum() / (2 * 2**2))
    found = interval(iqm, scores)
    assert found.high - found.mean == pytest.approx(reach)


@pytest.mark.slow
@pytest.mark.parametrize("runs", [(4, 4), (8, 8), (4, 32)])
@pytest.mark.parametrize("ahead", [0.0, 1.8, 3.0])
@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_of_the_improvement_holds_the_true_one(runs, ahead, skewed):
    generator = np.random.default_rng(1)

    def drawn(count):
        return -generator.lognormal(0, 0.5, count) if skewed else generator.normal(size=count)

    truth = np.mean(drawn(2_000_000) + ahead > drawn(2_000_000))
    held = 0
    for _ in range(2000):
        found = improvement(drawn((1, runs[0])) + ahead, drawn((1, runs[1])))
        held += found.low <= truth <= found.high
    assert held / 2000 >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("runs", [2, 4, 5, 8])
def test_the_interval_of_a_difference_holds_the_true_one(runs, tasks, paired):
    generator, held = np.random.default_rng(2), 0
    for number in range(1000):
        shared, one, other = generator.normal(size=(3, tasks, runs))
        first, second = one + shared * paired, other + shared * paired
        found = statistics.difference(iqm, first, second, paired, resamples=400, seed=number)
        held += found.low <= 0 <= found.high
    assert held / 1000 >= 0.93


def test_a_profile_of_few_agents_is_not_certain_at_its_ends():
    """None of four above a threshold: up to 49 % of all may be, by Wilson 1927; resampled, none is."""
    share, low, high = statistics.profile_with_interval(SCORES[:1, :4], np.array([-1.0, 99.0]))
    assert share.tolist() == [1.0, 0.0]
    assert (low[0], high[0], low[1], high[1]) == pytest.approx((0.5101, 1, 0, 0.4899), abs=1e-4)
