"""The command line."""

from jaxmoe.cli.app import app, main

__all__ = ["app", "main"]
