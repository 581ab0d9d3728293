"""Sweeps from end to end: real folders, real processes, real crashes."""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.sweeps import sweeping
from jaxmoe.sweeps.lanes import block_width

TABLES = ("results", "curves", "prompts", "references")
SPEC = {
    "algorithm": "ppo",
    "env_steps": 512,
    "seeds": 9,
    "evaluations": 2,
    "slots": 256,
    "chunk_width": 16,
    "hypers": {"learning_rate": [1e-3, 1e-2]},
    "config": {"num_envs": 4, "rollout_length": 8, "epochs": 1, "minibatches": 1, "hidden": [8]},
    "params": {"latency_weight": [0.0, 0.01]},
}
COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'jaxmoe'; from jaxmoe.cli import main; main()"]


def sweep(out, overrides=(), spec=SPEC, **options):
    return jaxmoe.sweep(spec, out, overrides=overrides, **options)


def spec_file(path, spec):
    path.write_text(jaxmoe.sweeps.spec.load_spec(spec).to_toml())
    return path


def assert_same(one, other):
    """The files of two folders are equal, bit for bit."""
    for name in (*(f"{table}.parquet" for table in TABLES), "policies.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sweep") / "new"


@pytest.fixture(scope="module")
def found(folder):
    return sweep(folder)


def test_the_folder_holds_tables_policies_spec_and_manifest(found, folder):
    assert not found.interrupted
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {
        *(f"{name}.parquet" for name in TABLES),
        "agents.parquet",
        "policies.safetensors",
        "spec.toml",
        "manifest.json",
        "chunks",
    }
    for name in TABLES:
        pd.testing.assert_frame_equal(pd.read_parquet(folder / f"{name}.parquet"), getattr(found, name))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(manifest["done"]) == 3 + 2  # 36 agents in chunks of 16; two environments
    assert manifest["widths"] == {"0": 16}
    assert not list(folder.glob("chunks/*.checkpoint"))


def test_tables_have_a_row_per_agent_evaluation_and_prompt(found):
    assert found.varied == ["learning_rate", "latency_weight"]
    assert found.results["agent"].tolist() == list(range(36))
    assert found.results["env_steps"].eq(512).all()
    assert found.curves.groupby("env_steps").size().to_dict() == dict.fromkeys([0, 32, 64, 128, 256, 512], 36)
    assert found.results["train_normalised"].notna().all()
    served = found.prompts.assign(qos=found.prompts["qos"] * found.prompts["slots"]).groupby(["split", "agent"])
    for split, prompts in (("train", 24), ("test", 8)):
        assert served.size()[split].eq(prompts).all()
        np.testing.assert_allclose(served["qos"].sum()[split] / 256, found.results[f"{split}_qos"], rtol=1e-5)


def test_normalised_scores_are_those_of_each_environment(found):
    references = found.references.query("split == 'train'")
    totals = (references["qos"] * references["slots"]).groupby(
        [references["environment"], references["policy"]]
    ).sum() / 256
    for row in found.results.itertuples():
        worst, best = totals[row.environment, "random"], totals[row.environment, "one_slot_optimum"]
        assert row.train_normalised == pytest.approx((row.train_qos - worst) / (best - worst), rel=1e-6)
    assert totals[0, "one_slot_optimum"] > totals[1, "one_slot_optimum"]


def test_the_policies_of_all_agents_are_stacked_along_one_axis(found, folder):
    del found
    policies = load_file(folder / "policies.safetensors")
    assert policies["group0/agent"].tolist() == list(range(36))
    assert {len(leaf) for leaf in policies.values()} == {36}
    assert policies["group0/params/Dense_0/kernel"].shape == (36, 21, 8)


def test_agents_are_those_that_train_trains(found):
    agent = found.results.query("learning_rate == 0.01 and latency_weight == 0.01 and seed == 3")
    alone = jaxmoe.train(
        "ppo",
        seeds=[3],
        env_steps=512,
        hypers={"learning_rate": 0.01},
        config={**SPEC["config"], "hidden": (8,)},
        params={"latency_weight": 0.01},
        evaluations=1,
    )
    np.testing.assert_allclose(agent["reward"], alone.results["reward"], rtol=1e-2)


def test_the_same_call_again_does_nothing_anew(found, folder):
    before = {path: path.stat().st_mtime_ns for path in folder.glob("chunks/*/*")}
    again = sweep(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("chunks/*/*")} == before
    pd.testing.assert_frame_equal(again.results, found.results)


def test_neither_chunk_width_nor_the_order_of_the_grid_nor_more_seeds_change_an_agent(found, tmp_path):
    other = sweep(
        tmp_path,
        {
            "chunk_width": 7,
            "seeds": 10,
            "hypers.learning_rate": [1e-2, 1e-3],
            "params.latency_weight": [0.01, 0.0, 0.02],
        },
    )
    keys = ["learning_rate", "latency_weight", "seed"]
    numbers = [name for name in found.results if name not in ("agent", "configuration", "environment")]
    expected = found.results.sort_values(keys)[numbers].reset_index(drop=True)
    chosen = other.results.query("seed < 9 and latency_weight < 0.02").sort_values(keys)[numbers].reset_index(drop=True)
    pd.testing.assert_frame_equal(chosen, expected, check_exact=True)


def test_a_deleted_part_is_done_again_and_comes_out_the_same(found, folder, tmp_path):
    del found
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copy / "chunks" / "agents-000-0000016")
    (copy / "chunks" / ".half.partial").mkdir()
    sweep(copy)
    assert_same(copy, folder)
    assert not (copy / "chunks" / ".half.partial").exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_part_is_named_and_nothing_is_lost(found, folder, tmp_path, damage):
    del found
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "chunks" / "agents-000-0000016" / "curves.parquet"
    content = path.read_bytes()
    flipped = bytes([*content[:100], content[100] ^ 1, *content[101:]])
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(flipped if damage == "flip" else content[:-10])
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(InputError, match=r"agents-000-0000016/curves.parquet is damaged.*delete the folder"):
        sweep(copy)
    assert {path: path.read_bytes() for path in before} == before
    shutil.rmtree(path.parent)
    sweep(copy)
    assert_same(copy, folder)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hypers.clip": 0.1}, "holds the sweep of another spec: hypers.clip was absent and is now 0.1"),
        ({"seeds": 10}, "holds the sweep of another spec: seeds was 9 and is now 10; choose another output folder"),
        ({"table": "data/stories"}, "holds the sweep of another spec: table was None"),
    ],
)
def test_a_changed_spec_is_refused(found, folder, overrides, message):
    del found
    with pytest.raises(InputError, match=message):
        sweep(folder, overrides)


def test_checkpoints_cannot_be_taken_backwards_in_time(tmp_path):
    with pytest.raises(InputError, match="checkpoint_minutes = -1 must be at least 0"):
        sweep(tmp_path / "new", checkpoint_minutes=-1)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("precious")
    with pytest.raises(InputError, match="exists already and holds no sweep"):
        sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run": {}}'])
def test_a_manifest_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest.json (cannot be read|is not the manifest of a sweep)"):
        sweep(tmp_path)


def test_two_shards_merged_equal_the_single_run(found, folder, tmp_path):
    del found
    for index in range(2):
        part = sweep(tmp_path / f"shard-{index}", shard=f"{index}/2")
        assert part.results["agent"].tolist() == list(range(index, 36, 2))
    merged = jaxmoe.merge([tmp_path / "shard-1", tmp_path / "shard-0"], tmp_path / "merged")
    assert len(merged.results) == 36
    assert_same(tmp_path / "merged", folder)
    with pytest.raises(InputError, match=r"shard-0 was begun with shard 0/2, not 0/1"):
        sweep(tmp_path / "shard-0")
    with pytest.raises(InputError, match="shard 1/2 is missing; give the folders of all 2 shards"):
        jaxmoe.merge([tmp_path / "shard-0"], tmp_path / "half")
    with pytest.raises(InputError, match="are both shard 0/2"):
        jaxmoe.merge(
            [tmp_path / "shard-0", shutil.copytree(tmp_path / "shard-0", tmp_path / "copy")], tmp_path / "twice"
        )
    shutil.rmtree(tmp_path / "shard-1" / "chunks" / "agents-000-0000000")
    with pytest.raises(InputError, match="the shards are not finished: 20 of 36 agents are trained"):
        jaxmoe.merge([tmp_path / "shard-0", tmp_path / "shard-1"], tmp_path / "unfinished")


def test_without_references_there_is_no_normalised_score(tmp_path):
    found = sweep(tmp_path, {"references": False, "seeds": 1, "hypers": {}, "params": {}})
    assert len(found.references) == 0
    assert not [name for name in found.results if name.endswith("_normalised")]


def test_a_sweep_of_widths_compiles_each_and_stacks_them_apart(tmp_path):
    found = sweep(tmp_path, {"config.hidden": [[8], [4, 4]], "seeds": 2, "references": False, "params": {}})
    assert found.results["hidden"].tolist() == ["8"] * 2 + ["4,4"] * 2 + ["8"] * 2 + ["4,4"] * 2
    policies = load_file(tmp_path / "policies.safetensors")
    assert policies["group0/agent"].tolist() == [0, 1, 4, 5]
    assert policies["group1/params/Dense_1/kernel"].shape == (4, 4, 4)


def test_an_agent_that_diverges_is_counted_and_harms_no_other(found, tmp_path):
    other = sweep(tmp_path, {"hypers.learning_rate": [1e-3, 1e-2, 1e30]})
    assert other.results.groupby("learning_rate")["diverged"].mean().tolist() == [0, 0, 1]
    sound = other.results.query("learning_rate < 1")
    np.testing.assert_array_equal(sound["train_qos"], found.results["train_qos"])


def test_automatic_chunks_are_whole_blocks_and_frozen(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "MEMORY_SHARE", 1e-12)
    sweep(tmp_path, {"chunk_width": "auto", "references": False})
    assert json.loads((tmp_path / "manifest.json").read_text())["widths"] == {"0": block_width()}
    monkeypatch.undo()
    monkeypatch.setattr(sweeping, "CHUNK_S", 1e9)
    sweep(tmp_path / "timely", {"chunk_width": "auto", "references": False})
    assert json.loads((tmp_path / "timely" / "manifest.json").read_text())["widths"] == {"0": 48}
    assert len(list((tmp_path / "timely" / "chunks").iterdir())) == 1


def test_exhausted_memory_halves_the_first_chunk(tmp_path, monkeypatch):
    train = sweeping.GroupTrainer.train
    stages = []

    def frugal(self, agents, *rest):
        if len(agents) > 9:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return train(self, agents, *rest)

    monkeypatch.setattr(sweeping.GroupTrainer, "train", frugal)
    report = sweeping.SILENT._replace(stage=stages.append)
    sweep(tmp_path, {"references": False, "chunk_width": 36}, report=report)
    assert json.loads((tmp_path / "manifest.json").read_text())["widths"] == {"0": 9}
    assert sum("halving" in stage for stage in stages) == 2
    monkeypatch.setattr(
        sweeping.GroupTrainer, "train", lambda *_: (_ for _ in ()).throw(jax.errors.JaxRuntimeError("INTERNAL"))
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        sweep(tmp_path / "other", {"references": False})


# Real processes

LONG = SPEC | {"env_steps": 200_000, "seeds": 12, "evaluations": 4, "config": {"hidden": [16]}, "slots": 1024}


def start(spec, out, *options, cache=None):
    """A sweep in a process of its own, which may keep its compiled programs in a cache of its own."""
    inherited = dict(os.environ)
    if cache is not None:
        del inherited["JAX_COMPILATION_CACHE_DIR"], inherited["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]
        inherited["XDG_CACHE_HOME"] = str(cache)
    command = [*COMMAND, "sweep", str(spec), "--out", str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=inherited)


def finish(*arguments, **options):
    """A sweep in a process of its own, which must come to its end."""
    with start(*arguments, **options) as process:
        _, complaints = process.communicate(timeout=600)
    assert process.returncode == 0, complaints


def wait_for(process, pattern):
    """Read what the process says until it says this."""
    for line in process.stderr:
        if re.search(pattern, line):
            return line
    raise AssertionError(f"the process ended without saying {pattern!r}")


@pytest.mark.slow
def test_killed_twenty_times_and_continued_it_is_the_uninterrupted_run(tmp_path):
    spec, cache, moments = spec_file(tmp_path / "spec.toml", LONG), tmp_path / "cache", random.Random(0)
    often = ("--checkpoint-minutes", "0.005")
    finish(spec, tmp_path / "whole", cache=cache)
    kills, folders = 0, 0
    while kills < 20:
        folders += 1
        killed = True
        while killed and kills < 20:
            with start(spec, tmp_path / f"killed-{folders}", *often, cache=cache) as process:
                try:
                    process.communicate(timeout=moments.uniform(0.5, 6.0))
                    killed = False
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
        finish(spec, tmp_path / f"killed-{folders}", *often, cache=cache)
        assert_same(tmp_path / f"killed-{folders}", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("request_to_end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_checkpoint_and_a_second_process_must_wait(tmp_path, request_to_end):
    spec = spec_file(tmp_path / "spec.toml", LONG | {"env_steps": 100_000_000, "references": False})
    with start(spec, tmp_path / "run") as process:
        line = wait_for(process, "agents done")
        assert re.search(r"0 of 48 agents done \(\d+%\), [\d,]+ env steps/s, .* left, best train QoS", line)
        with start(spec, tmp_path / "run") as second:
            _, complaint = second.communicate(timeout=120)
        assert second.returncode == 2
        assert complaint.splitlines()[-1].startswith("jaxmoe: another process is at work in")
        process.send_signal(request_to_end)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on from there" in output
    assert list((tmp_path / "run" / "chunks").glob("agents-*.checkpoint/*"))


@pytest.mark.slow
def test_a_disk_that_is_full_loses_nothing(found, folder, tmp_path):
    del found
    spec = spec_file(tmp_path / "spec.toml", SPEC)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, {resource.RLIM_INFINITY})); "
    code = limit + "import sys; sys.argv[0] = 'jaxmoe'; from jaxmoe.cli import main; main()"
    command = [sys.executable, "-c", code, "sweep", str(spec), "--out", str(tmp_path / "run"), "--no-compilation-cache"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    sentence = done.stderr.splitlines()[-1]
    assert re.search(r"^jaxmoe: .* cannot be written: .*File too large; what is finished is kept", sentence)
    sweep(tmp_path / "run")
    assert_same(tmp_path / "run", folder)


@pytest.mark.slow
def test_a_second_start_compiles_nothing(tmp_path):
    spec, cache = spec_file(tmp_path / "spec.toml", SPEC), tmp_path / "cache"
    finish(spec, tmp_path / "one", cache=cache)
    programs = {path.name for path in (cache / "jaxmoe").iterdir() if path.name.endswith("-cache")}
    assert programs
    finish(spec, tmp_path / "two", cache=cache)
    assert {path.name for path in (cache / "jaxmoe").iterdir() if path.name.endswith("-cache")} == programs
    assert_same(tmp_path / "one", tmp_path / "two")
    finish(spec, tmp_path / "three", "--no-compilation-cache", cache=tmp_path / "unused")
    assert not (tmp_path / "unused" / "jaxmoe").exists()


@pytest.mark.slow
def test_a_swept_temperature_is_not_mixed_up_with_the_one_that_is_measured(tmp_path):
    sac = {"num_envs": 4, "rollout_length": 4, "replay_capacity": 64, "warmup_steps": 16, "hidden": [8]}
    spec = {**SPEC, "algorithm": "sac", "seeds": 2, "params": {}, "config": sac}
    spec["hypers"] = {"temperature": [0.01, 0.1], "learn_temperature": 1.0}
    results = sweep(tmp_path / "sac", spec=spec).results
    assert results["temperature"].tolist() == [0.01, 0.01, 0.1, 0.1]
    assert results["temperature_reached"].notna().all()
    assert "temperature 0." in jaxmoe.report(tmp_path / "sac").sentences[0]
