"""Targets of value learning, one equation per function, for one trajectory; time runs along the leading axis.

A step that ends an episode is `terminated` (there is no future) or truncated by a time limit (there is one, unseen).
Values `v_t` belong to the observation after the step, before any reset: `info["final_observation"]`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def td_targets(
    r_t: Float[Array, "T *batch"],
    v_t: Float[Array, "T *batch"],
    terminated_t: Bool[Array, "T *batch"],
    discount: float | Float[Array, ""] | Float[Array, "T *batch"],
) -> Float[Array, "T *batch"]:
    """One-step targets `r_t + discount * (1 - terminated_t) * v_t` (Sutton and Barto 2018, equation 6.2).

    >>> td_targets(jnp.array([1.0, 1.0]), jnp.array([2.0, 2.0]), jnp.array([False, True]), 0.5).tolist()
    [2.0, 1.0]
    """
    return r_t + discount * jnp.where(terminated_t, 0.0, v_t)


def generalised_advantages(
    v_tm1: Float[Array, "T *batch"],
    r_t: Float[Array, "T *batch"],
    v_t: Float[Array, "T *batch"],
    terminated_t: Bool[Array, "T *batch"],
    done_t: Bool[Array, "T *batch"],
    discount: float | Float[Array, ""],
    gae_lambda: float | Float[Array, ""],
) -> Float[Array, "T *batch"]:
    """Generalised advantage estimates (Schulman et al. 2016, arXiv 1506.02438, equation 16).

    `A_t = delta_t + discount * lambda * (1 - done_t) * A_(t+1)`, with the temporal difference
    `delta_t = r_t + discount * (1 - terminated_t) * v_t - v_tm1`: a truncated step bootstraps from its final
    observation, but no advantage flows back across the end of an episode.

    >>> no = jnp.array([False, False])
    >>> generalised_advantages(jnp.zeros(2), jnp.ones(2), jnp.zeros(2), no, no, 0.5, 1.0).tolist()
    [1.5, 1.0]
    """
    delta_t = td_targets(r_t, v_t, terminated_t, discount) - v_tm1
    decay_t = discount * gae_lambda * jnp.where(done_t, 0.0, 1.0)

    def backwards(advantage: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, decay = step
        advantage = delta + decay * advantage
        return advantage, advantage

    return jax.lax.scan(backwards, jnp.zeros_like(delta_t[0]), (delta_t, decay_t), reverse=True)[1]


def n_step_return(
    r_t: Float[Array, " n"], done_t: Bool[Array, " n"], discount: float | Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""], Int[Array, ""]]:
    """Rewards of n steps, or of fewer where an episode ends: `sum over k < m of discount^k r_(t+k)`.

    `m` counts the steps to the first that is done, or all n (Sutton and Barto 2018, equation 7.1).

    Returns:
        The sum, `discount^m`, which is the weight of the value after these steps, and `m - 1`, the last of them.

    >>> n_step_return(jnp.array([1.0, 1.0, 1.0]), jnp.array([False, True, False]), 0.5)
    (Array(1.5, dtype=float32), Array(0.25, dtype=float32), Array(1, dtype=int32))
    """
    reached = jnp.concatenate([jnp.ones(1, bool), ~jax.lax.cummax(done_t.astype(jnp.int32))[:-1].astype(bool)])
    weights = discount ** jnp.arange(r_t.shape[0], dtype=jnp.float32)
    count = jnp.sum(reached, dtype=jnp.int32)
    return jnp.sum(weights * r_t, where=reached), discount ** count.astype(jnp.float32), count - 1
