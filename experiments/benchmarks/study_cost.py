"""What a study costs: a formula, checked against small studies here, and what it says of a million agents.

    python experiments/benchmarks/study_cost.py                 # trains small studies; then the million
    python experiments/benchmarks/study_cost.py --million       # only from what is committed

    seconds of a job = compilation + agents * env_steps / (speed(width) * devices)
                       + agents * (evaluations * first look + requests) / (served(width) * devices)

`speed` and `served` are those of one device at a width (agents in one batch), and are measured on one small study of
each algorithm and width, on one device; what is predicted are larger ones, with other agents, steps and devices.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parent / "results"
GPU = RESULTS / "gpu_ppo.csv"
AGENTS, ENV_STEPS = 1_000_000, 131_072  # of the large study
MOST_AGENTS = 16_384  # of a job on a GPU, as in jaxmoe/training/sizes.py
FIRST_LOOK = 1024  # requests of an evaluation on the way
BYTES_PER_AGENT, FILES_PER_JOB = 33_100, 6.8  # left by 100,000 agents in 26 jobs: large_experiments.py
DRIVER_MIB_PER_AGENT = 0.0217  # peak of "sweep again" with 100,000 agents, over theirs: large_experiments.py
DRIVER_S_PER_AGENT = 51.18 / 100_000  # the same, its seconds
GPUS = (1, 8, 64, 512)


class Study(NamedTuple):
    """Agents of one configuration, one job."""

    algorithm: str
    agents: int
    env_steps: int
    width: int
    devices: int
    evaluations: int = 4
    requests: int = 1024


SMALL = [Study("ppo", 8, 16_384, 8, 1), Study("ppo", 32, 16_384, 32, 1), Study("dqn", 8, 8_192, 8, 1)]
LARGER = [
    Study("ppo", 32, 65_536, 8, 1),
    Study("ppo", 32, 65_536, 8, 2),
    Study("ppo", 64, 65_536, 32, 1),
    Study("ppo", 64, 65_536, 32, 2),
    Study("dqn", 16, 32_768, 8, 1),
    Study("dqn", 16, 32_768, 8, 2),
]
TRAIN = """
import json, sys, time
import jaxmoe
from jaxmoe.training import events
study = dict(json.loads(sys.argv[1]))
told = {}
def tell(event):
    if isinstance(event, events.Compiled): told["compiled"] = event.seconds
    if isinstance(event, events.JobFinished) and event.agents:
        told.update(seconds=event.seconds, speed=event.env_steps_per_s)
spec = {"algorithm": study["algorithm"], "seeds": study["agents"], "env_steps": study["env_steps"], "baselines": "none",
        "evaluations": study["evaluations"], "requests": study["requests"],
        "devices": {"agents_per_device": study["width"], "agents_per_job": study["agents"]}}
jaxmoe.sweep(spec, callback=tell, compilation_cache=False)
print(json.dumps(told))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--million", action="store_true", help="only what follows from committed figures")
    said = parser.parse_args()
    if not said.million:
        print(check())
    print(million())


def check() -> str:
    """The formula's seconds beside those of training."""
    known = {(study.algorithm, study.width): constants(study, measured(study)) for study in SMALL}
    lines = ["algorithm  agents  env steps  width  devices  predicted s  measured s  ratio"]
    rows = []
    for study in LARGER:
        predicted, found = seconds(study, **known[study.algorithm, study.width]), measured(study)["seconds"]
        rows.append({**study._asdict(), "predicted_s": predicted, "measured_s": found})
        lines.append(
            f"{study.algorithm:9}  {study.agents:6}  {study.env_steps:9,}  {study.width:5}  {study.devices:7}  "
            f"{predicted:11.1f}  {found:10.1f}  {found / predicted:5.2f}"
        )
    for (algorithm, width), found in known.items():
        lines.append(
            f"{algorithm}, {width} wide, one device: {found['speed']:,.0f} env steps/s, "
            f"{found['served']:,.0f} requests/s, {found['compilation']:.1f} s of compilation"
        )
    with (RESULTS / "study_cost.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return "\n".join([*lines, ""])


def measured(study: Study) -> dict[str, float]:
    """What training it tells, in a process with so many devices."""
    variables = os.environ | {"JAX_NUM_CPU_DEVICES": str(study.devices), "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryDirectory() as cache:
        variables |= {"JAXMOE_CACHE_DIR": cache}
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, json.dumps(study._asdict())], env=variables, check=True, capture_output=True
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def constants(study: Study, told: dict[str, float]) -> dict[str, float]:
    """The constants of the formula, from a small study on one device: what neither compiles nor trains evaluates."""
    training = study.agents * study.env_steps / told["speed"]
    evaluating = max(1e-3, told["seconds"] - told["compiled"] - training)
    return {"compilation": told["compiled"], "speed": told["speed"], "served": requests_of(study) / evaluating}


def requests_of(study: Study) -> int:
    """Requests of all evaluations."""
    return study.agents * (study.evaluations * FIRST_LOOK + study.requests)


def seconds(study: Study, compilation: float, speed: float, served: float) -> float:
    """The formula."""
    work = study.agents * study.env_steps / speed + requests_of(study) / served
    return compilation + work / study.devices


def million() -> str:
    """A million PPO agents on many GPUs, by what one did."""
    with GPU.open(newline="") as file:
        speeds_of = (row for row in csv.DictReader(file) if row["measured"] == "speed")
        rows = [row for row in speeds_of if row["contender"].startswith("jaxmoe")]
    speeds = {128 if "planned" in row["contender"] else int(row["agents"]): row for row in rows}
    lines = [
        f"{AGENTS:,} PPO agents of {ENV_STEPS:,} env steps, by the speeds of one {rows[0]['card']}",
        "",
        " width  million env steps/s  GPU-hours  " + "  ".join(f"h on {count:3} GPUs" for count in GPUS),
    ]
    for width, row in sorted(speeds.items()):
        speed = float(row["env_steps_per_s"])
        hours = AGENTS * ENV_STEPS / speed / 3600
        each = "  ".join(f"{on(hours, float(row['compile_s']), count):13.2f}" for count in GPUS)
        lines.append(f"{width:6,}  {speed / 1e6:19.1f}  {hours:9.2f}  {each}")
    lines += ["", "GPUs  jobs  agents a job"]
    for count in GPUS:
        jobs = jobs_of(count)
        lines.append(f"{count:4}  {jobs:4,}  {math.ceil(AGENTS / jobs):12,}")
    gib, files = AGENTS * BYTES_PER_AGENT / 2**30, jobs_of(1) * FILES_PER_JOB
    lines += [
        "",
        f"on disk {gib:.0f} GiB in {files:,.0f} files (without final states); tables at the end: "
        f"{AGENTS * DRIVER_S_PER_AGENT / 60:.0f} min and {AGENTS * DRIVER_MIB_PER_AGENT / 1024:.0f} GiB of memory "
        "in one process",
    ]
    return "\n".join(lines)


def on(hours: float, compile_s: float, count: int) -> float:
    """Hours on so many GPUs: each compiles, and the last jobs end when they end."""
    jobs = jobs_of(count)
    return hours / jobs * math.ceil(jobs / count) + compile_s / 3600


def jobs_of(count: int) -> int:
    """Jobs of one signature: at most `MOST_AGENTS` in each, and one for every GPU at least."""
    return max(math.ceil(AGENTS / MOST_AGENTS), count)


if __name__ == "__main__":
    main()
