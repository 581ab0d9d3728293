"""Figures of a run, drawn from its tidy tables."""

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

_COLOURS = {"train": "#0072b2", "test": "#d55e00"}  # safe for colour-blind readers
_GREY = "#777777"


def learning_curve(curves: pd.DataFrame, comparison: pd.DataFrame, agent: str) -> Figure:
    """Mean QoS of the agents against environment steps, with the references as levels.

    Args:
        curves: one row per agent and evaluation: `env_steps`, and `{split}_qos` for each split.
        comparison: one row per split, policy and metric: `mean`.
        agent: the policy in `comparison` that the agents are.

    The band holds the middle 95 % of the agents.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    curves = curves[curves["env_steps"] > 0]
    steps = np.sort(curves["env_steps"].unique())
    splits = [split for split in _COLOURS if f"{split}_qos" in curves]
    for split in splits:
        colour = _COLOURS[split]
        by_step = curves.groupby("env_steps")[f"{split}_qos"]
        axes.fill_between(steps, by_step.quantile(0.025), by_step.quantile(0.975), color=colour, alpha=0.2, lw=0)
        axes.plot(steps, by_step.mean(), color=colour, label=f"{agent}, {split} prompts")
    qos = comparison[(comparison["split"] == "train") & (comparison["metric"] == "qos")].set_index("policy")["mean"]
    levels = qos.drop(agent, errors="ignore").sort_values()
    learned = curves[[f"{split}_qos" for split in splits]].to_numpy()
    span = max(qos.max(), learned.max()) - min(levels.min(), learned.min())
    for name, level, label_at in zip(levels.index, levels, spread(levels.to_numpy(), 0.045 * span), strict=True):
        axes.axhline(level, color=_GREY, lw=0.8, ls=":")
        axes.annotate(
            name, (1.0, label_at), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
            va="center", fontsize=8, color=_GREY,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(steps[0], steps[-1])
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axes.set_xlabel("environment steps of each agent")
    axes.set_ylabel("mean QoS of a request")
    axes.set_title("references: level on train prompts", loc="right", fontsize=8, color=_GREY)
    axes.legend(loc="best", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


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
