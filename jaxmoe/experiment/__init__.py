"""Experiments: what one spec asks for, planned, run, kept and told."""
