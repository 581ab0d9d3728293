"""A thousand jobs that only sleep and write, whose workers and drivers are killed at random moments."""

import re
import sys
from pathlib import Path

import pytest
import tiny

import jaxmoe

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks"
JOBS, FEW = 1_000, 40
DEATHS = {"worker_deaths": 0.05, "driver_deaths": 4}


@pytest.fixture
def simulated(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import simulated

    yield simulated
    for name in ("simulated", *(name for name in sys.modules if name.split(".")[0] == "peers")):
        sys.modules.pop(name, None)


def played(simulated, folder, **how):
    return simulated.play(
        str(folder), simulated.Play(**{"workers": 8, "seconds": 0.02, **how}), folder.with_suffix(".log")
    )


def require_as_undisturbed(folder, whole, jobs):
    tiny.assert_same(folder, whole)
    experiment = jaxmoe.load(folder)
    assert experiment.complete
    assert sorted(experiment.results["agent"]) == list(range(jobs))
    for number in range(jobs):
        files = sorted(path.name for path in (folder / f"jobs/{number:06d}").rglob("*"))
        attempts = [name for name in files if re.fullmatch("[0-9a-f]{8}", name)]
        assert len(attempts) == 1
        assert set(files) == {
            *attempts,
            "done.json",
            *(f"{n}.parquet" for n in ("results", "curves", "evaluation")),
        } | {"policies.safetensors"}
    assert not list(folder.rglob("*.partial"))


@pytest.mark.cluster
def test_few_jobs_under_a_driver_and_workers_that_die(simulated, tmp_path):
    played(simulated, tmp_path / "whole", jobs=FEW)
    how = played(simulated, tmp_path / "killed", jobs=FEW, worker_deaths=0.3, driver_deaths=1, seed=1)
    assert how.lost
    require_as_undisturbed(tmp_path / "killed", tmp_path / "whole", FEW)


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.cluster
def test_a_thousand_jobs_under_drivers_and_workers_that_die(simulated, tmp_path):
    played(simulated, tmp_path / "whole", jobs=JOBS)
    how = played(simulated, tmp_path / "killed", jobs=JOBS, **DEATHS)
    assert how.driver_deaths == DEATHS["driver_deaths"]
    assert how.lost >= 20
    assert not how.failed
    require_as_undisturbed(tmp_path / "killed", tmp_path / "whole", JOBS)
