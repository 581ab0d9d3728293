"""How much arithmetic and memory traffic training needs, counted by formula, per environment step.

A layer from m to n numbers takes 2 m n multiplications and additions forward; backward it takes as much for the
gradient of its weights, and as much again for that of its inputs, which the first layer does not need. Losses, Adam,
replay and the environment are left out.

The traffic is what passes through a device's memory where nothing is fused: each hidden number is written and read by
the product and by the function behind it, and with its gradient three times as often; an update reads the parameters in
two products, writes and reads their gradient, and reads and writes them with Adam's two moments.
"""

from itertools import pairwise
from typing import NamedTuple

from peers import tasks

BYTES = 4  # of a number
FORWARD, BOTH, UPDATE = 4, 12, 11  # numbers read and written: per hidden number, the same with gradient, per parameter


class Use(NamedTuple):
    """How often networks of one shape are used per environment step."""

    outputs: int
    forward: float  # examples that pass forward alone
    both: float  # examples that pass forward and backward
    updates: float


def uses(task: tasks.Task, actions: int) -> list[Use]:
    """The networks of an algorithm: PPO has an actor and a critic, DQN one, SAC an actor and two critics."""
    if task.algorithm == "ppo":  # the actor acts, the critic values what is seen and what follows the last step
        updates = tasks.EPOCHS * tasks.MINIBATCHES / (tasks.NUM_ENVS * tasks.ROLLOUT_LENGTH)
        valued = 1 + 1 / tasks.ROLLOUT_LENGTH
        return [Use(actions, 1, tasks.EPOCHS, updates), Use(1, valued, tasks.EPOCHS, updates)]
    updates, examples = 1 / tasks.NUM_ENVS, tasks.BATCH_SIZE / tasks.NUM_ENVS
    if task.algorithm == "dqn":  # it acts; network and target value what comes next
        return [Use(actions, 1 + 2 * examples, examples, updates)]
    return [Use(actions, 1 + examples, examples, updates), *2 * [Use(actions, examples, examples, updates)]]


def flops_per_env_step(used: list[Use], observation: int, hidden: tuple[int, ...]) -> float:
    """Multiplications and additions in matrix products.

    >>> flops_per_env_step([Use(2, forward=1, both=1, updates=1)], observation=3, hidden=(5,))  # 50 per pass
    170
    """
    layers = [(_layers(observation, hidden, use.outputs), use) for use in used]
    return sum(use.forward * sum(each) + use.both * (3 * sum(each) - each[0]) for each, use in layers)


def bytes_per_env_step(used: list[Use], observation: int, hidden: tuple[int, ...]) -> float:
    """Bytes that are read and written where nothing is fused.

    >>> bytes_per_env_step([Use(2, forward=1, both=1, updates=1)], observation=3, hidden=(5,))  # 32 parameters
    1728.0
    """
    total = 0.0
    for use in used:
        parameters = sum(_layers(observation + 1, hidden, use.outputs)) // 2 + sum(hidden[1:]) + use.outputs
        total += sum(hidden) * (FORWARD * use.forward + BOTH * use.both) + UPDATE * parameters * use.updates
    return BYTES * total


def _layers(inputs: int, hidden: tuple[int, ...], outputs: int) -> list[int]:
    """Of one forward pass, layer by layer."""
    return [2 * before * after for before, after in pairwise((inputs, *hidden, outputs))]
