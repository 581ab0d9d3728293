"""Bootstrap intervals over prompts and rows."""

import numpy as np

from jaxmoe.analysis.intervals import UnitSums, estimate


def simulated(generator, rows=12, prompts=40, slots=20):
    """Rows and prompts with effects of their own around a mean of 1."""
    effect = 1 + 0.1 * generator.normal(size=(rows, 1)) + 0.3 * generator.normal(size=(1, prompts))
    noisy = effect + 0.1 * generator.normal(size=(rows, prompts))
    return UnitSums((noisy * slots)[..., None], np.full((rows, prompts), float(slots)))


def test_the_mean_counts_slots_not_prompts():
    sums = UnitSums(np.array([[[1.0], [9.0]]]), np.array([[1.0, 3.0]]))
    assert sums.mean().tolist() == [2.5]


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    found = [estimate(lambda means: means, [simulated(generator)], resamples=400)[0] for _ in range(300)]
    coverage = np.mean([interval.low <= 1 <= interval.high for interval in found])
    assert 0.9 <= coverage <= 0.99


def test_an_interval_that_ignored_the_prompts_would_be_too_short():
    sums = simulated(np.random.default_rng(1))
    both = estimate(lambda means: means, [sums])[0]
    prompts_merged = UnitSums(sums.sums.sum(axis=1, keepdims=True), sums.counts.sum(axis=1, keepdims=True))
    rows_only = estimate(lambda means: means, [prompts_merged])[0]
    assert both.high - both.low > 1.2 * (rows_only.high - rows_only.low)


def test_a_policy_compared_with_itself_differs_by_nothing():
    sums = simulated(np.random.default_rng(2))
    assert estimate(lambda a, b: a - b, [sums, sums])[0] == (0.0, 0.0, 0.0)


def test_prompts_are_resampled_together_so_that_a_constant_lead_is_certain():
    sums = simulated(np.random.default_rng(3), rows=1)
    ahead = UnitSums(sums.sums + 2 * sums.counts[..., None], sums.counts)
    lead = estimate(lambda a, b: a - b, [ahead, sums])[0]
    np.testing.assert_allclose(lead, [2, 2, 2])


def test_prompts_that_nobody_met_do_not_count():
    sums = simulated(np.random.default_rng(4))
    wider = UnitSums(np.pad(sums.sums, ((0, 0), (0, 9), (0, 0))), np.pad(sums.counts, ((0, 0), (0, 9))))
    assert estimate(lambda means: means, [sums]) == estimate(lambda means: means, [wider])


def test_the_same_seed_gives_the_same_interval():
    sums = simulated(np.random.default_rng(5))
    assert estimate(lambda means: means, [sums], seed=1) == estimate(lambda means: means, [sums], seed=1)
    assert estimate(lambda means: means, [sums], seed=1) != estimate(lambda means: means, [sums], seed=2)
