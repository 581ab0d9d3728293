"""A DQN agent of Stable-Baselines3 in a scenario of jaxmoe, which it knows as a Gymnasium environment.

Stable-Baselines3 does not come with jaxmoe: pip install stable-baselines3
"""

import argparse

import gymnasium
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy


def main() -> None:
    """Train on the train prompts, then serve the test prompts."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("--scenario", default="queueing", help="oneshot, fading or queueing")
    arguments.add_argument("--steps", type=int, default=20_000, help="requests to learn from")
    arguments.add_argument("--episodes", type=int, default=10, help="episodes to evaluate")
    chosen = arguments.parse_args()

    name = f"jaxmoe.gymnasium:jaxmoe/{chosen.scenario}-v0"  # the first half is the module that knows the second
    train, test = (gymnasium.make(name, split=split) for split in ("train", "test"))
    agent = DQN("MlpPolicy", train, learning_starts=min(1_000, chosen.steps // 2), seed=0)
    agent.learn(chosen.steps)
    rewards, lengths = evaluate_policy(agent, test, chosen.episodes, return_episode_rewards=True, warn=False)
    print(f"QoS per request on test prompts: {sum(rewards) / sum(lengths):.3f}")


if __name__ == "__main__":
    main()
