"""Where a run's numbers come from: versions, and the commit of a checkout."""

import functools
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

import jaxmoe


@functools.cache
def versions() -> dict[str, str]:
    """Of jaxmoe, JAX and Python; and the commit, marked if files differ from it, where jaxmoe runs from a checkout."""
    found = {"jaxmoe": jaxmoe.__version__, "jax": jax.__version__, "python": platform.python_version()}
    commit = _commit(Path(jaxmoe.__file__).parents[1])
    return found | ({"commit": commit} if commit else {})


def _commit(root: Path) -> str:
    """Of the repository whose root this is; nothing if it is none, or there is no git."""
    if not (root / ".git").exists():
        return ""
    try:
        hash_of = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
        changed = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no", "--", "jaxmoe"]
        commit, changes = (
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for command in (hash_of, changed)
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}+changes" if changes else commit


def device() -> dict[str, Any]:
    """The devices of this process."""
    first = jax.devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "count": jax.local_device_count()}
