"""A baseline of one's own: the most relevant expert alone, if it is idle; else nobody, and the user's device writes.

jaxmoe sweep examples/own.toml --out runs/own
"""

import jax
import jax.numpy as jnp

import jaxmoe
from jaxmoe.env.actions import encode_action


def make(env, train):
    """The policy of an environment; of the train prompts it learns nothing."""
    del train
    experts, replicas = env.settings.num_experts, env.settings.num_replicas

    def act(key: jax.Array, observation: jax.Array, state, params) -> jax.Array:
        del key, observation
        wanted = jnp.argmax(params.table.relevance[state.prompt])
        idle = (state.available & (state.backlog_s <= 0.0)).reshape(experts, replicas)[wanted]
        replica = jnp.where(idle.any(), 1 + jnp.argmax(idle), 0)
        return encode_action(jnp.where(jnp.arange(experts) == wanted, replica, 0), env.settings)

    return act


jaxmoe.register_baseline("specialist", make, knows="relevance, and who is idle", deployable=True)
