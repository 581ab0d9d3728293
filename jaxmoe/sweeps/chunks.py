"""Training the agents of one program, chunk by chunk, and what a chunk leaves behind."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from safetensors.numpy import save

from jaxmoe.env import evaluation
from jaxmoe.env.evaluation import Tallies
from jaxmoe.intervals import Tally
from jaxmoe.sweeps import checkpoint
from jaxmoe.sweeps.engine import bind, make_program
from jaxmoe.sweeps.evaluating import SEED, Judge
from jaxmoe.sweeps.inputs import algorithm_module, checked_config, environments
from jaxmoe.sweeps.lanes import block_width
from jaxmoe.sweeps.loop import Pace, Trainer, curve_rows, evaluation_times
from jaxmoe.sweeps.plan import Group, Plan
from jaxmoe.sweeps.run import named_leaves
from jaxmoe.sweeps.store import Writers
from jaxmoe.table import ExpertTable

MEASURED_S = 2.0  # s, how long an untrained block is trained to learn how fast that goes


Verdict = Literal["go on", "save", "save and stop"]


class Trained(NamedTuple):
    """What the training of a chunk brings."""

    curves: pd.DataFrame  # one row per agent and evaluation
    prompts: pd.DataFrame  # one row per agent, split and prompt
    policies: dict[str, np.ndarray]  # by name, agents along the leading axis, their numbers as `agent`

    def writers(self) -> Writers:
        """Its files."""
        return {
            "curves.parquet": lambda path: self.curves.to_parquet(path, index=False),
            "prompts.parquet": lambda path: self.prompts.to_parquet(path, index=False),
            "policies.safetensors": lambda path: path.write_bytes(save(self.policies)),
        }


class GroupTrainer:
    """Trains agents of one program, and evaluates them."""

    def __init__(self, plan: Plan, group: Group, table: ExpertTable) -> None:
        spec = plan.spec
        env, splits = environments(group.scenario, table, group.settings, group.static_numbers)
        module = algorithm_module(group.algorithm)
        algorithm = module.make(env, checked_config(module.Config, group.config), splits["train"])
        self.plan, self.group, self.table = plan, group, table
        self.iterations = -(-spec.env_steps // algorithm.env_steps)
        self.env_steps = self.iterations * algorithm.env_steps  # of each agent
        self.pace = Pace()
        self._program = make_program(algorithm, splits["train"], spec.root_seed)
        self._judge = Judge(algorithm, env, splits, SEED, spec.slots)
        self._times = evaluation_times(self.iterations, spec.evaluations)

    def bytes_per_agent(self) -> int:
        """Memory of one agent in training."""
        return bind(self._program, self.plan.agents(self.group, self.group.agents[:1])).bytes_per_agent()

    def seconds_per_block(self) -> float:
        """Time that a block's whole training takes, measured for a moment in the middle of an imagined run."""
        engine = bind(self._program, self.plan.agents(self.group, self.group.agents[: block_width()]))
        trainer = Trainer(engine, self.iterations, pace := Pace())
        trainer.reached = self.iterations // 2  # where an off-policy algorithm learns
        began, first = time.monotonic(), trainer.reached
        for _ in trainer.advance_to(self.iterations):
            if trainer.reached == first + 1:  # that stretch has compiled
                began = time.monotonic()
            elif time.monotonic() - began > MEASURED_S:
                break
        return self.env_steps * engine.agents / pace.median()

    def train(
        self, agents: Sequence[int], saved: Path, on_stretch: Callable[[Trainer, pd.DataFrame], Verdict]
    ) -> Trained | None:
        """Train some agents of the group, from their checkpoint on if there is one.

        Args:
            agents: their numbers in the plan.
            saved: folder of their checkpoints.
            on_stretch: told, after each stretch, where training stands and what the last evaluation found; says
                whether to go on.

        Returns:
            What it brings, or nothing if it was stopped.
        """
        engine = bind(self._program, self.plan.agents(self.group, agents))
        trainer = Trainer(engine, self.iterations, self.pace)
        curves = checkpoint.restore(saved, trainer)
        if curves is None:
            curves = [self._evaluate(trainer, agents, {}, parts=1)[0]]
        for end in (at for at in self._times if at > trainer.measured):
            for _ in trainer.advance_to(end):
                verdict = on_stretch(trainer, curves[-1])
                if verdict != "go on":
                    checkpoint.save(saved, trainer, curves)
                if verdict == "save and stop":
                    return None
            parts = None if end == self.iterations else 1
            rows, tallies = self._evaluate(trainer, agents, trainer.take_metrics(), parts)
            curves.append(rows)
        numbers = np.asarray(agents, np.int32)
        prefix, policies = f"group{self.group.number}", named_leaves(engine.policies(trainer.blocks))
        return Trained(
            curves=pd.concat(curves, ignore_index=True),
            prompts=prompt_rows({"agent": numbers}, tallies, self.table),
            policies={f"{prefix}/agent": numbers} | {f"{prefix}/{name}": leaf for name, leaf in policies},
        )

    def _evaluate(
        self, trainer: Trainer, agents: Sequence[int], metrics: dict[str, np.ndarray], parts: int | None
    ) -> tuple[pd.DataFrame, dict[str, Tally]]:
        tallies = self._judge(trainer.blocks, trainer.engine, parts)
        rows = curve_rows({"agent": agents}, trainer.env_steps, metrics, tallies)
        rows.insert(2, "diverged", trainer.engine.diverged(trainer.blocks))
        return rows, tallies


def prompt_rows(who: dict[str, Any], tallies: dict[str, Tally], table: ExpertTable) -> pd.DataFrame:
    """What each row of the tallies brought on each prompt: `slots` served, and the mean of each metric over them.

    Args:
        who: columns that tell the rows apart, one value per row each.
        tallies: of each split.
        table: names the prompts and the experts.
    """
    frames = []
    for split, tally in tallies.items():
        met = np.flatnonzero(tally.counts.sum(axis=0) > 0)
        counts = tally.counts[:, met]
        with np.errstate(invalid="ignore"):
            means = tally.sums[:, met] / counts[:, :, None]
        columns: dict[str, Any] = {name: np.repeat(np.asarray(values), len(met)) for name, values in who.items()}
        columns |= {"split": split, "prompt": np.tile(np.array(table.meta.prompt_ids)[met], len(counts))}
        columns |= {"slots": counts.ravel().astype(np.int64)}
        columns |= {
            name: means[:, :, number].ravel() for number, name in enumerate(evaluation.metric_names(table.experts))
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def reference_rows(environment: int, tallies: Tallies, table: ExpertTable) -> pd.DataFrame:
    """What each reference brought on each prompt of an environment."""
    frames = []
    for split, policies in tallies.items():
        for policy, tally in policies.items():
            frames.append(prompt_rows({"environment": [environment], "policy": [policy]}, {split: tally}, table))
    return pd.concat(frames, ignore_index=True)
