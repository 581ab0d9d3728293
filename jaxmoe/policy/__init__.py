"""Policies that leave jaxmoe: their contract, their files, and a loader that needs NumPy alone."""
