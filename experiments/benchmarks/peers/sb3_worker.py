"""Stable-Baselines3, one agent on the CPU. Form: `gymnasium` or `compiled`, how its environments take a step."""

from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from peers import tasks, worker
from peers.sb3_envs import CompiledVecEnv, gymnasium_envs

FORMS = {"gymnasium": gymnasium_envs, "compiled": CompiledVecEnv}


def main() -> None:
    task = worker.task()
    torch.set_num_threads(1)  # faster than two: the networks are small
    env = FORMS[worker.form()](tasks.NUM_ENVS)
    agent = make_agent(task, env)

    def begin() -> dict[str, float]:
        warmup_steps = tasks.WARMUP_STEPS if task.algorithm == "dqn" else 0
        agent.learn(warmup_steps)
        return {"env_steps": warmup_steps}

    def train() -> dict[str, float]:
        env_steps = task.lone_iterations * task.env_steps
        agent.learn(env_steps, reset_num_timesteps=False)
        return {"env_steps": env_steps}

    def step() -> dict[str, float]:
        env.reset()
        actions = np.random.default_rng(0).integers(env.action_space.n, size=(tasks.LONE_STEPS, env.num_envs))
        rewards = [env.step(action)[1] for action in actions]
        return {"mean_reward": float(np.mean(rewards)), "env_steps": actions.size}

    packages = ("stable-baselines3", "torch", "jax", "jaxlib")
    worker.serve(packages, {"begin": begin, "train": train, "step": step})


def make_agent(task: tasks.Task, env: VecEnv) -> BaseAlgorithm:
    """PPO or DQN, which is not double here."""
    shared: dict[str, Any] = {
        "policy": "MlpPolicy",
        "env": env,
        "learning_rate": tasks.LEARNING_RATE,
        "gamma": tasks.DISCOUNT,
        "max_grad_norm": tasks.MAX_GRAD_NORM,
        "policy_kwargs": {
            "net_arch": list(tasks.HIDDEN),
            "activation_fn": {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[tasks.activation(task)],
        },
        "seed": 0,
        "device": "cpu",
    }
    if task.algorithm == "ppo":
        return PPO(
            **shared,
            n_steps=tasks.ROLLOUT_LENGTH,
            batch_size=tasks.NUM_ENVS * tasks.ROLLOUT_LENGTH // tasks.MINIBATCHES,
            n_epochs=tasks.EPOCHS,
            gae_lambda=tasks.GAE_LAMBDA,
            clip_range=tasks.CLIP,
            ent_coef=tasks.ENTROPY_COEF,
            vf_coef=tasks.VALUE_COEF,
        )
    return DQN(
        **shared,
        buffer_size=task.replay_capacity,
        learning_starts=tasks.WARMUP_STEPS,
        batch_size=tasks.BATCH_SIZE,
        tau=tasks.TARGET_RATE,
        target_update_interval=tasks.NUM_ENVS,  # in environment steps: once per iteration
        train_freq=1,
        gradient_steps=1,
        exploration_final_eps=tasks.EPSILON,
    )


if __name__ == "__main__":
    main()
