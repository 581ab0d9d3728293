"""How the package is put together."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxmoe

PACKAGE = Path(jaxmoe.__file__).parent
BELOW = {  # part -> the parts that it may import from; `errors`, `files` and `devices` are below all
    "wireless": set(),
    "table": {"table_formats", "table_records"},
    "table_records": {"table_formats", "table_subsets", "table_wide"},
    "table_wide": {"table_formats", "table_subsets"},
    "table_subsets": set(),
    "table_formats": set(),
    "intervals": set(),
    "collect": {"table", "table_formats", "table_records", "progress"},
    "env": {"wireless", "table", "intervals"},
    "agents": set(),
    "study": {"intervals", "progress", "table", "table_formats", "table_records"},
    "progress": set(),
    "policy": {"env", "agents"},
    "sweeps": {"env", "agents", "table", "table_records", "intervals", "study", "progress", "policy"},
    "commands": {
        *(
            "table",
            "table_formats",
            "table_records",
            "table_wide",
            "env",
            "agents",
            "sweeps",
            "study",
            "intervals",
            "progress",
        ),
        *("collect", "policy"),
    },
    "cli": {"commands"},
}
FOR_ALL = {"errors", "files", "devices"}


def imported(path):
    """Parts of jaxmoe that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxmoe."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.module == "jaxmoe":
            yield from (alias.name for alias in node.names if (PACKAGE / alias.name).exists())
            yield from (alias.name for alias in node.names if (PACKAGE / f"{alias.name}.py").exists())


def test_imports_point_one_way():
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part in FOR_ALL | {"__init__"}:
            continue
        wrong = set(imported(path)) - BELOW[part] - FOR_ALL - {part}
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {', '.join(wrong)}"


def test_flax_is_known_to_networks_only():
    users = {path.name for path in PACKAGE.rglob("*.py") if "import flax" in path.read_text()}
    assert users == {"networks.py"}


def test_importing_jaxmoe_starts_nothing_heavy():
    script = (
        "import sys, jaxmoe; print(sorted({'jax', 'openai', 'numpy', 'pandas', 'flax', 'gymnax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(set(jaxmoe.__all__) - {"__version__"}))
def test_every_public_name_is_there_and_documented(name):
    assert getattr(jaxmoe, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sweeep'"):
        jaxmoe.sweeep  # noqa: B018


def test_files_stay_small():
    assert {path.name for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > 400} == set()
