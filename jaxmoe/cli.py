"""The command line: parses, calls, prints. Bad input is one sentence and exit code 2; JAX starts only where needed."""

import sys
from typing import Annotated

import typer
from rich.console import Console

import jaxmoe
from jaxmoe.commands.collecting import collect
from jaxmoe.commands.evaluating import evaluate
from jaxmoe.commands.exporting import export
from jaxmoe.commands.generating import generate
from jaxmoe.commands.options import OUT
from jaxmoe.commands.study import best, compare, report, status
from jaxmoe.commands.sweeping import merge, sweep
from jaxmoe.commands.table import table_app
from jaxmoe.commands.training import train_app
from jaxmoe.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they may hold a key
    help="Which edge experts should write your text?",
)
app.add_typer(table_app, name="table")
app.add_typer(train_app, name="train")
for command in (collect, generate, evaluate, export, sweep, merge, status, report, best, compare):
    app.command()(command)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        OUT.print(jaxmoe.__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    try:
        app()
    except InputError as error:
        Console(stderr=True, highlight=False, emoji=False).print(f"jaxmoe: {error}", soft_wrap=True, markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
