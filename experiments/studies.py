"""The studies of `sweeps/`, from their specs to what is kept in `results/`: what the commands print, data and figures.

    python experiments/studies.py                   # all of them: about an hour on two CPU cores
    python experiments/studies.py lookahead width   # some

It runs the commands that a user would, in `runs/`, and goes on where it was stopped. What they print is shown, and kept
as `results/NAME/printed.txt`; the figures' data and the shown figures stand beside it.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"
FRESH_SEEDS = "32"

# After the sweep, before the report: the winners again, on seeds that chose nothing.
FOLLOWED_BY: dict[str, list[list[str]]] = {
    "ppo_oneshot": [["best", "{run}", "--fresh-seeds", FRESH_SEEDS]],
    "algorithms_queueing": [
        ["best", "{run}", "--fresh-seeds", FRESH_SEEDS],
        *[["best", "{run}", "--algorithm", name, "--fresh-seeds", FRESH_SEEDS] for name in ("ppo", "dqn", "sac")],
        ["compare", *[f"{{run}}/best-queueing-{name}" for name in ("ppo", "dqn", "sac")]],
    ],
    "lookahead": [],
    "robustness": [],
    "width": [["best", "{run}", "--fresh-seeds", FRESH_SEEDS]],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Run studies and keep their results.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(FOLLOWED_BY)}; all if absent")
    names = parser.parse_args().names or list(FOLLOWED_BY)
    for name in names:
        if name not in FOLLOWED_BY:
            parser.error(f"there is no study {name!r}; choose from {', '.join(FOLLOWED_BY)}")
    for name in names:
        keep(name)


def keep(name: str) -> None:
    """Run a study and replace what is kept of it."""
    run = f"runs/{name}"
    commands = [["sweep", f"experiments/sweeps/{name}.toml", "--out", "{run}"], *FOLLOWED_BY[name], ["report", "{run}"]]
    printed = "".join(execute([part.format(run=run) for part in command]) for command in commands)
    folder = RESULTS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "printed.txt").write_text(printed)
    for path in sorted((ROOT / run / "figures").iterdir()):
        if path.suffix in (".csv", ".png"):
            shutil.copy(path, folder)


def execute(arguments: list[str]) -> str:
    """Run a command of jaxmoe from the root of the repository; what it printed, below the command."""
    title = f"$ jaxmoe {' '.join(arguments)}\n"
    print(f"\n{title}", end="", flush=True)
    found = subprocess.run(
        [Path(sys.executable).with_name("jaxmoe"), *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "COLUMNS": "150"},
    )  # fmt: skip
    print(found.stdout, flush=True)
    if found.returncode:
        sys.exit(found.returncode)
    return f"{title}{found.stdout}\n"


if __name__ == "__main__":
    main()
