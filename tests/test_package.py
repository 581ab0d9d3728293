"""How the package is put together: what may know what, what an import does, and how large a file may be."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxmoe

PACKAGE = Path(jaxmoe.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = (  # an arrow may only point down; parts of one layer do not know each other
    {"__main__"},
    {"cli", "gymnasium"},
    {"experiment"},
    {"training"},
    {"analysis"},
    {"env", "algorithms"},
    {"wireless"},
    {"policy"},
    {"collect"},
    {"table"},
    {"plugins"},
    {"values", "files", "progress", "devices", "strict_json"},
    {"errors"},
    {"names"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
KNOWN_TO_ALGORITHMS = {"algorithms", "policy", "errors", "names", "devices"}
STARTS_JAX = "jaxmoe.env.edge_experts"  # it imports gymnax, which computes when it is imported
WITH_JAX = "jaxmoe.policy.stablehlo"  # the exporter, alone among the packages that do without
MOST_LINES = 400


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def for_types_alone(tree: ast.Module) -> set[int]:
    """Everything under `if TYPE_CHECKING`."""
    return {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }


def arrows(path: Path) -> Iterator[str]:
    """Modules of jaxmoe that a file imports, anywhere in it, or reaches as attributes of the package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = for_types_alone(tree)
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where an arrow points"
            names = [f"jaxmoe.{alias.name}" for alias in node.names] if node.module == "jaxmoe" else [str(node.module)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jaxmoe":
            names = [] if node.attr.startswith("__") else [f"jaxmoe.{node.attr}"]
        yield from (jaxmoe._HOMES.get(name.removeprefix("jaxmoe."), name) for name in names if name[:7] == "jaxmoe.")


def python(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IMPORT_ALL = """
import importlib, json, pkgutil, sys, jaxmoe
packages, left_out = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for name in packages:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, f"{name}."):
        if found.name not in left_out:
            importlib.import_module(found.name)
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down(path):
    part = part_of(path)
    if part == "__init__":
        return
    to = {name: name.split(".")[1] for name in arrows(path)}
    wrong = [name for name, other in to.items() if other != part and LEVEL[other] <= LEVEL[part]]
    assert not wrong, f"{path.relative_to(PACKAGE)} is in {part}, and imports {', '.join(wrong)}"
    if part == "algorithms":
        assert set(to.values()) <= KNOWN_TO_ALGORITHMS


def test_every_part_has_its_layer():
    assert {part_of(path) for path in FILES} - {"__init__"} == set(LEVEL)


def test_only_training_spreads_agents_over_devices():
    assert {part_of(path) for path in FILES if "shard_map" in path.read_text(encoding="utf-8")} == {"training"}


def test_flax_is_known_to_networks_only():
    users = {path.name for path in FILES if "import flax" in path.read_text(encoding="utf-8")}
    assert users == {"networks.py"}


def test_importing_jaxmoe_starts_nothing_heavy():
    script = (
        "import sys, jaxmoe; print(sorted({'jax', 'openai', 'numpy', 'pandas', 'flax', 'gymnax'} & set(sys.modules)))"
    )
    assert python(script) == "[]"


def test_data_policies_and_analysis_do_without_jax():
    script = IMPORT_ALL + "print(sorted({'jax', 'jaxlib', 'flax', 'gymnax', 'optax'} & set(sys.modules)))"
    packages = [f"jaxmoe.{part}" for part in ("analysis", "collect", "policy", "table")]
    assert python(script, json.dumps(packages), json.dumps([WITH_JAX])) == "[]"


def test_importing_any_module_runs_nothing():
    """Not even the package's front door; JAX is neither started nor set."""
    script = IMPORT_ALL + (
        "import jax, jax._src.xla_bridge\n"
        "print(jax._src.xla_bridge._backends, jax.config.jax_num_cpu_devices, jax.config.jax_enable_x64)"
    )
    untouched = "import jax; print({}, jax.config.jax_num_cpu_devices, jax.config.jax_enable_x64)"
    assert python(script, '["jaxmoe"]', json.dumps([STARTS_JAX])) == python(untouched)


def test_the_environment_has_every_core_even_where_it_is_imported_first():
    script = (
        "from jaxmoe import EdgeExperts\n"
        "import jax, jaxmoe.devices\n"
        "jaxmoe.devices.start_jax()\n"
        "print(jax.local_device_count() - jaxmoe.devices.num_cores() * (jax.default_backend() == 'cpu'))"
    )
    assert int(python(script)) >= 0


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "jaxmoe", "--version"], capture_output=True, text=True, check=True)
    assert jaxmoe.__version__ in done.stdout


@pytest.mark.parametrize("name", sorted(set(jaxmoe.__all__) - {"__version__"}))
def test_every_public_name_is_there_and_documented(name):
    assert getattr(jaxmoe, name).__doc__
    assert name in dir(jaxmoe)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sweeep'"):
        jaxmoe.sweeep  # noqa: B018


BASELINES = (
    *("fixed_subset", "greedy_snr", "top_k_relevance", "predict_then_optimise"),
    *("one_slot_optimum", "drift_plus_penalty", "lookahead"),
)
REGISTERED = {  # who may say the names of algorithms, scenarios and baselines: who registers them
    **dict.fromkeys(("ppo", "dqn", "sac"), "algorithms"),
    **dict.fromkeys(("oneshot", "fading", "queueing", *BASELINES), "env"),
}
DEFAULTS = {("experiment/calls.py", "ppo"), ("experiment/calls.py", "oneshot"), ("experiment/spec.py", "oneshot")}
DEFAULTS |= {("experiment/evaluating.py", "oneshot"), ("cli/training.py", "oneshot"), ("cli/generating.py", "oneshot")}
DEFAULTS |= {("cli/generating.py", "predict_then_optimise")}


def test_nobody_else_knows_the_name_of_an_algorithm_a_scenario_or_a_baseline():
    said = {
        (str(path.relative_to(PACKAGE)), node.value)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in REGISTERED and part_of(path) != REGISTERED[node.value]
    }
    assert said <= DEFAULTS


def test_files_stay_small():
    sizes = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in sizes.items() if lines > MOST_LINES} == {}
