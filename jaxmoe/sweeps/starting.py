"""Training that goes on from an exported policy."""

import os
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxmoe.agents.algorithm import AgentState, Algorithm
from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.params import EnvParams
from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import Bundle, read_bundle
from jaxmoe.policy.running import require_same_interface
from jaxmoe.table import ExpertTable


class Start(NamedTuple):
    """An algorithm whose fresh agents act by an exported policy."""

    algorithm: Algorithm
    weights_sha256: str

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        algorithm: Algorithm,
        config: Any,
        env: EdgeExperts,
        params: EnvParams,
        table: ExpertTable,
    ) -> "Start":
        """Read a policy, and have an algorithm's agents go on from it.

        They see the environment that they are trained in: its scaling and its `words_hat`, not the policy's own.

        Raises:
            InputError: the policy is damaged, of another algorithm, network, observation, or of other experts.
        """
        bundle = read_bundle(path)
        _require_same_kind(bundle, algorithm, config, table)
        require_same_interface(bundle.contract, env, params)
        policy = _policy_tree(bundle)

        def init(key: Array, hypers: Any, env_params: Any) -> AgentState:
            return algorithm.adopt(algorithm.init(key, hypers, env_params), policy)

        return cls(algorithm._replace(init=init), bundle.contract.weights_sha256)


def _require_same_kind(bundle: Bundle, algorithm: Algorithm, config: Any, table: ExpertTable) -> None:
    contract, path = bundle.contract, bundle.path
    if bundle.format != "safetensors":
        raise InputError(f"{path} is not safetensors, and only those hold weights to go on from")
    if contract.algorithm != algorithm.name:
        raise InputError(f"{path} is a policy of {contract.algorithm}, and {algorithm.name} does not go on from it")
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


def _policy_tree(bundle: Bundle) -> Any:
    """The parameters of the acting network, as its module has them."""
    tree: dict[str, dict[str, Array]] = {}
    for name, tensor in bundle.tensors.items():
        layer, kind = name.split("/")
        tree.setdefault(layer.replace("layer", "Dense_"), {})[kind] = jnp.asarray(tensor)
    return {"params": tree}
