"""What baselines bring: every family of them, its best member by train prompts, on the same requests as agents."""

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxmoe.analysis.intervals import Brought
from jaxmoe.env.baselines import BASELINES, Registered, suited_baselines
from jaxmoe.env.params import EnvParams, Settings
from jaxmoe.errors import InputError
from jaxmoe.training.evaluation import EVALUATION_SEED, Check, PolicyEvaluation, Schedule, Splits

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts


class BaselineEvaluation:
    """Lets every baseline serve the same requests, on train and on test prompts.

    Of a family of policies, such as the fixed subsets, the one that is best on the train prompts is kept: nothing is
    selected on test prompts.
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
        self._families: list[tuple[str, Registered, list[int], PolicyEvaluation]] = []
        for name in chosen:
            own = BASELINES[name]
            evaluate = PolicyEvaluation(functools.partial(own.policy, env, train), env, schedule, seed)
            self._families.append((name, own, own.numbers(env.settings), evaluate))

    def __call__(
        self, splits: Splits, check: Check = lambda: None, tell: Callable[[str], None] = lambda _: None
    ) -> dict[str, dict[str, Brought]]:
        """What each baseline brings: by split and name; each family's name is told before its turn."""
        found: dict[str, dict[str, Brought]] = {split: {} for split in splits}
        for family, own, members, evaluate in self._families:
            tell(family)
            rows = {split: evaluate(members, params, check) for split, params in splits.items()}
            best = int(np.argmax(rows["train"].mean()[:, 0]))
            name = family if own.members is None else f"{family}({own.label(members[best])})"
            for split, brought in rows.items():
                found[split][name] = jax.tree.map(lambda leaf, best=best: leaf[[best]], brought)
        return found


def chosen_baselines(asked: str | Iterable[str], settings: Settings) -> tuple[str, ...]:
    """The baselines that somebody asks for ("all", "none", a name or names), of those that suit a scenario.

    Raises:
        InputError: there is no baseline of a name.
    """
    suited = suited_baselines(settings)
    if asked in ("all", "none"):
        return suited if asked == "all" else ()
    wanted = [asked] if isinstance(asked, str) else list(asked)
    for name in wanted:
        if name not in BASELINES:
            raise InputError(f"unknown baseline {name!r}; choose among {', '.join(BASELINES)}, or 'all' or 'none'")
    return tuple(name for name in suited if name in wanted)


def facts(settings: Settings, families: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What tables are to say of baselines, as plain values: what they know, and which normalised score is theirs."""
    return {
        name: {"knows": own.knows(settings), "deployable": own.deployable, "level": own.level(settings)}
        for name in families
        for own in [BASELINES[name]]
    }
