"""How much arithmetic PPO needs, counted by formula."""

from itertools import pairwise


def ppo_flops_per_env_step(observation: int, hidden: tuple[int, ...], actions: int, epochs: int) -> int:
    """Multiplications and additions in the matrix products of actor and critic, per environment step.

    A layer from m to n numbers takes 2 m n forward; backward it takes as much for the gradient of its weights, and as
    much again for that of its inputs, which the first layer does not need. Each step the actor acts once and the critic
    values what was seen before and after; then each epoch passes both forward and backward. Activations, losses, Adam
    and the environment are left out.

    >>> ppo_flops_per_env_step(observation=3, hidden=(5,), actions=2, epochs=1)  # actor 50, critic 40 per pass
    340
    """
    actor = _layers(observation, hidden, actions)
    critic = _layers(observation, hidden, 1)
    collecting = sum(actor) + 2 * sum(critic)
    learning = 3 * sum(actor + critic) - actor[0] - critic[0]
    return collecting + epochs * learning


def _layers(inputs: int, hidden: tuple[int, ...], outputs: int) -> list[int]:
    """Of one forward pass, layer by layer."""
    return [2 * before * after for before, after in pairwise((inputs, *hidden, outputs))]
