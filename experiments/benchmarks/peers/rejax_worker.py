"""rejax as it is on PyPI: `vmap` over the seeds of its `train`. Argument: iterations per round.

With one host device nothing is added; with several the agents are split over them by hand, with `shard_map`.
"""

import sys
from typing import Any

import jax
import numpy as np
import rejax
from jax.sharding import Mesh, PartitionSpec

from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.rules import EnvParams, EnvState, Settings
from jaxmoe.env.scenarios import make
from peers import worker
from peers.stepping import step_command


class OneSlotExperts(EdgeExperts):
    """`EdgeExperts` for gymnax 0.0.9, whose `step` takes the same five values of `step_env` but knows no truncation.

    `oneshot` truncates nothing, so that only two names are missing.
    """

    def __init__(self, settings: Settings, params: EnvParams) -> None:
        super().__init__(settings)
        self.params = params

    @property
    def default_params(self) -> EnvParams:
        """Those of the scenario; rejax reads them even where it is given others."""
        return self.params

    def is_terminal(self, state: EnvState, params: EnvParams) -> jax.Array:
        """What gymnax 1.x calls `is_terminated`."""
        return self.is_terminated(state, params)


def main() -> None:
    iterations = int(sys.argv[1])
    inner, params = make("oneshot")
    env = OneSlotExperts(inner.settings, params)
    env_steps = iterations * worker.NUM_ENVS * worker.ROLLOUT_LENGTH
    algorithm = rejax.get_algo("ppo").create(
        env=env,
        env_params=params,
        total_timesteps=env_steps,
        eval_freq=env_steps,
        skip_initial_evaluation=True,
        num_envs=worker.NUM_ENVS,
        num_steps=worker.ROLLOUT_LENGTH,
        num_epochs=worker.EPOCHS,
        num_minibatches=worker.MINIBATCHES,
        agent_kwargs={"hidden_layer_sizes": worker.HIDDEN, "activation": "tanh"},
        learning_rate=worker.LEARNING_RATE,
        gamma=worker.DISCOUNT,
        gae_lambda=worker.GAE_LAMBDA,
        clip_eps=worker.CLIP,
        ent_coef=worker.ENTROPY_COEF,
        vf_coef=worker.VALUE_COEF,
        max_grad_norm=worker.MAX_GRAD_NORM,
    )
    algorithm = algorithm.replace(eval_callback=lambda *_: ())  # the others do not evaluate either
    train_all = jax.jit(_sharded(jax.vmap(algorithm.train)))
    keys = jax.random.split(jax.random.key(0), worker.AGENTS)

    def train() -> dict[str, float]:
        jax.block_until_ready(train_all(keys))
        return {"env_steps": env_steps * worker.AGENTS}

    worker.serve(("rejax", "jax", "jaxlib"), {"train": train, "step": step_command(env, params)})


def _sharded(function: Any) -> Any:
    if jax.local_device_count() == 1:
        return function
    mesh, split = Mesh(np.array(jax.local_devices()), ("agents",)), PartitionSpec("agents")
    return jax.shard_map(function, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)


if __name__ == "__main__":
    main()
