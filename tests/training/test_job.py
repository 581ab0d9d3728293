"""Jobs: plain values, JSON both ways, and nothing else is taken for one."""

import contextlib
import itertools
import json
import math
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoe.errors import InputError
from jaxmoe.training import job as jobs
from jaxmoe.training.job import (
    Job,
    Keeping,
    Phase,
    Precision,
    Signature,
    Start,
    Stop,
    batched,
    even_sizes,
    find_job,
    parse_job,
    read_jobs,
    write_jobs,
)
from jaxmoe.training.storage import Memory

SIGNATURE = Signature(
    "ppo", {"hidden": (64, 32), "activation": "tanh", "num_envs": 8}, "queueing", {"num_replicas": 2, "sharing": "own"},
    {"payload": 0.1}, "a" * 64, ("mine",),
)  # fmt: skip
JOB = Job(
    number=17, round=1, kind="train", signature=SIGNATURE, rows=(3, 1, 2), numbers=("latency_weight",),
    agents_per_device=8, root_seed=5, purpose=2,
    phases=(Phase(100, 0, 100), Phase(200, 100, 100, {"learning_rate": (1e-3, 1 / 3, 5e-324)})),
    evaluate_at=(0, 100, 200), requests=64, families=(), start=Start("states", "", ((4, 0), (4, 1), (5, 0))),
    keep_states=True, matmul_precision="default", platform="gpu",
)  # fmt: skip


def assert_same(found, expected):
    assert found == expected
    assert isinstance(found, Job)
    assert isinstance(found.signature, Signature)
    assert isinstance(found.start, Start)
    assert all(isinstance(phase, Phase) for phase in found.phases)
    assert found.to_json() == expected.to_json()
    assert found.signature.key == expected.signature.key
    assert isinstance(found.signature.config.get("hidden", ()), tuple)


def test_a_job_of_an_earlier_version_chooses_kernels_as_it_did():
    line = JOB.to_json().replace(',"deterministic":false', "")
    assert "deterministic" not in line
    assert parse_job(line, "here") == JOB


def test_a_job_is_one_line_and_comes_back_as_it_was():
    line = JOB.to_json()
    assert "\n" not in line
    assert_same(parse_job(line, "here"), JOB)
    assert_same(parse_job(line.encode(), "here"), JOB)
    assert JOB.env_steps == 200
    assert JOB.folder == "jobs/000017"
    assert JOB._replace(phases=()).env_steps == 0


COUNTS, WHOLES = st.integers(1, 2**53), st.integers(0, 2**53)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(max_size=8)
SETTINGS = st.dictionaries(NAMES, FLOATS | WHOLES | NAMES | st.booleans(), max_size=3)
SIGNATURES = st.builds(
    Signature, NAMES, st.dictionaries(NAMES, st.tuples(COUNTS, COUNTS) | NAMES | COUNTS, max_size=3), NAMES, SETTINGS,
    st.dictionaries(NAMES, FLOATS, max_size=3), NAMES, st.lists(NAMES, max_size=2).map(tuple),
)  # fmt: skip
PHASES = st.builds(Phase, COUNTS, WHOLES, COUNTS, st.dictionaries(NAMES, st.lists(FLOATS, max_size=3).map(tuple)))


def tuples(of):
    return st.lists(of, max_size=3).map(tuple)


STOPS = st.builds(Stop, FLOATS | st.none(), COUNTS | st.none(), FLOATS)
KEEPINGS = st.builds(Keeping, st.sampled_from(["last", "best"]), STOPS, NAMES)
JOBS = st.builds(
    Job, WHOLES, WHOLES, st.sampled_from(["train", "baselines"]), SIGNATURES, tuples(WHOLES), tuples(NAMES), COUNTS,
    WHOLES, WHOLES, tuples(PHASES), tuples(WHOLES), COUNTS, tuples(NAMES),
    st.builds(Start, st.sampled_from(["fresh", "policy", "states"]), NAMES, tuples(st.tuples(WHOLES, WHOLES))),
    st.booleans(), st.sampled_from(get_args(Precision)), NAMES, WHOLES, KEEPINGS, st.booleans(),
)  # fmt: skip


def agreeing(job):
    """The job with parts that agree with each other."""
    rows = tuple(dict.fromkeys(job.rows)) or (0,)

    def one_each(values):
        return tuple(itertools.islice(itertools.cycle(values or (0.0,)), len(rows)))

    phases = {
        phase.until: phase._replace(hypers={name: one_each(values) for name, values in phase.hypers.items()})
        for phase in job.phases or (Phase(1),)
    }
    end = max(phases)
    start = job.start._replace(rows=(job.start.rows * len(rows))[: len(rows)] or ((0, 0),) * len(rows))
    return job._replace(
        rows=rows,
        phases=tuple(phases[until] for until in sorted(phases)),
        evaluate_at=tuple(sorted({*job.evaluate_at, max(end, *job.evaluate_at, 0)})),
        start=start._replace(rows=(*start.rows, *((0, 0),) * (len(rows) - len(start.rows)))),
        families=job.families or ("random",),
    )


@settings(max_examples=40)
@given(JOBS.map(agreeing))
def test_any_job_comes_back_as_it_was(job):
    assert_same(parse_job(job.to_json(), "here"), job)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": ()}, "rows must be different numbers, at least one"),
        ({"rows": (3, 3)}, "rows must be different numbers"),
        ({"phases": ()}, "phases must be one or more"),
        ({"phases": (Phase(200), Phase(100))}, "each longer than the one before"),
        ({"evaluate_at": ()}, "evaluate_at must grow, to the end"),
        ({"evaluate_at": (0, 100)}, "evaluate_at must grow, to the end"),
        ({"start": Start("states", "", ((4, 0),))}, "start.rows must be 3, one for each row"),
        ({"phases": (Phase(200, 0, 200, {"clip": (0.1,)}),)}, "hypers of a phase must be 3 numbers"),
        ({"kind": "baselines", "families": ()}, "families is empty"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change, said):
    with pytest.raises(InputError, match=said):
        parse_job(JOB._replace(**change).to_json(), "here")


def test_a_number_that_json_does_not_have_is_never_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        JOB._replace(phases=(Phase(1, 0, 1, {"learning_rate": (math.inf,)}),)).to_json()


def changed(**changes):
    return json.dumps(json.loads(JOB.to_json()) | changes)


HOSTILE = [
    "", "{", "null", "17", "[]", '"job"', "{}", "[" * 100_000, b"\xff\xfe",
    changed(number=-1), changed(number=1.5), changed(number=2**70), changed(number=None), changed(number="1 or 2"),
    changed(kind="delete"), changed(rows=[-1]), changed(rows=7), changed(rows=["a"]), changed(agents_per_device=0),
    changed(signature=None), changed(signature={}), changed(signature=[]), changed(signature={"config": 3}),
    changed(phases=[{"until": 0}]), changed(phases=[{"hypers": {"x": ["fast"]}}]), changed(phases=None),
    changed(start={"kind": "elsewhere"}), changed(start={"rows": [[1]]}), changed(families="random"),
    changed(keep_states="perhaps"), changed(platform=None), changed(more=1),
    JOB.to_json()[:-1], JOB.to_json() * 2, JOB.to_json().replace('"requests":64,', ""),
    JOB.to_json().replace('"requests":64', '"requests":NaN'),
    JOB.to_json().replace('"requests":64', '"requests":1e999'),
    JOB.to_json().replace('"requests":64', '"requests":' + "9" * 5000),
]  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_job_is_one_sentence(line):
    with pytest.raises(InputError, match=r"^here, line 3 does not describe a job \(.+\)$") as caught:
        parse_job(line, "here, line 3")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@given(st.recursive(FLOATS | NAMES | st.none(), lambda of: st.lists(of) | st.dictionaries(NAMES, of), max_leaves=5))
def test_no_other_json_is_taken_for_a_job(tree):
    with pytest.raises(InputError, match="does not describe a job"):
        parse_job(json.dumps(tree), "here")


@given(st.sampled_from(sorted(Job._fields)), st.none() | FLOATS | NAMES | st.lists(WHOLES, max_size=2))
def test_a_changed_line_is_a_job_or_refused(field, value):
    with contextlib.suppress(InputError):
        assert isinstance(parse_job(changed(**{field: value}), "here"), Job)


def test_jobs_are_found_in_whatever_round_they_are_planned():
    storage, rounds = Memory(), [[JOB._replace(number=0), JOB._replace(number=1)], [JOB]]
    for number, planned in enumerate(rounds):
        storage.write(f"rounds/{number:03d}/jobs.jsonl", write_jobs(planned))
        storage.write(f"rounds/{number:03d}/notes.jsonl.txt", b"not ours")
    assert read_jobs(storage, 0) == rounds[0]
    assert find_job(storage, 17) == JOB
    with pytest.raises(InputError, match="memory has no job 18"):
        find_job(storage, 18)
    storage.write("rounds/001/jobs.jsonl", write_jobs([JOB]) + b"{}\n")
    with pytest.raises(InputError, match=r"memory/rounds/001/jobs.jsonl, line 2 does not describe a job"):
        find_job(storage, 18)


def test_a_list_that_is_larger_than_any_is_not_read(monkeypatch):
    monkeypatch.setattr(jobs, "LONGEST_LINE", 100)
    storage = Memory()
    storage.write("rounds/000/jobs.jsonl", bytes(101))
    with pytest.raises(InputError, match="is larger than any list of jobs"):
        find_job(storage, 0)


@given(st.integers(1, 200), st.integers(1, 50), st.integers(1, 16))
def test_jobs_of_a_signature_are_of_equal_size(count, largest, multiple):
    sizes = even_sizes(count, largest, multiple)
    assert sum(sizes) == count
    assert len(set(sizes[:-1])) <= 1
    assert sizes[-1] <= sizes[0]
    assert all(size % multiple == 0 for size in sizes[:-1])
    assert max(sizes) < largest + multiple
    parts = batched(list(range(count)), sizes)
    assert [len(part) for part in parts] == sizes
    assert [item for part in parts for item in part] == list(range(count))
