"""What a policy brings: mean QoS and its parts over many slots, with the same random numbers for every policy.

The judge's noise has mean zero and is left out, so that a slot's score is its expectation. Sums are kept per prompt:
whoever compares policies needs them for intervals that count prompts (`jaxmoe.intervals`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from jaxmoe.env import references, rules
from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.params import EnvParams
from jaxmoe.env.references import Policy, Reference
from jaxmoe.env.rules import EnvState, Outcome
from jaxmoe.intervals import Tally


class Sums(NamedTuple):
    """Sums over the slots of each prompt."""

    metrics: Float[Array, "P M"]
    slots: Float[Array, " P"]


def metric_names(experts: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the M metrics: means per slot, the share of slots in which anything arrived, and each expert's share."""
    costs = ("computing_cost", "transmission_cost", "latency_s", "energy_j")
    return ("qos", "score", *costs, "arrived_share", *(f"share_{expert}" for expert in experts))


def episode_slots(env: EdgeExperts, params: EnvParams) -> int:
    """Slots of one episode."""
    return 1 if env.settings.one_slot else int(params.max_steps_in_episode)


def sums(
    policy: Policy,
    env: EdgeExperts,
    params: EnvParams,
    key: Array,
    episodes: int,
    slots: int,
    first: int | Int[Array, ""] = 0,
) -> Sums:
    """Let a policy serve `episodes` episodes of `slots` slots each.

    Slot t of episode e takes its draws from `fold_in(fold_in(key, e), t)`, whatever the policy does: differences
    between policies are paired.

    Args:
        policy: `(key, observation, state, params) -> action`, for one environment.
        env: the environment.
        params: its parameters; the judge's noise is set to zero.
        key: of all draws.
        episodes: how many.
        slots: slots of one episode.
        first: number of the first episode; what many episodes bring is the sum over parts of them.
    """
    expected = params.replace(judge_noise=0.0)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(episodes))

    def begin(key: Array) -> EnvState:
        return rules.begin(rules.draw(jax.random.fold_in(key, 0), env.settings), expected, env.settings)

    def serve(key: Array, state: EnvState) -> tuple[EnvState, Array]:
        key_draws, key_policy = jax.random.split(key)
        action = policy(key_policy, rules.observe(state, expected, env.settings), state, expected)
        draws = rules.draw(key_draws, env.settings)
        state, outcome = rules.transition(state, action, draws, expected, env.settings)
        return state, _metrics(outcome)

    def slot(carry: tuple[EnvState, Sums], time: Array) -> tuple[tuple[EnvState, Sums], None]:
        states, totals = carry
        prompts = jax.nn.one_hot(states.prompt, expected.table.num_prompts)
        slot_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, time)
        states, metrics = jax.vmap(serve)(slot_keys, states)
        totals = Sums(totals.metrics + prompts.T @ metrics, totals.slots + jnp.sum(prompts, axis=0))
        return (states, totals), None

    num_metrics = len(metric_names(("",) * env.settings.num_experts))
    num_prompts = expected.table.num_prompts
    nothing = Sums(jnp.zeros((num_prompts, num_metrics)), jnp.zeros(num_prompts))
    (_, totals), _ = jax.lax.scan(slot, (jax.vmap(begin)(keys), nothing), jnp.arange(1, slots + 1))
    return totals


def episodes_for(slots: int, length: int) -> int:
    """Episodes of `length` slots that make at least `slots` slots."""
    return -(-slots // length)


def tally(policy: Policy, env: EdgeExperts, params: EnvParams, seed: int = 0, slots: int = 16_384) -> Tally:
    """Let a policy serve about `slots` requests; see `sums`. The same seed means the same random numbers."""
    length = episode_slots(env, params)
    run = jax.jit(sums, static_argnums=(0, 1, 4, 5))
    return _on_host(run(policy, env, params, jax.random.key(seed), episodes_for(slots, length), length))


Tallies = dict[str, dict[str, Tally]]  # split -> policy -> what it brought


def best_reference(env: EdgeExperts) -> str:
    """The reference whose normalised score is 1: exact where one slot is all there is, the planner elsewhere."""
    return "one_slot_optimum" if env.settings.one_slot else "lookahead"


def tally_references(
    env: EdgeExperts,
    splits: dict[str, EnvParams],
    seed: int = 0,
    slots: int = 16_384,
    report: Callable[[str], None] | None = None,
) -> Tallies:
    """Let every reference serve the same requests; see `reference_tallier`."""
    return reference_tallier(env, splits["train"], seed, slots)(splits, report)


def reference_tallier(
    env: EdgeExperts, train: EnvParams, seed: int, slots: int
) -> Callable[[dict[str, EnvParams], Callable[[str], None] | None], Tallies]:
    """A function that lets every reference serve the same requests, compiled once for all numbers of a scenario.

    Of the fixed subsets, of greedy-on-SNR and of top-k relevance the one that is best on the train prompts is kept:
    nothing is selected on test prompts.

    Args:
        env: the environment.
        train: parameters whose train prompts the predicting reference learns from, and whose episodes are served.
        seed: of the random numbers, common to all policies.
        slots: requests per policy and split.

    Returns:
        A function of the parameters of each split, "train" among them, and of who is told the name of each reference
        before its turn.
    """
    length = episode_slots(env, train)
    families = [
        (name, make_member, members, _family_server(make_member, env, length, seed, slots))
        for name, make_member, members in _families(env, train)
    ]

    def tally_all(splits: dict[str, EnvParams], report: Callable[[str], None] | None = None) -> Tallies:
        tallies: Tallies = {split: {} for split in splits}
        for name, make_member, members, serve_all in families:
            if report is not None:
                report(name)
            found = {split: serve_all(jnp.array(members, jnp.int32), params) for split, params in splits.items()}
            rows = {
                split: [_on_host(jax.tree.map(lambda leaf, row=row: leaf[row], totals)) for row in range(len(members))]
                for split, totals in found.items()
            }
            winner = int(np.argmax([member.mean()[0] for member in rows["train"]]))
            for split in splits:
                tallies[split][make_member(members[winner]).name] = rows[split][winner]
        return tallies

    return tally_all


MemberFunction = Callable[[int | Array], Reference]


def _families(env: EdgeExperts, train: EnvParams) -> list[tuple[str, MemberFunction, list[int]]]:
    """Every reference: a name, a function that makes a member of the family, and the members to choose from."""
    experts = env.settings.num_experts
    subsets, numbers = list(range(2**experts)), list(range(1, experts + 1))
    families: list[tuple[str, MemberFunction, list[int]]] = [
        ("random", lambda _: references.random(env), [0]),
        ("fixed subsets", lambda subset: references.fixed_subset(env, subset), subsets),
        ("greedy_snr", lambda k: references.greedy_snr(env, k), numbers),
        ("top_k_relevance", lambda k: references.top_k_relevance(env, k), numbers),
        ("predict_then_optimise", lambda _: references.predict_then_optimise(env, train), [0]),
        ("one_slot_optimum", lambda _: references.one_slot_optimum(env), [0]),
    ]
    if env.settings.one_slot:
        return families
    return [
        *families,
        ("drift_plus_penalty", lambda _: references.drift_plus_penalty(env), [0]),
        ("lookahead", lambda _: references.lookahead(env), [0]),
    ]


def _family_server(
    make_member: MemberFunction, env: EdgeExperts, length: int, seed: int, slots: int
) -> Callable[[Array, EnvParams], Sums]:
    """What each member brings; one program serves all splits, as they differ in numbers only.

    The episodes are shared out among all local devices.
    """
    devices = jax.local_devices()
    episodes = -(-episodes_for(slots, length) // len(devices))  # on each device

    def serve(member: Array, params: EnvParams, first: Array) -> Sums:
        return sums(make_member(member).act, env, params, jax.random.key(seed), episodes, length, first)

    def serve_all(members: Array, params: EnvParams, first: Array) -> Sums:
        found = jax.vmap(serve, in_axes=(0, None, None))(members, params, first[0])
        return jax.tree.map(lambda leaf: leaf[None], found)

    whole, split = PartitionSpec(), PartitionSpec("episodes")
    mesh = Mesh(np.array(devices), ("episodes",))
    sharded = jax.shard_map(serve_all, mesh=mesh, in_specs=(whole, whole, split), out_specs=split, check_vma=False)
    run, firsts = jax.jit(sharded), jnp.arange(len(devices), dtype=jnp.int32) * episodes
    return lambda members, params: jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), run(members, params, firsts))


def _on_host(totals: Sums) -> Tally:
    """A tally of one row: all policies meet the same requests, whose chance is part of each prompt's mean."""
    return Tally(*(np.asarray(leaf, np.float64)[None] for leaf in totals))


def _metrics(outcome: Outcome) -> Float[Array, " M"]:
    parts = [outcome.qos, outcome.score, outcome.computing_cost, outcome.transmission_cost, outcome.latency_s]
    arrived = (outcome.arrived > 0).astype(jnp.float32)
    return jnp.concatenate([jnp.stack([*parts, outcome.energy_j, arrived]), outcome.used.astype(jnp.float32)])
