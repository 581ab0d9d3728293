"""jaxmoe's own engine on all host devices. Argument: iterations per round."""

import sys

import jax
import jax.numpy as jnp

from jaxmoe.agents import ppo
from jaxmoe.agents.algorithm import Clock
from jaxmoe.env.scenarios import make
from jaxmoe.sweeps.engine import Agents, make_engine
from peers import worker
from peers.stepping import step_command


def main() -> None:
    iterations = int(sys.argv[1])
    env, params = make("oneshot")
    config = ppo.Config(
        num_envs=worker.NUM_ENVS,
        rollout_length=worker.ROLLOUT_LENGTH,
        epochs=worker.EPOCHS,
        minibatches=worker.MINIBATCHES,
        hidden=worker.HIDDEN,
        activation="tanh",
    )
    hypers = ppo.Hypers(
        learning_rate=worker.LEARNING_RATE,
        discount=worker.DISCOUNT,
        gae_lambda=worker.GAE_LAMBDA,
        clip=worker.CLIP,
        entropy_coef=worker.ENTROPY_COEF,
        value_coef=worker.VALUE_COEF,
        max_grad_norm=worker.MAX_GRAD_NORM,
    )
    each = jax.tree.map(lambda value: jnp.full(worker.AGENTS, value), hypers)
    agents = Agents(jnp.arange(worker.AGENTS), each, {})
    engine = make_engine(ppo.make(env, config, params), params, agents)
    clock = Clock(jnp.int32(0), jnp.int32(iterations))

    def train() -> dict[str, float]:
        jax.block_until_ready(engine.segment(engine.init(), clock, iterations))
        return {"env_steps": iterations * engine.env_steps * engine.agents}

    worker.serve(("jax", "jaxlib"), {"train": train, "step": step_command(env, params)})


if __name__ == "__main__":
    main()
