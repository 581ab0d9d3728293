"""What matters, in words and a figure, among all configurations and among the better half."""

import numpy as np
import pytest
import synthetic

from jaxmoe.analysis.landscape import points_of
from jaxmoe.analysis.ranking import rankings

RATES = tuple((10 ** np.linspace(-5, -2, 6)).tolist())  # the lower ones fail


def matters(**how):
    [ranking] = rankings(synthetic.make(**how))
    [points] = points_of(ranking)
    return points.importance()


@pytest.fixture(scope="module")
def crossed():
    return matters(rates=RATES, entropies=(0.0, 0.03), weights=(0.0, 1.0, 2.0))


def test_among_the_better_half_other_axes_matter(crossed):
    """The learning rate is nearly all between all; the weight of the latency, too, between those that learn."""
    everywhere, good = (view.effects.set_index("axes")["share"] for view in (crossed.everywhere, crossed.good))
    assert (crossed.everywhere.configurations, crossed.good.configurations) == (36, 18)
    assert everywhere["learning_rate"] > 0.95
    assert everywhere["latency_weight"] < 0.05
    assert good["latency_weight"] > 0.4
    said = crossed.sentence()
    assert said.startswith("of the variance between 12 configurations of PPO in 3 environments: learning rate 9")
    assert "Of the variance between the better 6: latency weight " in said
    assert "effects not told apart from 0" in said


def test_the_figure_shows_both(crossed):
    drawing = crossed.chart("")
    assert drawing.name == "importance_ppo"
    assert drawing.data["among"].unique().tolist() == ["all", "the better"]
    assert {"share", "low", "high", "apart"} <= set(drawing.data)
    [axes] = drawing.figure.axes
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["all 12 configurations", "the better 6 configurations"]
    assert "less what the noise of seeds adds, with 95 % intervals" in drawing.caption
    assert "chosen on other seeds than the 4 that measure" in drawing.caption


def test_the_better_half_is_measured_on_seeds_that_did_not_choose_it():
    assert matters(seeds=8, rates=RATES).good.runs == 4
    assert matters(seeds=1, rates=RATES).good is None


def test_where_seeds_explain_it_all_there_is_no_figure():
    found = matters(drawn=48, diverged=0.5, seeds=4)
    assert found.sentence().startswith("48 configurations of PPO differ no more than seeds do, where the ")
    assert found.sentence().endswith(f" {found.diverged} agents that diverged count like all others")
    assert found.chart("") is None
    assert found.good is None


def test_one_seed_is_said():
    found = matters(seeds=1)
    assert "the noise of their one seed included: learning rate" in found.sentence()
    assert "[" not in found.sentence()
    drawing = found.chart("")
    assert "of one seed, whose noise is in the shares and cannot be told" in drawing.caption
    assert drawing.data["low"].isna().all()


def test_drawn_points_are_described_by_a_surface():
    found = matters(drawn=64, seeds=8)
    assert "points left out" not in found.sentence()
    assert " configurations of PPO that a surface describes (9" in found.sentence()
    assert found.chart("").caption.startswith("Shares of what a fitted surface describes, 9")


def test_agents_that_diverged_are_said():
    found = matters(rates=RATES, diverged=0.1)
    assert found.diverged > 0
    assert f"{found.diverged} of 96 agents that diverged are counted in" in found.chart("").caption
