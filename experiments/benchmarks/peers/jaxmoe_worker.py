"""jaxmoe's own training program on all local devices, in batches as a plan has them."""

from typing import Any

import jax
import jax.numpy as jnp
import psutil

from jaxmoe.algorithms.algorithm import Clock
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.env.scenarios import make
from jaxmoe.training.program import Agents, bind, make_program
from jaxmoe.training.sizes import agents_per_device, bytes_per_agent
from peers import tasks, worker
from peers.flops import bytes_per_env_step, flops_per_env_step, uses
from peers.gemm import copy_gb_per_s, gemm_peak_gflops
from peers.stepping import step_command

ITERATIONS = 1_000_000  # of the whole run, as schedules see it: rates and epsilon hardly fall


def main() -> None:
    task = worker.task()
    env, params = make("oneshot")
    config, hypers = settings(task)
    each = jax.tree.map(lambda value: jnp.full(task.agents, value, jnp.float32), hypers)
    program = make_program(registered_algorithm(task.algorithm).make(env, config, params), params)
    agents_of_task = Agents(jnp.arange(task.agents), each, {})
    each_bytes = bytes_per_agent(program, type(hypers), ())
    width = planned_width(task, each_bytes)
    engine = bind(program, agents_of_task, width, jax.random.key(0))
    warmup = -(-task.replay_capacity // task.env_steps)  # iterations until the replay is full
    agents, done = None, 0

    def advance(iterations: int) -> dict[str, float]:
        nonlocal agents, done
        clock = Clock(jnp.int32(done), jnp.int32(ITERATIONS))
        agents = jax.block_until_ready(engine.advance(agents, clock, iterations))
        done += iterations
        return {"env_steps": iterations * task.env_steps * task.agents}

    def begin() -> dict[str, float]:
        nonlocal agents
        agents = engine.init()
        return advance(warmup)

    def train() -> dict[str, float]:
        return advance(task.iterations)

    def gemm() -> dict[str, float]:
        return {
            "env_steps": 0,
            "gemm_gflops": gemm_peak_gflops(),
            "ppo_flops_per_env_step": int(flops_per_env_step(*net)),
        }

    def limits() -> dict[str, float]:
        needs = {"flops_per_env_step": flops_per_env_step(*net), "bytes_per_env_step": bytes_per_env_step(*net)}
        products = {"tflops_default": 1e-3 * gemm_peak_gflops(), "tflops_float32": 1e-3 * gemm_peak_gflops("highest")}
        return {"env_steps": 0, **needs, **products, "copy_gb_per_s": copy_gb_per_s()}

    def memory() -> dict[str, float]:
        """Memory of the program that trains a batch, over that of its agents' states."""
        needs = engine.compile(False, lambda: None).memory_analysis()
        factor = (needs.argument_size_in_bytes + needs.temp_size_in_bytes) / (width * each_bytes)
        return {
            "env_steps": 0,
            "agents_per_device": width,
            "mib_per_agent": each_bytes / 2**20,
            "memory_factor": factor,
        }

    net = uses(task, env.num_actions), env.observation_space(params).shape[0], tasks.HIDDEN
    commands = {"begin": begin, "train": train, "step": step_command(task, env, params), "gemm": gemm, "limits": limits}
    commands["memory"] = memory
    worker.serve(("jax", "jaxlib"), commands)


def planned_width(task: tasks.Task, each_bytes: int) -> int:
    """Agents that a plan would let one device train at once, of all memory that it has."""
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit", psutil.virtual_memory().total)
    memory = task.algorithm, jax.default_backend(), jax.local_device_count(), limit / 2**30
    return agents_per_device(*memory, task.agents, each_bytes)


def settings(task: tasks.Task) -> tuple[Any, Any]:
    """`Config` and `Hypers` of the task's algorithm."""
    shape = {"num_envs": tasks.NUM_ENVS, "hidden": tasks.HIDDEN, "activation": tasks.activation(task)}
    hypers = {"final_rate": 1.0, "discount": tasks.DISCOUNT, "max_grad_norm": tasks.MAX_GRAD_NORM}
    rates = ("actor_rate", "critic_rate", "temperature_rate") if task.algorithm == "sac" else ("learning_rate",)
    hypers |= dict.fromkeys(rates, tasks.LEARNING_RATE)
    if task.algorithm == "ppo":
        shape |= {"rollout_length": tasks.ROLLOUT_LENGTH, "epochs": tasks.EPOCHS, "minibatches": tasks.MINIBATCHES}
        hypers |= {
            "gae_lambda": tasks.GAE_LAMBDA,
            "clip": tasks.CLIP,
            "entropy_coef": tasks.ENTROPY_COEF,
            "value_coef": tasks.VALUE_COEF,
        }
    else:
        shape |= {
            "rollout_length": 1,
            "updates": 1,
            "batch_size": tasks.BATCH_SIZE,
            "replay_capacity": task.replay_capacity,
            "warmup_steps": task.replay_capacity,  # what is timed begins with a full replay
        }
        hypers["target_tau"] = tasks.TARGET_RATE
        if task.algorithm == "dqn":
            hypers |= {"double_q": 1.0, "epsilon_end": tasks.EPSILON}
        else:
            hypers |= {"temperature": 1.0, "learn_temperature": 1.0, "target_entropy_ratio": tasks.TARGET_ENTROPY_RATIO}
    algorithm = registered_algorithm(task.algorithm)
    return algorithm.Config(**shape), algorithm.Hypers(**hypers)


if __name__ == "__main__":
    main()
