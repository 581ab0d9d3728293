"""A real Ray cluster on this machine, whose workers, nodes and driver are killed: the result is that of one process."""

import contextlib
import json
import os
import pickle
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import tiny

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.experiment import cluster
from jaxmoe.experiment.driving import WATCH_S
from jaxmoe.experiment.spec import RayJob, load_spec
from jaxmoe.plugins import load_plugins, shipped
from jaxmoe.training.remote import storage_at

EXAMPLES = Path(__file__).parents[2] / "examples"
TWO = {  # two jobs of agents for each algorithm, of which one is a plugin
    "plugins": [str(EXAMPLES / "pqn.py")],
    "algorithm": ["ppo", "pqn"],
    "env_steps": 200_000,
    "seeds": 8,
    "evaluations": 3,
    "requests": 256,
    "baselines": ["random", "one_slot_optimum"],
    "hypers": {"learning_rate": [1e-3, 1e-2]},
    "config": tiny.CONFIG,
    "devices": {"agents_per_job": 8},
}
OF_CLUSTER = {
    **os.environ,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
ONE_DEVICE = {"JAX_NUM_CPU_DEVICES": "1"}
SECONDS = 400  # that anything here may take


def ray_command(spec, out, *more):
    return ["sweep", spec, "--out", out, "--engine", "ray", "--checkpoint-every", "0", *more]


def until(found, process):
    """What is found while a process is at work; it may end with an error."""
    began = time.monotonic()
    while time.monotonic() - began < SECONDS:
        if answer := found():
            return answer
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def gone(process):
    """Whether a process has ended, or does so."""
    began = time.monotonic()
    while psutil.pid_exists(process) and time.monotonic() - began < SECONDS:
        time.sleep(0.1)
    return not psutil.pid_exists(process)


def at_work(storage, job="", not_on=None):
    """The process of a worker that has saved a job on the way, and the job's folder; of any job, if none is said."""
    for name in storage.list(f"jobs/{job}"):
        folder = name.removesuffix("/checkpoint/state.json")
        if folder == name or storage.size(f"{folder}/done.json") is not None:
            continue
        try:
            note = json.loads(storage.read(f"{folder}/progress.json"))
            saved = json.loads(storage.read(name))
        except FileNotFoundError:  # it is done meanwhile
            continue
        pid = int(re.search(r"process (\d+)", note["where"]).group(1))
        if saved["reached"] > 0 and saved["file"].startswith(note["attempt"]) and pid != not_on:
            return pid, folder.removeprefix("jobs/")
    return None


def held_at_work(storage, driver):
    """The same, the process held so that it cannot finish the job before it is killed."""

    def found():
        if (at := at_work(storage)) is None:
            return None
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(at[0], signal.SIGSTOP)
            if storage.size(f"jobs/{at[1]}/done.json") is None:
                return at
            os.kill(at[0], signal.SIGCONT)
        return None

    return until(found, driver)


def finished(process):
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The sweep of one process, without Ray; with one device, as each job has there.

    With another number of them XLA's optimisations give the example algorithm's metrics, but not its weights, other
    last bits.
    """
    folder = tmp_path_factory.mktemp("alone") / "out"
    spec = tiny.spec_file(folder.with_suffix(".toml"), TWO)
    with tiny.process("sweep", spec, "--out", folder, env=os.environ | ONE_DEVICE) as process:
        finished(process)
    return folder


def assert_same(storage, folder):
    """Tables and policies of an experiment, wherever it is, are those of a folder."""
    for name in tiny.TABLES:
        assert storage.read(f"{name}.parquet") == (folder / f"{name}.parquet").read_bytes(), name
    theirs = tiny.policies(folder)
    assert theirs
    for job, weights in theirs.items():
        about = json.loads(storage.read(f"jobs/{job}/done.json"))
        assert storage.read(f"jobs/{job}/{about['attempt']}/policies.safetensors") == weights, job
        assert about["device"]["count"] == 1  # each job has had a device of its own


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("where", ["folder", "s3"])
def test_a_worker_and_the_driver_are_killed_and_nothing_is_lost(where, alone, tmp_path, request):
    out = request.getfixturevalue("bucket") if where == "s3" else tmp_path / "out"
    spec, storage = tiny.spec_file(tmp_path / "spec.toml", TWO), storage_at(out)
    with tiny.process(*ray_command(spec, out)) as driver:
        worker, job = held_at_work(storage, driver)
        os.kill(worker, signal.SIGKILL)
        until(lambda: at_work(storage, job, worker), driver)  # somebody else has got on with it
        driver.send_signal(signal.SIGKILL)
        _, before = driver.communicate()
    assert "its worker is lost" in before
    assert not all(storage.size(f"jobs/{number:06d}/done.json") for number in range(5))
    with tiny.process(*ray_command(spec, out)) as driver:
        after = finished(driver)
    assert len(set(re.findall(r"at work on .*\(process (\d+)\)", before + after))) >= 2
    assert_same(storage, alone)
    assert jaxmoe.load(out if where == "s3" else str(out)).complete
    assert not [name for name in storage.list() if "probe" in name or "checkpoint" in name]


@pytest.mark.slow
@pytest.mark.cluster
def test_a_node_of_a_cluster_is_lost_and_another_one_goes_on(alone, tmp_path):
    spec, out, storage = tiny.spec_file(tmp_path / "spec.toml", TWO), tmp_path / "out", storage_at(tmp_path / "out")
    with ray_cluster(tmp_path) as (address, add):
        node = add()
        with tiny.process(*ray_command(spec, out, "--address", address), env=OF_CLUSTER) as driver:
            worker, _ = held_at_work(storage, driver)
            os.killpg(node.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)  # as all of a node
            add()
            said = finished(driver)
    assert "its worker is lost" in said
    assert_same(storage, alone)


@contextlib.contextmanager
def ray_cluster(folder):
    """The address of a cluster whose head has no processors, and a function that adds a node with one."""
    processes = []

    def start(*arguments):
        said = folder / f"node{len(processes)}.txt"
        with said.open("w") as file:
            process = subprocess.Popen(
                [Path(sys.executable).parent / "ray", "start", "--block", "--object-store-memory=80000000", *arguments],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, env=OF_CLUSTER,
            )  # fmt: skip
        processes.append(process)
        until((lambda: "Ray runtime started" in said.read_text()), process)
        return process

    try:
        port = free_port()
        start("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")
        yield f"127.0.0.1:{port}", lambda: start(f"--address=127.0.0.1:{port}", "--num-cpus=1")
    finally:
        for process in reversed(processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


FAILING = """
import os

import jax

from jaxmoe.algorithms import ppo
from jaxmoe.algorithms.registry import register_algorithm


class Config(ppo.Config):
    pass


def make(env, config, params):
    made = ppo.make(env, config, params)

    def init(*arguments):
        if "RAY_RAYLET_PID" in os.environ:
            raise RuntimeError("this algorithm wants no worker")
        return made.init(*arguments)

    return made._replace(init=init)


register_algorithm("shy", make, ppo.Hypers, ppo.Config, summary="PPO that does not start everywhere")
"""


@pytest.mark.slow
@pytest.mark.cluster
def test_an_error_of_a_job_is_told_once_and_the_others_go_on(tmp_path):
    (tmp_path / "shy.py").write_text(FAILING)
    spec = {**TWO, "plugins": [str(tmp_path / "shy.py")], "algorithm": ["ppo", "shy"], "env_steps": 512, "seeds": 2}
    out = tmp_path / "out"
    with tiny.process(*ray_command(tiny.spec_file(tmp_path / "spec.toml", spec), out), "--json") as driver:
        printed, said = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 1
    assert said.count("failed: RuntimeError: this algorithm wants no worker") == 1
    assert "Traceback" not in said
    assert json.loads(printed)["agents"] == 4  # nothing else is on standard output
    [logs] = set(re.findall(r"in (\S+)/worker-\*-N", said))
    assert any("Traceback" in each.read_text() for each in Path(logs).glob("worker-*.err"))
    assert sorted(jaxmoe.load(out, plugins=[tmp_path / "shy.py"]).contents.done) == [0, 1]


@pytest.mark.slow
@pytest.mark.cluster
def test_ctrl_c_saves_and_leaves_the_cluster_clean(tmp_path):
    longer = {**TWO, "algorithm": "ppo", "seeds": 1, "env_steps": 8_000_000}  # much longer than a worker tells nothing
    longer["devices"] = {**TWO["devices"], "agents_per_device": 2}  # or the cluster would plan narrower batches
    spec, out, alone = tiny.spec_file(tmp_path / "spec.toml", longer), tmp_path / "out", tmp_path / "alone"
    storage = storage_at(out)
    rarely = ["sweep", spec, "--out", out, "--engine", "ray", "--checkpoint-every", "1h"]
    with tiny.process(*rarely) as driver:
        note = until(lambda: next(iter(out.glob("jobs/000001/progress.json")), None), driver)
        until(lambda: json.loads(note.read_text())["env_steps"] > 0, driver)
        worker = int(re.search(r"process (\d+)", json.loads(note.read_text())["where"]).group(1))
        os.kill(worker, signal.SIGSTOP)  # or else it might be done before the driver has told it to stop
        driver.send_signal(signal.SIGINT)
        time.sleep(3 * WATCH_S)
        os.kill(worker, signal.SIGCONT)
        _, said = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 130, said
    assert storage.size("jobs/000001/checkpoint/state.json") is not None
    assert gone(worker)
    for folder in (out, alone):  # what a cluster has begun, one process ends
        with tiny.process("sweep", spec, "--out", folder, env=os.environ | ONE_DEVICE) as process:
            finished(process)
    for name in tiny.TABLES:
        assert storage.read(f"{name}.parquet") == (alone / f"{name}.parquet").read_bytes(), name


# What needs no cluster


def test_without_ray_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = tiny.command("sweep", tiny.spec_file(tmp_path / "spec.toml"), "--out", tmp_path / "out", "--engine", "ray")
    assert (done.code, done.error) == (2, "jaxmoe: the engine ray needs Ray: pip install 'jaxmoe[ray]'\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--engine", "spark"], "engine = 'spark' is not one of local, ray"),
        (["--address", "10.0.0.1:6379"], "is that of a Ray cluster: say engine ray, too"),
        (["--engine", "ray", "--shard", "0/2"], "the workers of an engine share the jobs themselves"),
    ],
)
def test_what_makes_no_sense_together_is_refused(tmp_path, options, sentence):
    done = tiny.command("sweep", tiny.spec_file(tmp_path / "spec.toml"), "--out", tmp_path / "out", *options)
    assert (done.code, sentence in done.error) == (2, True), done.error
    assert not (tmp_path / "out").exists()


def test_an_address_at_which_nobody_is_is_said_at_once(tmp_path):
    spec, address = tiny.spec_file(tmp_path / "spec.toml"), f"127.0.0.1:{free_port()}"
    done = tiny.command("sweep", spec, "--out", tmp_path / "out", "--engine", "ray", "--address", address)
    assert (done.code, done.error.startswith(f"jaxmoe: Ray cannot be reached at {address}: ")) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def unconnected(monkeypatch):
    monkeypatch.setattr(cluster.Cluster, "connect", lambda _: None)
    return lambda **each: cluster.Cluster(each=RayJob(**each))


def test_an_experiment_in_memory_has_no_workers_elsewhere(unconnected):
    with pytest.raises(InputError, match="needs a folder or an address"):
        unconnected()([], tiny.sweep(time_budget_s=0).storage, lambda _: None, lambda: False, 1.0)


def test_a_job_takes_one_device_unless_the_spec_says_otherwise(unconnected):
    own = unconnected()
    assert own.takes("cpu") == {"num_cpus": 1.0}
    assert own.takes("gpu") == {"num_cpus": 1.0, "num_gpus": 1.0}
    assert own.takes("tpu") == {"num_cpus": 1.0, "resources": {"TPU": 1.0}}
    assert [own.devices(each) for each in ("cpu", "gpu", "tpu")] == [1, 1, 1]
    spec = load_spec({**tiny.SPEC, "ray": {"num_cpus": 4, "num_gpus": 0.5, "resources": {"TPU": 4.0, "big": 1}}})
    own = unconnected(**spec.ray.model_dump())
    assert own.takes("gpu") == {"num_cpus": 4.0, "num_gpus": 0.5, "resources": {"TPU": 4.0, "big": 1.0}}
    assert [own.devices(each) for each in ("cpu", "gpu", "tpu")] == [4, 1, 4]
    assert own._fits({"CPU": 9.0, "GPU": 2.0, "TPU": 8.0, "big": 2.0}, "gpu") == 2
    assert own._fits({"CPU": 9.0, "GPU": 2.0}, "gpu") == 0


def test_jax_is_set_up_before_it_starts(unconnected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_dump_to=/nowhere")
    found = {
        platform: cluster._environment(platform, 2, unconnected(num_gpus=share).takes(platform))["env_vars"]
        for platform, share in (("cpu", None), ("gpu", 0.25), ("tpu", None))
    }
    assert found["cpu"] == {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", "XLA_FLAGS": " --xla_dump_to=/nowhere"}
    assert found["gpu"]["JAX_PLATFORMS"] == "cuda"
    assert found["gpu"]["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"  # others are on it, too
    assert float(found["gpu"]["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == pytest.approx(0.225)
    assert found["tpu"]["JAX_PLATFORMS"] == "tpu"
    assert not any("CUDA_VISIBLE_DEVICES" in each for each in found.values())  # Ray says what a task sees
    whole = cluster._environment("gpu", 1, unconnected().takes("gpu"))["env_vars"]
    assert (whole["XLA_PYTHON_CLIENT_PREALLOCATE"], whole["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == ("true", "0.900")


def test_a_node_that_shares_no_storage_says_why(tmp_path):
    here = storage_at(tmp_path)
    here.write(".probe.1", b"nonce")
    probe = lambda where, nonce="nonce", versions=None: cluster._probe(  # noqa: E731
        str(where), ".probe.1", ".probe.2", nonce, versions or cluster._versions()
    )
    assert probe(tmp_path) == ""
    assert here.size(".probe.2") == 5
    assert probe(tmp_path / "elsewhere") == "what is written here does not arrive there"
    assert probe(tmp_path, nonce="other") == "it reads something else there"
    assert "0.0.1, and here are" not in probe(tmp_path, versions={"jaxmoe": "0.0.1"})
    assert probe(tmp_path, versions={"jaxmoe": "0.0.1"}).endswith("and here are jaxmoe 0.0.1")


@pytest.mark.slow
def test_a_plugin_reaches_a_machine_that_has_no_such_file():
    code = (
        "import sys, pickle; from jaxmoe.plugins import load_shipped, require_plugins\n"
        "plugins, entries = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "load_shipped(plugins); load_shipped(plugins); require_plugins(entries, 'there')\n"
        "from jaxmoe.algorithms.registry import registered_algorithms; print(*registered_algorithms())"
    )
    [entry] = [each._asdict() for each in load_plugins([str(EXAMPLES / "pqn.py")])]
    gone = [each._replace(source="/nowhere/pqn.py") for each in shipped([entry])]
    said = pickle.dumps((gone, [entry])).hex()
    done = subprocess.run([sys.executable, "-c", code, said], capture_output=True, text=True, check=True)
    assert "pqn" in done.stdout.split()
