"""Who competes, who wins by which objective, and on which seeds that is decided."""

import numpy as np
import pytest
import synthetic
from rich.console import Console

from jaxmoe.analysis.ranking import best_agent, best_position, printed, ranking_of, ranking_table, rankings
from jaxmoe.analysis.sensitivity import sensitivity_table, tuned_minus_shared
from jaxmoe.analysis.statistics import iqm
from jaxmoe.analysis.tables import Objective
from jaxmoe.errors import InputError


def of(configuration, seeds=None):
    """Rows of the results of a configuration, on some of its seeds."""

    def rows(results):
        own = results["configuration"] == configuration
        return own if seeds is None else own & results["seed"].isin(seeds)

    return rows


def shown(table):
    console = Console(width=160)
    with console.capture() as capture:
        console.print(table)
    return [line.split() for line in capture.get().splitlines()]


def test_configurations_meet_environments_and_seeds(crossed):
    first, second = rankings(crossed)
    assert (first.scenario, second.scenario) == ("oneshot", "queueing")
    assert first.agents.shape == (12, 2, 6)
    assert first.axes == ["learning_rate", "entropy_coef"]
    results = crossed.results.set_index("agent")
    for number, agents in enumerate(first.agents):
        own = results.loc[agents.ravel().tolist()]
        assert own[["algorithm", "learning_rate", "entropy_coef"]].drop_duplicates().shape[0] == 1
        assert own["learning_rate"].iloc[0] == first.configurations["learning_rate"].iloc[number]
        assert [set(own["environment"][:6]), set(own["environment"][6:])] == [{e} for e in first.environments[number]]


def test_points_drawn_together_with_their_environment_are_ranked_as_points(drawn, crossed):
    [ranking] = rankings(drawn)
    assert ranking.agents.shape == (40, 1, 4)
    assert ranking.axes == ["learning_rate", "entropy_coef", "latency_weight"]
    assert "latency_weight" not in rankings(crossed)[0].configurations
    winner = ranking.table().iloc[0]
    own = drawn.results[drawn.results["configuration"] == winner["configuration"]]
    assert winner["latency_weight"] == own["latency_weight"].iloc[0]
    assert "latency weight" in ranking.describe(ranking.winner)


def test_the_winner_is_chosen_on_the_first_half_of_the_seeds(finished):
    before = rankings(finished)[0].winner
    lucky = synthetic.changed(finished, of(0, range(4, 8)), "train_normalised", 5.0)
    assert rankings(lucky)[0].winner == before
    [ranking] = rankings(synthetic.changed(lucky, of(0, range(4)), "train_normalised", 1.5))
    assert ranking.winner == 0
    assert ranking.table()["train"].iloc[0] == 5.0  # and it is measured on the other half


def test_nothing_is_selected_on_test_prompts(finished):
    changed = finished
    for column in ("test_normalised", "test_qos"):
        changed = synthetic.changed(changed, of(0), column, 9.0)
    np.testing.assert_array_equal(rankings(changed)[0].order, rankings(finished)[0].order)


@pytest.mark.parametrize(("statistic", "winner"), [("mean", 0), ("iqm", 2), ("min", 4)])
def test_the_objective_says_by_which_statistic_over_seeds(statistic, winner):
    """Of four seeds that choose: one is far above, the middle two are best, the worst is best."""
    tables = synthetic.make(objective=Objective("normalised", statistic=statistic))
    tables = synthetic.changed(tables, lambda results: results["seed"] >= 0, "train_normalised", 0.0)
    seeds = {0: (0.1, 0.1, 0.1, 9.0), 2: (0.1, 0.9, 0.9, 0.9), 4: (0.4, 0.4, 0.4, 0.4)}
    for configuration, scores in seeds.items():
        for seed, score in enumerate(scores):
            tables = synthetic.changed(tables, of(configuration, [seed]), "train_normalised", score)
    [ranking] = rankings(tables)
    assert ranking.configurations["configuration"].iloc[ranking.winner] == winner
    expected = {"mean": np.mean, "iqm": lambda scores: iqm(np.array([scores])), "min": min}[statistic](seeds[winner])
    assert ranking.table()["chosen"].iloc[0] == pytest.approx(expected)


def test_of_a_metric_that_is_better_the_smaller_it_is_the_smallest_wins():
    tables = synthetic.make(objective=Objective("latency_s", statistic="min"))
    tables = synthetic.changed(tables, of(1, [2]), "train_latency_s", 50.0)  # its worst seed
    [ranking] = rankings(tables)
    table = ranking.table()
    assert table["chosen"].is_monotonic_increasing
    assert table["configuration"].tolist()[0] == 0
    assert (table["configuration"].tolist()[-1], table["chosen"].iloc[-1]) == (1, 50.0)
    assert "below_random" not in table
    agents = ranking.agents[ranking.winner].ravel()
    slow = synthetic.changed(tables, lambda rows: rows["agent"].isin(agents[1:]), "train_latency_s", 4.5)
    assert best_agent(rankings(slow)[0]) == agents[0]


def test_who_breaks_a_limit_is_ranked_after_all_who_do_not():
    free = rankings(synthetic.make())[0]
    [ranking] = rankings(synthetic.make(objective=Objective(limits={"latency_s": 4.8, "energy_j": 1.0})))
    table = ranking.table()
    assert table["within_limits"].tolist() == [True] * 4 + [False] * 2
    assert table["learning_rate"].tolist() == [0.005, 0.005, 0.001, 0.001, 0.02, 0.02]
    assert free.table()["learning_rate"].tolist()[:4] == [0.005, 0.005, 0.02, 0.02]
    tight = rankings(synthetic.make(objective=Objective(limits={"latency_s": 4.1})))[0]
    assert tight.table()["learning_rate"].iloc[0] == 0.001
    none = rankings(synthetic.make(objective=Objective(limits={"latency_s": 1.0})))[0]
    np.testing.assert_array_equal(none.order, free.order)


def test_a_limit_counts_on_the_seeds_that_choose():
    tables = synthetic.make(objective=Objective(limits={"latency_s": 4.8}))
    tables = synthetic.changed(tables, of(3, range(4, 8)), "train_latency_s", 99.0)
    assert rankings(tables)[0].table()["configuration"].iloc[0] == 3


def test_with_one_seed_the_winner_is_judged_where_it_was_chosen():
    [ranking] = rankings(synthetic.make(seeds=1))
    assert (ranking.chosen_on, ranking.measured_on) == (slice(0, 1), slice(0, 1))
    assert ranking.table()["train_low"].isna().all()


def test_one_configuration_has_all_its_seeds_for_the_judgement():
    [ranking] = rankings(synthetic.make(rates=(5e-3,), entropies=(0.0,)))
    assert (ranking.measured_on, ranking.axes) == (slice(0, 8), [])


def test_a_configuration_with_fewer_agents_so_far_is_left_out():
    [ranking] = rankings(synthetic.make(trained=45))
    assert (len(ranking.configurations), ranking.left_out) == (5, 1)
    assert rankings(synthetic.make(weights=(0.0, 1.0), trained=8)) == []  # none has met both environments


def test_the_best_agent_is_never_one_that_diverged(finished):
    [ranking] = rankings(finished)
    agents = ranking.agents[ranking.winner].ravel()
    assert best_agent(ranking) == agents[np.argmax(ranking.scores("train")[ranking.winner])]

    def others(results):
        return results["agent"].isin(agents) & (results["agent"] != agents[3])

    frozen = synthetic.changed(synthetic.changed(finished, others, "diverged", True), others, "train_normalised", 2.0)
    assert best_agent(rankings(frozen)[0]) == agents[3]
    alone = synthetic.make(rates=(5e-3,), entropies=(0.0,))
    alone = synthetic.changed(alone, lambda results: results["seed"] != 3, "diverged", True)
    alone = synthetic.changed(alone, lambda results: results["seed"] == 3, "train_normalised", np.nan)
    assert best_agent(rankings(alone)[0]) == 3
    with pytest.raises(InputError, match="every agent of the best configuration diverged"):
        best_position(rankings(synthetic.make(diverged=1.1))[0])


def test_the_best_of_an_algorithm(crossed):
    ranking = ranking_of(crossed, "queueing")
    position = best_position(ranking, "dqn")
    assert ranking.configurations["algorithm"].iloc[position] == "dqn"
    assert position != ranking.winner == best_position(ranking)
    with pytest.raises(InputError, match="has no algorithm 'sac' in queueing; choose one of ppo, dqn"):
        best_agent(ranking, "sac")


def test_which_scenario_is_meant_must_be_said_where_there_are_several(finished, crossed):
    assert ranking_of(finished).scenario == "oneshot"
    with pytest.raises(InputError, match="has several scenarios; say which: one of oneshot, queueing"):
        ranking_of(crossed)
    with pytest.raises(InputError, match="no scenario 'fading'; choose one of oneshot, queueing"):
        ranking_of(crossed, "fading")
    with pytest.raises(InputError, match="nothing can be ranked"):
        ranking_of(synthetic.make(trained=0))


def test_the_whole_ranking_is_one_table(crossed):
    table = ranking_table(crossed)
    assert table["scenario"].tolist() == ["oneshot"] * 12 + ["queueing"] * 12
    assert table["rank"].tolist() == [*range(1, 13)] * 2
    assert set(table["seeds"]) == {12}
    assert table["diverged"].sum() == crossed.results["diverged"].sum() > 0
    assert ranking_table(synthetic.make(trained=0)).empty


def test_a_terminal_shows_what_differs_and_what_diverged(finished):
    frozen = synthetic.changed(finished, of(2, [1]), "diverged", True)
    [(title, table)] = printed(frozen, most=3)
    assert title == (
        "oneshot: the best 3 of 6 configurations, by the mean normalised score on train prompts, chosen on 4 of 8 seeds"
    )
    head, *rows = shown(table)
    assert head == ["no.", "learning", "rate", "entropy", "coef", "chosen", "train", "test", "diverged"]
    assert [row[:3] for row in rows] == [["3", "0.005", "0.03"], ["2", "0.005", "0"], ["5", "0.02", "0.03"]]
    assert [row[-1] for row in rows] == ["0", "1", "0"]
    expected = rankings(frozen)[0].table().iloc[0]
    assert rows[0][3:6] == [f"{expected[name]:.3f}" for name in ("chosen", "train", "test")]


def test_a_terminal_shows_algorithms_and_limits(crossed):
    assert [title.split(":")[0] for title, _ in printed(crossed)] == ["oneshot", "queueing"]
    assert shown(printed(crossed)[0][1])[0][:2] == ["no.", "algorithm"]
    limited = synthetic.make(objective=Objective("qos", statistic="iqm", limits={"latency_s": 4.8}))
    [(title, table)] = printed(limited)
    assert "by the iqm QoS on train prompts, latency_s at most 4.8, chosen" in title
    assert [row[-1] for row in shown(table)[1:]] == ["True"] * 4 + ["False"] * 2


def test_sensitivity_by_hand():
    """Two configurations, two tasks: each is best on one; the first is the best on average."""
    chosen = np.array([[[1.0], [0.6]], [[0.1], [0.9]]])
    measured = np.array([[[0.9], [0.5]], [[0.2], [0.8]]])
    tuned, shared, gain = tuned_minus_shared(chosen, measured)
    assert (tuned, shared) == ([0, 1], 0)
    np.testing.assert_allclose(gain, [[0.0], [0.3]])


def test_sensitivity_needs_several_environments(finished, crossed, drawn):
    assert sensitivity_table(rankings(finished)) is None
    assert sensitivity_table(rankings(drawn)) is None
    table = sensitivity_table(rankings(crossed))
    assert len(table) == 2 * 2 + 1
    assert table["environment"].tolist()[-1] == "all"


def test_sensitivity_to_what_is_better_the_smaller_it_is():
    tables = synthetic.make(weights=(0.0, 1.0), objective=Objective("latency_s"))
    table = sensitivity_table(rankings(tables))
    assert all("learning rate 0.001" in text for text in table["tuned there"])


def test_a_configuration_in_words(finished):
    [ranking] = rankings(finished)
    assert ranking.describe(ranking.winner) == "PPO with learning rate 0.005 and entropy coef 0.03"


@pytest.mark.parametrize("split", ["train", "test"])
def test_scores_are_those_of_the_results(finished, split):
    [ranking] = rankings(finished)
    of_agent = finished.results.set_index("agent")[f"{split}_normalised"]
    assert ranking.scores(split)[2, 0, 3] == of_agent[ranking.agents[2, 0, 3]]


def test_agents_worse_than_random_are_counted():
    """With a weight of 30 every agent's score is near -0.5, without it near 1."""
    [ranking] = rankings(synthetic.make(weights=(0.0, 30.0)))
    assert ranking.table()["below_random"].tolist() == [8] * 6


def test_what_is_searched_and_what_is_the_environments(crossed):
    assert crossed.environment_columns == ["latency_weight"]
    assert crossed.configuration_columns == ["learning_rate", "discount", "entropy_coef"]
