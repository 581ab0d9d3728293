"""Figures of what won: against the baselines, over training, over seeds, what it costs and whom it asks."""

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from jaxmoe.analysis.comparison import family, served, shared_reach
from jaxmoe.analysis.intervals import Estimate
from jaxmoe.analysis.ranking import Ranking
from jaxmoe.analysis.statistics import interval, iqm, performance_profile, profile_with_interval, with_interval
from jaxmoe.analysis.style import (
    COLOURS,
    DASHES,
    GRID,
    HEAT,
    INK,
    MARKERS,
    MUTED,
    PAPER,
    SPLIT_COLOURS,
    SPLIT_MARKERS,
    SPLIT_NAMES,
    WIDE_LABEL,
    Drawing,
    canvas,
    label_of,
    legend_columns,
    plain_numbers,
    slanted,
)
from jaxmoe.analysis.tables import measure_words
from jaxmoe.table.splits import SPLITS, choosing

CURVE_RESAMPLES = 1000
SHOWN_SUBSETS = 6
UNDERLAY = {"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.7}  # of text over dots
TRADED = ("qos", "score", "computing_cost", "transmission_cost", "latency_s", "energy_j")
BELOW_RULES = 0.15  # how far learning curves are shown below the lowest baseline, as a share of the baselines' span


def baseline_chart(found: pd.DataFrame, winner: str, measure: str, name: str) -> Drawing:
    """Every policy's score on train, validation and unseen prompts, best on the prompts that choose first."""
    rows = found[found["metric"] == measure]
    splits = [split for split in SPLITS if split in set(rows["split"])]
    order = rows[rows["split"] == choosing(splits)].sort_values("mean")["policy"].tolist()
    figure, axes = canvas(0.55 + 0.24 * len(order))
    for number, split in enumerate(splits):
        shift = 0.26 * ((len(splits) - 1) / 2 - number)
        part = rows[rows["split"] == split].set_index("policy").reindex(order)
        low, high = part["mean"] - part["low"], part["high"] - part["mean"]
        axes.errorbar(
            part["mean"], np.arange(len(order)) + shift, xerr=[low.clip(lower=0), high.clip(lower=0)],
            fmt=SPLIT_MARKERS[split], ms=3.5, lw=1, color=SPLIT_COLOURS[split], label=SPLIT_NAMES[split],
        )  # fmt: skip
    axes.set_yticks(range(len(order)), [label_of(policy, WIDE_LABEL) for policy in order])
    axes.get_yticklabels()[order.index(winner)].set_fontweight("bold")
    axes.set_xlabel(f"{measure_words(measure)}, mean and 95 % interval")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper right", ncols=3, handletextpad=0.3)
    requests = served(found)
    fewer = [f"{policy} the first {count:,}" for policy, count in requests.items() if count < max(requests.values())]
    caption = (
        "Means over requests with 95 % intervals over seeds, prompts and episodes; every policy serves the same "
        f"requests{''.join(f', {each}' for each in fewer)}."
    )
    return Drawing(f"{name}baselines", "The winner and every baseline", caption, figure, rows)


def curve_chart(ranking: Ranking, name: str) -> Drawing:
    """Interquartile mean over training of each algorithm's best configuration, with bands and baseline levels."""
    known = ("normalised", "qos")  # on the way, of an objective nothing else is known
    measure = ranking.tables.measure if ranking.tables.measure in known else "qos"
    figure, axes = canvas(2.5)
    frames = []
    chooses, best = ranking.tables.chooses, ranking.best_of("algorithm")
    lines = [(algorithm, position, chooses) for algorithm, position in best.items()]
    others = [split for split in ranking.tables.splits if split != chooses and (len(best) == 1 or split == "test")]
    lines[1:1] = [(lines[0][0], ranking.winner, split) for split in others]
    for number, (algorithm, position, split) in enumerate(lines):
        band = _band(ranking, position, split, measure)
        colour, dashes = _line_style(ranking, algorithm, split, number)
        label = f"{algorithm.upper()}, {SPLIT_NAMES[split]}"
        axes.fill_between(band["env_steps"], band["low"], band["high"], color=colour, alpha=0.2, lw=0)
        axes.plot(band["env_steps"], band["iqm"], color=colour, ls=dashes, label=label)
        if split == chooses and "kept" in band:
            share = band["kept"] / ranking.agents[position].size
            axes.scatter(band["env_steps"], band["iqm"], 60 * share, color=colour, lw=0, zorder=3)
        frames.append(band.assign(algorithm=algorithm, split=split))
    _draw_levels(axes, _look_levels(ranking, measure))
    axes.set_xscale("log")
    plain_numbers(axes.xaxis, matplotlib.ticker.EngFormatter(sep=""))
    axes.set_xlabel("environment steps of each agent")
    axes.set_ylabel(measure_words(measure))
    figure.legend(loc="outside upper left", ncols=2)
    caption = (
        f"Interquartile mean over {ranking.tasks * ranking.runs} agents, on the same requests at every point; the band "
        "is its 95 % interval over seeds, and over prompts and episodes as they are in the end. Dotted are the "
        f"baselines on {SPLIT_NAMES[chooses]}."
    )
    if "kept" in frames[0] and frames[0]["kept"].any():
        caption += " Dots show when the policies that were kept were learned: the larger, the more agents."
    return Drawing(f"{name}learning_curves", "Learning curves", caption, figure, pd.concat(frames, ignore_index=True))


def profile_chart(ranking: Ranking, name: str) -> Drawing:
    """Share of agents above each score: the best configuration of each algorithm, and all of its configurations."""
    scores, chooses = ranking.scores(ranking.tables.chooses), ranking.tables.chooses
    lowest, highest = np.nanquantile(scores, [0.01, 1.0])
    reach = max(highest - lowest, 0.05)
    thresholds = np.linspace(lowest - 0.02 * reach, highest + 0.02 * reach, 121)
    algorithms = ranking.configurations["algorithm"].to_numpy()
    figure, axes = canvas(2.3)
    frames = []
    for number, (algorithm, position) in enumerate(ranking.best_of("algorithm").items()):
        of_best, low, high = profile_with_interval(scores[position], thresholds)
        of_all = performance_profile(np.concatenate(list(scores[algorithms == algorithm]), axis=-1), thresholds)
        colour, text = _line_style(ranking, algorithm, chooses, number)[0], algorithm.upper()
        axes.fill_between(thresholds, low, high, color=colour, alpha=0.2, lw=0)
        axes.plot(thresholds, of_best, color=colour, label=f"{text}, best configuration")
        axes.plot(thresholds, of_all, color=colour, ls=DASHES[1], lw=1, label=f"{text}, all configurations")
        columns = {"best": of_best, "low": low, "high": high, "all": of_all}
        frames.append(pd.DataFrame({"algorithm": algorithm, "threshold": thresholds, **columns}))
    axes.ticklabel_format(useOffset=False)
    axes.set_xlabel(f"{measure_words(ranking.tables.measure)} on {SPLIT_NAMES[chooses]}")
    axes.set_ylabel("share of agents above it")
    figure.legend(loc="outside upper left", ncols=2)
    caption = "How many agents do better than a score: the further right, the better; a steep fall means equal agents."
    return Drawing(f"{name}profile", "Performance profile", caption, figure, pd.concat(frames, ignore_index=True))


def pareto_front(points: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows no other row betters: at least as good in `score`, `cost` and `latency_s`, and better in one.

    >>> pareto_front(pd.DataFrame({"score": [8, 7, 6.0], "cost": [0.2, 0.1, 0.2], "latency_s": [3, 3, 3.0]})).tolist()
    [True, True, False]
    """
    worth = points[["score", "cost", "latency_s"]].to_numpy(np.float64) * [1, -1, -1]
    no_worse = (worth[:, None] >= worth[None]).all(axis=2)
    better = (worth[:, None] > worth[None]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0))


def trade_off_table(ranking: Ranking) -> pd.DataFrame:
    """Score, cost and latency of each configuration and baseline, on the prompts that choose."""
    chooses = ranking.tables.chooses
    own = pd.DataFrame({name: ranking.scores(chooses, name).mean(axis=(1, 2)) for name in TRADED})
    own["policy"] = [ranking.describe(position) for position in range(len(own))]
    parts = [own.assign(kind="configuration")]
    others = _baseline_means(ranking, ranking.environments.ravel(), list(TRADED))
    if len(others):
        parts.append(others.reset_index(names="policy").assign(kind="baseline"))
    table = pd.concat(parts, ignore_index=True)
    table.insert(2, "cost", table.pop("computing_cost") + table.pop("transmission_cost"))
    return table.assign(pareto=pareto_front(table))


def trade_off_chart(table: pd.DataFrame, name: str) -> Drawing:
    """Score against cost, the latency as colour, and whom nobody betters."""
    figure, axes = canvas(2.6)
    axes.grid(visible=True)
    limits = {"vmin": table["latency_s"].min(), "vmax": max(table["latency_s"].max(), table["latency_s"].min() + 1e-3)}
    for kind, marker, size in (("configuration", "o", 14), ("baseline", "D", 20)):
        part = table[table["kind"] == kind]
        edges = [INK if front else "none" for front in part["pareto"]]
        dots = axes.scatter(
            part["cost"], part["score"], c=part["latency_s"], cmap=HEAT, marker=marker, s=size, edgecolors=edges,
            linewidths=0.8, **limits,
        )  # fmt: skip
    named = table[table["kind"] == "baseline"].sort_values("score")
    low, high = axes.get_ylim()
    heights = spread(named["score"].to_numpy(np.float64), 0.055 * (high - low))
    if len(heights):
        axes.set_ylim(min(low, heights[0]), max(high, heights[-1] + 0.03 * (high - low)))
    left, right = axes.get_xlim()
    for policy, cost, at in zip(named["policy"], named["cost"], heights, strict=True):
        side = -1 if cost > left + 0.4 * (right - left) else 1
        axes.annotate(
            label_of(policy), (cost, at), xytext=(5 * side, 0), textcoords="offset points", va="center", fontsize=5.5,
            ha="left" if side > 0 else "right", color=MUTED, bbox=UNDERLAY,
        )  # fmt: skip
    axes.set_xlabel("computing and transmission cost of a request")
    axes.set_ylabel("score of its text")
    bar = figure.colorbar(dots, ax=axes, label="latency (s)", pad=0.02)
    bar.outline.set_visible(False)
    caption = (
        "Circles are configurations, diamonds baselines; a dark rim marks those that no other betters in score, cost "
        "and latency at once."
    )
    return Drawing(f"{name}trade_off", "Score, cost and latency", caption, figure, table)


def expert_table(ranking: Ranking) -> pd.DataFrame:
    """How often the winner and each baseline ask each expert, on the prompts that choose: one row per policy."""
    columns = [f"share_{expert}" for expert in ranking.tables.experts]
    own = {name: ranking.scores(ranking.tables.chooses, name)[ranking.winner].mean() for name in columns}
    shares = pd.concat(
        [
            pd.DataFrame([own], index=["winner"]),
            _baseline_means(ranking, ranking.environments[ranking.winner], columns).sort_index(),
        ]
    )
    shares.columns = pd.Index(ranking.tables.experts)
    return shares


def expert_chart(ranking: Ranking, name: str) -> Drawing:
    """How often each policy asks each expert."""
    shares = expert_table(ranking)
    figure, axes = canvas(0.6 + 0.22 * len(shares))
    heat_cells(axes, shares.to_numpy(), formatted("{:.0%}", shares.to_numpy()), (0.0, 1.0))
    names = [label_of(expert) for expert in shares.columns]
    axes.set_xticks(np.arange(shares.shape[1]) + 0.5, names, **slanted(names))
    axes.set_yticks(np.arange(len(shares)) + 0.5, [label_of(policy, WIDE_LABEL) for policy in shares.index])
    axes.invert_yaxis()
    caption = f"Share of requests, on {SPLIT_NAMES[ranking.tables.chooses]}, in which a policy asks an expert."
    return Drawing(f"{name}experts", "Which experts are asked", caption, figure, shares.reset_index())


def formatted(form: str, values: NDArray[np.float64]) -> NDArray[np.str_]:
    """A text for each value.

    >>> formatted("{:.0%}", np.array([[0.5, 1.0]])).tolist()
    [['50%', '100%']]
    """
    return np.array([form.format(cell) for cell in values.ravel()]).reshape(values.shape)


def heat_cells(axes: Axes, values: NDArray[np.float64], texts: NDArray[np.str_], limits: tuple[float, float]) -> None:
    """A heat map whose cells say their value where there are few."""
    axes.pcolormesh(values, cmap=HEAT, vmin=limits[0], vmax=limits[1], edgecolors=GRID, linewidth=0.3)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if values.size > 80:
        return
    for (row, column), cell in np.ndenumerate(values):
        if np.isfinite(cell):
            dark = cell < limits[0] + 0.55 * (limits[1] - limits[0])
            axes.text(
                column + 0.5, row + 0.5, str(texts[row, column]), ha="center", va="center", fontsize=5.8,
                color="white" if dark else "black",
            )  # fmt: skip


def whole_iqm(ranking: Ranking, split: str) -> Estimate:
    """Interquartile mean of a ranking's only configuration, over all seeds."""
    return interval(iqm, ranking.scores(split)[0])


def behaviour_charts(behaviour: pd.DataFrame, experts: list[str], name: str) -> list[Drawing]:
    """What the winner's agents do on the requests that they were watched at."""
    return [behaviour_chart(behaviour, experts, name), subset_chart(behaviour, experts, name)]


def behaviour_chart(behaviour: pd.DataFrame, experts: list[str], name: str) -> Drawing:
    """How often an expert is asked, against its own SNR and against its relevance."""
    figure, pair = canvas(2.2, columns=2)
    frames = []
    for axes, column, label in (
        (pair[0], "snr_db", "SNR of the expert's link (dB)"),
        (pair[1], "relevance", "relevance of the expert"),
    ):
        for number, expert in enumerate(experts):
            found = _asked_by(behaviour[f"{column}_{expert}"], behaviour[f"asked_{expert}"])
            axes.plot(
                found["at"], found["asked"], color=COLOURS[number % len(COLOURS)], ls=DASHES[number % len(DASHES)],
                marker=MARKERS[number % len(MARKERS)], ms=2.5, label=label_of(expert) if column == "snr_db" else None,
            )  # fmt: skip
            frames.append(found.assign(against=column, expert=expert))
        axes.set_xlabel(label)
        axes.set_ylim(-0.03, 1.03)
    pair[0].set_ylabel("share of requests asking it")
    figure.legend(loc="outside upper left", ncols=legend_columns(list(map(label_of, experts)), 4))
    caption = "Share of requests in which the winner's agents ask an expert, by what they observe of it."
    return Drawing(f"{name}behaviour", "What the policy looks at", caption, figure, pd.concat(frames))


def subset_chart(behaviour: pd.DataFrame, experts: list[str], name: str) -> Drawing:
    """Which subsets are asked, against the mean SNR of all links."""
    mean_snr_db = behaviour[[f"snr_db_{expert}" for expert in experts]].mean(axis=1)
    bins = pd.qcut(mean_snr_db, 8, labels=False, duplicates="drop")
    often = behaviour["subset"].value_counts().index[:SHOWN_SUBSETS]
    named = behaviour["subset"].where(behaviour["subset"].isin(often), "others")
    shares = pd.crosstab(bins, named, normalize="index")
    shares = shares[[subset for subset in (*often, "others") if subset in shares]]
    at = mean_snr_db.groupby(bins).mean()
    figure, axes = canvas(2.6)
    hatches = ("", "//", "..", "xx", "\\\\", "--", "")
    labels = [label_of(subset, WIDE_LABEL) for subset in shares]
    stack = axes.stackplot(at, shares.to_numpy().T, labels=labels, colors=COLOURS, edgecolor=PAPER, lw=0.4)
    for area, hatch in zip(stack, hatches, strict=False):
        area.set_hatch(hatch)
    axes.set_xlim(at.min(), at.max())
    axes.set_ylim(0, 1)
    axes.set_xlabel("mean SNR of all links, as observed (dB)")
    axes.set_ylabel("share of requests")
    figure.legend(loc="outside upper left", ncols=legend_columns(labels, 2))
    caption = "Which experts the winner's agents ask together, as channels get better."
    data = shares.reset_index(drop=True).assign(snr_db=at.to_numpy())
    return Drawing(f"{name}subsets", "Chosen subsets", caption, figure, data)


def spread(levels: np.ndarray, gap: float) -> np.ndarray:
    """Positions of labels: at least `gap` apart, and near their ascending levels."""
    placed = levels.astype(float).copy()
    for _ in range(100):
        for low in range(len(placed) - 1):
            missing = gap - (placed[low + 1] - placed[low])
            if missing > 1e-9:
                placed[low] -= missing / 2
                placed[low + 1] += missing / 2
    return placed


def _asked_by(observed: pd.Series, asked: pd.Series, bins: int = 8) -> pd.DataFrame:
    """Share asked in bins of equally many requests."""
    ranks = observed.rank(method="dense")
    which = pd.qcut(ranks, min(bins, int(ranks.max())), labels=False, duplicates="drop")
    return pd.DataFrame({"at": observed.groupby(which).mean(), "asked": asked.groupby(which).mean()})


def _line_style(ranking: Ranking, algorithm: str, split: str, number: int) -> tuple[str, object]:
    """Of an algorithm: the same colour in every figure; prompts that choose nothing have their own."""
    if split != ranking.tables.chooses:
        return (SPLIT_COLOURS["test"], DASHES[1]) if split == "test" else (SPLIT_COLOURS["validation"], DASHES[2])
    others = [colour for colour in COLOURS if colour != SPLIT_COLOURS["test"]]
    return others[list(ranking.best_of("algorithm")).index(algorithm) % len(others)], DASHES[number % len(DASHES)]


def _band(ranking: Ranking, position: int, split: str, measure: str) -> pd.DataFrame:
    """Interquartile mean of a configuration at each evaluation, with its interval.

    Seeds vary at each; what prompts and episodes add, which all agents share, is that of the last evaluation.
    """
    agents = ranking.agents[position]
    curves = ranking.tables.load_curves(agents.ravel().tolist())
    wide = curves.pivot_table(index="env_steps", columns="agent", values=f"{split}_{measure}")[agents.ravel()]
    over = np.asarray(wide.index)[:, None] > wide.apply(pd.Series.last_valid_index).to_numpy()
    wide = wide.where(~over, wide.ffill()).dropna()  # who has stopped is as it was
    wide = wide[wide.index > 0] if len(wide) > 1 else wide
    scores = wide.to_numpy(np.float64).reshape(len(wide), ranking.tasks, ranking.runs)
    value, low, high = with_interval(iqm, scores, CURVE_RESAMPLES)
    shared = shared_reach(ranking.tables, agents, ranking.environments[position], split, measure)
    reaches = (np.nan_to_num(value - low), np.nan_to_num(high - value))
    below, above = (np.hypot(own, of_all) for own, of_all in zip(reaches, shared, strict=True))
    band = pd.DataFrame({"env_steps": wide.index, "iqm": value, "low": value - below, "high": value + above})
    if "kept" in curves:
        band["kept"] = band["env_steps"].map(curves[curves["kept"]].groupby("env_steps").size()).fillna(0).astype(int)
    return band


def _look_levels(ranking: Ranking, measure: str) -> pd.Series:
    """Of each baseline the mean over the winner's environments, on the requests that curves are of, ascending."""
    tables, environments = ranking.tables, ranking.environments[ranking.winner]
    baselines = tables.baselines
    if not len(baselines):
        return pd.Series(dtype=np.float64)
    rows = baselines[(baselines["split"] == tables.chooses) & baselines["environment"].isin(environments)]
    rows = rows[rows["by"] == ("look" if (rows["by"] == "look").any() else "prompts")]  # older folders have no looks
    named = rows["policy"] if len(environments) == 1 else rows["policy"].map(family)
    sums = rows.astype({"qos": np.float64}).groupby(["environment", named], sort=False)[["qos", "requests"]].sum()
    sums["mean"] = sums["qos"] / sums["requests"]
    means = sums.pivot_table(index="policy", columns="environment", values="mean")
    if measure == "normalised":
        ends = {level: name for name, level in tables.levels(environments.tolist()).items()}
        worst, best = (means[means.index.map(family) == ends[level]].iloc[0] for level in (0.0, 1.0))
        means = (means - worst) / (best - worst)
    return means.dropna().mean(axis=1).sort_values()


def _draw_levels(axes: Axes, levels: pd.Series) -> None:
    """Baselines as dotted lines; names stand beside them where they do not overlap."""
    if not len(levels):
        return
    low, high = axes.get_ylim()
    least, most = float(levels.min()), max(high, float(levels.max()))
    low = max(min(low, least), least - BELOW_RULES * (most - least))
    axes.set_ylim(low, most + 0.02 * (most - low))
    high = most
    heights = spread(levels.to_numpy(), 0.055 * (high - low))
    for policy, level, at in zip(levels.index, levels, heights, strict=True):
        axes.axhline(level, color=MUTED, lw=0.7, ls=":")
        axes.annotate(
            label_of(policy), (1.0, at), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
            va="center", fontsize=5.5, color=MUTED, annotation_clip=False,
        )  # fmt: skip


def _baseline_means(ranking: Ranking, environments: NDArray[np.int64], metrics: list[str]) -> pd.DataFrame:
    """Means of metrics over requests, on the prompts that choose: one row per family of baselines."""
    baselines = ranking.tables.baselines
    if not len(baselines):
        return pd.DataFrame(columns=metrics, dtype=np.float64)
    rows = baselines[(baselines["split"] == ranking.tables.chooses) & (baselines["by"] == "prompts")]
    rows = rows[rows["environment"].isin(environments)]
    groups = rows.astype(dict.fromkeys(metrics, np.float64)).groupby(rows["policy"].map(family))
    return groups[metrics].sum().div(groups["requests"].sum(), axis=0)
