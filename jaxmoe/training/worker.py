"""`python -m jaxmoe.training.worker DIR JOB`: runs one job of an experiment in a process of its own."""

import argparse
import sys
from typing import Any

from jaxmoe.devices import use_caches
from jaxmoe.env.scenarios import adopt_scenarios
from jaxmoe.errors import InputError
from jaxmoe.names import speak_plainly, visible
from jaxmoe.plugins import load_plugins, require_plugins
from jaxmoe.training.documents import RESTORE, Document, read_document
from jaxmoe.training.job import find_job
from jaxmoe.training.remote import storage_at
from jaxmoe.training.running import Finished, run_job
from jaxmoe.training.storage import Storage


class _About(Document):
    """What a job needs of its experiment."""

    plugins: list[dict[str, str]]
    scenarios: dict[str, Any]


def main(arguments: list[str]) -> int:
    """Run the job; the exit code."""
    speak_plainly()
    name = "python -m jaxmoe.training.worker"
    usage = f"{name} DIR JOB [--plugin FILE] [--trust-plugins]"
    parser = argparse.ArgumentParser(prog=name, usage=usage, description="Run one job.")
    parser.add_argument("folder", metavar="DIR", help="or address of the experiment")
    parser.add_argument("job", metavar="JOB", type=int, help="its number")
    parser.add_argument("--plugin", action="append", default=[], help="file or module to import before")
    parser.add_argument("--trust-plugins", action="store_true", help="import those that the experiment names")
    try:
        said = parser.parse_args(arguments)
    except SystemExit as error:  # argparse has said what is wrong
        return int(error.code or 0)
    try:
        use_caches()
        load_plugins(said.plugin)
        storage = storage_at(said.folder)
        do_job(storage, said.job, said.trust_plugins)
    except (InputError, OSError) as error:
        print(f"jaxmoe: {visible(str(error))}", file=sys.stderr)
        return 2
    return 0


def do_job(storage: Storage, number: int, trust_plugins: bool = False, **running: Any) -> Finished:
    """Run a job of an experiment, with what the experiment was planned with.

    Args:
        storage: of the experiment.
        number: of the job.
        trust_plugins: import the plugins that the experiment names.
        running: what `run_job` takes.
    """
    job = find_job(storage, number)
    about = read_document(storage, "experiment.json", _About, RESTORE)
    require_plugins(about["plugins"], storage.where, trust_plugins)
    adopt_scenarios(about["scenarios"], storage.where)
    return run_job(job, storage, **running)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
