"""The tests check the shapes of annotations as they run."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jaxmoe.algorithms.returns import td_targets
from jaxmoe.env.baselines import ridge


def test_an_array_of_another_shape_or_type_is_refused():
    targets, ended = jnp.zeros(3), jnp.zeros(3, bool)
    td_targets(targets, targets, ended, 1)
    for wrong in (ended[:2], targets):
        with pytest.raises(TypeCheckError):
            td_targets(targets, targets, wrong, 0.9)
    with pytest.raises(TypeCheckError):
        ridge(np.zeros((4, 2)), np.zeros((3, 2)), 0.0)
