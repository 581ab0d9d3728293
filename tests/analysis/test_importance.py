"""Importance against variances computed by hand, on full grids and on samples."""

import itertools

import numpy as np
import pandas as pd
import pytest

from jaxmoe.analysis.importance import grid_variances, importance


def shares(found):
    return dict(zip(found.effects["axes"], found.effects["share"], strict=True))


def test_a_grid_by_hand():
    """f = a + 2b + 4ab on {-1, 1}^2: variances 1, 4 and 16."""
    points = pd.DataFrame(list(itertools.product([-1.0, 1.0], repeat=2)), columns=["a", "b"])
    scores = (points["a"] + 2 * points["b"] + 4 * points["a"] * points["b"]).to_numpy()[:, None]
    found = importance(points, scores)
    assert found.exact
    assert shares(found) == pytest.approx({"a x b": 16 / 21, "b": 4 / 21, "a": 1 / 21})
    assert found.effects["axes"].tolist() == ["a x b", "b", "a"]


def test_effects_add_up_to_the_variance():
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 2))
    found = grid_variances(values, ["a", "b", "c"])
    assert len(found) == 7
    assert sum(found.values()) == pytest.approx(values.var(axis=(1, 2, 3)))


def test_the_order_of_settings_does_not_matter():
    points = pd.DataFrame(list(itertools.product([1.0, 2.0, 4.0], ["x", "y"])), columns=["rate", "kind"])
    scores = np.random.default_rng(1).normal(size=(6, 4))
    order = [3, 0, 5, 1, 4, 2]
    mixed = importance(points.iloc[order].reset_index(drop=True), scores[order])
    assert shares(mixed) == pytest.approx(shares(importance(points, scores)))


def test_an_axis_that_does_nothing_has_no_share():
    points = pd.DataFrame(list(itertools.product([1.0, 2.0, 3.0], [0.0, 1.0])), columns=["rate", "idle"])
    found = importance(points, np.tile(points["rate"].to_numpy()[:, None], (1, 3)))
    assert shares(found)["rate"] == pytest.approx(1.0)
    assert shares(found)["idle"] == pytest.approx(0.0)
    assert found.seeds_share == 0.0


def test_the_seeds_share_by_hand():
    """Two settings at 0 and 2, runs one off either way: half of the variance is the seed's."""
    points = pd.DataFrame({"a": [0.0, 1.0, 2.0]})
    scores = np.array([[-1.0, 1.0], [1.0, 3.0], [-1.0, 1.0]])
    assert importance(points, scores).seeds_share == pytest.approx(1 / (1 + 8 / 9))


def test_a_sampled_box_by_hand():
    """f = u + 2v + uv with u, v uniform on [-1, 1]: variances 1/3, 4/3 and 1/9."""
    generator = np.random.default_rng(0)
    unit = generator.uniform(-1, 1, (400, 3))
    points = pd.DataFrame({"u": np.exp(unit[:, 0]), "v": unit[:, 1], "idle": unit[:, 2]})  # ranks: scale is no matter
    scores = (unit[:, 0] + 2 * unit[:, 1] + unit[:, 0] * unit[:, 1])[:, None] + generator.normal(0, 0.01, (400, 4))
    found = importance(points, scores)
    total = 1 / 3 + 4 / 3 + 1 / 9
    assert not found.exact
    assert found.explained > 0.95
    expected = {"v": 4 / 3 / total, "u": 1 / 3 / total, "u x v": 1 / 9 / total}
    assert {name: shares(found)[name] for name in expected} == pytest.approx(expected, abs=0.04)
    assert shares(found)["idle"] < 0.01


def test_noise_is_not_explained():
    generator = np.random.default_rng(0)
    points = pd.DataFrame({"a": generator.random(100), "b": generator.random(100)})
    assert importance(points, generator.normal(size=(100, 1))).explained < 0.1


@pytest.mark.parametrize(
    ("points", "scores"),
    [
        (pd.DataFrame({"a": [1.0, 1.0, 1.0]}), np.ones((3, 2))),
        (pd.DataFrame({"a": [1.0, 2.0, 3.0]}), np.ones((3, 2))),
        (pd.DataFrame({"a": [1.0, 2.0]}), np.eye(2)),
    ],
)
def test_where_nothing_varies_nothing_is_said(points, scores):
    assert importance(points, scores) is None
