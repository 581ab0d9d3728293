"""The winner trained again, on seeds that chose nothing: how much of its score was luck?"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from jaxmoe.analysis.intervals import Estimate
from jaxmoe.analysis.ranking import Ranking
from jaxmoe.analysis.statistics import interval, iqm
from jaxmoe.analysis.tables import Tables
from jaxmoe.experiment import folder
from jaxmoe.experiment.plan import IDENTITY, make_round, members, phases_now
from jaxmoe.experiment.rounds import Round, Settled, current_spec
from jaxmoe.experiment.search import require_few
from jaxmoe.experiment.tables import BEHAVIOUR, MADE, Contents, Made
from jaxmoe.experiment.trained import stacked, trained_agents
from jaxmoe.table import ExpertTable
from jaxmoe.training.keys import CONFIRMATION
from jaxmoe.training.storage import Storage
from jaxmoe.training.stored import parquet
from jaxmoe.training.watching import watch

WATCHED = 8  # agents, at most


class Confirmation(NamedTuple):
    """The winner and what is left of its score on fresh seeds: interquartile means over seeds."""

    winner: str  # in words
    measure: str  # of the scores
    chosen_by: str  # the split of the prompts
    chosen: Estimate  # on these prompts and the seeds that it was chosen on
    fresh: dict[str, Estimate]  # of each split, on the fresh seeds; nothing while these are not all trained


def confirmation(storage: Storage, contents: Contents, ranking: Ranking, position: int, seeds: int) -> Round | None:
    """The round that fresh seeds of a configuration need; none if they are planned."""
    agents = ranking.tables.agents.set_index("agent", drop=False).loc[ranking.agents[position][:, 0].tolist()]
    first = agents.iloc[0]
    identity = [str(first["algorithm"]), str(first["scenario"]), int(first["configuration"])]
    identity += sorted(int(environment) for environment in agents["environment"])
    why = {"configuration": identity, "env_steps": contents.spec.env_steps, "seeds": seeds}
    if confirmed_seeds(contents.rounds, why) >= seeds:
        return None
    return confirmation_round(folder.settled(storage), agents, seeds, why, contents.rounds)


def confirmation_of(ranking: Ranking, position: int, again: Ranking | None) -> Confirmation:
    """What is left of the score of a configuration; nothing is said while its fresh seeds are not all trained."""
    chosen = interval(iqm, ranking.scores(ranking.tables.chooses)[position][:, ranking.chosen_on])
    fresh: dict[str, Estimate] = {}
    if again is not None:
        fresh = {split: interval(iqm, again.scores(split)[0]) for split in again.tables.splits}
    return Confirmation(ranking.describe(position), ranking.tables.measure, ranking.tables.chooses, chosen, fresh)


def keep_behaviour(
    storage: Storage, contents: Contents, own: Tables, before: pd.DataFrame | None, table: ExpertTable
) -> None:
    """Watch confirmed agents at work, and keep what they did beside the tables."""
    numbers = own.results.sort_values(["environment", "seed"])["agent"].tolist()
    agents = trained_agents(storage, contents, own.results, numbers)
    same_environment = [agent for agent in agents if agent.params == agents[0].params][:WATCHED]
    numbers = [agent.number for agent in same_environment]
    rows = watch(agents[0].job.signature, agents[0].params, stacked(same_environment), numbers, table)
    rows.insert(0, "scenario", str(own.results["scenario"].iloc[0]))
    if before is not None:
        rows = pd.concat([before[before["scenario"] != rows["scenario"].iloc[0]], rows], ignore_index=True)
    made = Made(storage, MADE)
    made.write(BEHAVIOUR, parquet(rows))
    made.close()


def confirmation_round(
    settled: Settled, chosen: pd.DataFrame, seeds: int, why: dict[str, Any], earlier: list[Round]
) -> Round:
    """A round that trains a configuration again, in all its environments, on seeds of a purpose of their own.

    Args:
        settled: the experiment.
        chosen: rows of the plan: one agent in each environment.
        seeds: how many.
        why: what was asked for.
        earlier: all rounds so far.
    """
    have = confirmed_seeds(earlier, why)
    identity = list(IDENTITY)
    all_members = members(current_spec(settled.spec, earlier), settled.table)
    by_number = {(m.point.algorithm, m.point.scenario, m.configuration, m.environment): m for m in all_members}
    require_few(len(chosen) * seeds, settled.spec.evaluations)
    picked = [by_number[tuple(row)] for row in chosen[identity].itertuples(index=False, name=None)]
    wanted = [(member, seed) for member in picked for seed in range(have, seeds)]
    return make_round(settled, len(earlier), "confirmation", why, wanted, earlier, phases_now(earlier), CONFIRMATION)


def confirmed_seeds(rounds: Iterable[Round], why: dict[str, Any]) -> int:
    """Seeds on which a configuration is planned again, for as many env steps, so far."""
    same = ("configuration", "env_steps")
    own = [each for each in rounds if each.kind == "confirmation" and all(each.why[key] == why[key] for key in same)]
    return 1 + max((int(each.agents["seed"].max()) for each in own), default=-1)
