"""How the score depends on what was searched: pair by pair, and axis by axis."""

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from jaxmoe.analysis.charts import formatted, heat_cells
from jaxmoe.analysis.importance import Importance, importance
from jaxmoe.analysis.matters import Matters
from jaxmoe.analysis.ranking import Ranking, value, words
from jaxmoe.analysis.statistics import interval, iqm, mean
from jaxmoe.analysis.style import COLOURS, HEAT, MUTED, SPLIT_NAMES, Drawing, canvas, number_axis
from jaxmoe.analysis.tables import measure_words

MOST_PAIRS = 6  # of an algorithm, those that matter most
MOST_AXES = 8
GRID_VALUES = 16  # an axis of so many values is drawn as one
BINS = 8  # of a sampled axis
RESAMPLES = 1000


class Points:
    """Every configuration of an algorithm in every environment, on the prompts that choose."""

    def __init__(self, ranking: Ranking, algorithm: str) -> None:
        """Gather them from a ranking."""
        tables = ranking.tables
        chosen = np.flatnonzero((ranking.configurations["algorithm"] == algorithm).to_numpy())
        columns = [*tables.configuration_columns, *tables.environment_columns]
        first = ranking.agents[chosen][:, :, 0].ravel()
        self.algorithm, self.measure, self.where = algorithm, tables.measure, SPLIT_NAMES[tables.chooses]
        self.table = tables.agents.set_index("agent").loc[first, columns].reset_index(drop=True).infer_objects()
        self.axes = [str(name) for name in self.table if len(set(self.table[name].dropna())) > 1][:MOST_AXES]
        self.scores: NDArray[np.float64] = ranking.scores(tables.chooses)[chosen].reshape(len(first), ranking.runs)
        self.quality = iqm(self.scores[:, None, :])
        self.diverged = int(ranking.diverged()[chosen].sum())
        own = ranking.order[np.isin(ranking.order, chosen)]
        self._good = np.repeat(np.isin(chosen, own[: (len(own) + 1) // 2]), ranking.tasks)
        self._measured_on, self._environments = ranking.measured_on, ranking.tasks

    def importance(self) -> Matters | None:
        """Which axes matter."""
        found = importance(self.table[self.axes], self.scores)
        if found is None:
            return None
        good = self._among_good() if found.tells else None
        return Matters(self.algorithm, found, good, self._environments, self.diverged)

    def _among_good(self) -> Importance | None:
        """The same among the better half in the ranking, on seeds that did not choose it: its luck is not measured."""
        if self.scores.shape[1] < 2 or self._good.all():
            return None
        return importance(self.table.loc[self._good, self.axes], self.scores[self._good, self._measured_on])


def points_of(ranking: Ranking) -> list[Points]:
    """Of each algorithm of a ranking, where anything varies."""
    found = [Points(ranking, str(algorithm)) for algorithm in dict.fromkeys(ranking.configurations["algorithm"])]
    return [points for points in found if points.axes]


def landscape_charts(points: Points, found: Matters | None, name: str) -> list[Drawing]:
    """The score over each pair of axes, or along the only one; the pairs that matter most first."""
    if len(points.axes) == 1:
        return [_line_chart(points, points.axes[0], name)]
    weight: dict[str, float] = {}
    if found is not None and found.everywhere.tells:
        effects = found.everywhere.effects
        weight = dict(zip(effects["axes"], effects["share"], strict=True))

    def matters(pair: tuple[str, str]) -> float:
        return -(weight.get(pair[0], 0) + weight.get(pair[1], 0) + weight.get(" x ".join(pair), 0))

    pairs = sorted(itertools.combinations(points.axes, 2), key=matters)[:MOST_PAIRS]
    charts = [_pair_chart(points, first, second, name) for first, second in pairs]
    sampled = [axis for axis in points.axes if not _is_grid(points.table[axis])]
    return charts + [_line_chart(points, axis, name) for axis in sampled]


def _pair_chart(points: Points, first: str, second: str, name: str) -> Drawing:
    figure, axes = canvas(2.5)
    title = f"{points.algorithm.upper()}: {words(first)} and {words(second)}"
    file = f"{name}landscape_{points.algorithm}_{first}_{second}"
    others = [axis for axis in points.axes if axis not in (first, second)]
    if _is_grid(points.table[first]) and _is_grid(points.table[second]):
        data = _draw_heat(axes, points, first, second)
        how = f"Interquartile mean over seeds on {points.where}"
        caption = how + (f", mean over {' and '.join(words(axis) for axis in others)}." if others else ".")
    else:
        data = points.table[[first, second]].assign(quality=points.quality)
        dots = axes.scatter(data[first], data[second], c=data["quality"], cmap=HEAT, s=12, linewidths=0)
        number_axis(axes, data[first].tolist())
        number_axis(axes, data[second].tolist(), horizontal=False)
        axes.set_xlabel(words(first))
        axes.set_ylabel(words(second))
        figure.colorbar(dots, ax=axes, pad=0.02).outline.set_visible(False)
        caption = (
            f"Each dot is a configuration, the lighter the larger (interquartile mean over seeds on {points.where})."
        )
    axes.set_title(measure_words(points.measure), loc="right", fontsize=6.5, color=MUTED)
    return Drawing(file, title, caption, figure, data)


def _draw_heat(axes: Axes, points: Points, first: str, second: str) -> pd.DataFrame:
    data = points.table[[first, second]].assign(quality=points.quality)
    wide = data.pivot_table(index=second, columns=first, values="quality")
    wide = wide.reindex(index=_levels(data[second]), columns=_levels(data[first]))
    values = wide.to_numpy(np.float64)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    texts = formatted("{:.2f}" if high - low > 0.05 else "{:.3f}", values)
    heat_cells(axes, values, texts, (low, max(high, low + 1e-6)))
    axes.set_xticks(np.arange(wide.shape[1]) + 0.5, [value(cell) for cell in wide.columns])
    axes.set_yticks(np.arange(wide.shape[0]) + 0.5, [value(cell) for cell in wide.index])
    if wide.shape[1] > 8:
        axes.tick_params(axis="x", rotation=45)
    axes.set_xlabel(words(first))
    axes.set_ylabel(words(second))
    return data.groupby([first, second])["quality"].mean().reset_index()


def _line_chart(points: Points, axis: str, name: str) -> Drawing:
    """Partial dependence: the mean over all other axes, by value or in bins of equally many configurations."""
    figure, axes = canvas(2.2)
    column = points.table[axis]
    groups = column if _is_grid(column) else pd.qcut(column.rank(method="first"), BINS, labels=False)
    rows = []
    for numbers in points.table.groupby(groups, sort=True).groups.values():
        part = points.scores[np.asarray(numbers)]
        there = column.iloc[np.asarray(numbers)]
        rows.append((there.iloc[0] if _is_grid(column) else there.mean(), *interval(mean, part, RESAMPLES)))
    data = pd.DataFrame(rows, columns=[axis, "score", "low", "high"])
    numeric = _is_numeric(data[axis])
    at = data[axis].to_numpy() if numeric else np.arange(len(data))
    if numeric and not _is_grid(column):
        axes.scatter(column, points.quality, s=6, color=MUTED, alpha=0.35, linewidths=0)
    if data["low"].notna().all():
        axes.fill_between(at, data["low"], data["high"], color=COLOURS[0], alpha=0.2, lw=0)
    axes.plot(at, data["score"], color=COLOURS[0], marker="o")
    if numeric:
        number_axis(axes, data[axis].tolist())
    else:
        axes.set_xticks(at, [value(cell) for cell in data[axis]])
    axes.set_xlabel(words(axis))
    axes.set_ylabel(measure_words(points.measure))
    caption = f"Mean over all other axes and seeds on {points.where}, with 95 % intervals over seeds."
    title = f"{points.algorithm.upper()}: {words(axis)}"
    return Drawing(f"{name}dependence_{points.algorithm}_{axis}", title, caption, figure, data)


def _levels(column: pd.Series) -> list[object]:
    """Different values: numbers from low to high, texts in the order in which the spec has them.

    >>> _levels(pd.Series([2, 1, 2])), _levels(pd.Series(["64", "16,16", "64"]))
    ([1, 2], ['64', '16,16'])
    """
    found = column.unique().tolist()
    return sorted(found) if pd.api.types.is_numeric_dtype(column) else found  # and false before true


def _is_grid(column: pd.Series) -> bool:
    return len(set(column)) <= GRID_VALUES or not _is_numeric(column)


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
