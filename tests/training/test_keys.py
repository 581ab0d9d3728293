"""Random keys of one purpose are of no other."""

import itertools

import jax
import jax.numpy as jnp
import pytest

import jaxmoe
from jaxmoe.algorithms import ppo
from jaxmoe.training import keys
from jaxmoe.training.evaluation import EVALUATION_SEED, AgentEvaluation
from jaxmoe.training.inputs import environments

PURPOSES = (keys.TRAINING, keys.CONFIRMATION, keys.EVALUATION, keys.WATCHING)


@pytest.mark.parametrize("root_seed", [EVALUATION_SEED, 7])
def test_no_agent_shares_its_key_with_an_episode_or_with_an_agent_of_another_purpose(root_seed):
    numbers = jnp.arange(1000)
    drawn = {
        purpose: jax.vmap(jax.random.fold_in, (None, 0))(keys.purpose_key(root_seed, purpose), numbers)
        for purpose in PURPOSES
    }
    plain = {purpose: set(map(tuple, jax.random.key_data(found).tolist())) for purpose, found in drawn.items()}
    for first, second in itertools.combinations(PURPOSES, 2):
        assert not plain[first] & plain[second]


def test_the_agent_of_a_seed_and_the_episode_of_its_number_draw_apart():
    env, splits = environments("oneshot", jaxmoe.load_table(), {}, {})
    algorithm = ppo.make(env, ppo.Config(hidden=(4,)), splits["train"])
    episodes = AgentEvaluation(algorithm, env, splits, 64)._key
    agents = keys.purpose_key(0, keys.TRAINING)
    for number in range(8):
        key, other = (jax.random.fold_in(root, number) for root in (episodes, agents))
        assert jax.random.key_data(key).tolist() != jax.random.key_data(other).tolist()
