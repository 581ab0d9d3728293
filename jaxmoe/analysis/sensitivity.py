"""How much is lost where one configuration serves many environments: tuned for each, minus tuned for all.

After Patterson et al. 2024, "A Method for Evaluating Hyperparameter Sensitivity in Reinforcement Learning" (arXiv
2412.07165), with the choice made on some seeds and measured on the others.
"""

import numpy as np
import pandas as pd

from jaxmoe.analysis.answer import signed
from jaxmoe.analysis.ranking import Ranking, environment_words
from jaxmoe.analysis.statistics import Scores, interval, iqm, mean


def tuned_minus_shared(chosen: Scores, measured: Scores) -> tuple[list[int], int, Scores]:
    """The best configuration of each task, the best on average, and how much better the former are.

    Args:
        chosen: scores on the runs that configurations are chosen on, [configurations, tasks, runs].
        measured: on the others, [configurations, tasks, other runs].

    Returns:
        Positions of the best settings, the position of the shared one, and the differences, [tasks, other runs].
    """
    quality = iqm(chosen[:, :, None, :])  # [configurations, tasks]
    tuned = [int(position) for position in np.argmax(quality, axis=0)]
    shared = int(np.argmax(quality.mean(axis=1)))
    gain = np.stack([measured[position, task] - measured[shared, task] for task, position in enumerate(tuned)])
    return tuned, shared, gain


def sensitivity_table(rankings: list[Ranking]) -> pd.DataFrame | None:
    """One row per environment, the last over all; nothing where configurations do not meet several environments."""
    first = rankings[0]
    if any(
        not ranking.configurations.equals(first.configurations) or ranking.runs != first.runs for ranking in rankings
    ):
        return None
    if sum(ranking.tasks for ranking in rankings) < 2 or len(first.configurations) < 2:
        return None
    scores = np.concatenate([ranking.scores(first.tables.chooses) for ranking in rankings], axis=1)
    worth = first.tables.sign * scores
    tuned, shared, gain = tuned_minus_shared(worth[..., first.chosen_on], worth[..., first.measured_on])
    names = [environment_words(ranking, 0, task) for ranking in rankings for task in range(ranking.tasks)]
    rows = [
        {
            "environment": name,
            "tuned there": first.describe(position),
            "its score": f"{iqm(scores[position, task, first.measured_on][None]):.3f}",
            "lost with the shared configuration": signed(interval(mean, gain[task][None], 2000)),
        }
        for task, (name, position) in enumerate(zip(names, tuned, strict=True))
    ]
    whole = {"environment": "all", "tuned there": f"shared: {first.describe(shared)}"}
    whole |= {"its score": f"{iqm(scores[shared][:, first.measured_on]):.3f}"}
    whole |= {"lost with the shared configuration": signed(interval(mean, gain, 2000))}
    return pd.DataFrame([*rows, whole])
