"""Random keys apart by purpose: what is drawn for one purpose is never drawn for another.

The key of a purpose is `fold_in(key(root_seed), purpose)`. Agents fold their seed into it, evaluations the number of an
episode: without the purpose between, the agent of seed 3 and episode 3 would draw the same numbers.
"""

import jax
from jaxtyping import Array

TRAINING, CONFIRMATION, EVALUATION, WATCHING = 1, 2, 3, 4


def purpose_key(root_seed: int, purpose: int) -> Array:
    """Key of everything that is drawn for a purpose."""
    return jax.random.fold_in(jax.random.key(root_seed), purpose)
