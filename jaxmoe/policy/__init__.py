"""Policies that leave jaxmoe: their contract, their files, and a loader that needs NumPy alone."""

from jaxmoe.policy.network import apply

__all__ = ["apply"]
