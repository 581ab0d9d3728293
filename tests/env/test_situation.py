"""A request outside the table."""

import numpy as np
import pytest

from jaxmoe.env import references
from jaxmoe.env.scenarios import make
from jaxmoe.env.situation import costs, predicted_qos, situation
from jaxmoe.errors import InputError
from jaxmoe.table import load_table
from jaxmoe.wireless import shannon_rate_bps

TABLE = load_table()
SNR_DB = [12.0, 3.0, 18.0, 7.0]


def test_the_expected_qos_is_that_of_the_reference():
    """For a prompt of the table it chooses what the reference policy chooses there."""
    for prompt in range(4):
        at = situation(TABLE, "oneshot", TABLE.relevance[prompt].tolist(), SNR_DB, {})
        reference = references.predict_then_optimise(at.env, make("oneshot")[1])
        there = at.state._replace(prompt=np.int32(prompt))
        assert int(predicted_qos(at).argmax()) == int(reference.act(None, None, there, at.known))


def test_more_relevance_changes_what_is_expected():
    low, high = (situation(TABLE, "oneshot", [0.5, 0.5, value, 0.5], SNR_DB, {}) for value in (0.0, 1.0))
    assert not np.allclose(predicted_qos(low), predicted_qos(high))


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
    with pytest.raises(InputError, match="no number 'colour'"):
        situation(TABLE, "oneshot", [0.5] * 4, SNR_DB, {"colour": 1.0})
    with pytest.raises(InputError, match="relevance has 1 values, and there are 4 experts"):
        situation(TABLE, "oneshot", [0.5], SNR_DB, {})
