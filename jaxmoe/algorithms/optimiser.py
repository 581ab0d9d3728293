"""Adam with clipped gradients, its rate and limit traced, so that they may differ from agent to agent.

The transformation is rebuilt inside each traced step: a traced number never hides in a stored closure.
"""

from typing import Any

import jax
import optax
from jaxtyping import Array, Float


def initial(parameters: Any) -> optax.OptState:
    """Zero moments for the parameters."""
    return _transformation(1.0).init(parameters)


def update(
    gradients: Any,
    moments: optax.OptState,
    parameters: Any,
    learning_rate: float | Float[Array, ""],
    max_grad_norm: float | Float[Array, ""],
) -> tuple[Any, optax.OptState]:
    """One step of Adam (Kingma and Ba 2015) on gradients clipped to a global norm; new parameters and moments."""
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        updates, moments = _transformation(max_grad_norm).update(gradients, moments)
    return jax.tree.map(lambda value, change: value - learning_rate * change, parameters, updates), moments


def clipped(gradients: Any, max_norm: float | Float[Array, ""]) -> Any:
    """Gradients scaled down to a global norm, where theirs is larger (Pascanu et al. 2013, arXiv 1211.5063)."""
    return optax.clip_by_global_norm(max_norm).update(gradients, optax.EmptyState())[0]


def _transformation(max_grad_norm: float | Float[Array, ""]) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(eps=1e-5))
