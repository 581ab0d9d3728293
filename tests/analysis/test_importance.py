"""Importance against variances computed by hand, on full grids and on samples, with noise and without."""

import itertools

import numpy as np
import pandas as pd
import pytest

from jaxmoe.analysis.importance import importance, noise_of
from jaxmoe.analysis.surface import fitted_surface, grid_variances

GRID = pd.DataFrame(list(itertools.product(range(4), range(3))), columns=["a", "b"], dtype=float)


def shares(found):
    return dict(zip(found.effects["axes"], found.effects["share"], strict=True))


def row_of(found, effect):
    return found.effects.set_index("axes").loc[effect]


def standard(values):
    return (values - values.mean()) / values.std()


TRUTH = (np.sqrt(0.9) * standard(GRID["a"].to_numpy()) + np.sqrt(0.1) * standard(GRID["b"].to_numpy()))[:, None]


def test_a_grid_by_hand():
    """f = a + 2b + 4ab on {-1, 1}^2: variances 1, 4 and 16."""
    points = pd.DataFrame(list(itertools.product([-1.0, 1.0], repeat=2)), columns=["a", "b"])
    scores = (points["a"] + 2 * points["b"] + 4 * points["a"] * points["b"]).to_numpy()[:, None]
    for runs in (1, 3):
        found = importance(points, np.repeat(scores, runs, axis=1))
        assert found.exact
        assert shares(found) == pytest.approx({"a x b": 16 / 21, "b": 4 / 21, "a": 1 / 21})
        assert found.effects["axes"].tolist() == ["a x b", "b", "a"]


def test_noise_is_taken_out_by_hand():
    """Residuals of +-1 in two runs: s2 = 8 / 3, and each of the three effects has 8 / 3 / (4 x 2) less."""
    points = pd.DataFrame(list(itertools.product([-1.0, 1.0], repeat=2)), columns=["a", "b"])
    means = (points["a"] + 2 * points["b"] + 4 * points["a"] * points["b"]).to_numpy()
    apart = np.array([1.0, -1.0, -1.0, 1.0])
    scores = np.stack([means + apart, means - apart], axis=1)
    assert noise_of(scores).variance == pytest.approx(8 / 3)
    less = 8 / 3 / 8
    assert shares(importance(points, scores)) == pytest.approx(
        {"a x b": (16 - less) / (21 - 3 * less), "b": (4 - less) / (21 - 3 * less), "a": (1 - less) / (21 - 3 * less)}
    )


def test_effects_add_up_to_the_variance():
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 2))
    found = grid_variances(values, ["a", "b", "c"])
    assert len(found) == 7
    assert sum(found.values()) == pytest.approx(values.var(axis=(1, 2, 3)))


def test_the_order_of_configurations_does_not_matter():
    points = pd.DataFrame(list(itertools.product([1.0, 2.0, 4.0], ["x", "y"])), columns=["rate", "kind"])
    scores = np.random.default_rng(1).normal(size=(6, 4)) + 3 * points["rate"].to_numpy()[:, None]
    order = [3, 0, 5, 1, 4, 2]
    mixed = importance(points.iloc[order].reset_index(drop=True), scores[order])
    assert shares(mixed) == pytest.approx(shares(importance(points, scores)))


def test_an_axis_that_does_nothing_has_no_share():
    points = pd.DataFrame(list(itertools.product([1.0, 2.0, 3.0], [0.0, 1.0])), columns=["rate", "idle"])
    found = importance(points, np.tile(points["rate"].to_numpy()[:, None], (1, 3)))
    assert shares(found)["rate"] == pytest.approx(1.0)
    assert shares(found)["idle"] == pytest.approx(0.0)
    assert row_of(found, "rate")["apart"]
    assert not row_of(found, "idle")["apart"]
    assert found.seeds_share == pytest.approx(0.0)


def test_the_seeds_share_by_hand():
    """Configurations at 0, 2 and 0, runs one off either way: variances of 2 within and of 8 / 9 between."""
    points = pd.DataFrame({"a": [0.0, 1.0, 2.0]})
    scores = np.array([[-1.0, 1.0], [1.0, 3.0], [-1.0, 1.0]])
    assert importance(points, scores).seeds_share == pytest.approx(2 / (2 + 8 / 9))


def test_what_a_seed_adds_to_all_cancels():
    generator = np.random.default_rng(0)
    scores = TRUTH + generator.normal(size=(12, 4))
    found = importance(GRID, scores + 100 * generator.normal(size=4))
    pd.testing.assert_frame_equal(found.effects, importance(GRID, scores).effects)


def test_with_four_seeds_an_interaction_that_is_none_is_not_told():
    """The noise of seeds is 1.66 times what configurations differ by; the former way has 0.16 of it in every study."""
    generator = np.random.default_rng(0)
    found = [importance(GRID, TRUTH + np.sqrt(1.66) * generator.normal(size=(12, 4)), seed) for seed in range(100)]
    found = [each for each in found if each.differ]
    assert len(found) > 80
    idle = pd.DataFrame([row_of(each, "a x b") for each in found])
    assert idle["share"].mean() < 0.08
    assert idle["apart"].mean() < 0.12
    assert (idle["low"] <= 0).mean() > 0.88
    main = pd.DataFrame([row_of(each, "a") for each in found])
    assert main["share"].mean() == pytest.approx(0.9, abs=0.05)
    assert ((main["low"] <= 0.9) & (main["high"] >= 0.9)).mean() > 0.9
    assert main["apart"].mean() > 0.95


def test_drawn_points_with_four_seeds():
    """The same of a surface: u has 0.8 of the variance, v 0.2, another axis and products nothing."""
    generator = np.random.default_rng(0)
    rows = []
    for seed in range(60):
        points = pd.DataFrame(generator.uniform(-1, 1, (48, 3)), columns=["u", "v", "idle"])
        truth = (2 * points["u"] + points["v"]).to_numpy()[:, None] * np.sqrt(3 / 5)
        found = importance(points, truth + np.sqrt(1.66) * generator.normal(size=(48, 4)), seed)
        assert found.tells
        assert not found.exact
        rows += [row_of(found, effect) for effect in ("u", "v", "idle", "u x v")]
    table = pd.concat(rows, axis=1).T.infer_objects()
    table["true"] = [0.8, 0.2, 0.0, 0.0] * 60
    table["held"] = (table["low"] <= table["true"]) & (table["true"] <= table["high"])
    mean = table.groupby(level=0)[["share", "held", "apart"]].mean()
    assert mean["share"].to_dict() == pytest.approx({"u": 0.8, "v": 0.2, "idle": 0.01, "u x v": 0.01}, abs=0.04)
    assert mean["held"].min() > 0.85
    assert mean.loc[["idle", "u x v"], "apart"].max() < 0.12


def test_a_better_half_that_other_seeds_chose():
    """What is measured of it is, on average, what seeds without end would measure, and intervals hold that."""
    generator = np.random.default_rng(0)
    points = pd.DataFrame(list(itertools.product(range(8), range(6))), columns=["a", "b"], dtype=float)
    truth = standard(points["a"] + 2 * points["b"]).to_numpy()
    rows = []
    for seed in range(60):
        scores = truth[:, None] + generator.normal(size=(48, 8))
        good = np.sort(np.argsort(-scores[:, :4].mean(axis=1))[:24])
        half = points.iloc[good].reset_index(drop=True)
        found = importance(half, scores[good][:, 4:], seed)
        without_end = row_of(importance(half, np.tile(truth[good][:, None], (1, 2))), "b")["share"]
        share = row_of(found, "b")
        if found.tells:
            rows.append((share["share"] - without_end, share["low"] <= without_end <= share["high"]))
    assert len(rows) > 40
    off, held = np.mean(rows, axis=0)
    assert abs(off) < 0.05
    assert held > 0.85


def test_where_configurations_differ_no_more_than_seeds():
    generator = np.random.default_rng(0)
    drawn = pd.DataFrame(generator.random((40, 2)), columns=["a", "b"])
    for points in (GRID, drawn):
        told = [importance(points, generator.normal(size=(len(points), 4))).differ for _ in range(60)]
        assert np.mean(told) < 0.15


def test_the_noise_of_one_seed_is_not_known():
    scores = TRUTH + np.random.default_rng(0).normal(size=(12, 1))
    found = importance(GRID, scores)
    assert found.has_noise
    assert found.differ
    assert found.effects[["low", "high"]].isna().all(axis=None)
    assert np.isnan(found.seeds_share)


def test_one_seed_of_drawn_points_is_told_from_what_the_surface_misses():
    generator = np.random.default_rng(0)
    points = pd.DataFrame({"a": generator.random(100), "b": generator.random(100)})
    found = importance(points, points[["a"]].to_numpy() + 0.2 * generator.normal(size=(100, 1)))
    assert found.tells
    assert not found.has_noise
    assert row_of(found, "a")["apart"]
    assert not row_of(found, "b")["apart"]
    noise = importance(points, generator.normal(size=(100, 1)))
    assert noise.explained < 0.1
    assert not noise.describes


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
    assert found.described.mean > 0.95
    expected = {"v": 4 / 3 / total, "u": 1 / 3 / total, "u x v": 1 / 9 / total}
    assert {name: shares(found)[name] for name in expected} == pytest.approx(expected, abs=0.04)
    assert shares(found)["idle"] < 0.01


def test_what_a_surface_cannot_describe_is_no_share():
    """A wave that no polynomial follows has half of the variance, and a line the other half."""
    generator = np.random.default_rng(0)
    points = pd.DataFrame(generator.random((96, 2)), columns=["a", "b"])
    wave = standard(np.sin(100 * points["b"].to_numpy()))
    scores = (standard(points["a"].to_numpy()) + wave)[:, None] + 0.1 * generator.normal(size=(96, 8))
    found = importance(points, scores)
    assert found.described.low < 0.5 < found.described.high
    assert shares(found)["a"] == pytest.approx(1.0, abs=0.1)
    assert not row_of(found, "b")["apart"]


def test_the_surface_does_not_depend_on_scores_but_on_how_many_points_there_are():
    generator = np.random.default_rng(0)
    powers = [fitted_surface(pd.DataFrame(generator.random((size, 3)))).powers for size in (14, 30, 39, 96)]
    assert powers == [(2, 0), (2, 1), (3, 1), (4, 2)]
    assert fitted_surface(pd.DataFrame(generator.random((7, 3)))) is None


def test_words_and_numbers_share_a_surface():
    generator = np.random.default_rng(0)
    points = pd.DataFrame({"rate": generator.random(60), "kind": generator.choice(["x", "y", "z"], 60)})
    level = points["kind"].map({"x": 0.0, "y": 3.0, "z": 0.0}).to_numpy()
    found = importance(points, (level + points["rate"].to_numpy())[:, None] + 0.1 * generator.normal(size=(60, 4)))
    assert shares(found)["kind"] > 0.9
    assert row_of(found, "rate")["apart"]


def test_a_score_that_is_no_number_leaves_its_configuration_out():
    scores = TRUTH + 0.1 * np.random.default_rng(0).normal(size=(12, 4))
    scores[:3, 1] = np.nan
    found = importance(GRID, scores)
    assert (found.configurations, found.exact) == (9, True)
    assert shares(found) == shares(importance(GRID[3:].reset_index(drop=True), scores[3:]))


@pytest.mark.parametrize(
    ("points", "scores"),
    [
        (pd.DataFrame({"a": [1.0, 1.0, 1.0]}), np.ones((3, 2))),
        (pd.DataFrame({"a": [1.0, 2.0, 3.0]}), np.ones((3, 2))),
        (pd.DataFrame({"a": [1.0, 2.0]}), np.eye(2)),
        (pd.DataFrame({"a": [1.0, 2.0, 3.0]}), np.full((3, 2), np.nan)),
    ],
)
def test_where_nothing_varies_nothing_is_said(points, scores):
    assert importance(points, scores) is None
