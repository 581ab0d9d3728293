"""The answer of an experiment: which configuration wins a scenario, how good it is, how sure that is, whom it beats."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxmoe.analysis import statistics
from jaxmoe.analysis.comparison import against_baselines, family
from jaxmoe.analysis.intervals import Estimate
from jaxmoe.analysis.ranking import Ranking, listed
from jaxmoe.analysis.remarks import strongest_deployable
from jaxmoe.analysis.statistics import improvement, interval
from jaxmoe.analysis.tables import BaselineFacts

WINNER = "winner"
OBSERVED = "relevance, usual lengths, channels"  # what the winner knows
NAMES = {"train": "train", "validation": "validation", "test": "unseen"}
ON_PROMPTS = {split: f"on {name} prompts" for split, name in NAMES.items()}


class Answer(NamedTuple):
    """What is said of a scenario's winner."""

    winner: str  # in words
    found: pd.DataFrame  # against every baseline: split, policy, metric, mean, low, high
    families: Mapping[str, BaselineFacts]
    chosen_by: str  # the split of the prompts
    chosen: Estimate  # interquartile mean on these prompts, on the seeds that it was chosen on
    measured: dict[str, Estimate]  # of each split, on the seeds that it was measured on
    aggregates: dict[str, Estimate]  # other measures on the same prompts, measured
    over_runner_up: Estimate | None  # probability that one of its agents is better

    def estimate(self, split: str, metric: str, policy: str = WINNER) -> Estimate | None:
        """A row of `found`."""
        rows = self.found[(self.found["split"] == split) & (self.found["metric"] == metric)]
        rows = rows[(rows["policy"] == policy) & rows["mean"].notna()]
        return Estimate(*(float(rows[name].iloc[0]) for name in Estimate._fields)) if len(rows) else None

    def strongest_rule(self) -> str | None:
        """The best baseline, on the prompts that choose, of those that know no more than a user can."""
        return strongest_deployable(self.found, self.chosen_by)

    def verdicts(self, splits: list[str]) -> list[str]:
        """Whom the winner is ahead of, level with and behind: a sentence for each split, or one if it is the same."""
        said = {split: text for split in splits if (text := self._verdict(split))}
        if len(said) == 2 and len(set(said.values())) == 1:
            return [f"On train and on unseen prompts it is {said['train']}."]
        return [f"{ON_PROMPTS[split].capitalize()} it is {text}." for split, text in said.items()]

    def _verdict(self, split: str) -> str:
        rows = self.found[(self.found["split"] == split) & (self.found["metric"] == "ahead")]
        rows = rows[rows["policy"] != WINNER].sort_values("mean", ascending=False)
        ahead, behind = rows[rows["low"] > 0], rows[rows["high"] < 0]
        level = rows.drop([*ahead.index, *behind.index])
        parts = [
            f"{word} {listed(part['policy'].tolist())}"
            for word, part in (("ahead of", ahead), ("level with", level), ("behind", behind))
            if len(part)
        ]
        return ", ".join(parts)


def answer(ranking: Ranking) -> Answer:
    """What is to be said of the winner of a ranking."""
    position, measured_on = ranking.winner, ranking.measured_on
    agents = ranking.agents[position][:, measured_on]
    chosen_by = ranking.tables.chooses
    scores = ranking.scores(chosen_by)[position]
    measures = {"mean": statistics.mean, "optimality gap": statistics.optimality_gap}
    if ranking.tasks > 1:
        measures["median over environments"] = statistics.median
    if ranking.tables.measure != "normalised":
        measures.pop("optimality gap")
    return Answer(
        winner=ranking.describe(position),
        found=against_baselines(ranking.tables, agents, ranking.environments[position], WINNER),
        families=ranking.tables.families,
        chosen_by=chosen_by,
        chosen=interval(statistics.iqm, scores[:, ranking.chosen_on]),
        measured={
            split: interval(statistics.iqm, ranking.scores(split)[position][:, measured_on])
            for split in ranking.tables.splits
        },
        aggregates={name: interval(measure, scores[:, measured_on]) for name, measure in measures.items()},
        over_runner_up=_over_runner_up(ranking),
    )


def baseline_table(found: Answer, splits: list[str]) -> pd.DataFrame:
    """The winner and every baseline, best on the first of these splits first, as cells of a page."""
    rows = found.found[(found.found["split"] == splits[0]) & (found.found["metric"] == "qos")]
    lines = []
    for policy in rows.sort_values("mean", ascending=False, kind="stable")["policy"]:
        line: dict[str, object] = {"policy": policy, "knows": OBSERVED if policy == WINNER else ""}
        if family(policy) in found.families:
            line["knows"] = found.families[family(policy)].knows
        for split in splits:
            which = NAMES[split]
            qos, score = found.estimate(split, "qos", policy), found.estimate(split, "normalised", policy)
            line[f"QoS, {which}"] = "" if qos is None else f"{qos.mean:.3f}"
            if score is not None:
                line[f"normalised, {which}"] = f"{score:.3f}"
            lead = found.estimate(split, "ahead", policy)
            line[f"winner ahead by, {which}"] = "" if policy == WINNER or lead is None else signed(lead)
        lines.append(line)
    return pd.DataFrame(lines)


def signed(lead: Estimate) -> str:
    """A difference with its interval: `+` or a minus sign in front where the interval is on one side of 0.

    >>> signed(Estimate(0.01, 0.004, 0.02)), signed(Estimate(0.001, -0.004, 0.02))
    ('+0.010 [0.004, 0.020]', '≈ 0.001 [-0.004, 0.020]')
    """
    text = f"{abs(lead.mean):.3f} [{lead.low:.3f}, {lead.high:.3f}]"
    if lead.low > 0:
        return f"+{text}"
    return f"\N{MINUS SIGN}{text}" if lead.high < 0 else f"\N{ALMOST EQUAL TO} {lead:z.3f}"


def _over_runner_up(ranking: Ranking) -> Estimate | None:
    if len(ranking.order) < 2 or ranking.runs < 2:
        return None
    worth = ranking.tables.sign * ranking.scores(ranking.tables.chooses)
    first, second = (worth[position][:, ranking.measured_on] for position in ranking.order[:2])
    return improvement(first, second) if np.isfinite(first).all() and np.isfinite(second).all() else None
