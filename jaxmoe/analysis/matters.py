"""Which axes matter, in a figure and in words: among all configurations, and among the better half of them.

One corner in which all agents fail makes most of the variance, and hides what tells good configurations apart; that is
what the second view is for.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from jaxmoe.analysis.importance import Importance
from jaxmoe.analysis.intervals import Estimate
from jaxmoe.analysis.ranking import listed, words
from jaxmoe.analysis.style import COLOURS, MUTED, Drawing, canvas

SHOWN_EFFECTS = 10
MOST_SAID = 4  # effects in a sentence
PALE = 0.25
LONGEST_LABEL = 32  # characters


class Matters(NamedTuple):
    """Which axes of an algorithm matter."""

    algorithm: str
    everywhere: Importance
    good: Importance | None  # among the better half, where it was chosen on seeds apart and is not too small
    environments: int  # in each of which a configuration counts apart
    diverged: int  # agents of all

    def table(self) -> pd.DataFrame:
        """Both views, one below the other, where they tell anything."""
        return pd.concat([found.effects.assign(among=name) for name, found in self._views().items()], ignore_index=True)

    def chart(self, name: str) -> Drawing | None:
        """Share of the variance between configurations that each effect explains; nothing where seeds explain it."""
        if not self.everywhere.tells:
            return None
        views = self._views()
        shown = self.everywhere.effects["axes"].head(SHOWN_EFFECTS).tolist()[::-1]
        figure, axes = canvas(0.8 + 0.2 * len(shown) * len(views))
        for number, view in enumerate(views.values()):
            _draw_shares(axes, view, shown, number, len(views))
        axes.set_yticks(range(len(shown)), [_label(effect) for effect in shown])
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("share of variance")
        axes.grid(axis="y", visible=False)
        names = [f"{name} {self._count(view)} configurations" for name, view in views.items()]
        patches = [Patch(color=colour) for colour in COLOURS[: len(names)]]
        axes.legend(patches, names, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
        title = f"What matters for {self.algorithm.upper()}"
        return Drawing(f"{name}importance_{self.algorithm}", title, self._caption(), figure, self.table())

    def sentence(self) -> str:
        """The effects that matter most, and what to think of them."""
        who = f"{self._count(self.everywhere)} configurations of {self.algorithm.upper()}"
        who += f" in {self.environments} environments" if self.environments > 1 else ""
        text = _told(self.everywhere, who)
        if self.diverged and not self.everywhere.differ:
            text += f", where the {self.diverged} agents that diverged count like all others"
        if self.good is None:
            return text
        said = _told(self.good, f"the better {self._count(self.good)}")
        return f"{text}. {said[0].upper()}{said[1:]}"

    def _count(self, found: Importance) -> int:
        """Configurations, without their environments."""
        return found.configurations // self.environments

    def _views(self) -> dict[str, Importance]:
        views = {"all": self.everywhere, "the better": self.good}
        return {name: found for name, found in views.items() if found is not None and found.tells}

    def _caption(self) -> str:
        found = self.everywhere
        text = "Functional analysis of variance, exact on the full grid"
        if not found.exact:
            text = (
                f"Shares of what a fitted surface describes, {_percent(found.described)} of the variance between "
                f"configurations (it explains {max(found.explained, 0.0):.0%} of the variance of points left out)"
            )
        if found.has_noise:
            text += ": of one seed, whose noise is in the shares and cannot be told."
        elif found.runs == 1:
            text += (
                ": of one seed, whose noise is in what the surface does not describe, with 95 % intervals; pale is not "
                "told apart from 0."
            )
        else:
            text += (
                ": of the variance between means over seeds, less what the noise of seeds adds, with 95 % intervals; "
                f"pale is not told apart from 0. Of the variance of agents, {found.seeds_share:.0%} is the seed's."
            )
        text += f" An x marks what axes do together.{self._about_the_better()}"
        agents = found.configurations * found.runs
        return text + (
            f" The {self.diverged} of {agents} agents that diverged are counted in." if self.diverged else ""
        )

    def _about_the_better(self) -> str:
        if self.good is None:
            return ""
        text = f" The better {self._count(self.good)} are chosen on other seeds than the {self.good.runs} that measure"
        if not self.good.tells:
            return f"{text}; {_told(self.good, 'they')}."
        return f"{text}{'' if self.good.exact else f', by a surface that describes {_percent(self.good.described)}'}."


def _draw_shares(axes: Axes, view: Importance, shown: list[str], number: int, views: int) -> None:
    """Bars of one view, below those of lower numbers; pale where a share is not told apart from 0."""
    height = 0.8 / views
    rows = view.effects.set_index("axes").reindex(shown)
    at = np.arange(len(rows)) + (views - 1) * height / 2 - number * height
    colour = COLOURS[number]
    bars = axes.barh(at, rows["share"].fillna(0), height=0.85 * height, color=colour)
    for bar, apart in zip(bars, rows["apart"], strict=True):
        if apart is not True:
            bar.set_facecolor((*to_rgb(colour), PALE))
    known = rows["low"].notna().to_numpy()
    part = rows[known]
    errors = [(part["share"] - part["low"]).clip(lower=0), (part["high"] - part["share"]).clip(lower=0)]
    axes.errorbar(part["share"], at[known], xerr=errors, fmt="none", ecolor=MUTED, lw=0.9, capsize=1.5)


def _label(effect: str) -> str:
    r"""An effect on two lines if it is long.

    >>> _label("learning_rate x entropy_coef x discount")
    'learning rate x entropy coef\nx discount'
    """
    *others, last = words(effect).split(" x ")
    return f"{' x '.join(others)}\nx {last}" if len(effect) > LONGEST_LABEL and others else words(effect)


def _told(found: Importance, who: str) -> str:
    """What is known of some configurations."""
    if not found.differ:
        return f"{who} differ no more than seeds do"
    if not found.describes:
        return f"what {who} reach is described by their axes no better than by chance"
    text = f"of the variance between {who}"
    if not found.exact:
        text += f" that a surface describes ({_percent(found.described)} of all)"
    if found.has_noise:
        text += ", the noise of their one seed included"
    effects = found.effects
    told = effects[effects["apart"]].head(MOST_SAID)
    rows = zip(told["axes"], *(told[name].tolist() for name in ("share", "low", "high")), strict=True)
    texts = [f"{words(str(axes))} {_percent(Estimate(*share))}" for axes, *share in rows]
    unsure = [words(effect) for effect in effects["axes"][~effects["apart"]]]
    if unsure:
        texts.append(f"{unsure[0] if len(unsure) == 1 else f'{len(unsure)} effects'} not told apart from 0")
    return f"{text}: {listed(texts)}"


def _percent(share: Estimate) -> str:
    """A share, with its interval where there is one.

    >>> _percent(Estimate(0.8, 0.7, 0.9)), _percent(Estimate(0.8, float("nan"), float("nan")))
    ('80% [70%, 90%]', '80%')
    """
    return f"{share.mean:.0%}" if share.low != share.low else f"{share.mean:.0%} [{share.low:.0%}, {share.high:.0%}]"
