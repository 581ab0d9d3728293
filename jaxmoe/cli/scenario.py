"""`jaxmoe scenario`: what the scenarios are."""

from typing import Annotated, Any

import typer

from jaxmoe.cli.options import AsJson, Command, Plugins
from jaxmoe.cli.output import OUT, emit, print_table

scenario_app = typer.Typer(no_args_is_help=True, help="Show the numbers and settings of scenarios.")


@scenario_app.command("show", cls=Command)
def scenario_show(
    scenario: Annotated[str, typer.Argument(help="The name of a scenario, or a TOML file that describes one.")],
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Show every number of a scenario with its unit, limits and meaning; of a file, what differs."""
    from jaxmoe.env.scenarios import described
    from jaxmoe.plugins import load_plugins

    load_plugins(plugin or ())
    found = described(scenario)
    if as_json:
        emit(found)
        return
    if "begins_with" in found:
        OUT.print(f"{found['name']}: what differs from {found['begins_with']}", soft_wrap=True)
    for section, keys in (("settings", ("setting", "value", "instead of", "allowed", "meaning")), ("params", _COLUMNS)):
        if found[section]:
            OUT.print()
            _print(found[section], keys)


_COLUMNS = ("number", "value", "instead of", "unit", "limits", "by device", "meaning")
_TEXTS = ("meaning", "instead of", "allowed")


def _print(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> None:
    from rich.table import Table

    from jaxmoe.experiment.search import shown

    used = [key for key in keys if any(row.get(key) is not None for row in rows)]
    table = Table()
    for key in used:
        table.add_column(key, justify="left", no_wrap=key not in _TEXTS)
    for row in rows:
        table.add_row(*("" if row.get(key) is None else _cell(key, row[key], shown) for key in used))
    print_table(table)


def _cell(key: str, value: Any, shown: Any) -> str:
    if key == "by device":
        return "yes" if value else ""
    if key == "limits":
        low, high = value
        return f"{low:g} to {high:g}" if high < 1e30 else f"from {low:g}"
    if key == "allowed" and not isinstance(value, str):
        return ", ".join(str(shown(each)) for each in value)
    return value if isinstance(value, str) else str(shown(value))
