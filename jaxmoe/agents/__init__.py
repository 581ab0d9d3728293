"""Reinforcement-learning algorithms for any gymnax environment with discrete actions, each written for one agent."""

from jaxmoe.devices import use_all_cores

use_all_cores()  # before gymnax is imported, which starts JAX
