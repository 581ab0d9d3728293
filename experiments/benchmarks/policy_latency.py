"""Time of a decision with an exported 64-64 policy: one at a time, and many at once; and how long loading takes."""

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 10_000
ONE, MANY = "one decision", f"{BATCH:,} decisions, one call"
SITUATION, LOADING = "one situation, select", "import jaxmoe and load_policy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds, of which the median counts")
    parser.add_argument("--out", type=Path, help="CSV file for the tidy table")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        runtime, path = arguments.worker
        print(json.dumps(CALLS[runtime](Path(path))))
        return

    import pandas as pd
    from peers.machine import describe

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
    import jaxmoe

    jaxmoe.train("ppo", seeds=1, env_steps=1024, evaluations=1, out=folder / "run")
    jaxmoe.export(folder / "run", folder / "policy.safetensors")
    jaxmoe.export(folder / "policy.safetensors", folder / "policy.onnx")
    return folder / "policy.safetensors"


def measure(path: Path) -> list[tuple[str, str, float]]:
    """Seconds of each kind of call, in one round; each runtime has a process of its own, as it may keep cores busy."""
    found = []
    for runtime in CALLS:
        command = [sys.executable, __file__, "--worker", runtime, str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found += [(what, runtime, seconds) for what, seconds in json.loads(done.stdout).items()]
    return found


def time_numpy(path: Path) -> dict[str, float]:
    """Seconds of the calls of the NumPy loader."""
    began = time.perf_counter()
    import jaxmoe

    policy = jaxmoe.load_policy(path)
    loading = time.perf_counter() - began
    many = observations(policy.contract.network.inputs)
    one, situation = many[0], {"relevance": [0.1, 0.9, 0.6, 0.0], "snr_db": [12.0, 3.0, 18.0, 7.0]}
    return {
        ONE: per_call(lambda: policy.act(one), 5000),
        SITUATION: per_call(lambda: policy.select(**situation), 500),
        MANY: per_call(lambda: policy.act(many), 50),
        LOADING: loading,
    }


def time_onnxruntime(path: Path) -> dict[str, float]:
    """Seconds of the calls of onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.with_suffix(".onnx"), providers=["CPUExecutionProvider"])
    many = observations(session.get_inputs()[0].shape[1])
    one = many[:1]
    return {
        ONE: per_call(lambda: session.run(["actions"], {"observations": one}), 5000),
        MANY: per_call(lambda: session.run(["actions"], {"observations": many}), 50),
    }


CALLS = {"NumPy loader": time_numpy, "onnxruntime": time_onnxruntime}


def observations(size: int) -> Any:
    """Many observations."""
    import numpy as np

    return np.random.default_rng(0).uniform(0, 1.5, (BATCH, size)).astype(np.float32)


def per_call(call: Callable[[], object], repetitions: int) -> float:
    """Seconds of a call, the mean of many."""
    call()
    began = time.perf_counter()
    for _ in range(repetitions):
        call()
    return (time.perf_counter() - began) / repetitions


if __name__ == "__main__":
    main()
