"""What policies bring that are no trained agents: baselines and what a user gives, on the requests of evaluations."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from jaxmoe.analysis.intervals import Brought
from jaxmoe.env.baselines import Policy
from jaxmoe.env.params import EnvParams
from jaxmoe.env.rules import EnvState
from jaxmoe.training.compiled import Check, Compiled
from jaxmoe.training.evaluation import EVALUATION_SEED, POLICY_GROUP, Schedule, Splits, Sums, as_brought, sums, wide
from jaxmoe.training.keys import EVALUATION, purpose_key

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts


class Family(NamedTuple):
    """Policies that differ in a number."""

    make: Callable[[Array], Policy]
    members: Sequence[int]  # their numbers


ALONE = (0,)  # the members of a family of one


class PolicyEvaluation:
    """Lets families of policies serve the same requests side by side; compiled once for all numbers of a scenario.

    The network is simulated for all policies at once, and each family acts for its own members alone: what is compiled
    is one network and the rules of the families.
    """

    def __init__(
        self,
        families: Sequence[Family],
        env: "EdgeExperts",
        schedule: Schedule,
        seed: int = EVALUATION_SEED,
        one_device: bool = False,
        checked: bool = False,
        first_groups: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            families: who serves.
            env: the environment.
            schedule: of all requests.
            seed: of the requests.
            one_device: whether one device alone serves, as policies need that are functions of the host.
            checked: as in `sums`.
            first_groups: of requests that are served; all if absent.
        """
        devices = jax.local_devices()[: 1 if one_device else None]
        self._schedule = schedule
        groups, self._count = schedule.groups(POLICY_GROUP)
        self._groups, self._devices = first_groups or groups, len(devices)
        self._ends = np.cumsum([len(family.members) for family in families])

        def act(position: Array, key: Array, observation: Array, state: EnvState, params: EnvParams) -> Array:
            everyone = jax.lax.all_gather((observation, state), "policies")
            actions = []
            for family, end in zip(families, self._ends.tolist(), strict=True):
                own = slice(end - len(family.members), end)

                def member(number: Array, observation: Array, state: EnvState, make: Any = family.make) -> Array:
                    return make(number)(key, observation, state, params)

                numbers = jnp.asarray(family.members, jnp.int32)
                seen = jax.tree.map(lambda leaf, own=own: leaf[own], everyone)
                if len(family.members) == 1:  # it may be a function that takes one axis of many, and no second one
                    actions.append(member(numbers[0], *jax.tree.map(lambda leaf: leaf[0], seen))[None])
                else:
                    actions.append(jax.vmap(member)(numbers, *seen))
            return jnp.concatenate(actions)[position]

        def serve(position: Array, params: EnvParams, first: Array) -> Sums:
            key, policy = purpose_key(seed, EVALUATION), partial(act, position)
            return sums(policy, env, params, key, schedule, self._count, first, checked)

        def serve_all(params: EnvParams, first: Array) -> Sums:
            positions = jnp.arange(self._ends[-1])
            found = jax.vmap(serve, in_axes=(0, None, None), axis_name="policies")(positions, params, first[0])
            return jax.tree.map(lambda leaf: leaf[None], found)

        whole, split = PartitionSpec(), PartitionSpec("groups")
        mesh = Mesh(np.array(devices), ("groups",))
        specs = (whole, split)
        sharded = jax.shard_map(serve_all, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)
        self._run = Compiled(sharded, tuple(NamedSharding(mesh, spec) for spec in specs))

    def __call__(self, params: EnvParams, check: Check = lambda: None) -> list[Brought]:
        """What each family brings, one row for each member."""
        total: Sums | None = None
        look: Sums | None = None
        for begin in range(0, self._groups, self._devices):
            check()
            firsts = (begin + np.arange(self._devices, dtype=np.int32)) * self._count
            found = self._run(params, firsts)
            for device in range(min(self._devices, self._groups - begin)):
                part = jax.tree.map(lambda leaf, device=device: wide(np.asarray(leaf[device])), found)
                if (begin + device) * self._count < self._schedule.look:
                    look = part if look is None else jax.tree.map(np.add, look, part)
                total = part if total is None else jax.tree.map(np.add, total, part)
        assert total is not None
        assert look is not None
        every = as_brought(total, look, self._schedule)
        begins = [0, *self._ends.tolist()]
        return [jax.tree.map(lambda leaf, own=slice(*ends): leaf[own], every) for ends in itertools.pairwise(begins)]


def evaluate_policy(
    policy: Policy,
    env: "EdgeExperts",
    splits: Splits,
    requests: int,
    seed: int = EVALUATION_SEED,
    check: Check = lambda: None,
    one_device: bool = False,
    checked: bool = False,
) -> dict[str, Brought]:
    """What one policy brings on each split."""
    schedule = Schedule.of(env, splits["train"], requests)
    evaluate = PolicyEvaluation([Family(lambda _: policy, ALONE)], env, schedule, seed, one_device, checked)
    return {split: evaluate(params, check)[0] for split, params in splits.items()}
