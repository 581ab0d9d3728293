"""A request outside the table."""

import numpy as np
import pytest
from many_experts import small_table

from jaxmoe.env.baselines import predict_then_optimise
from jaxmoe.env.scenarios import make
from jaxmoe.env.situation import costs, predicted_qos, situation
from jaxmoe.errors import InputError
from jaxmoe.table import load_table
from jaxmoe.wireless import shannon_rate_bps

TABLE = load_table()
SNR_DB = [12.0, 3.0, 18.0, 7.0]


def test_the_expected_qos_is_that_of_the_baseline():
    """For a prompt of the table it chooses what the baseline chooses there."""
    for prompt in range(4):
        at = situation(TABLE, "oneshot", TABLE.relevance[prompt].tolist(), SNR_DB, {})
        baseline = predict_then_optimise(at.env, make("oneshot")[1])
        there = at.state._replace(prompt=np.int32(prompt))
        expected = predicted_qos(at)
        assert max(expected, key=expected.get) == int(baseline.act(None, None, there, at.known))


def test_of_a_table_of_small_subsets_none_larger_is_expected_anything_of(tmp_path):
    table = small_table(tmp_path)
    at = situation(table, "oneshot", table.relevance[0].tolist(), [10.0] * 12, {})
    expected = predicted_qos(at)
    assert list(expected) == [subset for subset in range(4096) if subset.bit_count() <= 2]
    assert np.isfinite(list(expected.values())).all()
    best = max(expected, key=expected.get)
    assert np.isfinite(costs(at, best, [90.0] * 12)).all()
    single = small_table(tmp_path, experts=("one", "two"))
    whole = situation(single, "oneshot", [0.5, 0.5], [10.0, 3.0], {})
    assert (whole.env.settings.max_experts, list(predicted_qos(whole))) == (None, [0, 1, 2, 3])


def test_more_relevance_changes_what_is_expected():
    low, high = (situation(TABLE, "oneshot", [0.5, 0.5, value, 0.5], SNR_DB, {}) for value in (0.0, 1.0))
    assert not np.allclose(*(list(predicted_qos(at).values()) for at in (low, high)))


def test_costs_are_those_of_the_formulas():
    at = situation(TABLE, "oneshot", [0.5] * 4, SNR_DB, {})
    found = costs(at, 0b0101, [100.0, 0.0, 50.0, 0.0])
    assert found.computing_cost == pytest.approx(float(at.params.compute_coefficient) * 150)
    airtimes = [
        words * float(at.params.bits_per_word) / float(shannon_rate_bps(at.params.bandwidth_hz, 10 ** (snr / 10)))
        for words, snr in ((100, 12.0), (50, 18.0))
    ]
    assert found.transmission_cost == pytest.approx(float(at.params.transmission_coefficient) * sum(airtimes), rel=1e-4)


def test_numbers_of_the_scenario_can_be_changed_and_unknown_ones_are_refused():
    at = situation(TABLE, "oneshot", [0.5] * 4, SNR_DB, {"compute_coefficient": 0.0})
    assert costs(at, 1, [100.0, 0.0, 0.0, 0.0]).computing_cost == 0.0
    for numbers, message in (
        ({"colour": 1.0}, "unknown parameter 'colour'"),
        ({"table": 1.0}, "unknown parameter 'table'"),
        ({"slot_s": -1.0}, "slot_s = -1.0 is outside"),
    ):
        with pytest.raises(InputError, match=message):
            situation(TABLE, "oneshot", [0.5] * 4, SNR_DB, numbers)
    with pytest.raises(InputError, match="relevance has 1 values, and there are 4 experts"):
        situation(TABLE, "oneshot", [0.5], SNR_DB, {})
