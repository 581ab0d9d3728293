"""Where and when a benchmark runs."""

import datetime
import os
import platform
from pathlib import Path

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
