"""Which actions are legal, the same lines in NumPy and in JAX: those that ask nobody but devices which are available.

The contract's `legal` names the field of the observation that says of each device whether it is: its number is above 0.
Asking nobody is always legal. The preferences of other actions become the least finite float32: the action stays the
index of the largest preference, and the probability of an action that is not legal is 0.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxmoe.policy.contract import Contract

LEAST = np.finfo(np.float32).min  # preference of an action that is not legal


class Mask(NamedTuple):
    """What tells legal actions from others."""

    available: slice  # of the observation: D numbers, above 0 where a device is available
    asked: NDArray[np.float32]  # [D, A], 1 where an action asks a device, else 0


def mask_of(contract: Contract) -> Mask | None:
    """The mask that a contract says; none if it has no `legal`, and all actions may be chosen."""
    if contract.legal is None:
        return None
    names = [field.name for field in contract.observation]
    number = names.index(contract.legal)
    begin = sum(field.size for field in contract.observation[:number])
    replicas = 1 + np.arange(contract.num_replicas)
    asked = np.array(contract.actions)[:, :, None] == replicas  # [A, E, R]
    devices = asked.reshape(len(contract.actions), -1).T
    return Mask(slice(begin, begin + len(devices)), np.ascontiguousarray(devices, np.float32))


def legal_actions(mask: Mask, observations: Any, xp: Any = np) -> Any:
    """Whether every device that an action asks is available.

    Args:
        mask: of the contract.
        observations: [..., O], float32.
        xp: the library that computes: `numpy` or `jax.numpy`.

    Returns:
        [..., A] truth values, an array of that library.
    """
    down = xp.logical_not(observations[..., mask.available] > 0)
    return down.astype(xp.float32) @ mask.asked == 0


def masked(mask: Mask | None, preferences: Any, observations: Any, xp: Any = np) -> Any:
    """Preferences, those of actions that are not legal the least finite float32.

    Args:
        mask: of the contract; without one nothing is masked.
        preferences: [..., A], float32, as the network says them.
        observations: [..., O], float32, of which they are.
        xp: the library that computes: `numpy` or `jax.numpy`.

    Returns:
        [..., A], an array of that library.
    """
    return preferences if mask is None else xp.where(legal_actions(mask, observations, xp), preferences, LEAST)
