"""PureJaxRL's PPO as it is, from a checkout: `vmap` over the keys of its `make_train`.

It trains from the first step to the last in one call and gives no states to go on from, so that every round trains
fresh agents, whose initialisation is a small part of it. The checkout is found on `PYTHONPATH`. On a CPU several agents
can wait for ever in the QR decompositions of their initial weights; one agent, and a GPU, do not.
"""

import sys
from typing import Any
from unittest.mock import MagicMock

import gymnax
import jax

from jaxmoe.env.scenarios import make
from peers import tasks, worker
from peers.rejax_worker import OneSlotExperts

UNUSED = ("brax", "brax.envs", "brax.envs.wrappers", "brax.envs.wrappers.training", "navix")  # imported beside PPO
sys.modules |= dict.fromkeys(UNUSED, MagicMock())


def main() -> None:
    task = worker.task()
    inner, params = make("oneshot")
    gymnax.make = lambda _name: (OneSlotExperts(inner.settings, params), params)  # how it finds its environment
    from purejaxrl.ppo import make_train

    train_all = jax.jit(jax.vmap(make_train(config(task))))
    keys = jax.random.split(jax.random.key(0), task.agents)

    def begin() -> dict[str, float]:
        return {"env_steps": 0}

    def train() -> dict[str, float]:
        jax.block_until_ready(train_all(keys)["runner_state"])
        return {"env_steps": task.iterations * task.env_steps * task.agents}

    worker.serve(("jax", "jaxlib"), {"begin": begin, "train": train})


def config(task: tasks.Task) -> dict[str, Any]:
    """The task in its words; its networks have two layers of 64 units, which cannot be changed."""
    return {
        "ENV_NAME": "oneshot",
        "TOTAL_TIMESTEPS": task.iterations * task.env_steps,
        "NUM_ENVS": tasks.NUM_ENVS,
        "NUM_STEPS": tasks.ROLLOUT_LENGTH,
        "UPDATE_EPOCHS": tasks.EPOCHS,
        "NUM_MINIBATCHES": tasks.MINIBATCHES,
        "LR": tasks.LEARNING_RATE,
        "ANNEAL_LR": False,
        "GAMMA": tasks.DISCOUNT,
        "GAE_LAMBDA": tasks.GAE_LAMBDA,
        "CLIP_EPS": tasks.CLIP,
        "ENT_COEF": tasks.ENTROPY_COEF,
        "VF_COEF": tasks.VALUE_COEF,
        "MAX_GRAD_NORM": tasks.MAX_GRAD_NORM,
        "ACTIVATION": tasks.activation(task),
    }


if __name__ == "__main__":
    main()
