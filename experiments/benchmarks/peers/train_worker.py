"""Whole trainings through `jaxmoe.train`, as users call it: how long they take, what they learn, whether they repeat.

Its form is `KERNELS FOLDER`: "fastest" kernels, or "deterministic" ones; and where the experiment is kept.
"""

import hashlib
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax

import jaxmoe
from jaxmoe.training.events import Evaluated, JobStarted
from peers import worker

SHORT = ["random", "one_slot_optimum"]  # the baselines that a normalised score needs in `oneshot`
REQUESTS = 8192  # served by the first agent where two machines are compared


def main() -> None:
    task = worker.task()
    kernels, folder = worker.form().split(" ", 1)
    devices = {"devices.deterministic": kernels == "deterministic"}

    def train(baselines: Any) -> dict[str, Any]:
        began, times = time.perf_counter(), {}

        def watch(event: Any) -> None:
            now = time.perf_counter() - began
            if isinstance(event, Evaluated) and event.env_steps:
                times.setdefault("first_metrics_s", now)
            elif isinstance(event, JobStarted) and "baselines" not in event.what:
                times["training_begins_s"] = now

        env_steps = task.iterations * task.env_steps
        called = {"seeds": task.agents, "env_steps": env_steps, "baselines": baselines, "overrides": devices}
        found = jaxmoe.train(task.algorithm, "oneshot", out=folder, callback=watch, **called)
        [about] = [done for done in found.contents.done.values() if done.get("env_steps_per_s")]
        scores = found.results[["train_normalised", "test_normalised"]].mean().to_dict()
        speed = {"width": about["agents_per_device"], "training_env_steps_per_s": about["env_steps_per_s"]}
        return {"env_steps": task.agents * env_steps, **times, **scores, **speed, "digest": digest(Path(folder))}

    def evaluate(precision: str | None) -> dict[str, Any]:
        with jax.default_matmul_precision(precision):
            [agent] = jaxmoe.load(folder).agents([0])
            found = jaxmoe.evaluate(agent, requests=REQUESTS, baselines="none")
        return {"env_steps": 0, "means": found["mean"].tolist()}

    commands = {
        "train": partial(train, "all"),
        "short": partial(train, SHORT),
        "evaluate": partial(evaluate, None),
        "evaluate_highest": partial(evaluate, "highest"),
    }
    worker.serve(("jax", "jaxlib"), commands)


def digest(folder: Path) -> str:
    """Of the trained policies, bit for bit."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("jobs/*/*/policies.safetensors"), key=lambda path: path.parts[-3]):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


if __name__ == "__main__":
    main()
