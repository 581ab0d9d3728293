"""CartPole from gymnax, learned by jaxmoe's PPO alone: no experiment, no folder; sixteen agents in one program.

python examples/cartpole.py
"""

import argparse

import gymnax
import jax

from jaxmoe.algorithms import registered_algorithm, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--steps", type=int, default=200_000, help="of each agent")
    arguments = parser.parse_args()
    env, params = gymnax.make("CartPole-v1")
    ppo = registered_algorithm("ppo")
    algorithm = ppo.make(env, ppo.Config(num_envs=8, rollout_length=64), params)
    hypers = ppo.Hypers(learning_rate=2.5e-3, discount=0.99, gae_lambda=0.95, entropy_coef=0.0)

    def lifetime(key: jax.Array) -> jax.Array:
        """Mean length of an agent's episodes by its greedy policy, of at most 500 steps."""
        agent, _ = train(algorithm, key, hypers, params, arguments.steps)
        keys = jax.random.split(key, 32)

        def play(key: jax.Array) -> jax.Array:
            observation, state = env.reset(key, params)

            def step(carry: tuple, key: jax.Array) -> tuple:
                observation, state, alive = carry
                action = algorithm.preferences(agent.policy, observation).argmax()
                observation, state, _, terminated, _, _ = env.step(key, state, action, params)
                return (observation, state, alive & ~terminated), alive

            alive = jax.lax.scan(step, (observation, state, True), jax.random.split(key, 500))[1]
            return alive.sum()

        return jax.vmap(play)(keys).mean()

    lengths = jax.jit(jax.vmap(lifetime))(jax.random.split(jax.random.key(0), arguments.agents))
    print(f"{arguments.agents} agents of {arguments.steps:,} steps: episodes of", end=" ")
    print(f"{lengths.mean():.0f} steps on average, {lengths.min():.0f} with the worst agent")


if __name__ == "__main__":
    main()
