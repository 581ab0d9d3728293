"""`python -m jaxmoe.training.worker DIR JOB`: runs one job of an experiment in a process of its own."""

import sys
from pathlib import Path

from jaxmoe.devices import use_caches
from jaxmoe.errors import InputError
from jaxmoe.training.job import find_job
from jaxmoe.training.running import run_job
from jaxmoe.training.storage import Folder


def main(arguments: list[str]) -> int:
    """Run the job; the exit code."""
    if len(arguments) != 2 or not arguments[1].isdecimal():
        print("usage: python -m jaxmoe.training.worker DIR JOB", file=sys.stderr)
        return 2
    try:
        use_caches()
        storage = Folder(Path(arguments[0]).expanduser().absolute())
        run_job(find_job(storage, int(arguments[1])), storage)
    except (InputError, OSError) as error:
        print(f"jaxmoe: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
