"""The command line: parses, calls, prints. Bad input is one sentence and exit code 2; JAX starts only where needed."""

import contextlib
import gc
import logging
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import jaxmoe
from jaxmoe.cli.collecting import collect
from jaxmoe.cli.evaluating import evaluate
from jaxmoe.cli.exporting import export
from jaxmoe.cli.generating import generate
from jaxmoe.cli.launching import finish, launch_app, run
from jaxmoe.cli.looking import best, compare, confirm, report, status
from jaxmoe.cli.options import Command
from jaxmoe.cli.output import ERR, OUT
from jaxmoe.cli.running import extend, merge, sweep
from jaxmoe.cli.scenario import scenario_app
from jaxmoe.cli.table import table_app
from jaxmoe.cli.training import train_app
from jaxmoe.errors import InputError
from jaxmoe.names import sentence, speak_plainly

LONGEST_COMPLAINT = 300  # characters of what is said of an option
UsageError: Any = typer.BadParameter.__base__  # click's, or its like in a typer that does without click
PANELS = {
    "Data": ("collect", "table", "scenario"),
    "Train": ("train", "sweep", "extend", "confirm", "launch", "run", "finish"),
    "Look": ("status", "best", "compare", "report", "evaluate"),
    "Take away": ("export", "generate"),
}
PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}


class _Commands(TyperGroup):
    """All commands, by what they are for; their help fits a screen."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Those that are not hidden, in the order of the panels."""
        del ctx
        return list(PANEL_OF)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """One line each."""
        self.format_usage(ctx, formatter)
        formatter.write(f"{self.help}\n")
        for panel, names in PANELS.items():
            formatter.write(f"{typer.style(panel, bold=True)}\n")
            for name in names:
                formatter.write(f"  {name:<10}{(self.commands[name].help or '').partition(chr(10))[0]}\n")
        options = ", ".join(parameter.opts[0] for parameter in self.get_params(ctx))
        formatter.write(f"Options: {options}\n")


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they may hold a key
    help="Which edge experts should write your text?",
)
app.add_typer(table_app, name="table", rich_help_panel=PANEL_OF["table"])
app.add_typer(scenario_app, name="scenario", rich_help_panel=PANEL_OF["scenario"])
app.add_typer(train_app, name="train", rich_help_panel=PANEL_OF["train"])
app.add_typer(launch_app, name="launch", rich_help_panel=PANEL_OF["launch"])
for _command in (
    collect, sweep, extend, confirm, run, finish, status, best, compare, report, evaluate, export, generate,
):  # fmt: skip
    app.command(cls=Command, rich_help_panel=PANEL_OF[_command.__name__])(_command)
app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(merge)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        OUT.print(jaxmoe.__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    speak_plainly()
    os.environ.pop("MPLBACKEND", None)  # figures are ours, whatever is set for matplotlib, or set wrong
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    gc.set_threshold(100_000)  # importing makes very many objects, of which none is garbage
    try:
        code = app(prog_name="jaxmoe", standalone_mode=False) or 0
        if sys.stdout:
            sys.stdout.flush()  # or what the disk does not take would be told when nobody can say so any more
        sys.exit(code)
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            said = sentence(error.format_message(), LONGEST_COMPLAINT).rstrip(".")
            usage = f". {' '.join(error.ctx.get_usage().split())}" if error.ctx else ""
            ERR.print(f"jaxmoe: {said}{usage}", soft_wrap=True)
        sys.exit(2)
    except (InputError, OSError) as error:
        with contextlib.suppress(OSError):  # if standard error can be written at all
            ERR.print(f"jaxmoe: {_sentence(error)}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        _drop_what_nobody_takes()
        gc.freeze()  # all of it ends with the process; going through it first takes a tenth of a second


def _drop_what_nobody_takes() -> None:
    """Let go what standard output or error could not write, which Python would try again at its end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # one that is closed is none
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _sentence(error: Exception) -> str:
    """What the operating system says, with the file that it says it of; other errors as they are."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{sentence(str(error.filename), LONGEST_COMPLAINT)}: " if error.filename else ""
        return sentence(f"{where}{error.strerror}")
    return sentence(str(error))
