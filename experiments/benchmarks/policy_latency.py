"""Time of a decision with an exported 64-64 policy: one at a time, and many at once; and how long loading takes."""

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
from peers.machine import describe

import jaxmoe

BATCH = 10_000
LOADING = """
import time
began = time.perf_counter()
import jaxmoe
jaxmoe.load_policy({path!r})
print(time.perf_counter() - began)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds, of which the median counts")
    parser.add_argument("--out", type=Path, help="CSV file for the tidy table")
    arguments = parser.parse_args()

    versions = {name: importlib.metadata.version(name) for name in ("numpy", "onnxruntime")}
    about = {**describe(), **versions}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    with tempfile.TemporaryDirectory() as folder:
        path = exported(Path(folder))
        rows = [
            {"what": what, "runtime": runtime, "round": number, "seconds": seconds, **about}
            for number in range(1, arguments.rounds + 1)
            for what, runtime, seconds in measure(path)
        ]
    table = pd.DataFrame(rows)
    print(f"\nmedian of {arguments.rounds} rounds, microseconds")
    medians = table.pivot_table("seconds", "what", "runtime", aggfunc="median", sort=False) * 1e6
    print(medians.rename_axis(index=None, columns=None).map("{:,.1f}".format).replace("nan", "").to_string())
    if arguments.out:
        partial = arguments.out.with_name(f".{arguments.out.name}.partial")
        table.to_csv(partial, index=False)
        partial.replace(arguments.out)


def exported(folder: Path) -> Path:
    """A policy of a PPO agent with the default network, which has seen a thousand requests."""
    jaxmoe.train("ppo", seeds=1, env_steps=1024, evaluations=1, out=folder / "run")
    jaxmoe.export(folder / "run", folder / "policy.safetensors")
    jaxmoe.export(folder / "policy.safetensors", folder / "policy.onnx")
    return folder / "policy.safetensors"


def measure(path: Path) -> list[tuple[str, str, float]]:
    """Seconds of each kind of call, in one round."""
    policy = jaxmoe.load_policy(path)
    observations = np.random.default_rng(0).uniform(0, 1.5, (BATCH, policy.contract.network.inputs)).astype(np.float32)
    one, situation = observations[0], {"relevance": [0.1, 0.9, 0.6, 0.0], "snr_db": [12.0, 3.0, 18.0, 7.0]}
    session = onnxruntime.InferenceSession(path.with_suffix(".onnx"), providers=["CPUExecutionProvider"])
    many = f"{BATCH:,} decisions, one call"
    script = LOADING.format(path=str(path))
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return [
        ("one decision", "NumPy loader", per_call(lambda: policy.act(one), 5000)),
        ("one decision", "onnxruntime", per_call(lambda: session.run(["actions"], {"observations": one[None]}), 5000)),
        ("one situation, select", "NumPy loader", per_call(lambda: policy.select(**situation), 500)),
        (many, "NumPy loader", per_call(lambda: policy.act(observations), 20)),
        (many, "onnxruntime", per_call(lambda: session.run(["actions"], {"observations": observations}), 20)),
        ("import jaxmoe and load_policy", "NumPy loader", float(loaded.stdout)),
    ]


def per_call(call: Callable[[], object], repetitions: int) -> float:
    """Seconds of a call, the mean of many."""
    call()
    began = time.perf_counter()
    for _ in range(repetitions):
        call()
    return (time.perf_counter() - began) / repetitions


if __name__ == "__main__":
    main()
