"""An exported policy as a function of JAX, which is what is evaluated; each format is run by its own runtime."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Int

from jaxmoe.env.actions import action_choices
from jaxmoe.env.observation import observation_fields, scales
from jaxmoe.env.params import EnvParams
from jaxmoe.env.scenarios import SCENARIOS
from jaxmoe.errors import InputError
from jaxmoe.policy.bundle import Bundle
from jaxmoe.policy.contract import Contract
from jaxmoe.policy.onnx_graph import from_onnx
from jaxmoe.policy.stablehlo import from_stablehlo, preferences_function

if TYPE_CHECKING:
    from jaxmoe.env.edge_experts import EdgeExperts

Act = Callable[[Float[Array, " O"]], Int[Array, ""]]


def policy_function(bundle: Bundle, env: "EdgeExperts", params: EnvParams) -> Callable[..., Int[Array, ""]]:
    """The policy as `(key, observation, state, params) -> action` of an environment.

    It meets the environment as it would meet a network of its users: where numbers of the scenario differ from those of
    its training its observation keeps its own scaling, and its own `words_hat`.

    Args:
        bundle: the policy.
        env: an environment with as many experts and replicas as the policy knows.
        params: its parameters, those of all calls.

    Raises:
        InputError: the observation or the actions of the environment are others.
    """
    require_same_interface(bundle.contract, env, params)
    act, adapt = _runner(bundle), _adapter(bundle.contract, env, params)

    def policy(key: Array, observation: Float[Array, " O"], state: Any, params: EnvParams) -> Int[Array, ""]:
        del key, state, params
        return act(adapt(observation))

    return policy


def require_same_interface(contract: Contract, env: "EdgeExperts", params: EnvParams) -> None:
    """Raise `InputError` unless the environment's observation and actions are those of the contract."""
    ours = [(field.name, field.size) for field in observation_fields(params, env.settings)]
    theirs = [(field.name, field.size) for field in contract.observation]
    if ours != theirs:
        raise InputError(f"the policy observes {_listed(theirs)}, and the environment has {_listed(ours)}")
    if contract.actions != action_choices(env.settings):
        raise InputError("the policy's actions are numbered otherwise than the environment's")


class TrainingEnvironment(NamedTuple):
    """Where a policy was trained, as `environments` takes it."""

    scenario: str
    settings: dict[str, Any]
    params: dict[str, Any]


def training_environment(contract: Contract) -> TrainingEnvironment:
    """Where a policy was trained; `oneshot` with all that differs, if its scenario is not known here."""
    said = contract.scenario
    name = said["name"] if said["name"] in SCENARIOS else "oneshot"
    settings = {each: value for each, value in said["settings"].items() if each != "num_experts" and value is not None}
    if "max_experts" not in settings and SCENARIOS[name][0].max_experts is not None:
        settings["max_experts"] = len(contract.experts)  # no limit, although the scenario has one
    params = {each: math.inf if value is None else value for each, value in said["params"].items()}
    return TrainingEnvironment(name, settings, params)


def _runner(bundle: Bundle) -> Act:
    """The action of one observation, in whatever runs the policy's format."""
    if bundle.format == "safetensors":
        preferences = preferences_function(bundle.contract, bundle.tensors)
        return lambda observation: jnp.argmax(preferences(observation)).astype(jnp.int32)
    if bundle.format == "stablehlo":
        return _batched(from_stablehlo(bundle.content, bundle.contract, str(bundle.path)))
    run = from_onnx(bundle.content, bundle.contract, str(bundle.path))

    def call(observations: Any) -> np.ndarray:
        rows = np.asarray(observations, np.float32)
        return run(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape[:-1]).astype(np.int32)

    action = jax.ShapeDtypeStruct((), jnp.int32)
    return lambda observation: jax.pure_callback(call, action, observation, vmap_method="broadcast_all")


def _batched(decide: Callable[[Float[Array, "B O"]], Any]) -> Act:
    """A program of many observations as a function of one, which `vmap` turns into the program again."""

    @custom_vmap
    def act(observation: Float[Array, " O"]) -> Int[Array, ""]:
        return decide(observation[None])["actions"][0]

    @act.def_vmap
    def act_on_many(size: int, batched: list[bool], observations: Float[Array, "B O"]) -> tuple[Int[Array, " B"], bool]:
        del size, batched
        return decide(observations)["actions"], True

    return act


def _adapter(contract: Contract, env: "EdgeExperts", params: EnvParams) -> Callable[[Array], Array]:
    """From the environment's observation to the policy's."""
    factors = scales(observation_fields(params, env.settings)) / scales(contract.observation)
    carried = np.concatenate(
        [
            np.full(field.size, np.nan, np.float32)
            if field.name != "words_hat" or field.default is None
            else np.array(field.default, np.float32) / np.float32(field.scale)
            for field in contract.observation
        ]
    )

    def adapt(observation: Float[Array, " O"]) -> Float[Array, " O"]:
        return jnp.where(np.isnan(carried), observation * factors, np.nan_to_num(carried))

    return adapt


def _listed(fields: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name}[{size}]" for name, size in fields)
