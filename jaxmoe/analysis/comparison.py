"""Policies side by side: agents and baselines on the same requests, with intervals over seeds, prompts and episodes."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxmoe.analysis.intervals import Brought, Estimate, Means, UnitSums, estimate, estimate_and_share, told_apart
from jaxmoe.table.splits import told

if TYPE_CHECKING:
    from rich.table import Table

    from jaxmoe.analysis.ranking import Ranking
    from jaxmoe.analysis.tables import Tables

KEYS = ("agent", "environment", "policy", "split", "by", "unit", "requests")
COLUMNS = ("split", "policy", "metric", *Estimate._fields, "requests", "deployable", "seeds", "from_seeds")


def family(policy: object) -> str:
    """A policy's name without what was chosen for it, such as the subset.

    >>> family("fixed_subset(6)"), family("ppo (8 agents)")
    ('fixed_subset', 'ppo')
    """
    return str(policy).partition("(")[0].strip()


def normalised_score(means: Means, worst: Means, best: Means) -> Means:
    """`(QoS - worst)/(best - worst)` from the means of three policies, the QoS first.

    >>> normalised_score(np.array([0.5]), np.array([0.3]), np.array([0.7])).round(6).tolist()
    [0.5]
    """
    return (means[..., :1] - worst[..., :1]) / (best[..., :1] - worst[..., :1])


def against_baselines(
    tables: "Tables", agents: NDArray[np.int64], environments: NDArray[np.int64], name: str
) -> pd.DataFrame:
    """One row per split, policy and metric, with `COLUMNS`: the 95 % interval from `low` to `high`, and what it is of.

    Beside the metrics of an evaluation there are the `normalised` score, and how far the agents are `ahead` in QoS, of
    which the interval is paired: all policies meet the same requests, or the first of them where to act takes long.
    Of several environments each counts alike.
    `deployable` says of a baseline whether it reads no more than an agent may observe, `seeds` of agents how many there
    are in an environment, and `from_seeds` which share of the squared length of the interval comes from them.

    Args:
        tables: of the experiment.
        agents: numbers of the agents of a configuration, [tasks, runs].
        environments: of each task.
        name: of the agents, as a policy.
    """
    evaluation = tables.load_evaluation(agents.ravel().tolist())
    metrics = [str(column) for column in evaluation if column not in KEYS]
    rows: list[tuple[object, ...]] = []
    for split in tables.splits:
        of_split = evaluation[evaluation["split"] == split]
        own = [brought_by(of_split[of_split["agent"].isin(numbers)], "agent", metrics) for numbers in agents]
        policies = {name: own, **_baseline_evaluations(tables.baselines, split, environments, metrics)}
        rows += compared(split, policies, own, metrics, tables.levels(environments.tolist()))
    return comparison_frame(rows, {family: facts.deployable for family, facts in tables.families.items()})


def margin(ranking: "Ranking", split: str) -> Estimate | None:
    """By how much the winner is better than the second, on the seeds that choose nothing: a mean with its interval.

    Both serve the same requests. Of a normalised score it is the difference of the two; of what is better the smaller
    it is, how much less. Nothing where there is no second, no seed that has not chosen, or it cannot be told.
    """
    if len(ranking.order) < 2 or ranking.runs < 2:
        return None
    tables, is_score = ranking.tables, ranking.tables.measure == "normalised"
    metric = "qos" if is_score else tables.measure
    sides: list[list[Brought]] = []
    for position in ranking.order[:2]:
        agents = ranking.agents[position][:, ranking.measured_on]
        rows = tables.load_evaluation(agents.ravel().tolist())
        rows = rows[rows["split"] == split]
        sides.append([brought_by(rows[rows["agent"].isin(numbers)], "agent", [metric]) for numbers in agents])
        if is_score:
            environments = ranking.environments[position]
            baselines = _baseline_evaluations(tables.baselines, split, environments, [metric])
            levels = tables.levels(environments.tolist())
            of_level = {levels.get(family(name)): each for name, each in baselines.items()}
            sides[-1] += [*of_level[0.0], *of_level[1.0]]
    first, second = sides
    statistic, evaluations = (_normalised_lead, [*first, *second]) if is_score else (_lead, [*second, *first])
    found = estimate(statistic, evaluations)[0]
    low, high = sorted(tables.sign * end for end in (found.low, found.high))
    return Estimate(tables.sign * found.mean, low, high) if np.isfinite(found.mean) else None


def _normalised_lead(*means: Means) -> Means:
    """From halves, each as `_normalised` takes it: how much better the first scores than the second."""
    first, second = np.split(np.stack(means), 2)
    return _normalised(*first) - _normalised(*second)


def shared_reach(
    tables: "Tables", agents: NDArray[np.int64], environments: NDArray[np.int64], split: str, measure: str
) -> tuple[float, float]:
    """How far the interval that prompts and episodes alone give agents, which all meet the same, reaches down and up.

    Args:
        tables: of the experiment.
        agents: numbers of the agents of a configuration, [tasks, runs].
        environments: of each task.
        split: of the prompts.
        measure: `qos` or `normalised`.
    """
    evaluation = tables.load_evaluation(agents.ravel().tolist())
    rows = evaluation[evaluation["split"] == split]
    own = [brought_by(rows[rows["agent"].isin(numbers)], "agent", ["qos"]).as_one() for numbers in agents]
    baselines = _baseline_evaluations(tables.baselines, split, environments, ["qos"])
    policies = {"agents": own, **baselines}
    levels = tables.levels(environments.tolist())
    rows = comparison_frame(compared(split, policies, None, ["qos"], levels), {})
    found = rows[(rows["policy"] == "agents") & (rows["metric"] == measure)]
    mean, low, high = (float(found[name].sum()) for name in Estimate._fields)
    return (0.0, 0.0) if found["low"].isna().any() else (mean - low, high - mean)


def compared(
    split: str,
    policies: dict[str, list[Brought]],
    own: list[Brought] | None,
    metrics: Sequence[str],
    levels: Mapping[str, float],
) -> list[tuple[object, ...]]:
    """Rows of a comparison on one split, from what each policy brought in each environment.

    `levels` says which policies have a normalised score of 0 and of 1; it is missing where these are not told apart.
    """
    of_level = {
        level: evaluations for name, evaluations in policies.items() if (level := levels.get(family(name))) is not None
    }
    worst, best = of_level.get(0.0), of_level.get(1.0)
    apart = worst is not None and best is not None and all(map(told_apart, worst, best))
    rows: list[tuple[object, ...]] = []
    for policy, evaluations in policies.items():
        found = _estimated(metrics, _mean, evaluations)
        if own is not None:
            found |= _estimated(["ahead"], _lead, [*evaluations, *own])
        if worst is not None and best is not None:
            none = Estimate(np.nan, np.nan, np.nan), np.nan
            scores = _estimated(["normalised"], _normalised, [*evaluations, *worst, *best]) if apart else {}
            found["normalised"] = scores.get("normalised", none)
        requests = int(sum(each.prompts.counts[0].sum() for each in evaluations))
        seeds = min(len(each.prompts.counts) for each in evaluations)
        rows += [(split, policy, metric, *of, requests, seeds, share) for metric, (of, share) in found.items()]
    return rows


def comparison_frame(rows: list[tuple[object, ...]], deployable: Mapping[str, bool]) -> pd.DataFrame:
    """Rows of `compared` as a table; of baselines, by family, it is known whether they are deployable."""
    found = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "deployable"])
    facts = [deployable.get(family(policy)) for policy in found["policy"]]
    found.insert(COLUMNS.index("deployable"), "deployable", pd.Series(facts, dtype="boolean"))
    found["seeds"] = found["seeds"].astype("Int64").where(found["deployable"].isna())
    return found


def _estimated(
    names: Sequence[str], statistic: Callable[..., Means], evaluations: list[Brought]
) -> dict[str, tuple[Estimate, float]]:
    """Statistics by name, each with the share of its interval that comes from agents."""
    found, shares = estimate_and_share(statistic, evaluations)
    return dict(zip(names, zip(found, map(float, shares), strict=True), strict=True))


def brought_by(rows: pd.DataFrame, by: str, metrics: Sequence[str]) -> Brought:
    """An evaluation as arrays: rows by a column, units, metrics."""
    prompts, episodes = (rows[rows["by"] == kind] for kind in ("prompts", "episodes"))
    complete = prompts[by].nunique() == episodes[by].nunique()  # not where an older version trained some of the agents
    return Brought(sums_by(prompts, by, metrics), sums_by(episodes, by, metrics) if complete else None)


def sums_by(rows: pd.DataFrame, by: str, metrics: Sequence[str]) -> UnitSums:
    """Sums of an evaluation as arrays: rows by a column, units by their numbers, metrics."""
    who, names = pd.factorize(rows[by], sort=True)
    units = rows["unit"].to_numpy()
    shape = len(names), int(units.max(initial=-1)) + 1
    sums, counts = np.zeros((*shape, len(metrics))), np.zeros(shape)
    counts[who, units] = rows["requests"].to_numpy(np.float64)
    sums[who, units] = rows[list(metrics)].to_numpy(np.float64)
    return UnitSums(sums, counts)


def comparison(ranking: "Ranking") -> pd.DataFrame:
    """The winner and every baseline of a scenario: one row per split, policy and metric, with its keys in front."""
    position = ranking.winner
    agents = ranking.agents[position][:, ranking.measured_on]
    name = agents_name(str(ranking.configurations.iloc[position]["algorithm"]), agents.size)
    found = against_baselines(ranking.tables, agents, ranking.environments[position], name)
    keys: dict[str, str | int] = {"scenario": ranking.scenario}
    keys["algorithm"] = str(ranking.configurations.iloc[position]["algorithm"])
    keys |= {"configuration": int(ranking.configurations.iloc[position]["configuration"])}
    is_agent = found["policy"] == name
    for number, (key, value) in enumerate(keys.items()):
        found.insert(number, key, value if key == "scenario" else [value if own else None for own in is_agent])
    return found.astype({"configuration": "Int64"})


def agents_name(algorithm: str, count: int) -> str:
    """What agents are called beside other policies."""
    return f"{algorithm} ({count} agent{'s' if count > 1 else ''})"


def interval_words(policies: Sequence[str]) -> str:
    """What the intervals of these policies are over.

    >>> interval_words(["random", "ppo (8 agents)"]), interval_words(["random", "ppo (1 agent)"])
    ('over seeds, prompts and episodes', 'of this agent')
    """
    if any(policy.endswith("agents)") for policy in policies):
        return "over seeds, prompts and episodes"
    return "of this agent" if any(policy.endswith("(1 agent)") for policy in policies) else "over prompts and episodes"


def _baseline_evaluations(
    baselines: pd.DataFrame, split: str, environments: NDArray[np.int64], metrics: Sequence[str]
) -> dict[str, list[Brought]]:
    """What each baseline brought in each environment, as far as it is evaluated in all of them.

    In several environments another subset, or number of experts, can be the best: these go by the family's name.
    """
    if not len(baselines):
        return {}
    rows = baselines[(baselines["split"] == split) & baselines["environment"].isin(environments)]
    if len(environments) > 1:
        rows = rows.assign(policy=rows["policy"].map(family))
    found: dict[str, list[Brought]] = {}
    for policy, part in rows.groupby("policy", sort=False, observed=True):
        evaluations = {
            environment: brought_by(each, "policy", metrics) for environment, each in part.groupby("environment")
        }
        if set(evaluations) == set(environments.tolist()):
            found[str(policy)] = [evaluations[environment] for environment in environments.tolist()]
    return found


def _mean(*means: Means) -> Means:
    """Over tasks; of all metrics."""
    return np.mean(means, axis=0)


def _lead(*means: Means) -> Means:
    """How far the second half of the policies is ahead of the first, in QoS."""
    others, own = np.split(np.stack(means)[..., :1], 2)
    return (own - others).mean(axis=0)


def _normalised(*means: Means) -> Means:
    """From thirds: the policy, the worst and the best in each task."""
    own, worst, best = np.split(np.stack(means), 3)
    return normalised_score(own, worst, best).mean(axis=0)


def quality_table(comparison: pd.DataFrame, title: str, highlight: str | None = None) -> "Table":
    """How good each policy is: mean QoS, and normalised score with its interval, best policy first.

    Where some have served fewer requests than others it says how many.
    """
    cells, splits = _cells(comparison), told(comparison["split"].unique())
    normalised = [split for (split, _, metric), of in cells.items() if metric == "normalised" and of.mean == of.mean]
    headings = [
        f"{split}\n{what}" for split in splits for what in (["QoS", "normalised"] if split in normalised else ["QoS"])
    ]
    requests = served(comparison)
    differ = len(set(requests.values())) > 1
    table = _table(title, [*headings, *(["requests"] if differ else [])])
    for policy in _by_quality(comparison):
        row: list[str] = []
        for split in splits:
            row.append(f"{cells[split, policy, 'qos'].mean:.3f}")
            if split in normalised:
                row.append(f"{cells[split, policy, 'normalised']:.3f}")
        row += [f"{requests[policy]:,}"] if differ else []
        table.add_row(policy, *row, style="bold" if policy == highlight else None)
    return table


def served(comparison: pd.DataFrame) -> dict[str, int]:
    """How many train requests each policy has served, by its name; of agents each."""
    rows = comparison.query("split == 'train' and metric == 'qos'")
    return dict(zip(rows["policy"].astype(str), rows["requests"].astype(int), strict=True))


def behaviour_table(comparison: pd.DataFrame, title: str, highlight: str | None = None) -> "Table":
    """What each policy does on the train prompts: score, costs, delay, energy, and how often it asks each expert."""
    cells = _cells(comparison)
    experts = [name for name in comparison["metric"].unique() if name.startswith("share_")]
    table = _table(title, ["score", "cost", "latency s", "energy J", "arrived"])
    for expert in experts:
        table.add_column(expert.removeprefix("share_"), justify="right", no_wrap=True)
    for policy in _by_quality(comparison):
        mean = {
            metric: found.mean for (split, name, metric), found in cells.items() if (split, name) == ("train", policy)
        }
        row = [
            f"{mean['score']:.2f}",
            f"{mean['computing_cost'] + mean['transmission_cost']:.3f}",
            f"{mean['latency_s']:.1f}",
            f"{mean['energy_j']:.1f}",
            f"{mean['arrived_share']:.0%}",
            *(f"{mean[expert]:.0%}" for expert in experts),
        ]
        table.add_row(policy, *row, style="bold" if policy == highlight else None)
    return table


def _table(title: str, headings: list[str]) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("policy", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=" " not in heading)
    return table


def _cells(comparison: pd.DataFrame) -> dict[tuple[str, str, str], Estimate]:
    columns = [comparison[name].tolist() for name in ("split", "policy", "metric", "mean", "low", "high")]
    return {(split, policy, metric): Estimate(*found) for split, policy, metric, *found in zip(*columns, strict=True)}


def _by_quality(comparison: pd.DataFrame) -> list[str]:
    qos = comparison.query("split == 'train' and metric == 'qos'")
    return qos.sort_values("mean", ascending=False)["policy"].tolist()
