"""How much is lost where one setting serves many environments: tuned for each, minus tuned for all.

After Patterson et al. 2024, "A Method for Evaluating Hyperparameter Sensitivity in Reinforcement Learning" (arXiv
2412.07165), with the choice made on some seeds and judged on the others.
"""

import numpy as np
import pandas as pd

from jaxmoe.study.answer import signed
from jaxmoe.study.arena import Arena, place_words
from jaxmoe.study.statistics import Scores, interval, iqm, mean


def tuned_minus_shared(chosen: Scores, judged: Scores) -> tuple[list[int], int, Scores]:
    """The best setting of each task, the best on average, and how much better the former are.

    Args:
        chosen: scores on the runs that settings are chosen on, [settings, tasks, runs].
        judged: on the others, [settings, tasks, other runs].

    Returns:
        Positions of the best settings, the position of the shared one, and the differences, [tasks, other runs].
    """
    quality = iqm(chosen[:, :, None, :])  # [settings, tasks]
    tuned = [int(position) for position in np.argmax(quality, axis=0)]
    shared = int(np.argmax(quality.mean(axis=1)))
    gain = np.stack([judged[position, task] - judged[shared, task] for task, position in enumerate(tuned)])
    return tuned, shared, gain


def sensitivity_table(arenas: list[Arena]) -> pd.DataFrame | None:
    """One row per environment, the last over all; nothing where settings do not meet several environments."""
    first = arenas[0]
    if any(not arena.settings.equals(first.settings) or arena.runs != first.runs for arena in arenas):
        return None
    if sum(arena.tasks for arena in arenas) < 2 or len(first.settings) < 2:
        return None
    scores = np.concatenate([arena.scores("train") for arena in arenas], axis=1)
    tuned, shared, gain = tuned_minus_shared(scores[..., first.chosen_on], scores[..., first.judged_on])
    places = [place_words(arena, 0, task) for arena in arenas for task in range(arena.tasks)]
    rows = [
        {
            "environment": place,
            "tuned there": first.describe(position),
            "its score": f"{iqm(scores[position, task, first.judged_on][None]):.3f}",
            "lost with the shared setting": signed(interval(mean, gain[task][None], 2000)),
        }
        for task, (place, position) in enumerate(zip(places, tuned, strict=True))
    ]
    whole = {"environment": "all", "tuned there": f"shared: {first.describe(shared)}"}
    whole |= {"its score": f"{iqm(scores[shared][:, first.judged_on]):.3f}"}
    whole |= {"lost with the shared setting": signed(interval(mean, gain, 2000))}
    return pd.DataFrame([*rows, whole])
