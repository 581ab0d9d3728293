"""An experiment as an array of SLURM: its plan, the scripts that train and finish it, and how they are submitted.

Each task of the array does its share of the jobs. It saves and ends before its limit, and asks to be queued again; a
task whose node is lost, or that has to make room, is queued again by SLURM. A last job, which waits for all of them,
writes the tables and the report.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxmoe.devices import start_jax
from jaxmoe.errors import InputError
from jaxmoe.experiment.creating import create, this_machine
from jaxmoe.experiment.going_on import with_policy
from jaxmoe.experiment.made import Made
from jaxmoe.experiment.spec import load_spec, with_plugins
from jaxmoe.experiment.tables import Contents, read_contents
from jaxmoe.names import short
from jaxmoe.plugins import load_plugins
from jaxmoe.table import load_table
from jaxmoe.training.remote import Where, is_address, path_of
from jaxmoe.training.storage import Folder, Storage
from jaxmoe.values import MOST_AGENTS, count

ARRAY, FINISH = "array.sh", "finish.sh"
WARNING_S = 90  # s, before the limit, that SLURM warns; it may do so up to a minute earlier
SPARE_S = 180  # s, that a time budget leaves of the limit: it is over before SLURM warns
LEAST_S = 300  # s, of a limit
_TIME = re.compile(r"(?:(\d{1,9})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?", re.ASCII)

TASK = """\
if [ -z "${JAXMOE_CACHE_DIR:-}" ]; then # compiled programs: on the node's own disk, and nobody else's
    JAXMOE_CACHE_DIR="${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/jaxmoe-$(id -un)"
    mkdir -p -m 700 "$JAXMOE_CACHE_DIR" && [ -O "$JAXMOE_CACHE_DIR" ] || JAXMOE_CACHE_DIR="$(mktemp -d)"
fi
export JAXMOE_CACHE_DIR

"${run[@]}" &
worker=$!

# In both cases the worker hears USR1, which it may hear more than once: it saves and ends. After USR1, the warning
# before the limit, this task asks to be queued again. After TERM it has to make room, and SLURM queues it again, or
# somebody cancels it.
again=yes
trap 'heard=yes; kill -USR1 "$worker" 2> /dev/null' USR1
trap 'heard=yes; again=no; kill -USR1 "$worker" 2> /dev/null' TERM
heard=yes
while [ "$heard" = yes ]; do # a signal ends a wait, not the worker
    heard=no
    wait "$worker"
    code=$?
done
if [ "$code" -eq $((128 + $(kill -l USR1))) ]; then # it was warned before it could hear
    code=3
fi
if [ "$code" -eq 3 ] && [ "$again" = yes ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
"""


class Launch(NamedTuple):
    """How SLURM runs an experiment."""

    nodes: int  # tasks of the array, each on a node
    time: str  # limit of each, as SLURM has it
    options: tuple[str, ...] = ()  # of sbatch, such as --partition=gpu


class Launched(NamedTuple):
    """An experiment that is planned, with its scripts."""

    where: str
    contents: Contents
    scripts: Path  # their folder
    said: str  # what a policy brought that agents go on from

    @property
    def commands(self) -> list[str]:
        """What a shell has to be told to submit them."""
        array, finish = (" ".join(map(shlex.quote, _arguments(self.scripts, name))) for name in (ARRAY, FINISH))
        return [f"array=$(sbatch --parsable {array})", f'sbatch --dependency="afterany:${{array%%;*}}" {finish}']


def limit_s(text: str) -> int:
    """Seconds of a time as SLURM has it: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS.

    >>> limit_s("90"), limit_s("90:30"), limit_s("2:00:00"), limit_s("1-12")
    (5400, 5430, 7200, 129600)
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise InputError(
            f"--time {short(text)} is no time of SLURM's; write minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"
        )
    days, *rest = found.groups()
    numbers = [int(number) for number in rest if number is not None]
    units = (3600, 60, 1) if days or len(numbers) == 3 else (60, 1)
    seconds = int(days or 0) * 86400 + sum(number * unit for number, unit in zip(numbers, units, strict=False))
    if seconds < LEAST_S:
        raise InputError(
            f"--time {text} is {seconds} s, and a task begins, compiles and saves: give {LEAST_S // 60} min"
        )
    return seconds


def launch(
    spec: Where,
    out: Where,
    how: Launch,
    *,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    plugins: Iterable[str] = (),
    scripts: Where | None = None,
) -> Launched:
    """Plan an experiment for the nodes of a cluster, and write the scripts that run it there; nothing is trained.

    Args:
        spec: path of a TOML file.
        out: folder or address of the experiment, which all nodes reach.
        how: SLURM is to run it.
        overrides: `key=value` texts, or a mapping of dotted keys, that change the spec.
        plugins: files or modules to import, beside those of the spec.
        scripts: their folder; `launch` in that of the experiment, if absent.

    Raises:
        InputError: the spec, a time or an option is not allowed, or a file that is not ours is in the way.
    """
    count(how.nodes, "nodes", MOST_AGENTS)
    limit_s(how.time)
    for option in how.options:
        if not option.startswith("-") or not option.isprintable():
            raise InputError(f"--sbatch {option!r} is no option of sbatch, such as --partition=gpu")
    if is_address(out) and scripts is None:
        raise InputError(f"{out} is an address, and sbatch takes files: say with --scripts DIR where they are written")
    checked, said = with_policy(with_plugins(load_spec(spec, overrides), plugins))
    start_jax()
    if checked.devices.platform == "auto" and jax.default_backend() == "cpu":
        raise InputError(
            'devices.platform = "auto" is what this machine has, and these are CPUs: say --set devices.platform=cpu if '
            "the nodes are to train on theirs, or --set devices.platform=gpu, with devices.count and "
            "devices.memory_gib, if on GPUs"
        )
    table = load_table(checked.table, relevance=checked.relevance)
    storage = create(checked, table, out, this_machine(checked, how.nodes))
    contents = read_contents(storage)
    sources = [each.source for each in load_plugins(checked.plugins)]
    folder = _folder(storage, scripts)
    _write(folder, storage.where, how, contents.about["devices"], sources)
    return Launched(storage.where, contents, folder.root, said)


def submit(launched: Launched) -> tuple[str, str]:
    """Give both scripts to SLURM; the numbers of the array and of what finishes the experiment.

    Raises:
        InputError: sbatch is not there or refuses; what is planned and written stays.
    """
    array = _sbatch(launched.scripts, ARRAY)
    try:
        return array, _sbatch(launched.scripts, FINISH, f"--dependency=afterany:{array}")
    except InputError as error:
        raise InputError(f"job {array} trains, and nothing waits for it to finish the experiment: {error}") from None


def array_script(where: str, how: Launch, devices: Mapping[str, Any], plugins: Sequence[str] = ()) -> str:
    """What each task of the array runs."""
    named = [part for plugin in plugins for part in ("--plugin", plugin)]
    budget = str(limit_s(how.time) - SPARE_S)
    run = ["run", where, "--shard", "auto", "--time-budget", budget, *named]
    takes = {"gpu": "--gpus-per-node", "cpu": "--cpus-per-task"}.get(devices["platform"])
    options = [
        f"--array=0-{how.nodes - 1}",
        *([f"{takes}={devices['devices']}"] if takes else []),
        f"--signal=B:USR1@{WARNING_S}",
        "--output=array-%a.log",
    ]
    return "\n".join([*_head(where, "jaxmoe", how, options), f"run=({_command(run)})", TASK])


def finish_script(where: str, how: Launch) -> str:
    """What runs when all tasks have ended."""
    lines = _head(where, "jaxmoe-finish", how, ["--output=finish.log"])
    return "\n".join([*lines, f"exec {_command(['finish', where])}", ""])


def _head(where: str, name: str, how: Launch, options: Iterable[str]) -> list[str]:
    """How a script begins: no line for sbatch holds a path, whose signs it would read in its own way."""
    common = (f"--job-name={name}", "--nodes=1", "--ntasks=1", f"--time={how.time}", "--requeue", "--open-mode=append")
    return [
        "#!/bin/bash",
        _mark(where),
        *(f"#SBATCH {option}" for option in (*common, *options, *how.options)),
        "",
        f"cd -- {shlex.quote(str(Path.cwd()))}",
    ]


def _mark(where: str) -> str:
    return f"# Made by jaxmoe launch slurm, for {json.dumps(where)}"


def _command(arguments: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, (sys.executable, "-m", "jaxmoe", *arguments)))


def _folder(storage: Storage, scripts: Where | None) -> Folder:
    """Where scripts are written."""
    if scripts is not None:
        return Folder(path_of(scripts))
    assert isinstance(storage, Folder)
    return Folder(storage.path("launch"))


def _write(folder: Folder, where: str, how: Launch, devices: Mapping[str, Any], plugins: Sequence[str]) -> None:
    """Write both scripts, in place of those that were made for the same experiment and have not been changed."""
    made = Made(folder, "made.json")
    texts = {ARRAY: array_script(where, how, devices, plugins), FINISH: finish_script(where, how)}
    for name in texts:
        if folder.size(name) is not None and _mark(where).encode() not in folder.read(name).splitlines():
            raise InputError(f"{folder.where}/{name} is there and not of this experiment; choose another folder")
    for name, text in texts.items():
        made.write(name, text.encode())
    made.close()


def _arguments(scripts: Path, name: str) -> list[str]:
    """What sbatch is told: logs are written where the scripts are."""
    return [f"--chdir={scripts}", str(scripts / name)]


def _sbatch(scripts: Path, name: str, *options: str) -> str:
    """The number of the job that a script has become."""
    command = ["sbatch", "--parsable", *options, *_arguments(scripts, name)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise InputError(
            f"sbatch cannot be started here ({error.strerror}); what is planned stays, and the scripts are in {scripts}"
        ) from None
    said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
    if done.returncode:
        raise InputError(f"sbatch does not take {scripts / name}: {said}")
    number = (done.stdout.strip().splitlines() or [""])[-1].partition(";")[0]
    if not number.isdecimal():
        raise InputError(f"sbatch took {scripts / name}, and did not say the job's number: {said}")
    return number
