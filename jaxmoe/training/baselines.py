"""What baselines bring: every family of them, its best member by train prompts, on the same requests as agents."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array

from jaxmoe.analysis.intervals import UnitSums
from jaxmoe.env import baselines
from jaxmoe.env.baselines import Baseline, Policy
from jaxmoe.env.params import EnvParams
from jaxmoe.errors import InputError
from jaxmoe.training.evaluation import EVALUATION_SEED, Brought, Check, PolicyEvaluation, Schedule, Splits

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

MemberFunction = Callable[[int | Array], Baseline]


class BaselineEvaluation:
    """Lets every baseline serve the same requests, on train and on test prompts.

    Of the fixed subsets, of greedy-on-SNR and of top-k relevance the one that is best on the train prompts is kept:
    nothing is selected on test prompts.
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
        self._families = [
            (name, make_member, members, PolicyEvaluation(_act_of(make_member), env, schedule, seed))
            for name, (make_member, members) in families(env, train).items()
            if name in chosen
        ]

    def __call__(
        self, splits: Splits, check: Check = lambda: None, tell: Callable[[str], None] = lambda _: None
    ) -> dict[str, dict[str, Brought]]:
        """What each baseline brings: by split and name; each family's name is told before its turn."""
        found: dict[str, dict[str, Brought]] = {split: {} for split in splits}
        for family, make_member, members, evaluate in self._families:
            tell(family)
            rows = {split: evaluate(members, params, check) for split, params in splits.items()}
            best = int(np.argmax(rows["train"].mean()[:, 0]))
            name = make_member(members[best]).name
            for split, brought in rows.items():
                found[split][name] = Brought(*(UnitSums(*(leaf[[best]] for leaf in sums)) for sums in brought))
        return found


def baseline_names(one_slot: bool) -> tuple[str, ...]:
    """Families of baselines that suit a scenario."""
    names = (
        "random",
        "fixed_subset",
        "greedy_snr",
        "top_k_relevance",
        "predict_then_optimise",
        "one_slot_optimum",
    )
    return names if one_slot else (*names, "drift_plus_penalty", "lookahead")


def chosen_baselines(asked: str | Iterable[str], one_slot: bool) -> tuple[str, ...]:
    """The baselines that somebody asks for ("all", "none", a name or names), of those that suit a scenario.

    Raises:
        InputError: there is no baseline of a name.
    """
    suited, known = baseline_names(one_slot), baseline_names(one_slot=False)
    if asked in ("all", "none"):
        return suited if asked == "all" else ()
    wanted = [asked] if isinstance(asked, str) else list(asked)
    for name in wanted:
        if name not in known:
            raise InputError(f"unknown baseline {name!r}; choose among {', '.join(known)}, or 'all' or 'none'")
    return tuple(name for name in suited if name in wanted)


def families(env: "EdgeExperts", train: EnvParams) -> dict[str, tuple[MemberFunction, list[int]]]:
    """Every baseline: a function that makes a member of the family, and the members to choose from."""
    experts = env.settings.num_experts
    subsets, numbers = list(range(2**experts)), list(range(1, experts + 1))
    found: dict[str, tuple[MemberFunction, list[int]]] = {
        "random": (lambda _: baselines.random(env), [0]),
        "fixed_subset": (lambda subset: baselines.fixed_subset(env, subset), subsets),
        "greedy_snr": (lambda k: baselines.greedy_snr(env, k), numbers),
        "top_k_relevance": (lambda k: baselines.top_k_relevance(env, k), numbers),
        "predict_then_optimise": (lambda _: baselines.predict_then_optimise(env, train), [0]),
        "one_slot_optimum": (lambda _: baselines.one_slot_optimum(env), [0]),
        "drift_plus_penalty": (lambda _: baselines.drift_plus_penalty(env), [0]),
        "lookahead": (lambda _: baselines.lookahead(env), [0]),
    }
    return {name: found[name] for name in baseline_names(env.settings.one_slot)}


def _act_of(make_member: MemberFunction) -> Callable[[int | Array], Policy]:
    return lambda member: make_member(member).act
