"""The engine `ray`: every job is a Ray task that runs `run_job`, on this machine or on a cluster.

Ray places the tasks. Whatever a worker loses is in the storage: the driver hands the job out again, and it goes on from
its last checkpoint. JAX is set up by the environment with which Ray starts a worker's process, before anything is
imported there.
"""

import importlib.metadata
import os
import re
import secrets
import signal
import socket
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import jaxmoe
from jaxmoe.devices import cache_in_use, num_cores, use_caches, use_caches_of_node
from jaxmoe.errors import InputError
from jaxmoe.experiment.creating import this_machine
from jaxmoe.experiment.driving import Ended, drive
from jaxmoe.experiment.folder import read_about
from jaxmoe.experiment.rounds import Machine
from jaxmoe.experiment.spec import RayJob, Spec
from jaxmoe.experiment.stopping import Stopping
from jaxmoe.plugins import Shipped, load_shipped, shipped
from jaxmoe.training.events import Callback, Noted
from jaxmoe.training.job import Job
from jaxmoe.training.remote import storage_at
from jaxmoe.training.storage import Memory, Storage
from jaxmoe.training.worker import do_job

MOST = 1000  # tasks that are handed out at once; those that wait tell a cluster that grows how far
GPU_SHARE = 0.9  # of a GPU's memory, that the jobs on it take together
OBJECT_STORE_BYTES = 100 * 2**20  # of a local cluster; nothing large goes through it
ADDRESS_S = 10.0  # s, that an address has to answer
PROBE_S = 60.0  # s, that a node has to say that it can use the storage
TPU = "TPU"  # the resource as which Ray counts chips


class Cluster:
    """Workers of a Ray cluster; an `Engine`."""

    alone = True

    def __init__(self, address: str | None = None, each: RayJob | None = None) -> None:
        """Connect to a cluster, or start one here, before JAX starts: what comes after it should not fork.

        Args:
            address: of a cluster that is there; if absent that of `RAY_ADDRESS`, or else a cluster on this machine is
                started, and ended.
            each: what each job takes.

        Raises:
            InputError: Ray is not installed, or there is no cluster at the address.
        """
        try:
            import ray
        except ImportError:
            raise InputError("the engine ray needs Ray: pip install 'jaxmoe[ray]'") from None
        self._ray = ray
        self.address, self.each = address or os.environ.get("RAY_ADDRESS"), each or RayJob()
        self._own = False  # whether the connection is ours to end
        self._logs = Path(tempfile.gettempdir()) / "ray" / "session_latest" / "logs"  # on each node
        self.connect()

    def __call__(
        self,
        jobs: Sequence[Job],
        storage: Storage,
        callback: Callback,
        stop: Callable[[], bool],
        checkpoint_every_s: float,
    ) -> list[int]:
        """Have the jobs done; numbers of those that failed."""
        if isinstance(storage, Memory):
            raise InputError("the engine ray needs a folder or an address that all workers can use: say out=")
        self.connect()
        try:
            if jobs:
                self._require_devices(jobs[0].platform, callback)
                self._require_shared(storage)
                callback(Noted(f"Ray: {self._in_words()}", progress=True))
            return drive(_Tasks(self, storage, checkpoint_every_s), jobs, storage, callback, stop)
        finally:
            self.close()

    def connect(self) -> None:
        """Connect, unless somebody has."""
        ray = self._ray
        if ray.is_initialized():
            return
        self._require_somebody_there()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told what is computed here
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the driver leaves GPUs to the workers
        main = threading.current_thread() is threading.main_thread()
        handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)} if main else {}
        common = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            with warnings.catch_warnings():
                # where JAX has started before: what is forked becomes a process of Ray at once
                warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
                if self.address:
                    context = ray.init(address=self.address, **common)
                else:
                    context = ray.init(
                        address="local", num_cpus=num_cores(), include_dashboard=False,
                        object_store_memory=OBJECT_STORE_BYTES, **common,
                    )  # fmt: skip
        except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"Ray cannot be reached at {self.address or 'this machine'}: {said}") from None
        finally:
            for number, handler in handlers.items():  # Ray has replaced them
                signal.signal(number, handler)
        self._own, self._logs = True, Path(context.address_info["session_dir"]) / "logs"
        theirs = ray._private.worker
        self._print = getattr(theirs, "print_to_stdstream", None)
        theirs.print_to_stdstream = _print_nothing

    def _require_somebody_there(self) -> None:
        """Say at once that nobody is at an address: Ray would ask for many minutes."""
        host, _, port = (self.address or "").rpartition(":")
        if not host or "/" in host or not port.isdecimal():
            return
        try:
            socket.create_connection((host, int(port)), timeout=ADDRESS_S).close()
        except (OSError, OverflowError) as error:
            raise InputError(f"Ray cannot be reached at {self.address}: {error}") from None

    def close(self) -> None:
        """End the connection, and the cluster if it was started here."""
        if self._own:
            self._own = False
            self._ray.shutdown()
            self._ray._private.worker.print_to_stdstream = self._print

    def machine(self, spec: Spec) -> Machine:
        """What an experiment is planned for: each job for its own devices, and a job for every worker.

        Raises:
            InputError: the cluster has devices that this machine has not, and the spec does not say them; or a job
                takes more than this machine has.
        """
        here = this_machine(spec, count=1)
        resources = [node["Resources"] for node in self._nodes()]
        present = {name for each in resources for name, amount in each.items() if amount}
        theirs = "gpu" if "GPU" in present else "tpu" if TPU in present else "cpu"
        if spec.devices.platform == "auto" and theirs != jax.default_backend():
            raise InputError(
                f"the cluster has {theirs.upper()}s, and this machine {jax.default_backend().upper()}s: say which are "
                f'meant, devices.platform = "{theirs}" for instance, and devices.memory_gib where this machine has none'
            )
        workers = sum(self._fits(each, here.platform) for each in resources)
        if not workers and not self.address:  # before there is a folder
            raise InputError(self._too_much(here.platform))
        return here._replace(devices=self.devices(here.platform), processes=max(1, workers))

    def devices(self, platform: str) -> int:
        """Of a job."""
        takes = self.takes(platform)
        amount = {"gpu": takes.get("num_gpus"), "cpu": takes.get("num_cpus")}.get(
            platform, takes.get("resources", {}).get(TPU)
        )
        return max(1, int(amount or 1))

    def takes(self, platform: str) -> dict[str, Any]:
        """What a job takes, as Ray's options: one device unless the spec says otherwise."""
        each, found = self.each, dict[str, Any]()
        found["num_cpus"] = 1.0 if each.num_cpus is None else each.num_cpus
        if platform == "gpu":
            found["num_gpus"] = 1.0 if each.num_gpus is None else each.num_gpus
        elif each.num_gpus:
            found["num_gpus"] = each.num_gpus
        resources = dict(each.resources)
        if platform == "tpu":
            resources.setdefault(TPU, 1.0)
        return found | ({"resources": resources} if resources else {})

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _fits(self, resources: Mapping[str, float], platform: str) -> int:
        """Jobs that fit a node."""
        takes = self.takes(platform)
        wanted = {"CPU": takes["num_cpus"], "GPU": takes.get("num_gpus", 0.0), **takes.get("resources", {})}
        return min(
            (int(resources.get(name, 0.0) / amount + 1e-9) for name, amount in wanted.items() if amount), default=MOST
        )

    def _require_devices(self, platform: str, callback: Callback) -> None:
        """Say so where no node has what a job takes: it would wait for ever."""
        if any(self._fits(node["Resources"], platform) for node in self._nodes()):
            return
        if not self.address:
            raise InputError(self._too_much(platform))
        callback(
            Noted(f"a job takes {self._wanted(platform)}, which no node of the cluster has now: jobs wait for one")
        )

    def _too_much(self, platform: str) -> str:
        return f"a job takes {self._wanted(platform)}, which this machine has not; say less in [ray] of the spec"

    def _wanted(self, platform: str) -> str:
        takes = self.takes(platform)
        more = takes.pop("resources", {})
        return ", ".join(f"{name} = {amount:g}" for name, amount in {**takes, **more}.items())

    def _require_shared(self, storage: Storage) -> None:
        """Have every node find what is written here, and write what is found here.

        Raises:
            InputError: one cannot, or has another version of jaxmoe or JAX.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ray, nonce = self._ray, secrets.token_hex(4)
        ours, nodes = f".probe.{nonce}", self._nodes()
        probe = ray.remote(_probe)
        storage.write(ours, nonce.encode())
        asked = {}
        for node in nodes:
            theirs = f".probe.{secrets.token_hex(4)}"
            task = probe.options(
                num_cpus=0, max_retries=0, runtime_env=_environment("cpu", 1, {}),
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(storage.where, ours, theirs, nonce, _versions())  # fmt: skip
            asked[task] = node["NodeManagerAddress"], theirs
        try:
            for task, (where, theirs) in asked.items():
                said = self._answer(task)
                if not said and storage.size(theirs) is None:
                    said = "what it writes there does not arrive here"
                if said:
                    raise InputError(
                        f"the node {where} cannot share {storage.where}: {said}; use a folder that all nodes can "
                        "write, or an address such as s3://bucket/name"
                    )
        finally:
            for name in (ours, *(theirs for _, theirs in asked.values())):
                storage.delete(name)

    def _answer(self, task: Any) -> str:
        try:
            return str(self._ray.get(task, timeout=PROBE_S))
        except self._ray.exceptions.GetTimeoutError:
            return f"it does not answer within {PROBE_S:.0f} s"
        except self._ray.exceptions.RayError as error:
            return _first_line(error)

    def _in_words(self) -> str:
        nodes = self._nodes()
        return (
            f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}; what the worker with process N prints is on its node, "
            f"in {self._logs}/worker-*-N.*"
        )


class _Tasks:
    """The jobs of an experiment as Ray tasks; a `Pool`."""

    def __init__(self, cluster: Cluster, storage: Storage, checkpoint_every_s: float) -> None:
        self.cluster, self.storage, self._every = cluster, storage, checkpoint_every_s
        self._ray = cluster._ray
        self._plugins = shipped(read_about(storage)["plugins"])
        self._caches = cache_in_use() is not None
        self._at_work: dict[Any, int] = {}

    @property
    def most(self) -> int:
        """Jobs that may be handed out at once."""
        return MOST

    def submit(self, job: Job) -> None:
        """Hand out a job."""
        takes, devices = self.cluster.takes(job.platform), self.cluster.devices(job.platform)
        local = self.cluster.address is None
        work = self._ray.remote(_work).options(
            max_retries=0, name=f"jaxmoe job {job.number}", **takes,
            runtime_env=_environment(job.platform, devices, takes),
        )  # fmt: skip
        task = work.remote(self.storage.where, job.number, self._plugins, self._every, self._caches, local)
        self._at_work[task] = job.number

    def wait(self, seconds: float) -> list[Ended]:
        """Jobs that have ended; wait so long for the first one."""
        tasks = list(self._at_work)
        ready, _ = self._ray.wait(tasks, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)
        return [Ended(self._at_work.pop(task), *self._outcome(task)) for task in ready]

    def stop(self) -> None:
        """Have all workers save and end: they take Ray's cancelling as a Ctrl-C."""
        for task in self._at_work:
            self._ray.cancel(task, force=False, recursive=False)

    def _outcome(self, task: Any) -> tuple[Any, str]:
        errors = self._ray.exceptions
        try:
            return tuple(self._ray.get(task))
        except errors.TaskCancelledError:
            return "stopped", ""
        except errors.RuntimeEnvSetupError as error:
            return "refused", _first_line(error)
        except errors.RayTaskError as error:  # jaxmoe is not there, or another one
            return "refused", f"a worker cannot run jobs: {_first_line(error)}"
        except errors.RayError as error:  # the process, its node, or its memory
            return "lost", _first_line(error)


def _work(
    where: str, number: int, plugins: list[Shipped], checkpoint_every_s: float, caches: bool, local: bool
) -> tuple[str, str]:
    """Run a job, in a worker's process; how it ended, and why."""
    stop = Stopping(None)
    try:
        with stop.listening():
            load_shipped(plugins)
            if caches:
                (use_caches if local else use_caches_of_node)()
            done = do_job(storage_at(where), number, checkpoint_every_s=checkpoint_every_s, stop=stop)
    except (InputError, OSError) as error:
        traceback.print_exc()
        return "refused", f"job {number}: {error}"
    except Exception as error:
        traceback.print_exc()
        return "failed", f"{type(error).__name__}: {error}"
    return ("done" if done.complete else "stopped"), ""


def _probe(where: str, ours: str, theirs: str, nonce: str, versions: Mapping[str, str]) -> str:
    """Whether a node shares a storage with the driver: why not, or nothing."""
    try:
        if (own := _versions()) != versions:
            listed = (", ".join(f"{name} {version}" for name, version in each.items()) for each in (own, versions))
            return "it has {}, and here are {}".format(*listed)
        storage = storage_at(where)
        if storage.read(ours) != nonce.encode():
            return "it reads something else there"
        storage.write(theirs, nonce.encode())
    except FileNotFoundError:
        return "what is written here does not arrive there"
    except (InputError, OSError) as error:
        return str(error)
    return ""


def _versions() -> dict[str, str]:
    """What must be the same on all nodes, because results depend on it."""
    return {"jaxmoe": jaxmoe.__version__, "jax": importlib.metadata.version("jax")}


def _environment(platform: str, devices: int, takes: Mapping[str, Any]) -> dict[str, Any]:
    """Ray's `runtime_env` of a job: what JAX reads when it starts.

    Ray itself says which GPUs a task sees, and hides none from a task without any: such a task uses the CPU alone.
    """
    variables = {"JAX_PLATFORMS": {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}[platform]}
    variables["XLA_FLAGS"] = re.sub(
        r"\s*--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", "")
    )
    if platform == "cpu":
        variables["JAX_NUM_CPU_DEVICES"] = str(devices)
    if platform == "gpu":
        share = float(takes.get("num_gpus", 1.0))
        variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "true" if share >= 1 else "false"
        variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{GPU_SHARE * min(1.0, share):.3f}"
    return {"env_vars": variables}


def _print_nothing(*_: Any, **__: Any) -> None:
    """Ray prints what it says of lost workers to standard output, where results belong; the driver tells it itself."""


def _first_line(error: BaseException) -> str:
    """What is worth reading of an error of Ray."""
    plain = re.sub(r"\x1b\[[0-9;]*m|\(raylet\)", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    if isinstance(error, Exception) and type(error).__name__.startswith("RayTaskError"):
        lines = lines[-1:]
    return (lines or [type(error).__name__])[0].split(". ")[0]
