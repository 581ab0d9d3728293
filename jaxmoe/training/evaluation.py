"""What policies bring: sums of QoS and its parts over requests, with the same random numbers for every policy.

The judge's noise has mean zero and is left out, so that a slot's score is its expectation. Requests come in episodes,
and episodes in groups: one group is one call on each device, and what groups bring is added on the host in float64. So
agents and baselines serve exactly the same requests, on any number of devices.

Sums are kept by unit, because intervals need them (`jaxmoe.analysis.intervals`): by prompts, and by episodes,
neighbours pooled where there are many.
"""

import copy
import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from jaxmoe.algorithms.algorithm import Algorithm
from jaxmoe.algorithms.categorical import legality, masked
from jaxmoe.analysis.intervals import Brought, UnitSums
from jaxmoe.env import rules
from jaxmoe.env.baselines import Policy
from jaxmoe.env.observation import observe
from jaxmoe.env.params import EnvParams
from jaxmoe.env.rules import EnvState, Outcome
from jaxmoe.errors import InputError
from jaxmoe.training.batches import for_each_agent, joined
from jaxmoe.training.compiled import Check
from jaxmoe.training.keys import EVALUATION, purpose_key
from jaxmoe.values import MOST_REQUESTS

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

EVALUATION_SEED = 0  # of requests, which are the same in every experiment
PROMPT_UNITS, EPISODE_UNITS = 128, 32  # at most
AGENT_GROUP, POLICY_GROUP = 1024, 256  # about so many requests are served in one call on a device
IN_FLIGHT = 2  # calls whose results are on the devices

Splits = Mapping[str, EnvParams]


class Sums(NamedTuple):
    """Sums of M metrics over requests, and requests: by unit of prompts, and by unit of episodes."""

    prompts: Float[Array, "U M"]
    prompt_requests: Float[Array, " U"]
    episodes: Float[Array, "V M"]
    episode_requests: Float[Array, " V"]


class Schedule(NamedTuple):
    """Which requests are served."""

    episodes: int  # in all
    length: int  # slots of one episode

    @classmethod
    def of(cls, env: "EdgeExperts", params: EnvParams, requests: int) -> "Schedule":
        """Whole episodes that make at least so many requests."""
        length = 1 if env.settings.one_slot else int(params.max_steps_in_episode)
        if length > MOST_REQUESTS:
            raise InputError(
                f"max_steps_in_episode = {length:,} is more than the {MOST_REQUESTS:,} requests that an evaluation "
                "serves at most, and it serves whole episodes; give fewer"
            )
        return cls(-(-requests // length), length)

    def first_groups(self, most: float) -> int:
        """How many of the first groups of policies hold at most so many requests; the first look's, at least."""
        groups, each = self.groups(POLICY_GROUP)
        return min(groups, max(-(-self.look // each), int(min(most / (each * self.length), groups))))

    def groups(self, requests: int) -> tuple[int, int]:
        """How many groups of about so many requests, and the episodes of one: whole groups of policies."""
        smallest = max(1, POLICY_GROUP // self.length)
        each = max(1, requests // self.length // smallest) * smallest
        return -(-self.episodes // each), min(each, self.episodes)

    @property
    def look(self) -> int:
        """Episodes of the first look: the first group of agents."""
        return self.groups(AGENT_GROUP)[1]


def metric_names(experts: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the M metrics: means per slot, the share of slots in which anything arrived, and each expert's share."""
    costs = ("computing_cost", "transmission_cost", "latency_s", "energy_j")
    return ("qos", "score", *costs, "arrived_share", *(f"share_{expert}" for expert in experts))


def sums(
    policy: Policy,
    env: "EdgeExperts",
    params: EnvParams,
    key: Array,
    schedule: Schedule,
    count: int,
    first: int | Int[Array, ""] = 0,
    checked: bool = False,
) -> Sums:
    """Let a policy serve `count` episodes from `first` on; those that are beyond the schedule's do not count.

    Slot t of episode e takes its draws from `fold_in(fold_in(key, e), t)`, whatever the policy does: differences
    between policies are paired.

    Args:
        policy: `(key, observation, state, params) -> action`, for one environment.
        env: the environment.
        params: its parameters; the judge's noise is set to zero.
        key: of all draws.
        schedule: of all requests.
        count: how many episodes.
        first: number of the first one.
        checked: sums are not a number where the policy gives an action below 0.
    """
    expected = params.replace(judge_noise=0.0)
    numbers = first + jnp.arange(count)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    counted = (numbers < schedule.episodes).astype(jnp.float32)
    unit_of_prompt = pooled(expected.table.num_prompts, PROMPT_UNITS)
    prompt_units = int(unit_of_prompt[-1]) + 1

    def begin(key: Array) -> EnvState:
        return rules.begin(rules.draw(jax.random.fold_in(key, 0), env.settings), expected, env.settings)

    def serve(key: Array, state: EnvState) -> tuple[EnvState, Array]:
        key_draws, key_policy = jax.random.split(key)
        action = policy(key_policy, observe(state, expected, env.settings), state, expected)
        draws = rules.draw(key_draws, env.settings)
        state, outcome = rules.transition(state, action, draws, expected, env.settings)
        metrics = _metrics(outcome)
        return state, jnp.where(action >= 0, metrics, jnp.nan) if checked else metrics

    def slot(carry: tuple[EnvState, Sums], time: Array) -> tuple[tuple[EnvState, Sums], None]:
        states, totals = carry
        units = jnp.asarray(unit_of_prompt)[states.prompt]
        prompts = jax.nn.one_hot(units, prompt_units) * counted[:, None]
        slot_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, time)
        states, metrics = jax.vmap(serve)(slot_keys, states)
        by_episode = totals.episodes + metrics * counted[:, None]
        of_prompts = jnp.matmul(prompts.T, metrics, precision=jax.lax.Precision.HIGHEST)  # each number as it is
        by_prompt, requests = totals.prompts + of_prompts, totals.prompt_requests + jnp.sum(prompts, axis=0)
        return (states, Sums(by_prompt, requests, by_episode, totals.episode_requests + counted)), None

    num_metrics = len(metric_names(("",) * env.settings.num_experts))
    nothing = Sums(
        jnp.zeros((prompt_units, num_metrics)),
        jnp.zeros(prompt_units),
        jnp.zeros((count, num_metrics)),
        jnp.zeros(count),
    )
    (_, totals), _ = jax.lax.scan(slot, (jax.vmap(begin)(keys), nothing), jnp.arange(1, schedule.length + 1))
    episode_units = min(EPISODE_UNITS, schedule.episodes)
    unit_of_episode = jnp.minimum(numbers * episode_units // schedule.episodes, episode_units - 1)
    return totals._replace(
        episodes=jax.ops.segment_sum(totals.episodes, unit_of_episode, episode_units),
        episode_requests=jax.ops.segment_sum(totals.episode_requests, unit_of_episode, episode_units),
    )


def pooled(count: int, most: int) -> np.ndarray:
    """The unit of each of `count` items: neighbours together where there are more than `most`.

    >>> pooled(3, 128).tolist(), pooled(4, 2).tolist()
    ([0, 1, 2], [0, 0, 1, 1])
    """
    units = min(count, most)
    return (np.arange(count) * units // count).astype(np.int32)


class AgentEvaluation:
    """Lets trained agents serve the same requests as every other policy, by their greedy actions.

    A group of requests is one call of a compiled program; whoever wants an impression takes the first group alone.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        env: "EdgeExperts",
        splits: Splits,
        requests: int,
        seed: int = EVALUATION_SEED,
    ) -> None:
        """Prepare for agents of one algorithm, in one environment, who may differ in numbers of the scenario."""
        self._schedule = schedule = Schedule.of(env, splits["train"], requests)
        self.groups, self._count = schedule.groups(AGENT_GROUP)
        self._splits, self._key = splits, purpose_key(seed, EVALUATION)

        legal = legality(env)

        def evaluate_agent(nothing: None, agent: tuple[Any, Any], shared: tuple[EnvParams, Array, Array]) -> Sums:
            del nothing
            (policy, overrides), (params, key, first) = agent, shared

            def act(key: Array, observation: Array, state: Any, params: EnvParams) -> Array:
                del key, state, params
                with jax.default_matmul_precision("highest"):  # or two actions of nearly one value change places
                    return jnp.argmax(masked(algorithm.preferences(policy, observation), observation, legal))

            return sums(act, env, params.replace(**overrides), key, schedule, self._count, first)

        self._run = for_each_agent(evaluate_agent)

    def compile(self, policies: Any, overrides: dict[str, Array]) -> None:
        """Compile the program for a batch of policies, of which shapes suffice, without running it."""
        for params in self._splits.values():
            self._run.compile(None, (policies, overrides), (params, self._key, np.int32(0)))

    def with_numbers(self, splits: Splits) -> "AgentEvaluation":
        """The same program where numbers of the environment are others, on these splits."""
        found = copy.copy(self)
        found._splits = splits
        return found

    def requests(self, groups: int | None = None) -> int:
        """How many requests are served in the first groups, in all groups if absent."""
        episodes = self._schedule.episodes if groups is None else min(groups * self._count, self._schedule.episodes)
        return episodes * self._schedule.length

    def __call__(
        self,
        policies: list[Any],
        overrides: list[dict[str, Array]],
        agents: int,
        groups: int | None = None,
        check: Check = lambda: None,
    ) -> dict[str, Brought]:
        """What batches of policies bring on each split, in the first groups of requests, all if absent."""
        calls = self._calls(policies, overrides, groups or self.groups, check)
        return self._gathered(fetched_in_turn(calls), len(policies), agents)

    def look(
        self, policies: list[Any], overrides: list[dict[str, Array]], agents: int, check: Check = lambda: None
    ) -> Callable[[], dict[str, Brought]]:
        """Queue the first group of requests, and return what waits for it: devices may be given other work before."""
        queued = [call() for call in self._calls(policies, overrides, 1, check)]
        return lambda: self._gathered(iter(jax.device_get(queued)), len(policies), agents)

    def _calls(
        self, policies: list[Any], overrides: list[dict[str, Array]], groups: int, check: Check
    ) -> Iterator[Callable[[], Sums]]:
        """Of the program: for each split and group of requests one with each batch."""

        def serve(params: EnvParams, group: int, batch: tuple[Any, Any]) -> Sums:
            check()
            found: Sums = self._run(None, batch, (params, self._key, np.int32(group * self._count)))
            return found

        each = itertools.product(self._splits.values(), range(groups), list(zip(policies, overrides, strict=True)))
        return (partial(serve, *one) for one in each)

    def _gathered(self, fetched: Iterator[Sums], batches: int, agents: int) -> dict[str, Brought]:
        """The sum over groups of what the calls gave, on the host in float64, and the first group alone."""
        parts = list(fetched)
        found = [
            jax.tree.map(wide, joined(parts[begin : begin + batches], agents))
            for begin in range(0, len(parts), batches)
        ]
        groups = len(found) // len(self._splits)
        brought = {}
        for number, split in enumerate(self._splits):
            first, *others = found[number * groups : (number + 1) * groups]
            total = functools.reduce(partial(jax.tree.map, np.add), others, first)
            brought[split] = as_brought(total, first, self._schedule)
        return brought


def fetched_in_turn(calls: Iterable[Callable[[], Any]]) -> Iterator[Any]:
    """What calls of programs give, on the host and in order; while one is fetched, the devices have others to do.

    Never are the results of more than `IN_FLIGHT` calls on the devices.
    """
    left = iter(calls)
    queued = deque(call() for call in itertools.islice(left, IN_FLIGHT))
    while queued:
        yield jax.device_get(queued.popleft())
        queued.extend(call() for call in itertools.islice(left, 1))


def evaluation_rows(who: Mapping[str, Any], found: Mapping[str, Brought], experts: tuple[str, ...]) -> pd.DataFrame:
    """Sums by unit as a table: one row per row of the evaluation, split and unit that was met, of episodes any unit.

    Columns: who the row is, `split`, `by` ("prompts", "episodes" or "look"), `unit`, `requests`, and of each metric the
    sum.
    """
    frames = []
    kinds: tuple[Literal["prompts", "episodes", "look"], ...] = ("prompts", "episodes", "look")
    for split, brought in found.items():
        for kind in kinds:
            sums: UnitSums | None = getattr(brought, kind)
            if sums is None:
                continue
            met = np.flatnonzero((sums.counts.sum(axis=0) > 0) | (kind == "episodes"))
            columns: dict[str, Any] = {name: np.repeat(np.asarray(of), len(met)) for name, of in who.items()}
            columns |= {"split": split, "by": kind, "unit": np.tile(met.astype(np.int32), len(sums.counts))}
            columns["requests"] = sums.counts[:, met].ravel().astype(np.int32)
            for number, name in enumerate(metric_names(experts)):
                columns[name] = sums.sums[:, met, number].ravel().astype(np.float32)
            frames.append(pd.DataFrame(columns))
    table = pd.concat(frames, ignore_index=True)
    return table.astype({"split": "category", "by": "category"})


def results_of(curves: pd.DataFrame, found: Mapping[str, Brought], experts: tuple[str, ...]) -> pd.DataFrame:
    """One row per agent: its last evaluation, with the means of all metrics."""
    last = curves.groupby("agent", sort=False, as_index=False).tail(1)  # of those who stopped, earlier than of others
    last = last.set_index("agent").loc[curves["agent"].unique()].reset_index()
    own = [name for name in last if not str(name).endswith("_qos") and name != "requests"]
    means = {
        f"{split}_{name}": brought.mean()[:, number]
        for split, brought in found.items()
        for number, name in enumerate(metric_names(experts))
    }
    return pd.concat([last[own], pd.DataFrame(means)], axis=1)


def as_brought(total: Sums, look: Sums, schedule: Schedule) -> Brought:
    """On the host; episodes of one request are no units of their own: by prompts they are counted already."""
    prompts, episodes, first = (
        UnitSums(np.asarray(sums), np.asarray(counts))
        for sums, counts in (
            (total.prompts, total.prompt_requests),
            (total.episodes, total.episode_requests),
            (look.prompts, look.prompt_requests),
        )
    )
    seen = UnitSums(first.sums.sum(axis=1, keepdims=True), first.counts.sum(axis=1, keepdims=True))
    return Brought(prompts, episodes if schedule.length > 1 else None, seen)


def wide(leaf: np.ndarray) -> np.ndarray:
    """In float64, in which sums of groups are added."""
    return leaf.astype(np.float64)


def _metrics(outcome: Outcome) -> Float[Array, " M"]:
    parts = [outcome.qos, outcome.score, outcome.computing_cost, outcome.transmission_cost, outcome.latency_s]
    arrived = (outcome.arrived > 0).astype(jnp.float32)
    return jnp.concatenate([jnp.stack([*parts, outcome.energy_j, arrived]), outcome.used.astype(jnp.float32)])
