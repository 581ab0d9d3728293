"""Who competes, who wins, and on which seeds that is decided."""

import numpy as np
import pandas as pd
import pytest
import synthetic

from jaxmoe.study.arena import arenas
from jaxmoe.study.reading import read_study
from jaxmoe.study.sensitivity import sensitivity_table, tuned_minus_shared


def change(folder, rows, column, value):
    """Overwrite cells of the results."""
    path = folder / "results.parquet"
    results = pd.read_parquet(path)
    results.loc[rows(results), column] = value
    results.to_parquet(path, index=False)


def test_settings_meet_tasks_and_seeds(crossed):
    first, second = arenas(read_study(crossed))
    assert (first.scenario, second.scenario) == ("oneshot", "queueing")
    assert first.agents.shape == (12, 2, 6)
    assert first.axes == ["learning_rate", "entropy_coef"]
    results = read_study(crossed).results.set_index("agent")
    for number, setting in enumerate(first.agents):
        own = results.loc[setting.ravel().tolist()]
        assert own[["algorithm", "learning_rate", "entropy_coef"]].drop_duplicates().shape[0] == 1
        assert own["learning_rate"].iloc[0] == first.settings["learning_rate"].iloc[number]
        assert [set(own["environment"][:6]), set(own["environment"][6:])] == [{e} for e in first.environments[number]]


def test_the_winner_is_chosen_on_the_first_half_of_the_seeds(tmp_path):
    folder = synthetic.make(tmp_path / "sweep", seeds=8)
    before = arenas(read_study(folder))[0].winner
    change(folder, lambda rows: (rows["configuration"] == 0) & (rows["seed"] >= 4), "train_normalised", 5.0)
    assert arenas(read_study(folder))[0].winner == before
    change(folder, lambda rows: (rows["configuration"] == 0) & (rows["seed"] < 4), "train_normalised", 1.5)
    arena = arenas(read_study(folder))[0]
    assert arena.winner == 0
    assert arena.table()["train"].iloc[0] == 5.0  # and it is judged on the other half


def test_nothing_is_selected_on_test_prompts(tmp_path):
    folder = synthetic.make(tmp_path / "sweep")
    before = arenas(read_study(folder))[0]
    for column in ("test_normalised", "test_qos"):
        change(folder, lambda rows: rows["configuration"] == 0, column, 9.0)
    after = arenas(read_study(folder))[0]
    np.testing.assert_array_equal(after.ranking, before.ranking)


def test_with_one_seed_the_winner_is_judged_where_it_was_chosen(tmp_path):
    [arena] = arenas(read_study(synthetic.make(tmp_path / "sweep", seeds=1)))
    assert (arena.chosen_on, arena.judged_on) == (slice(0, 1), slice(0, 1))
    assert arena.table()["train_low"].isna().all()


def test_one_setting_has_all_its_seeds_for_the_judgement(tmp_path):
    [arena] = arenas(read_study(synthetic.make(tmp_path / "sweep", rates=(5e-3,), entropies=(0.0,))))
    assert (arena.judged_on, arena.axes) == (slice(0, 8), [])


def test_a_setting_with_fewer_agents_so_far_is_left_out(tmp_path):
    folder = synthetic.make(tmp_path / "sweep")
    results = pd.read_parquet(folder / "results.parquet")
    results.iloc[:-3].to_parquet(folder / "results.parquet", index=False)
    [arena] = arenas(read_study(folder))
    assert (len(arena.settings), arena.left_out) == (5, 1)


def test_sensitivity_by_hand():
    """Two settings, two tasks: each is best on one; the first is the best on average."""
    chosen = np.array([[[1.0], [0.6]], [[0.1], [0.9]]])
    judged = np.array([[[0.9], [0.5]], [[0.2], [0.8]]])
    tuned, shared, gain = tuned_minus_shared(chosen, judged)
    assert (tuned, shared) == ([0, 1], 0)
    np.testing.assert_allclose(gain, [[0.0], [0.3]])


def test_sensitivity_needs_several_environments(finished, crossed):
    assert sensitivity_table(arenas(read_study(finished))) is None
    table = sensitivity_table(arenas(read_study(crossed)))
    assert len(table) == 2 * 2 + 1
    assert table["environment"].tolist()[-1] == "all"


def test_a_setting_in_words(finished):
    [arena] = arenas(read_study(finished))
    assert arena.describe(arena.winner) == "PPO with learning rate 0.005 and entropy coef 0.03"


@pytest.mark.parametrize("split", ["train", "test"])
def test_scores_are_those_of_the_results(finished, split):
    study = read_study(finished)
    [arena] = arenas(study)
    of_agent = study.results.set_index("agent")[f"{split}_normalised"]
    assert arena.scores(split)[2, 0, 3] == of_agent[arena.agents[2, 0, 3]]


def test_agents_worse_than_random_are_counted(tmp_path):
    """With a weight of 30 every agent's score is near -0.5, without it near 1."""
    [arena] = arenas(read_study(synthetic.make(tmp_path / "sweep", weights=(0.0, 30.0), seeds=8)))
    assert arena.table()["below_random"].tolist() == [8] * 6
