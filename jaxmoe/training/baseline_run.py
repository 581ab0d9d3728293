"""The evaluation of the baselines of a job."""

import time
from collections.abc import Mapping
from typing import Any

import jax
import pandas as pd

from jaxmoe.env.scenarios import make
from jaxmoe.training import baseline_cache
from jaxmoe.training.attempt import Attempt
from jaxmoe.training.baselines import BaselineEvaluation, facts
from jaxmoe.training.evaluation import evaluation_rows
from jaxmoe.training.events import Advanced, JobFinished, JobStarted, Noted
from jaxmoe.training.inputs import environments
from jaxmoe.training.prepared import kept
from jaxmoe.training.stored import numbers_in, parquet

_BASELINES: dict[Any, BaselineEvaluation] = {}  # by all that shapes them


class BaselineRun(Attempt):
    """Evaluates baselines in the environments of a job."""

    def run(self) -> None:
        """Evaluate all; raises `StoppedError` on the way."""
        job, signature = self.job, self.job.signature
        self.started(JobStarted(job.number, str(signature), len(job.rows), 0), len(job.rows))
        frames = []
        for row, environment in enumerate(job.rows):
            own = {name: numbers_in([self.rows[name].iloc[row]])[0] for name in job.numbers}
            found = baseline_cache.read(job, own)
            if found is None:
                found = self._evaluate(own)
                baseline_cache.write(job, own, found)
            frames.append(found.assign(environment=environment))
            self.advanced(Advanced(job.number, 0, row + 1, len(job.rows), 0.0, float("nan"), 0))
        table = pd.concat(frames, ignore_index=True)
        env, _ = make(signature.scenario, self.table, params=signature.static_numbers, **signature.settings)
        about = facts(env.settings, job.families)
        self.store({"evaluation.parquet": parquet(table)}, {"environments": len(job.rows), "baselines": about})
        self.tell(JobFinished(job.number, 0, 0, time.monotonic() - self.began, 0.0))

    def _say(self, family: str) -> None:
        self.tell(Noted(f"job {self.job.number}: evaluating {family}", progress=True))

    def _evaluate(self, numbers: Mapping[str, Any]) -> pd.DataFrame:
        """What each baseline brings in an environment of the signature, on each split."""
        signature, job = self.job.signature, self.job
        env, splits = environments(
            signature.scenario, self.table, signature.settings, {**signature.static_numbers, **numbers}
        )
        evaluate = kept(
            _BASELINES,
            (signature.key, self.table.meta.digest, job.requests, job.families, jax.local_device_count()),
            lambda: BaselineEvaluation(env, splits["train"], job.requests, job.families),
        )
        frames = [
            evaluation_rows({"policy": [name]}, {split: brought}, self.table.experts)
            for split, policies in evaluate(splits, self.check, self._say).items()
            for name, brought in policies.items()
        ]
        return pd.concat([frame.astype({"split": str, "by": str}) for frame in frames], ignore_index=True)
