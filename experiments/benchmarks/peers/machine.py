"""Where and when a benchmark runs, how long it takes, and whether other programs disturb it."""

import datetime
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
DISTURBED = 0.1  # cores that other programs use, from which on a measurement may be repeated
PAUSE_S = 5.0  # s, left to the other programs before


def describe() -> dict[str, str]:
    """Date, processor, cores that may be used, what others ask of them at the moment, Python."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": models[0] if models else platform.processor(),
        "cores": str(CORES),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }


def describe_gpu() -> dict[str, str]:
    """Name, driver and memory of the first card, where NVIDIA's tool is there."""
    if shutil.which("nvidia-smi") is None:
        return {}
    names = ("name", "driver_version", "memory.total")
    command = ["nvidia-smi", "-i", "0", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return dict(zip(("card", "driver", "card_mib"), said.split(", "), strict=True))


def gpu_joules() -> float:
    """Energy that the first card has taken so far; not a number where its driver does not tell."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return 1e-3 * pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(0))
    except Exception:  # no package, no driver, or a card that does not count
        return float("nan")


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What the work returns, its time, its processor time, and how many cores other programs had meanwhile."""
    busy, cpu, began = _busy_seconds(), time.process_time(), time.perf_counter()
    result = work()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    others = (_busy_seconds() - busy - cpu_seconds) / seconds
    return result, {"seconds": seconds, "cpu_seconds": cpu_seconds, "others": others}


def undisturbed(measure: Callable[[], dict[str, Any]], patience: int) -> dict[str, Any]:
    """The first measurement of which other programs kept away, or the last after `patience` repetitions.

    Only what others do decides whether a measurement is repeated, never what was measured.
    """
    for _ in range(patience):
        measured = measure()
        if not measured["others"] > DISTURBED:
            return measured
        time.sleep(PAUSE_S)
    return measure()


def _busy_seconds() -> float:
    """Processor time that all programs on the machine have had so far; not a number where that is not known."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return float("nan")
    ticks = [int(field) for field in stat.read_text().split("\n")[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # all but idle and waiting
