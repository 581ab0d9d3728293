"""An experiment as an array of SLURM: planned where there is no such device, scripts for every name, nothing lost.

SLURM is a stand-in, which really runs the array as processes of this machine.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import pytest
import tiny
from slurm_stand_in import Cluster

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.experiment import slurm
from jaxmoe.experiment.engines import Shard, parse_shard, shard_of_task
from jaxmoe.experiment.slurm import Launch, array_script, finish_script, limit_s
from jaxmoe.experiment.stopping import Stopping

CPU = {"platform": "cpu", "devices": 2, "memory_gib": 4.0}
FOUR = {**tiny.SPEC, "devices": {"platform": "cpu", "agents_per_job": 4}}  # two jobs of baselines and three of agents
GPU = ("--set", "devices.platform=gpu", "--set", "devices.count=4", "--set", "devices.memory_gib=80")
HOSTILE = ["two words", "it's", 'a "quoted" one', "two\nlines", "$(touch harm)`touch harm`", "#SBATCH --x", "%a\\%j;&"]


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path / "slurm")


def launch(tmp_path, *options, spec=FOUR, env=None):
    file = tiny.spec_file(tmp_path / "spec.toml", spec)
    return tiny.command("launch", "slurm", file, "--nodes", 2, "--time", "10", *options, env=env)


def directives(script):
    return [line for line in script.splitlines() if line.startswith("#SBATCH")]


# Times and shards


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 300), ("90", 5400), ("90:30", 5430), ("2:00:00", 7200), ("36:00:00", 129600), ("1-0", 86400),
        ("1-12", 129600), ("2-03:04", 183840), ("0-00:10:30", 630),
    ],
)  # fmt: skip
def test_times_are_those_of_slurm(text, seconds):
    assert limit_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "2h", "-5", "1:2:3:4", "1-", "-1:00", "1-2-3", "٣٠", "UNLIMITED", "10 "])
def test_what_is_no_time_of_slurms_is_refused(text):
    with pytest.raises(InputError, match="is no time of SLURM's; write minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-"):
        limit_s(text)


@pytest.mark.parametrize("text", ["0", "4", "4:59", "0:01:00"])
def test_a_limit_in_which_nothing_can_be_trained_is_refused(text):
    with pytest.raises(InputError, match="a task begins, compiles and saves: give 5 min"):
        limit_s(text)


def array(task, first=0, last=7, count=8, step=1):
    values = {"ID": task, "MIN": first, "MAX": last, "COUNT": count, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("variables", "shard"),
    [
        (array(0), Shard(0, 8)),
        (array(7), Shard(7, 8)),
        (array(5, 1, 7, 4, 2), Shard(2, 4)),
        (array(3, 3, 3, 1), Shard(0, 1)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, Shard(3, 4)),
        ({**array(2), "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Shard(2, 8)),
    ],
)
def test_a_task_of_slurm_knows_its_shard(variables, shard, monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    assert shard_of_task(variables) == shard
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert parse_shard("auto") == shard


@pytest.mark.parametrize(
    "variables",
    [
        array(3, 1, 7, 3),  # --array=1,3,7
        array(4, 1, 7, 4, 2),
        array(9),
        array("", 0),
        array("x"),
        array(1, step=0),
        {"SLURM_ARRAY_TASK_ID": "1"},
        {"SLURM_PROCID": "4", "SLURM_NTASKS": "4"},
        {"SLURM_PROCID": "0"},
    ],
)
def test_variables_that_make_no_sense_are_one_sentence(variables):
    with pytest.raises(
        InputError, match=r"^--shard auto cannot be told from SLURM_.*, as 0-7, and tasks of srun; or say"
    ):
        shard_of_task(variables)


def test_auto_outside_of_slurm_is_one_sentence(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for words in (["run", tmp_path], ["sweep", tiny.spec_file(tmp_path / "spec.toml"), "--out", tmp_path / "out"]):
        done = tiny.command(*words, "--shard", "auto")
        assert (done.code, len(done.stderr.splitlines())) == (2, 1)
        assert "--shard auto is for tasks of SLURM, and this process is none; say which, as in" in done.stderr
    assert not (tmp_path / "out").exists()


# The warning


def test_the_warning_before_a_limit_is_a_time_that_is_up_however_often_it_comes():
    before, stop = signal.getsignal(signal.SIGUSR1), Stopping(None)
    with stop.listening():
        assert not stop()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert (stop(), stop.why) == (True, "time budget")
    assert signal.getsignal(signal.SIGUSR1) is before


def test_who_has_to_make_room_hears_a_warning_too_and_lives():
    stop = Stopping(None)
    with stop.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.why == "interrupted"


# Planning


def test_a_machine_without_gpus_plans_for_them_where_it_is_told_what_it_cannot_know(tmp_path):
    out = tmp_path / "out"
    done = launch(tmp_path, "--out", out, *GPU, "--sbatch=--partition=gpu", "--sbatch=--account=me")
    assert done.code == 0, done.stderr
    assert "12 agents in 5 jobs, for 2 tasks with 4 x gpu each: " in done.stdout
    found = jaxmoe.load(out)
    assert {job.platform for job in found.contents.jobs} == {"gpu"}
    assert found.contents.about["devices"] == {"platform": "gpu", "devices": 4, "memory_gib": 80.0, "processes": 2}
    script = (out / "launch" / "array.sh").read_text()
    assert directives(script) == [
        "#SBATCH --job-name=jaxmoe", "#SBATCH --nodes=1", "#SBATCH --ntasks=1", "#SBATCH --time=10",
        "#SBATCH --requeue", "#SBATCH --open-mode=append", "#SBATCH --array=0-1", "#SBATCH --gpus-per-node=4",
        "#SBATCH --signal=B:USR1@90", "#SBATCH --output=array-%a.log", "#SBATCH --partition=gpu",
        "#SBATCH --account=me",
    ]  # fmt: skip
    assert "--shard auto --time-budget 420" in script
    assert "--partition=gpu" in (out / "launch" / "finish.sh").read_text()
    refused = tiny.command("run", out)
    assert (refused.code, refused.stderr.splitlines()[-1][:14]) == (2, "jaxmoe: job 2 ")
    assert "is planned for gpu, and this process has cpu; results would differ" in refused.stderr


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there are such devices")
@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (["devices.platform=gpu"], "devices.count and devices.memory_gib"),
        (["devices.platform=gpu", "devices.count=2"], "devices.memory_gib"),
        (["devices.platform=tpu", "devices.memory_gib=16"], "devices.count"),
    ],
)
def test_what_a_machine_cannot_know_of_other_devices_must_be_said(tmp_path, change, missing):
    sets = [text for key in change for text in ("--set", key)]
    for done in (
        launch(tmp_path, "--out", tmp_path / "out", *sets),
        tiny.command("sweep", tmp_path / "spec.toml", "--out", tmp_path / "out", *sets),
        tiny.command("sweep", tmp_path / "spec.toml", "--dry-run", *sets),
    ):
        assert done.code == 2
        [line] = done.stderr.splitlines()
        assert line.endswith(f"and this machine plans with its CPUs: say {missing} of those that train, too")
    assert not (tmp_path / "out").exists()


def test_more_nodes_than_jobs_is_said_and_json_has_the_commands(tmp_path):
    said = launch(tmp_path, "--out", tmp_path / "out", "--nodes", "9")
    assert "4 of the nodes have nothing to do; a smaller devices.agents_per_job helps" in said.stdout
    found = json.loads(launch(tmp_path, "--out", tmp_path / "out", "--json").stdout)
    assert (found["agents"], found["jobs"], found["submitted"]) == (12, 5, None)
    assert found["commands"][0].startswith("array=$(sbatch --parsable --chdir=")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "--out DIR says where the experiment is kept; it is missing"),
        (["--out", "out", "--nodes", "0"], "nodes = 0 must be at least 1"),
        (["--out", "out", "--time", "2h"], "--time '2h' is no time of SLURM's"),
        (["--out", "out", "--sbatch", "partition=gpu"], "--sbatch 'partition=gpu' is no option of sbatch"),
        (["--out", "out", "--sbatch", "--a\n#SBATCH --b"], "is no option of sbatch, such as --partition=gpu"),
        (["--out", "s3://bucket/x"], "s3://bucket/x is an address, and sbatch takes files: say with --scripts DIR"),
        (["--out", "out", "--plugin", "none.py"], "plugin none.py: there is no file"),
        (["--out", "out", "--set", "devices.platform=auto"], 'devices.platform = "auto" is what this machine has'),
    ],
)
def test_what_cannot_be_launched_is_one_sentence_and_nothing_is_made(tmp_path, options, sentence):
    file = tiny.spec_file(tmp_path / "spec.toml", FOUR)
    done = tiny.command("launch", "slurm", file, "--nodes", 2, "--time", 10, *options, cwd=tmp_path)
    assert (done.code, len(done.stderr.splitlines())) == (2, 1)
    assert sentence in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]


# Scripts


def test_the_same_command_replaces_its_scripts_and_nobody_elses(tmp_path):
    scripts = tmp_path / "scripts"
    options = ["--out", tmp_path / "out", "--scripts", scripts]
    assert launch(tmp_path, *options).code == 0
    assert launch(tmp_path, *options, "--nodes", 3).code == 0
    assert "--array=0-2" in (scripts / "array.sh").read_text()
    other = launch(tmp_path, "--out", tmp_path / "other", "--scripts", scripts)
    assert other.code == 2
    assert f"{scripts}/array.sh is there and not of this experiment; choose another folder" in other.stderr
    changed = (scripts / "array.sh").read_text() + "echo mine\n"
    (scripts / "array.sh").write_text(changed)
    refused = launch(tmp_path, *options)
    assert refused.code == 2
    assert f"{scripts}/array.sh is not as jaxmoe made it; it is left alone" in refused.stderr
    assert (scripts / "array.sh").read_text() == changed
    (tmp_path / "out" / "launch").symlink_to(tmp_path)
    linked = launch(tmp_path, "--out", tmp_path / "out")
    assert "is a symbolic link, and jaxmoe follows none" in linked.stderr


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """In place of Python: it notes what it is told, and does what WORKER says; once it is started again, it is done."""
    path = tmp_path / "it's python"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, os, pathlib, signal, sys, time\n"
        f"notes = pathlib.Path({str(tmp_path / 'told')!r})\n"
        "how = os.environ.get('WORKER', '0') if 'SLURM_RESTART_COUNT' not in os.environ else '0'\n"
        "heard = []\n"
        "if how != 'deaf':\n"
        "    signal.signal(signal.SIGUSR1, lambda *_: heard.append(time.monotonic()))\n"
        "notes.write_text(json.dumps(sys.argv[1:]))\n"
        "if how.isdigit():\n"
        "    sys.exit(int(how))\n"
        "while not heard or time.monotonic() < heard[0] + 0.5:\n"
        "    time.sleep(0.02)\n"
        "print('saved', flush=True)\n"
        "sys.exit(3)\n"
    )
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))
    return tmp_path / "told"


def submitted(cluster, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    subprocess.run(["bash", "-n", tmp_path / name], check=True)
    return cluster.submit("--parsable", f"--chdir={tmp_path}", tmp_path / name)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_data_reach_the_command_and_no_line_for_sbatch(tmp_path, cluster, stub, name, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    where, plain = str(tmp_path / name / "out"), Launch(1, "1-0")
    text = array_script(where, plain, CPU, [f"{name}.py"])
    assert directives(text) == directives(array_script("/plain", plain, CPU))
    assert "#SBATCH --cpus-per-task=2" in text
    submitted(cluster, tmp_path, "array.sh", text)
    cluster.run()
    budget = str(86400 - slurm.SPARE_S)
    told = ["-m", "jaxmoe", "run", where, "--shard", "auto", "--time-budget", budget, "--plugin", f"{name}.py"]
    assert json.loads(stub.read_text()) == told
    text = finish_script(where, plain)
    assert directives(text) == directives(finish_script("/plain", plain))
    submitted(cluster, tmp_path, "finish.sh", text)
    cluster.run()
    assert json.loads(stub.read_text()) == ["-m", "jaxmoe", "finish", where]
    assert (tmp_path / "array-0.log").read_text() == ""
    assert not list(tmp_path.rglob("harm"))


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(("worker", "codes"), [("0", [0]), ("1", [1]), ("2", [2]), ("130", [130]), ("3", [3, 0])])
def test_exit_codes_are_handed_on_and_only_what_is_unfinished_is_queued_again(
    tmp_path, cluster, worker, codes, monkeypatch
):
    monkeypatch.setenv("WORKER", worker)
    submitted(cluster, tmp_path, "array.sh", array_script("/data", Launch(1, "10"), CPU))
    cluster.run()
    assert [task.codes for task in cluster.tasks.values()] == [codes]


@pytest.mark.parametrize(
    ("worker", "signals", "codes"),
    [
        ("listens", [signal.SIGUSR1], [3, 0]),
        ("listens", [signal.SIGUSR1] * 3, [3, 0]),
        ("deaf", [signal.SIGUSR1], [3, 0]),  # the warning comes before it could hear
        ("listens", [signal.SIGTERM], [3]),  # SLURM queues it again, or it was cancelled
        ("listens", [signal.SIGUSR1, signal.SIGTERM], [3]),
        ("deaf", [signal.SIGTERM], [3]),
    ],
)
def test_a_task_that_is_warned_is_queued_again_and_one_that_has_to_go_is_not(
    tmp_path, cluster, stub, worker, signals, codes, monkeypatch
):
    monkeypatch.setenv("WORKER", worker)
    submitted(cluster, tmp_path, "array.sh", array_script("/data", Launch(1, "10"), CPU))
    pending = list(signals)

    def watch():
        if pending and stub.is_file() and (task := next(iter(cluster.tasks.values()))).process is not None:
            task.process.send_signal(pending.pop(0))
            time.sleep(0.1)

    cluster.run(watch, seconds=60)
    assert [task.codes for task in cluster.tasks.values()] == [codes]
    assert (tmp_path / "array-0.log").read_text().count("saved") == (worker == "listens")


# Submitting


def test_without_sbatch_or_where_it_refuses_nothing_is_lost(tmp_path, cluster):
    options = ["--out", tmp_path / "out", "--submit"]
    absent = launch(tmp_path, *options, env={"PATH": str(tmp_path)})
    assert absent.code == 2
    assert "sbatch cannot be started here (No such file or directory); what is planned stays" in absent.stderr
    assert (tmp_path / "out" / "launch" / "finish.sh").is_file()
    command = cluster.commands / "sbatch"
    works = command.read_text()
    command.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpu' >&2; exit 1\n")
    refused = launch(tmp_path, *options, env=cluster.variables)
    assert (refused.code, len(refused.stderr.splitlines())) == (2, 1)
    assert refused.stderr.endswith("array.sh: sbatch: error: invalid partition specified: gpu\n")
    for odd in ("exit 0", r"printf '\377\376\n'", "echo welcome"):
        command.write_text(f"#!/bin/sh\n{odd}\n")
        told = launch(tmp_path, *options, env=cluster.variables)
        assert (told.code, len(told.stderr.splitlines())) == (2, 1)
        assert "array.sh, and did not say the job's number: " in told.stderr
    command.write_text(works.replace("exec", 'case "$*" in *finish.sh) exit 1;; esac\nexec'))
    half = launch(tmp_path, *options, env=cluster.variables)
    assert half.code == 2
    assert "job 100 trains, and nothing waits for it to finish the experiment: sbatch does not take" in half.stderr
    command.write_text(works)
    done = launch(tmp_path, *options, env=cluster.variables)
    assert "job 101 trains, and job 102 finishes; their logs are in" in done.stdout


def test_the_printed_commands_submit_both(tmp_path, cluster):
    found = json.loads(launch(tmp_path, "--out", tmp_path / "it's here", "--json").stdout)
    script = "\n".join(found["commands"])
    variables = os.environ | cluster.variables
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "Submitted batch job 101\n"
    told = json.loads((cluster.spool / "101.json").read_text())["told"]
    assert told["--dependency"] == "afterany:100"


# The whole of it


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The spec, and the folder of one process that was left in peace."""
    spec = {**FOUR, "env_steps": 24_000}
    folder = tmp_path_factory.mktemp("alone") / "out"
    assert tiny.sweep(folder, spec=spec).complete
    return spec, folder


@pytest.mark.slow
@pytest.mark.cluster
def test_an_array_that_loses_a_node_and_meets_a_limit_is_one_process(tmp_path, cluster, alone):
    spec, expected = alone
    out = tmp_path / "out"
    assert launch(tmp_path, "--out", out, "--submit", spec=spec, env=cluster.variables).code == 0
    harm = {"100_0": (2, cluster.lose), "100_1": (3, lambda task: task.process.send_signal(signal.SIGUSR1))}

    def watch():
        for name, (job, do) in list(harm.items()):
            log = out / "launch" / f"array-{name[-1]}.log"
            if log.is_file() and f"job {job}: compiled" in log.read_text():  # it is in the middle of training
                assert not (out / f"jobs/{job:06d}/done.json").exists()
                do(cluster.tasks[name])
                del harm[name]

    cluster.run(watch)
    assert not harm
    logs = {path.name: path.read_text() for path in (out / "launch").glob("*.log")}
    assert {name: task.codes for name, task in cluster.tasks.items()} == {
        "100_0": [-signal.SIGKILL, 0],
        "100_1": [3, 0],
        "101": [0],
    }, logs
    saved = re.search(r"job 3: saved at ([\d,]+) env steps", logs["array-1.log"])
    assert 0 < int(saved[1].replace(",", "")) < spec["env_steps"]
    assert "The time is up: what was done is kept" in logs["array-1.log"]
    assert logs["finish.log"].count("12 agents") == 1
    assert (out / "report" / "report.html").is_file()
    assert not list(out.glob("jobs/*/checkpoint/*"))
    tiny.assert_same(out, expected)


def test_finish_says_what_is_left_and_trains_nothing(tmp_path):
    out = tmp_path / "out"
    assert launch(tmp_path, "--out", out).code == 0
    nothing = tiny.command("finish", out)
    assert nothing.code == 3
    assert f"5 of 5 jobs are left: jaxmoe run {out} does them." in nothing.stdout
    assert tiny.command("run", out, "--shard", "1/2", "--quiet").code == 0
    before = tiny.contents(out / "jobs")
    some = tiny.command("finish", out, "--json")
    assert (some.code, json.loads(some.stdout)["complete"]) == (3, False)
    assert "3 of 5 jobs are left" in some.stderr
    assert tiny.contents(out / "jobs") == before
    assert (out / "results.parquet").is_file()
    assert tiny.command("run", out, "--shard", "0/2", "--time-budget", "0").code == 3
    assert tiny.command("run", out).code == 0
    assert not (out / "report").exists()
    done = tiny.command("finish", out)
    assert (done.code, "jobs are left" in done.stdout) == (0, False)
    assert (out / "report" / "report.html").is_file()


def test_a_plan_that_is_not_whole_is_one_sentence(tmp_path):
    out = tmp_path / "out"
    assert launch(tmp_path, "--out", out).code == 0
    (out / "rounds" / "000" / "round.json").unlink()
    for words in ("run", "finish", "status"):
        done = tiny.command(words, out)
        assert (done.code, len(done.stderr.splitlines())) == (2, 1)
        assert "is not planned to the end: give the command that was planning it again" in done.stderr
