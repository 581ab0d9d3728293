"""What baselines bring: every family of them, its best member by train prompts, on the same requests as agents."""

import functools
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxmoe.analysis.intervals import Brought
from jaxmoe.env.baselines import BASELINES, suited_baselines
from jaxmoe.env.params import EnvParams, Settings
from jaxmoe.errors import InputError
from jaxmoe.names import short
from jaxmoe.training.compiled import Check
from jaxmoe.training.evaluation import EVALUATION_SEED, Schedule, Splits
from jaxmoe.training.policies import Family, PolicyEvaluation

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

LONGEST_S = 16.0  # about so long two CPU cores are at work on a baseline, on each split


class BaselineEvaluation:
    """Lets baselines serve the same requests, on each split; those that serve equally many are one program.

    Of a family of policies, such as the fixed subsets, the one that is best on the train prompts is kept: nothing is
    selected on test prompts. Baselines that think long serve the first requests alone, as many as take `LONGEST_S`.
    """

    def __init__(
        self,
        env: "EdgeExperts",
        train: EnvParams,
        requests: int,
        chosen: tuple[str, ...],
        seed: int = EVALUATION_SEED,
    ) -> None:
        """Prepare the chosen families; the predicting baseline learns from the train prompts of `train`."""
        schedule = Schedule.of(env, train, requests)
        self._chosen, self._settings = chosen, env.settings
        alike: dict[int, list[str]] = {}
        for name in chosen:
            seconds = BASELINES[name].seconds(env.settings)
            alike.setdefault(schedule.first_groups(LONGEST_S / seconds if seconds else math.inf), []).append(name)
        self._programs = [
            (
                names,
                PolicyEvaluation(
                    [Family(functools.partial(own.policy, env, train), own.numbers(env.settings)) for own in families],
                    env, schedule, seed, first_groups=groups,
                ),
            )
            for groups, names in sorted(alike.items(), reverse=True)
            for families in [[BASELINES[name] for name in names]]
        ]  # fmt: skip

    def __call__(
        self, splits: Splits, check: Check = lambda: None, tell: Callable[[str], None] = lambda _: None
    ) -> dict[str, dict[str, Brought]]:
        """What each baseline brings: by split and name; those of a program are told before their turn."""
        brought: dict[str, dict[str, Brought]] = {}  # by family and split
        for names, evaluate in self._programs:
            tell(", ".join(names))
            for split, params in splits.items():
                for name, found in zip(names, evaluate(params, check), strict=True):
                    brought.setdefault(name, {})[split] = found
        every: dict[str, dict[str, Brought]] = {split: {} for split in splits}
        for name in self._chosen:
            best = int(np.argmax(brought[name]["train"].mean()[:, 0]))
            for split, found in brought[name].items():
                every[split][self._label(name, best)] = jax.tree.map(lambda leaf, best=best: leaf[[best]], found)
        return every

    def _label(self, name: str, best: int) -> str:
        """A family with its best member."""
        own = BASELINES[name]
        return name if own.members is None else f"{name}({own.label(own.numbers(self._settings)[best])})"


def chosen_baselines(asked: str | Iterable[str], settings: Settings) -> tuple[str, ...]:
    """The baselines that somebody asks for ("all", "none", a name or names), of those that suit a scenario.

    Raises:
        InputError: there is no baseline of a name.
    """
    suited = suited_baselines(settings)
    if asked in ("all", "none"):
        return suited if asked == "all" else ()
    if not isinstance(asked, str | Iterable):
        raise InputError(f"baselines = {short(asked)} is neither 'all', 'none' nor names of baselines")
    wanted = [asked] if isinstance(asked, str) else list(asked)
    for name in wanted:
        if name not in BASELINES:
            raise InputError(f"unknown baseline {short(name)}; choose among {', '.join(BASELINES)}, or 'all' or 'none'")
    return tuple(name for name in suited if name in wanted)


def facts(settings: Settings, families: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What tables are to say of baselines, as plain values: what they know, and which normalised score is theirs."""
    return {
        name: {"knows": own.knows(settings), "deployable": own.deployable, "level": own.level(settings)}
        for name in families
        for own in [BASELINES[name]]
    }
