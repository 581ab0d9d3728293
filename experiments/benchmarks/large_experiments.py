"""How the product handles large experiments: status, report and the like, on folders of 10,000 and 100,000 agents.

Nobody is trained. The folder is planned as `jaxmoe sweep` plans it, its baselines are evaluated, and what training and
evaluating each job would have left there is made up, of the same shapes and through the same functions. Then each
command runs in a process of its own, whose time and largest resident set are taken. This process stays small, because
that of a child begins with its parent's.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peers.driver import ROOT, print_aligned, write_csv
from peers.machine import describe

PACKAGES = ("jax", "pandas", "pyarrow")
BENCHMARKS = Path(__file__).resolve().parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # or each command would compile jaxmoe anew
SEEDS = 32
SPEC = """# Built by experiments/benchmarks/large_experiments.py
algorithm = "ppo"
scenario = "oneshot"
env_steps = 512
seeds = {seeds}
keep_states = false
[search]
method = "random"
samples = {samples}
[hypers]
learning_rate = {{ log_uniform = [1e-4, 1e-1] }}
entropy_coef = {{ log_uniform = [1e-3, 0.3] }}
clip = {{ uniform = [0.05, 0.5] }}
"""
LOAD = "import jaxmoe, sys; print(len(jaxmoe.load(sys.argv[1]).results), 'rows')"
COMMANDS = {  # what is measured, in this order: the first writes the tables of what is complete
    "sweep again": ["-m", "jaxmoe", "sweep", "{spec}", "--out", "{folder}"],
    "status": ["-m", "jaxmoe", "status", "{folder}"],
    "load, results": ["-c", LOAD, "{folder}"],
    "best": ["-m", "jaxmoe", "best", "{folder}"],
    "report": ["-m", "jaxmoe", "report", "{folder}"],
    "sweep --dry-run": ["-m", "jaxmoe", "sweep", "{spec}", "--dry-run"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument(
        "--folder", type=Path, help="keep the experiments here, or find them; a temporary folder if absent"
    )
    parser.add_argument("--show", action="store_true", help="also what the commands print")
    parser.add_argument("--out", type=Path, help="CSV file for the tidy table")
    arguments = parser.parse_args()
    about = {**describe(), **{name: importlib.metadata.version(name) for name in PACKAGES}}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    rows = []
    with tempfile.TemporaryDirectory(prefix="jaxmoe-") as temporary:
        for number in arguments.agents:
            place = (arguments.folder or Path(temporary)).absolute()
            rows += [{**row, **about} for row in measure(place, number, arguments.show)]
    if arguments.out:
        write_csv(arguments.out, rows)


def measure(place: Path, number: int, show: bool) -> list[dict[str, Any]]:
    """One row per command, on a folder of about so many agents."""
    place.mkdir(parents=True, exist_ok=True)
    spec, folder = place / f"spec-{number}.toml", place / f"experiment-{number}"
    spec.write_text(SPEC.format(seeds=SEEDS, samples=max(1, number // SEEDS)))
    began = time.perf_counter()
    command = [sys.executable, "-m", "peers.large_folder", str(spec), str(folder)]
    answer = subprocess.run(command, cwd=BENCHMARKS, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True, text=True)
    about = json.loads(answer.stdout.splitlines()[-1])
    built = time.perf_counter() - began
    rows = []
    for what, command in COMMANDS.items():
        done = run([part.format(spec=spec, folder=folder) for part in command], show)
        rows.append({**about, "what": what, **done})
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    print(f"\n{about['agents']:,} agents in {about['jobs']} jobs, made up or found in {built:.0f} s", end="")
    print(f"; in the end {len(sizes):,} files of {sum(sizes) / 2**30:.2f} GiB")
    table = [
        [row["what"], f"{row['seconds']:.2f}", f"{row['cpu_seconds']:.2f}", f"{row['peak_mib']:,.0f}"] for row in rows
    ]
    print_aligned([["command", "seconds", "CPU seconds", "peak MiB"], *table])
    return [{**row, "files": len(sizes), "bytes": sum(sizes)} for row in rows]


def run(arguments: list[str], show: bool) -> dict[str, float]:
    """Seconds and the largest resident set of a process."""
    began = time.perf_counter()
    output = None if show else subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=output, stderr=output, env=ENVIRONMENT)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}; --show shows what it said")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / unit}


if __name__ == "__main__":
    main()
