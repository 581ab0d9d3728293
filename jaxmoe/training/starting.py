"""Training that goes on from an exported policy."""

import os
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmoe.algorithms.algorithm import AgentState, Algorithm, Clock
from jaxmoe.env.exported import require_same_interface
from jaxmoe.env.params import EnvParams
from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import Bundle, read_bundle
from jaxmoe.table import ExpertTable

WARM_UP = 32  # iterations in which critics learn before the policy does

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts


def read_start(
    path: str | os.PathLike[str], name: str, config: Any, env: "EdgeExperts", params: EnvParams, table: ExpertTable
) -> dict[str, np.ndarray]:
    """The tensors of a policy that agents of an algorithm can go on from.

    They see the environment that they are trained in: its scaling and its `words_hat`, not the policy's own.

    Raises:
        InputError: the policy is damaged, of another algorithm, network, observation, or of other experts.
    """
    bundle = read_bundle(path)
    _require_same_kind(bundle, name, config, table)
    require_same_interface(bundle.contract, env, params)
    return {name: np.asarray(tensor, np.float32) for name, tensor in bundle.tensors.items()}


def started_from(algorithm: Algorithm, tensors: dict[str, np.ndarray]) -> Algorithm:
    """The algorithm, its fresh agents acting by these tensors. Critics, moments and replay are fresh."""
    policy = algorithm.actor.parameters(tensors)

    def init(key: Array, hypers: Any, env_params: Any) -> AgentState:
        return algorithm.adopt(algorithm.init(key, hypers, env_params), policy)

    return algorithm._replace(init=init)


def warmed_up(algorithm: Algorithm) -> Algorithm:
    """The algorithm, holding the policy that it goes on from while its fresh critics, which do not know it, learn.

    That takes `WARM_UP` iterations from where critics begin to learn, and at most a tenth of the schedules' length.
    """
    if algorithm.critics_begin is None:
        return algorithm
    most = algorithm.critics_begin + WARM_UP

    def step(
        state: AgentState, hypers: Any, env_params: Any, clock: Clock
    ) -> tuple[AgentState, dict[str, Float[Array, ""]]]:
        after, metrics = algorithm.step(state, hypers, env_params, clock)
        done = jnp.asarray(clock.iteration - clock.begin)
        return algorithm.hold(state, after, done < jnp.minimum(most, clock.iterations // 10)), metrics

    return algorithm._replace(step=step)


def _require_same_kind(bundle: Bundle, name: str, config: Any, table: ExpertTable) -> None:
    contract, path = bundle.contract, bundle.path
    if bundle.format != "safetensors":
        raise InputError(f"{path} is not safetensors, and only those hold weights to go on from")
    if contract.algorithm != name:
        raise InputError(f"{path} is a policy of {contract.algorithm}, and {name} does not go on from it")
    network = contract.network
    if (network.hidden, network.activation) != (config.hidden, config.activation):
        hidden = ",".join(map(str, network.hidden))
        raise InputError(
            f"{path} has hidden = {list(network.hidden)} and activation = {network.activation!r}, and the agents have "
            f"{list(config.hidden)} and {config.activation!r}; give the policy's own: --hidden {hidden} --activation "
            f"{network.activation}"
        )
    if contract.experts != table.experts:
        raise InputError(
            f"{path} chooses among {', '.join(contract.experts)}, and the table has {', '.join(table.experts)}"
        )
