"""Reinforcement-learning algorithms for any gymnax environment with discrete actions, each written for one agent."""
