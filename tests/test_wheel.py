"""The wheel, installed and used far from the checkout."""

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
USE = """
import importlib.metadata, json, sys
import jaxmoe
heavy = sorted({"jax", "openai", "pandas", "pyarrow", "numpy"} & set(sys.modules))
table = jaxmoe.load_table()
print(json.dumps({
    "file": jaxmoe.__file__, "heavy": heavy, "prompts": table.num_prompts, "experts": table.experts,
    "jax": "jax" in sys.modules, "version": jaxmoe.__version__, "installed": importlib.metadata.version("jaxmoe"),
}))
"""


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds the wheel, and the dependencies of this one behind it."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("jaxmoe-*.whl")
    venv.create(folder / "environment", with_pip=True)
    interpreter = folder / "environment" / "bin" / "python"
    _run(interpreter, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site_packages = _run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    Path(site_packages.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return interpreter


@pytest.mark.slow
def test_installed_wheel_loads_its_table_in_an_empty_folder(python: Path, tmp_path: Path):
    report = json.loads(_run(python, "-I", "-W", "error", "-c", USE, cwd=tmp_path))
    assert Path(report["file"]).is_relative_to(python.parents[1])
    assert report["heavy"] == []
    assert report["installed"] == report["version"]
    assert (report["prompts"], len(report["experts"])) == (32, 4)
    assert not report["jax"]


@pytest.mark.slow
def test_an_algorithm_from_outside_needs_only_the_wheel_and_its_policies_not_even_the_algorithm(python, tmp_path):
    for name in ("pqn.py", "pqn.toml"):
        (tmp_path / name).write_bytes((ROOT / "examples" / name).read_bytes())
    small = ("env_steps=512", "seeds=2", "requests=128", "evaluations=1", 'baselines="none"', "algorithm=pqn")
    sets = [text for each in small for text in ("--set", each)]
    run = [python, "-I", "-m", "jaxmoe"]
    _run(*run, "sweep", "pqn.toml", "--out", "out", *sets, cwd=tmp_path)
    _run(*run, "report", "out", cwd=tmp_path)
    assert (tmp_path / "out" / "report" / "report.html").is_file()
    (tmp_path / "pqn.py").unlink()
    _run(*run, "export", "out", "--out", "policy.safetensors", cwd=tmp_path)
    use = "import jaxmoe, sys; print(jaxmoe.load_policy('policy.safetensors'), 'jax' in sys.modules)"
    said = _run(python, "-I", "-c", use, cwd=tmp_path)
    assert "Policy(pqn in oneshot" in said
    assert said.split()[-1] == "False"
