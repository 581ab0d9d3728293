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
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FRESH_SEEDS = "32"

CONFIRM = ["confirm", "{run}", "--seeds", "{fresh_seeds}"]  # the winner, on seeds that chose nothing
ALGORITHMS = ("ppo", "dqn", "sac")


class Study(NamedTuple):
    """What is done after a sweep, before its report, and which figures are shown."""

    commands: list[list[str]]
    shown: list[str]


STUDIES = {
    "ppo_oneshot": Study([CONFIRM], ["landscape_ppo_learning_rate_entropy_coef", "behaviour"]),
    "algorithms_queueing": Study(
        [CONFIRM, *[[*CONFIRM, "--algorithm", name] for name in ALGORITHMS], ["compare", "{run}"]],
        ["learning_curves", "profile", "dependence_ppo_discount", "dependence_dqn_discount"],
    ),
    "sac_temperature": Study([CONFIRM], ["landscape_sac_actor_rate_temperature"]),
    "lookahead": Study([], ["ahead_of_one_slot_optimum", "ahead_of_predict_then_optimise"]),
    "robustness": Study([], ["ahead_of_one_slot_optimum", "ahead_of_predict_then_optimise"]),
    "width": Study([CONFIRM], ["landscape_ppo_learning_rate_hidden"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Run studies and keep their results.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(STUDIES)}; all if absent")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the specs, as in sweep")
    parser.add_argument("--fresh-seeds", default=FRESH_SEEDS, help="on which winners are confirmed")
    parser.add_argument("--runs", default="runs", help="folder of the experiments")
    parser.add_argument("--results", type=Path, default=ROOT / "experiments" / "results", help="what is kept of them")
    arguments = parser.parse_args()
    names = arguments.names or list(STUDIES)
    for name in names:
        if name not in STUDIES:
            parser.error(f"there is no study {name!r}; choose from {', '.join(STUDIES)}")
    for name in names:
        keep(name, arguments)


def keep(name: str, arguments: argparse.Namespace) -> None:
    """Run a study and replace what is kept of it."""
    study = STUDIES[name]
    changes = [part for change in arguments.set for part in ("--set", change)]
    sweep = ["sweep", f"experiments/sweeps/{name}.toml", "--out", "{run}", *changes]
    run = f"{arguments.runs}/{name}"
    printed = "".join(
        execute([part.format(run=run, fresh_seeds=arguments.fresh_seeds) for part in command])
        for command in (sweep, *study.commands, ["report", "{run}"])
    )
    folder = arguments.results / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "printed.txt").write_text(printed)
    for path in sorted((ROOT / run / "report" / "figures").iterdir()):
        if path.suffix == ".csv" or (path.suffix == ".png" and path.stem in study.shown):
            shutil.copy(path, folder)


def execute(arguments: list[str]) -> str:
    """Run a command of jaxmoe from the root of the repository; what it printed, below the command."""
    title = f"$ jaxmoe {' '.join(arguments)}\n"
    print(f"\n{title}", end="", flush=True)
    found = subprocess.run(
        [sys.executable, "-m", "jaxmoe", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "COLUMNS": "150"},
    )  # fmt: skip
    print(found.stdout, flush=True)
    if found.returncode:
        sys.exit(found.returncode)
    return f"{title}{found.stdout}\n"


if __name__ == "__main__":
    main()
