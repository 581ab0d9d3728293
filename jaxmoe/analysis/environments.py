"""Environment by environment: where the winner beats the one-slot optimum and the strongest rule, and by how much."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxmoe.analysis.answer import NAMES, ON_PROMPTS, WINNER, signed
from jaxmoe.analysis.charts import heat_cells
from jaxmoe.analysis.comparison import against_baselines, family
from jaxmoe.analysis.intervals import Estimate
from jaxmoe.analysis.ranking import Ranking, environment_words, listed, value, words
from jaxmoe.analysis.style import COLOURS, DASHES, INK, MARKERS, Drawing, canvas, label_of
from jaxmoe.table.splits import told


class ByEnvironment(NamedTuple):
    """How far the winner is ahead in each environment."""

    leads: pd.DataFrame  # one row per environment, split and rival: its numbers, split, policy, qos, ahead, low, high
    axes: list[str]  # what differs between environments
    rivals: list[str]  # baselines that are looked at
    cells: pd.DataFrame  # one row per environment, as cells of a page
    chosen_by: str  # the split that figures show

    def sentences(self, splits: list[str]) -> list[str]:
        """In how many environments the winner is ahead, level and behind: where the interval lies beside 0, or not."""
        return [self._sentence(split, rival) for rival in self.rivals for split in splits]

    def of(self, split: str, rival: str) -> pd.DataFrame:
        """The rows of one split and rival."""
        return self.leads[(self.leads["split"] == split) & (self.leads["policy"] == rival)]

    def _sentence(self, split: str, rival: str) -> str:
        rows = self.of(split, rival)
        counts = {"ahead": int((rows["low"] > 0).sum()), "behind": int((rows["high"] < 0).sum())}
        counts["level"] = len(rows) - sum(counts.values())
        said = listed([f"{word} in {counts[word]}" for word in ("ahead", "level", "behind") if counts[word]])
        return f"against {rival} {ON_PROMPTS[split]}, of {len(rows)} environments {said}"


def by_environment(ranking: Ranking, strongest_rule: str | None) -> ByEnvironment | None:
    """Compare the winner in each environment; nothing where it meets but one, or no baseline.

    Args:
        ranking: configurations that meet several environments.
        strongest_rule: the best baseline, over all environments, of those that know no more than a user can.
    """
    if ranking.tasks < 2 or strongest_rule is None:
        return None
    bounds = [name for name, facts in ranking.tables.families.items() if not facts.deployable]
    rivals = [*bounds[:1], strongest_rule]
    numbers = _numbers(ranking)
    leads, cells = [], []
    for task in range(ranking.tasks):
        found = _estimates(ranking, task)
        line: dict[str, object] = {"environment": environment_words(ranking, ranking.winner, task)}
        for split in ranking.tables.splits:
            qos = found[split, WINNER, "qos"].mean
            cells_of_split: dict[str, object] = {f"QoS, {NAMES[split]}": (f"{qos:.3f}", qos)}
            for rival in rivals:
                lead = found[split, rival, "ahead"]
                cells_of_split[f"ahead of {rival}, {NAMES[split]}"] = (signed(lead), lead.mean)
                row = {**numbers.iloc[task].to_dict(), "split": split, "policy": rival, "qos": qos}
                leads.append({**row, "ahead": lead.mean, "low": lead.low, "high": lead.high})
            line |= cells_of_split if split in told(ranking.tables.splits) else {}
        cells.append(line)
    return ByEnvironment(
        pd.DataFrame(leads), [str(name) for name in numbers], rivals, pd.DataFrame(cells), ranking.tables.chooses
    )


def environment_charts(found: ByEnvironment, name: str) -> list[Drawing]:
    """How far the winner is ahead of each rival: a map over two numbers of the environment, or a line over one."""
    if len(found.axes) == 2:
        return [_map(found, rival, name) for rival in found.rivals]
    return [_line(found, name)] if len(found.axes) == 1 else []


def _estimates(ranking: Ranking, task: int) -> dict[tuple[str, str, str], Estimate]:
    """The winner against every baseline in one environment, by split, policy and metric."""
    agents, environments = (numbers[ranking.winner, [task]] for numbers in (ranking.agents, ranking.environments))
    rows = against_baselines(ranking.tables, agents, environments, WINNER).to_dict("records")
    return {
        (row["split"], family(row["policy"]), row["metric"]): Estimate(row["mean"], row["low"], row["high"])
        for row in rows
    }


def _numbers(ranking: Ranking) -> pd.DataFrame:
    """What differs between the environments of the winner, one row per environment."""
    agents = ranking.tables.agents.set_index("agent").loc[ranking.agents[ranking.winner, :, 0].tolist()]
    names = [name for name in ranking.tables.environment_columns if len(set(agents[name])) > 1]
    return agents[names].reset_index(drop=True)


def _map(found: ByEnvironment, rival: str, name: str) -> Drawing:
    across, up = found.axes
    rows = found.of(found.chosen_by, rival)
    wide = rows.pivot_table(index=up, columns=across, values="ahead", sort=True)
    sure = rows.assign(sure=(rows["low"] > 0) | (rows["high"] < 0)).pivot_table(index=up, columns=across, values="sure")
    texts = [
        [f"{cell:+.3f}" if known else f"\N{ALMOST EQUAL TO} {cell:z.3f}" for cell, known in zip(*line, strict=True)]
        for line in zip(wide.to_numpy(), sure.to_numpy() > 0, strict=True)
    ]
    reach = max(float(wide.abs().max().max()), 1e-6)
    figure, axes = canvas(0.9 + 0.28 * len(wide))
    heat_cells(axes, wide.to_numpy(np.float64), np.array(texts), (-reach, reach))
    axes.set_xticks(np.arange(wide.shape[1]) + 0.5, [value(cell) for cell in wide.columns])
    axes.set_yticks(np.arange(wide.shape[0]) + 0.5, [value(cell) for cell in wide.index])
    axes.set_xlabel(words(across))
    axes.set_ylabel(words(up))
    caption = (
        f"QoS of the winner minus that of {rival}, {ON_PROMPTS[found.chosen_by]}; \N{ALMOST EQUAL TO} where its 95 % "
        "interval over seeds, prompts and episodes holds 0. The lighter, the further ahead."
    )
    return Drawing(f"{name}ahead_of_{rival}", f"Ahead of {rival}", caption, figure, found.leads)


def _line(found: ByEnvironment, name: str) -> Drawing:
    [axis] = found.axes
    figure, axes = canvas(2.2)
    for number, rival in enumerate(found.rivals):
        rows = found.of(found.chosen_by, rival).sort_values(axis)
        errors = [rows["ahead"] - rows["low"], rows["high"] - rows["ahead"]]
        axes.errorbar(
            rows[axis], rows["ahead"], yerr=errors, color=COLOURS[number], ls=DASHES[number], marker=MARKERS[number],
            ms=3, lw=1, label=label_of(rival),
        )  # fmt: skip
    axes.axhline(0, color=INK, lw=0.6)
    axes.set_xlabel(words(axis))
    axes.set_ylabel("QoS of the winner beyond")
    figure.legend(loc="outside upper left", ncols=2)
    where = ON_PROMPTS[found.chosen_by]
    caption = f"How far the winner is ahead {where}, with 95 % intervals over seeds, prompts and episodes."
    return Drawing(f"{name}ahead_of_baselines", "Ahead of baselines", caption, figure, found.leads)
