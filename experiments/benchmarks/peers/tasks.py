"""What the contenders do, and the settings that all of them share."""

from typing import NamedTuple


class Task(NamedTuple):
    """One algorithm at one size."""

    name: str
    algorithm: str  # ppo, dqn or sac
    iterations: int  # of each agent in a round
    lone_iterations: int  # in a round of a contender that trains one agent
    replay_capacity: int = 0  # transitions of each agent
    agents: int = 64  # trained at once, except by a contender that trains one

    @property
    def env_steps(self) -> int:
        """Environment steps of one agent in one iteration."""
        return NUM_ENVS * (ROLLOUT_LENGTH if self.algorithm == "ppo" else 1)


# A round of rejax takes ten to twenty seconds on two cores.
TASKS = {
    task.name: task
    for task in (
        Task("ppo", "ppo", iterations=96, lone_iterations=96),
        Task("dqn-10k", "dqn", iterations=1_280, lone_iterations=2_048, replay_capacity=10_000),
        Task("dqn-131k", "dqn", iterations=320, lone_iterations=2_048, replay_capacity=131_072),
        Task("sac-10k", "sac", iterations=1_280, lone_iterations=2_048, replay_capacity=10_000),
    )
}

NUM_ENVS = 8  # of one agent
HIDDEN = (64, 64)  # of actor and critic each
LEARNING_RATE = 3e-4
DISCOUNT = 0.99
MAX_GRAD_NORM = 0.5

ROLLOUT_LENGTH = 32  # PPO's own settings
EPOCHS = 4
MINIBATCHES = 4
GAE_LAMBDA = 0.95
CLIP = 0.2
ENTROPY_COEF = 0.01
VALUE_COEF = 0.5

BATCH_SIZE = 256  # settings of DQN and SAC, which make one update per iteration
WARMUP_STEPS = 2_048  # in random steps before the first update
TARGET_RATE = 0.005  # share of the new parameters in the target's
EPSILON = 0.05  # of DQN, at the end of its schedule
TARGET_ENTROPY_RATIO = 0.98  # of SAC, whose temperature is learned from 1 on

STEPS = 8_192  # of each environment where environments are stepped without learning
LONE_STEPS = 2_048  # the same of a contender that trains one agent


def activation(task: Task) -> str:
    """Of the hidden layers: what the peers themselves take by default, in most of them."""
    return "tanh" if task.algorithm == "ppo" else "relu"
