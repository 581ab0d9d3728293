"""What several commands share: options, and how their texts become values."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

import jaxmoe
from jaxmoe.cli.output import ERR, OUT
from jaxmoe.errors import InputError
from jaxmoe.files import with_home, write_whole
from jaxmoe.names import bare, short, to_csv

if TYPE_CHECKING:
    import pandas as pd

    from jaxmoe.experiment.experiment import Experiment

NoRelevance = Annotated[
    bool, typer.Option("--no-relevance", help="The table needs no relevance, and agents observe zeros.")
]
TableOption = Annotated[
    Path | None,
    typer.Option("--table", help="The expert table: a folder, CSV, Excel or Parquet; the shipped one if absent."),
]
Scenario = Annotated[str, typer.Option(help="The scenario: oneshot, fading, queueing, or the .toml file of one.")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change the scenario, as in params.latency_weight=0.05 or settings.num_replicas=2.",
    ),
]
SpecChanges = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change any key of the spec, as in params.latency_weight=0.05."),
]
Location = Annotated[str, typer.Argument(metavar="DIR", help="The folder of an experiment, or its address (s3://...).")]
Out = Annotated[
    str | None,
    typer.Option(help="The folder of the experiment, new or to go on with; or an address, as s3://bucket/name."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document to standard output, and nothing else there.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress to standard error.")]
MOVED = {  # options of older versions, and what is written now
    "--param": "--set params.VALUE",
    "--setting": "--set settings.VALUE",
    "--slots": "--requests VALUE",
    "--references": "--baselines VALUE",
}
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="FILE", help="Import a file or module that registers what is used."),
]
TrustPlugins = Annotated[
    bool, typer.Option("--trust-plugins", help="Import the plugins that the folder names, from where they were.")
]
TimeBudget = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Save and stop after this time, as in 30m, 2h or 90 (seconds)."),
]
CheckpointEvery = Annotated[str, typer.Option(metavar="TIME", help="The time between two checkpoints of a job.")]
Engine = Annotated[
    str, typer.Option(metavar="NAME", help="Who runs the jobs: local, or ray, the workers of a Ray cluster.")
]
Address = Annotated[
    str | None, typer.Option(help="The address of a Ray cluster; without it, one is started on this machine.")
]
Baselines = Annotated[str, typer.Option(help="The baselines to evaluate: all, none, or names joined by commas.")]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic", help="Choose no kernel by its speed: the same bits in every process on a GPU."),
]
NoCompilationCache = Annotated[
    bool, typer.Option("--no-compilation-cache", help="Keep no compiled programs for the next start.")
]


class Command(TyperCommand):
    """A command that says what has come in place of options that older versions had."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse them, with what to write."""
        known = {name for parameter in self.params for name in parameter.opts}
        for position, argument in enumerate(args):
            option, equals, value = argument.partition("=")
            now = MOVED.get(option, "")
            if now and option not in known and now.split()[0] in known:
                value = value if equals else " ".join(args[position + 1 : position + 2]) or "VALUE"
                raise InputError(f"{option} is gone; write {now.replace('VALUE', value)}")
        return super().parse_args(ctx, args)


def named_plugins(arguments: Sequence[str]) -> list[str]:
    """What `--plugin` names among the arguments of a command that a plugin may have to register first.

    >>> named_plugins(["mine", "--plugin", "a.py", "--seeds", "2", "--plugin=b.py"])
    ['a.py', 'b.py']
    """
    found = []
    for each, after in zip(arguments, [*arguments[1:], ""], strict=True):
        option, _, value = each.partition("=")
        if option == "--plugin" and (value or after):
            found.append(value or after)
    return found


def whole_numbers(option: str, text: str) -> list[int]:
    """One number, or several joined by commas."""
    try:
        return [int(part) for part in text.split(",") if part.strip()] or [int(text)]
    except ValueError:
        raise InputError(f"{option} {short(text)} is not a whole number or several joined by commas") from None


def seconds(option: str, text: str | None) -> float | None:
    """A time such as 90, 90s, 30m, 1.5h or 2d, in seconds.

    >>> seconds("--time-budget", "30m"), seconds("--time-budget", "1.5h")
    (1800.0, 5400.0)
    """
    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        found = float(number) * unit
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise InputError(f"{option} {short(text)} is no time; write 90, 90s, 30m, 1.5h or 2d")
    return found


def running(time_budget: str | None, checkpoint_every: str | None, no_compilation_cache: bool) -> dict[str, Any]:
    """How long a command trains, how often it saves, and whether it keeps programs, as the Python API takes them."""
    times: dict[str, Any] = {"time_budget_s": seconds("--time-budget", time_budget)}
    if checkpoint_every is not None:
        times["checkpoint_every_s"] = seconds("--checkpoint-every", checkpoint_every)
    return times | {"compilation_cache": not no_compilation_cache}


def engine_of(experiment: "Experiment", engine: str, address: str | None, part: Any = None) -> Any:
    """The engine of a name, with what the experiment's spec gives each job, and its part of them."""
    from jaxmoe.experiment.engines import Shard, engine_named

    return engine_named(engine, address, experiment.spec.ray, part or Shard())


def baseline_names(text: str) -> str | list[str]:
    """All, none, or names joined by commas."""
    return text if text in ("all", "none") else text.split(",")


def seed_numbers(option: str, text: str) -> int | list[int]:
    """How many seeds, or these, joined by commas."""
    numbers = whole_numbers(option, text)
    return numbers if "," in text else numbers[0]


def end(experiment: "Experiment", as_json: bool = False) -> None:
    """Say why an experiment is not finished, if it is not, and leave with the code that says so."""
    console = ERR if as_json else OUT
    kept = "what was done is kept, and the same command goes on from there."
    if experiment.folder is None:
        kept = "without --out DIR nothing is kept; with it, the same command would go on from here."
    if experiment.unfinished == "interrupted":
        console.print(f"Stopped: {kept}", soft_wrap=True)
        raise typer.Exit(130)
    if experiment.unfinished == "time budget":
        console.print(f"The time is up: {kept}", soft_wrap=True)
        raise typer.Exit(3)
    if experiment.failed:
        numbers = ", ".join(map(str, experiment.failed))
        console.print(f"Failed: job {numbers}; all others are done, and the same command tries again.", soft_wrap=True)
        raise typer.Exit(1)


def changes(texts: Iterable[str] | None, sections: Sequence[str] = ("params", "settings")) -> dict[str, dict[str, Any]]:
    """The values that `--set` gives to keys of these sections of a spec, by section."""
    from jaxmoe.experiment.spec import assignment

    found: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for key, value in map(assignment, texts or []):
        section, _, name = key.partition(".")
        if section not in sections or not name or "." in name:
            allowed = " or ".join(f"{each}.NAME" for each in sections)
            raise InputError(f"--set {bare(key)} is not possible here; the key must be {allowed}")
        found[section][name] = value
    return found


def read_table(path: Path | None, no_relevance: bool) -> Any:
    """The table that an option names, or the shipped one."""
    return jaxmoe.load_table(
        path if path is None else with_home(path), relevance="none" if no_relevance else "required"
    )


def write_table_file(out: Path | None, rows: "pd.DataFrame") -> None:
    """Write a tidy table to the file that an option names, if it names one; see `require_table_file`."""
    if out is not None:
        out = with_home(out)

        def write(path: Path) -> None:
            if out.suffix == ".csv":
                path.write_bytes(to_csv(rows))
            else:
                rows.to_parquet(path, index=False)

        write_whole(out, write, overwrite=False)


def require_table_file(out: Path | None) -> None:
    """Say that a result file cannot be written before the work is done, not after."""
    if out is None:
        return
    out = with_home(out)
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"{out} ends neither in .csv nor in .parquet")
    if out.exists():
        raise InputError(f"{out} exists already; choose another file")
    if not out.parent.is_dir():
        raise InputError(f"{out}: the folder {out.parent} does not exist; create it first")
