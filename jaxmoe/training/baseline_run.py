"""The evaluation of the baselines of a job."""

import time

import pandas as pd

from jaxmoe.training.attempt import Attempt
from jaxmoe.training.baseline_cache import Asked, baseline_rows
from jaxmoe.training.baselines import facts
from jaxmoe.training.events import Advanced, JobFinished, JobStarted, Noted
from jaxmoe.training.inputs import environments
from jaxmoe.training.stored import numbers_in, parquet


class BaselineRun(Attempt):
    """Evaluates baselines in the environments of a job."""

    def run(self) -> None:
        """Evaluate all; raises `StoppedError` on the way."""
        job, signature = self.job, self.job.signature
        self.started(JobStarted(job.number, str(signature), len(job.rows), 0), len(job.rows))
        frames = []
        for row, environment in enumerate(job.rows):
            own = {name: numbers_in([self.rows[name].iloc[row]])[0] for name in job.numbers}
            env, splits = environments(
                signature.scenario, self.table, signature.settings, {**signature.static_numbers, **own}
            )
            asked = Asked(env, splits, self.table, job.requests, job.families)
            frames.append(baseline_rows(asked, self.check, self._say).assign(environment=environment))
            self.advanced(Advanced(job.number, 0, row + 1, len(job.rows), 0.0, float("nan"), 0))
        table = pd.concat(frames, ignore_index=True)
        about = facts(env.settings, job.families)
        self.store({"evaluation.parquet": parquet(table)}, {"environments": len(job.rows), "baselines": about})
        self.tell(JobFinished(job.number, 0, 0, time.monotonic() - self.began, 0.0))

    def _say(self, family: str) -> None:
        self.tell(Noted(f"job {self.job.number}: evaluating {family}", progress=True))
