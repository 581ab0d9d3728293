"""`Experiment`: what one spec asks for, with its folder and results; one reader, one ranking, one comparison."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from jaxmoe.analysis.ranking import best_agent, best_position, confirmed, ranking_of, ranking_table, rankings
from jaxmoe.analysis.report import Report, make_report
from jaxmoe.analysis.status import Standing, standing
from jaxmoe.analysis.tables import Tables
from jaxmoe.devices import start_jax, use_caches
from jaxmoe.env.scenarios import adopt_scenarios
from jaxmoe.errors import InputError
from jaxmoe.experiment import folder, locations
from jaxmoe.experiment.confirming import Confirmation, confirmation, confirmation_of, keep_behaviour
from jaxmoe.experiment.engines import Engine, Local
from jaxmoe.experiment.evaluating import evaluate_agents, of_same_experts
from jaxmoe.experiment.exporting import Policy, policy_of
from jaxmoe.experiment.extending import extensions
from jaxmoe.experiment.made import Made
from jaxmoe.experiment.spec import Spec
from jaxmoe.experiment.stopping import Stopping
from jaxmoe.experiment.tables import Contents, comparison_table, finish, read_contents, tables_of
from jaxmoe.experiment.trained import TrainedAgent, chosen_agents, trained_agents
from jaxmoe.plugins import require_plugins
from jaxmoe.table import ExpertTable
from jaxmoe.training.events import SILENT, Callback, Finished, Noted, guarded
from jaxmoe.training.inputs import plain_seeds, require_times
from jaxmoe.training.running import CHECKPOINT_S
from jaxmoe.training.storage import Folder, Memory, Storage
from jaxmoe.training.stored import read_table
from jaxmoe.values import MOST_AGENTS, count, whole

REPORT_MADE = "report/made.json"
Seeds = int | Iterable[int]  # how many, or these: NumPy's numbers and arrays too


class Experiment:
    """What one spec asks for, with its folder and results. Tables are read when they are asked for."""

    def __init__(self, storage: Storage, trust_plugins: bool = False) -> None:
        """An experiment that is there; see `train`, `sweep` and `load`.

        Args:
            storage: what it is kept in.
            trust_plugins: whether plugins that it names may be imported.
        """
        self.storage, self.trust_plugins = storage, trust_plugins
        self.unfinished = ""  # why the last call ended early: "interrupted" or "time budget"
        self.failed: list[int] = []  # jobs that failed in the last call

    @property
    def folder(self) -> Path | str | None:
        """Where it is kept: a folder, or the address of one in an object store; nothing if in memory."""
        if isinstance(self.storage, Memory):
            return None
        return self.storage.root if isinstance(self.storage, Folder) else self.storage.where

    @cached_property
    def contents(self) -> Contents:
        """What is planned, and what is done."""
        return read_contents(self.storage)

    @cached_property
    def tables(self) -> Tables:
        """What `jaxmoe.analysis` reads."""
        return tables_of(self.storage, self.contents)

    @property
    def spec(self) -> Spec:
        """What was asked for, extensions included."""
        return self.contents.spec

    @cached_property
    def table(self) -> ExpertTable:
        """The expert table."""
        return read_table(self.storage, self.contents.about["table"]["digest"])

    @property
    def complete(self) -> bool:
        """Whether everything that is planned is done."""
        return self.contents.complete

    @property
    def results(self) -> pd.DataFrame:
        """One row per trained agent: who it is, and its last evaluation."""
        return self.tables.results

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per trained agent and evaluation."""
        return self.tables.load_curves(None)

    def ranking(self) -> pd.DataFrame:
        """All configurations, scenario by scenario, best first by the objective."""
        return ranking_table(self.tables)

    def comparison(self) -> pd.DataFrame:
        """The winner of each scenario and every baseline on the same requests, with intervals."""
        return comparison_table(self.tables)

    def best(self, scenario: str | None = None) -> pd.Series:
        """The winner: the first row of the ranking of a scenario.

        Args:
            scenario: whose; it need not be said where there is but one.

        Raises:
            InputError: there are several scenarios, nothing is trained yet, or all agents of the winner diverged.
        """
        ranking = ranking_of(self.tables, scenario)
        best_position(ranking)
        return ranking.table().iloc[0]

    def status(self) -> Standing:
        """How far it is."""
        return standing(self.tables)

    def report(self) -> Report:
        """Write `report/`, from what is there so far, in place of an earlier one; `InputError` if it is in memory."""
        if self.folder is None:
            raise InputError("the experiment is in memory; keep it with save(DIR) first, then report")
        found = make_report(self.tables)
        made = Made(self.storage, REPORT_MADE)
        for name, content in found.files.items():
            made.write(name, content)
        made.close(remove_others=True)
        return found

    def save(self, out: str | os.PathLike[str]) -> "Experiment":
        """Keep all files of the experiment in a folder.

        Args:
            out: a new or an empty one.

        Returns:
            The experiment there.

        Raises:
            InputError: the folder holds something, or cannot be written.
        """
        return Experiment(locations.copied(self.storage, out))

    def policy(self, agent: int | Literal["best"] = "best", scenario: str | None = None) -> Policy:
        """A trained policy, with its contract.

        Args:
            agent: "best", the best one of the best configuration, or a number, as in `results`.
            scenario: whose best agent; needed where there are several.

        Raises:
            InputError: there is no such agent or scenario, or it is not trained yet.
        """
        number = best_agent(ranking_of(self.tables, scenario)) if agent == "best" else whole(agent, "agent")
        return policy_of(self.agents([number])[0], self.table)

    def agents(self, numbers: Iterable[int] | None = None) -> list[TrainedAgent]:
        """Trained agents with their tensors, hyperparameters and scores.

        Args:
            numbers: which, as in `results`; all if absent.

        Raises:
            InputError: there is no such agent, it is not trained yet, or its file is damaged.
        """
        adopt_scenarios(self.contents.about["scenarios"], self.storage.where)
        results = pd.concat([self.results, *(each.results for each in self.tables.confirmations)], ignore_index=True)
        wanted = self.results["agent"].tolist() if numbers is None else [whole(each, "agent") for each in numbers]
        return trained_agents(self.storage, self.contents, results, wanted)

    def evaluate(
        self,
        scenario: str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        table: ExpertTable | str | os.PathLike[str] | None = None,
        agents: Literal["best", "all"] | Iterable[int] = "best",
        policies: Mapping[str, Any] | None = None,
        requests: int | None = None,
        seed: int = 0,
        baselines: str | Iterable[str] = "all",
        callback: Callback = SILENT,
    ) -> pd.DataFrame:
        """Let agents serve requests where they were trained, or elsewhere, beside baselines and other policies.

        Args:
            scenario: another one than that of the agents.
            params: numbers of the scenario to change.
            settings: static settings to change.
            table: another expert table, or its path, of the same experts.
            agents: those of the best configuration, all, or these.
            policies: by name: what `jaxmoe.evaluate` takes.
            requests: per policy and split; those of the experiment if absent.
            seed: of the random numbers, the same for every policy.
            baselines: "all", "none", or their names.
            callback: told how it goes.
        """
        self._have_plugins()
        return evaluate_agents(
            self.agents(chosen_agents(self.tables, agents)), of_same_experts(self.table, table), scenario=scenario,
            params=params, settings=settings, policies=named_policies(policies), seed=seed,
            baselines=baselines, requests=self.spec.requests if requests is None else requests, callback=callback,
        )  # fmt: skip

    def extend(
        self,
        *,
        seeds: Seeds | None = None,
        samples: int | None = None,
        env_steps: int | None = None,
        new_schedule: bool = False,
        engine: Engine | None = None,
        time_budget_s: float | None = None,
        checkpoint_every_s: float = CHECKPOINT_S,
        compilation_cache: bool = True,
        callback: Callback = SILENT,
    ) -> "Experiment":
        """Add seeds, samples or env steps; no earlier result changes. The same call goes on where an earlier one ended.

        An extended experiment equals one that was planned at once with these numbers.

        Args:
            seeds: so many in all, or these; those that are there already stay.
            samples: so many in all, of a random or Sobol search.
            env_steps: so many in all; agents go on from their final states, which must have been kept.
            new_schedule: begin schedules anew over the added env steps.
            engine: who runs the jobs, as in `run`.
            time_budget_s: end early after so many seconds, with everything saved.
            checkpoint_every_s: seconds between two checkpoints of a job.
            compilation_cache: keep compiled programs in the user's cache folder.
            callback: told how it goes.

        Raises:
            InputError: nothing is added, or it cannot be.
        """
        change: dict[str, Any] = {}
        if seeds is not None:
            change["seeds"] = plain_seeds(seeds)
        if samples is not None:
            change["search.samples"] = count(samples, "samples")
        if env_steps is not None:
            change["env_steps"] = count(env_steps, "env_steps")
        if not change:
            raise InputError("extend needs seeds, samples or env_steps; it was given none")
        start_jax()
        self._have_plugins()
        with locations.locked(self.storage):
            for planned in extensions(self.storage, self.contents, change, new_schedule):
                folder.write_round(self.storage, planned)
                self._forget()
        return self.run(
            engine, time_budget_s=time_budget_s, checkpoint_every_s=checkpoint_every_s,
            compilation_cache=compilation_cache, callback=callback,
        )  # fmt: skip

    def confirm(
        self,
        *,
        seeds: int = 32,
        scenario: str | None = None,
        algorithm: str | None = None,
        engine: Engine | None = None,
        time_budget_s: float | None = None,
        compilation_cache: bool = True,
        callback: Callback = SILENT,
    ) -> Confirmation:
        """Train the winner again on seeds that chose nothing, and watch it at work: how much of its score was luck?

        The same call goes on where an earlier one ended.

        Args:
            seeds: how many.
            scenario: whose winner; needed where there are several.
            algorithm: whose best configuration; that of all algorithms if absent.
            engine: who runs the jobs, as in `run`.
            time_budget_s: end early after so many seconds, with everything saved.
            compilation_cache: keep compiled programs in the user's cache folder.
            callback: told how it goes.

        Raises:
            InputError: the experiment is not finished, or has no such scenario or algorithm.
        """
        seeds = count(seeds, "seeds", MOST_AGENTS)
        ranked = [each for each in self.contents.rounds if each.kind != "confirmation"]
        if any(job.number not in self.contents.done for each in ranked for job in each.jobs):
            raise InputError(f"{self.storage.where} is not finished, and its winner may change: {self.status()}")
        start_jax()
        self._have_plugins()
        ranking = ranking_of(self.tables, scenario)
        position = best_position(ranking, algorithm)
        planned = confirmation(self.storage, self.contents, ranking, position, seeds)
        if planned is not None:
            with locations.locked(self.storage):
                folder.write_round(self.storage, planned)
        self.run(engine, time_budget_s=time_budget_s, compilation_cache=compilation_cache, callback=callback)
        ranking = ranking_of(self.tables, scenario)  # the same, with what is confirmed now
        again = confirmed(ranking, position) if self.complete else None
        if again is not None:
            keep_behaviour(self.storage, self.contents, again.tables, self.tables.behaviour, self.table)
            self._forget()
            self._report_anew()
        return confirmation_of(ranking, position, again)

    def run(
        self,
        engine: Engine | None = None,
        *,
        time_budget_s: float | None = None,
        checkpoint_every_s: float = CHECKPOINT_S,
        compilation_cache: bool = True,
        callback: Callback = SILENT,
    ) -> "Experiment":
        """Do what is planned and not done yet, and write the tables of what is complete.

        Args:
            engine: who runs the jobs: `engines.Local()` if absent; see `engines.engine_named`.
            time_budget_s: end early after so many seconds, with everything saved.
            checkpoint_every_s: seconds between two checkpoints of a job.
            compilation_cache: keep compiled programs in the user's cache folder.
            callback: told how it goes.

        Returns:
            The experiment itself, whose `complete`, `unfinished` and `failed` say how it ended.

        Raises:
            InputError: the folder is in use or cannot be written, or a plugin is missing.
        """
        start_jax()
        self._have_plugins()
        if compilation_cache:
            use_caches()
        require_times(time_budget_s, checkpoint_every_s)
        tell, stop = guarded((callback,)), Stopping(time_budget_s)
        engine = engine or Local()
        with locations.locked(self.storage) if engine.alone else contextlib.nullcontext(), stop.listening():
            self._forget()
            jobs = sorted(self.contents.jobs, key=lambda job: job.kind != "train")  # nothing waits for baselines
            if damaged := folder.set_aside_damaged(self.storage, jobs):
                self._forget()
            for text in damaged:
                tell(Noted(text))
            tell(self.contents.planned)
            self.failed = engine(jobs, self.storage, tell, stop, checkpoint_every_s)
            self._forget()
            self.unfinished = "" if self.complete else stop.why
            if self.complete or engine.alone:
                self._write_tables()
            if self.complete:
                self._report_anew()
        tell(Finished(self.complete))
        return self

    def finish(self) -> "Experiment":
        """Write the tables and the report of what is complete, and clean up if that is everything; nothing is trained.

        Raises:
            InputError: a file of a finished job is missing, or one of the report is not as jaxmoe made it.
        """
        self._forget()
        self._write_tables()
        if self.folder is not None and rankings(self.tables):
            self.report()
        return self

    def _write_tables(self) -> None:
        """Those of what is complete; if that is everything, what jobs have left behind goes."""
        self.__dict__["tables"] = finish(self.storage, self.contents)
        if self.complete:
            folder.clean_up(self.storage, self.contents.jobs, self.contents.done)

    def _have_plugins(self) -> None:
        """Have what the experiment was planned with: only code that the caller names, or trusts, is imported."""
        about = self.contents.about
        require_plugins(about["plugins"], self.storage.where, self.trust_plugins)
        adopt_scenarios(about["scenarios"], self.storage.where)

    def _report_anew(self) -> None:
        """A report says from which state it was made: make it again where there is one."""
        if self.storage.size(REPORT_MADE) is not None:
            self.report()

    def _forget(self) -> None:
        """Read everything anew when it is next asked for."""
        for name in ("contents", "tables", "curves"):
            self.__dict__.pop(name, None)


def named_policies(policies: Any) -> dict[str, Any]:
    """Policies by name, as evaluations take them: of an experiment the best policy."""
    if policies is not None and not isinstance(policies, Mapping):
        raise InputError(f"policies = {policies!r} is not a mapping of names to policies")
    return {
        str(name): each.policy() if isinstance(each, Experiment) else each for name, each in (policies or {}).items()
    }
