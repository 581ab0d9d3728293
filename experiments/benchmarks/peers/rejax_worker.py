"""rejax as it is on PyPI: `vmap` over the seeds of its `train`.

With one host device nothing is added; with several the agents are split over them by hand, with `shard_map`.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import rejax
from gymnax.environments.environment import Environment
from jax.sharding import Mesh, PartitionSpec

from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.params import EnvParams, Settings
from jaxmoe.env.rules import EnvState
from jaxmoe.env.scenarios import make
from peers import tasks, worker
from peers.stepping import step_command


class OneSlotExperts(EdgeExperts):
    """`EdgeExperts` for gymnax 0.0.9, whose `step` takes the same five values of `step_env` but knows no truncation.

    `oneshot` truncates nothing, so that only two names are missing, and `step` is gymnax' own.
    """

    step = Environment.step

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
    task = worker.task()
    inner, params = make("oneshot")
    env = OneSlotExperts(inner.settings, params)
    algorithm = make_algorithm(task, env, params)
    keys = jax.random.split(jax.random.key(0), task.agents)
    begin_all = jax.jit(sharded(jax.vmap(lambda key: strongly_typed(algorithm.init_state(key)))))
    train_all = jax.jit(sharded(jax.vmap(lambda state: algorithm.train(train_state=state)[0])), donate_argnums=0)
    states = None

    def begin() -> dict[str, float]:
        nonlocal states
        states = jax.block_until_ready(begin_all(keys))
        return {"env_steps": 0}

    def train() -> dict[str, float]:
        nonlocal states
        states = jax.block_until_ready(train_all(states))
        return {"env_steps": task.iterations * task.env_steps * task.agents}

    commands = {"begin": begin, "train": train, "step": step_command(task, env, params)}
    worker.serve(("rejax", "jax", "jaxlib"), commands)


def make_algorithm(task: tasks.Task, env: OneSlotExperts, params: EnvParams) -> Any:
    """The task's algorithm, without evaluation, since the others do not evaluate either."""
    env_steps = task.iterations * task.env_steps
    shared = {
        "env": env,
        "env_params": params,
        "total_timesteps": env_steps,
        "eval_freq": env_steps,
        "skip_initial_evaluation": True,
        "num_envs": tasks.NUM_ENVS,
        "learning_rate": tasks.LEARNING_RATE,
        "gamma": tasks.DISCOUNT,
        "max_grad_norm": tasks.MAX_GRAD_NORM,
    }
    networks: dict[str, Any] = {"activation": tasks.activation(task)}
    if task.algorithm == "ppo":
        networks["hidden_layer_sizes"] = tasks.HIDDEN
        own = {
            "num_steps": tasks.ROLLOUT_LENGTH,
            "num_epochs": tasks.EPOCHS,
            "num_minibatches": tasks.MINIBATCHES,
            "gae_lambda": tasks.GAE_LAMBDA,
            "clip_eps": tasks.CLIP,
            "ent_coef": tasks.ENTROPY_COEF,
            "vf_coef": tasks.VALUE_COEF,
        }
    else:
        own = {
            "buffer_size": task.replay_capacity,
            "fill_buffer": tasks.WARMUP_STEPS,
            "batch_size": tasks.BATCH_SIZE,
            "polyak": 1.0 - tasks.TARGET_RATE,
        }
        if task.algorithm == "sac":
            own |= {"hidden_layer_sizes": tasks.HIDDEN, "target_entropy_ratio": tasks.TARGET_ENTROPY_RATIO}
        else:  # its networks have two layers of 64 units, which cannot be changed
            own |= {"ddqn": True, "eps_end": tasks.EPSILON}
    algorithm = rejax.get_algo(task.algorithm).create(**shared, **own, agent_kwargs=networks)
    return algorithm.replace(eval_callback=lambda *_: ())


def strongly_typed(state: Any) -> Any:
    """Arrays in place of Python's numbers, whose type would change in the first round and compile another program."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jax.numpy.asarray(leaf).dtype), state)


def sharded(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function of all agents, which are split over the host devices if there are several."""
    if jax.local_device_count() == 1:
        return function
    mesh, split = Mesh(np.array(jax.local_devices()), ("agents",)), PartitionSpec("agents")
    return jax.shard_map(function, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)


if __name__ == "__main__":
    main()
