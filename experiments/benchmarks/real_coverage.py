"""How often the printed 95 % intervals hold the truth where it is known: agents drawn from many, and fixed policies.

    python experiments/benchmarks/real_coverage.py --data data/wildbench --out experiments/benchmarks/results

`--data` has the scores of eight models on requests of real users (scores.csv, features.csv and splits.csv; see its
README). Four of the models are the experts, a fifth is what the user's own device writes, and a subset serves the best
of its members' answers. Two things are tried:

1. Two times 64 agents are trained, and each serves each of the 200 test prompts. That is the whole, and its means are
   the truth. Studies draw few of the seeds and few of the prompts, with replacement: a draw from all that could be
   drawn, so that no correction for a finite whole is needed.
2. Policies that do not learn serve few requests of few prompts, drawn from all train prompts with replacement, in every
   scenario. The truth is what they bring in many requests of all train prompts.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from interval_coverage import Numbers, bootstrap
from numpy.typing import NDArray
from scipy.stats import skew

import jaxmoe
from jaxmoe import ExpertTable
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.analysis.comparison import normalised_score
from jaxmoe.analysis.intervals import Brought, Estimate, UnitSums, estimate
from jaxmoe.analysis.statistics import difference, improvement, interval, iqm, probability_of_improvement
from jaxmoe.env.baselines import BASELINES, Policy
from jaxmoe.env.edge_experts import EdgeExperts
from jaxmoe.env.params import EnvParams
from jaxmoe.experiment.trained import stacked
from jaxmoe.training import evaluation
from jaxmoe.training.evaluation import AgentEvaluation, Schedule, sums
from jaxmoe.training.inputs import checked_config, environments
from jaxmoe.training.policies import evaluate_policy

LOCAL, EXPERTS = "gemma-2b-it", ("phi-3-mini-128k", "gpt-3.5-turbo", "reka-core", "qwen1.5-72b")
RATES, AGENTS, ENV_STEPS = (1e-2, 3e-3), 64, 20_000
WHOLE_REQUESTS = 25_600  # of each agent on the 200 test prompts
RIDGE_PENALTY = 300.0
BASELINE, WORST, BEST = "predict_then_optimise", "random", "one_slot_optimum"
SEEDS, PROMPTS = (4, 8, 16, 32), (8, 24, 96)
SCENARIOS, POLICIES, REQUESTS = ("oneshot", "fading", "queueing"), ("fixed_subset", BASELINE), (1024, 8192)
TRUTH_REQUESTS, TRUTH_SEED, BATCH = 1_048_576, 77, 100


class Whole(NamedTuple):
    """What each policy brings on each test prompt: sums of QoS and requests, [agents, prompts] each."""

    agents: tuple[Brought, Brought]  # of two learning rates
    baselines: dict[str, Brought]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path("data/wildbench"), help="folder of the scores of real requests"
    )
    parser.add_argument(
        "--studies", type=int, default=1000, help="studies of each cell; of fixed policies half as many"
    )
    parser.add_argument("--out", type=Path, help="folder for the tidy tables")
    arguments = parser.parse_args()
    table = table_of(arguments.data)
    subsamples = of_subsamples(whole(table), arguments.studies)
    print("Coverage in % of what 64 agents bring on 200 prompts, by studies of some of both; drawn with replacement.\n")
    print(
        subsamples.pivot_table(
            index=["statistic", "prompts"], columns="seeds", values="coverage", sort=False
        ).to_string()
    )
    fixed = of_fixed_policies(table, arguments.studies // 2)
    print("\nCoverage in % of what a fixed policy brings on all train prompts; in brackets of prompts alone.\n")
    cells = [f"{now:.1f} ({before:.0f})" for now, before in fixed[["coverage", "prompts_alone"]].to_numpy()]
    shown = fixed.assign(cell=cells).pivot_table(
        index=["scenario", "policy", "skewness"],
        columns=["requests", "prompts"],
        values="cell",
        aggfunc="first",
        sort=False,
    )
    print(shown.to_string())
    if arguments.out:
        subsamples.to_csv(arguments.out / "real_coverage_agents.csv", index=False)
        fixed.to_csv(arguments.out / "real_coverage_policies.csv", index=False)


def table_of(data: Path) -> ExpertTable:
    """The expert table: relevance is what a ridge regression on features predicts, fitted on train prompts."""
    wide = pd.read_csv(data / "scores.csv").pivot_table(index="prompt_id", columns="expert", values=["score", "words"])
    scores, words = wide["score"], wide["words"].clip(lower=1)  # of an empty answer something is sent all the same
    splits = pd.read_csv(data / "splits.csv").set_index("prompt_id")["split"].loc[wide.index]
    features = pd.read_csv(data / "features.csv").set_index("prompt_id").loc[wide.index].to_numpy(np.float64)
    predicted = ridge(
        np.sign(features) * np.log1p(np.abs(features)), scores[list(EXPERTS)].to_numpy(), splits == "train"
    )
    frames = []
    for subset in range(2 ** len(EXPERTS)):
        asked = [name for bit, name in enumerate(EXPERTS) if subset >> bit & 1]
        own = [part[asked or [LOCAL]].to_numpy(np.float64) for part in (scores, words)]
        served = np.arange(len(wide)), own[0].argmax(axis=1)
        frame = pd.DataFrame({"prompt_id": wide.index, "split": splits.to_numpy()})
        frame = frame.assign(experts="+".join(asked) or "local", score=own[0][served], words=own[1][served])
        if len(asked) == 1:
            frame["relevance"] = np.clip(predicted[:, EXPERTS.index(asked[0])] / 10, 0, 1)
        frames.append(frame)
    rows = pd.concat(frames)
    return _loaded(rows[rows["split"].isin(["train", "test"])].sort_values("prompt_id", kind="stable"))


def ridge(features: Numbers, scores: Numbers, train: "pd.Series[bool]") -> Numbers:
    """Scores of each expert as a linear function of the features, fitted on train prompts."""
    own = train.to_numpy()
    features = (features - features[own].mean(axis=0)) / np.maximum(features[own].std(axis=0), 1e-9)
    mean = scores[own].mean(axis=0)
    gram = features[own].T @ features[own] + RIDGE_PENALTY * np.eye(features.shape[1])
    return mean + features @ np.linalg.solve(gram, features[own].T @ (scores[own] - mean))


def _loaded(frame: pd.DataFrame) -> ExpertTable:
    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(Path(folder) / "table.csv", index=False)
        return jaxmoe.load_table(Path(folder) / "table.csv")


def whole(table: ExpertTable) -> Whole:
    """Train the agents and let them, and baselines, serve all test prompts, each a unit of its own."""
    evaluation.PROMPT_UNITS = table.num_prompts
    env, splits = environments("oneshot", table, {}, {})
    test = {"train": splits["test"]}  # nothing but the prompts that are served
    found = []
    for rate in RATES:
        experiment = jaxmoe.train(
            "ppo", "oneshot", seeds=AGENTS, env_steps=ENV_STEPS, hypers={"learning_rate": rate}, table=table,
            evaluations=1, requests=1024, baselines="none",
        )  # fmt: skip
        members = experiment.agents()
        module = registered_algorithm("ppo")
        algorithm = module.make(env, checked_config(module.Config, {}), splits["train"])
        serve = AgentEvaluation(algorithm, env, test, WHOLE_REQUESTS, seed=1)
        parameters = algorithm.actor.parameters(stacked(members))
        found.append(_qos(serve([parameters], [{}], AGENTS)["train"]))
        print(f"agents at a learning rate of {rate:g}: QoS {found[-1].mean().mean():.3f}", flush=True)
    policies = {name: _policy(name, env, splits["train"]) for name in (BASELINE, WORST, BEST)}
    evaluated = {
        name: _qos(evaluate_policy(policy, env, test, WHOLE_REQUESTS, seed=1)["train"])
        for name, policy in policies.items()
    }
    return Whole((found[0], found[1]), evaluated)


def _policy(name: str, env: EdgeExperts, train: EnvParams) -> Policy:
    return BASELINES[name].policy(env, train, 2)


def _qos(brought: Brought) -> Brought:
    """QoS alone, of the prompts that were met."""
    met = brought.prompts.counts[0] > 0
    return Brought(UnitSums(brought.prompts.sums[:, met, :1], brought.prompts.counts[:, met]), None)


def drawn(brought: Brought, seeds: NDArray[np.int64], prompts: NDArray[np.int64]) -> Brought:
    """A study: some of the seeds and some of the prompts."""
    return Brought(UnitSums(*(leaf[seeds][:, prompts] for leaf in brought.prompts)), None)


def of_subsamples(whole: Whole, studies: int) -> pd.DataFrame:
    """Coverage by statistic, seeds and prompts."""
    [one, other], baselines = whole.agents, whole.baselines
    means = [each.mean()[:, 0] for each in (one, other)]
    truth = {
        "mean QoS": estimate(_itself, [one])[0].mean,
        "mean QoS, resampled as before": estimate(_itself, [one])[0].mean,
        f"ahead of {BASELINE}": estimate(_apart, [one, baselines[BASELINE]])[0].mean,
        "normalised score": estimate(normalised_score, [one, baselines[WORST], baselines[BEST]])[0].mean,
        "difference of configurations": estimate(_apart, [one, other])[0].mean,
        "interquartile mean": float(iqm(means[0][None])),
        "difference of interquartile means": float(iqm(means[0][None]) - iqm(means[1][None])),
        "probability of improvement": probability_of_improvement(means[0][None], means[1][None]),
    }
    rows = []
    for seeds in SEEDS:
        for prompts in (*PROMPTS, 200):
            generator, held = np.random.default_rng(0), dict.fromkeys(truth, 0)
            for number in range(studies):
                study = _study(generator, whole, means, seeds, prompts, number)
                for name, found in study.items():
                    held[name] += found.low <= truth[name] <= found.high
            rows += [(name, prompts, seeds, 100 * held[name] / studies) for name in study]
    table = pd.DataFrame(rows, columns=["statistic", "prompts", "seeds", "coverage"])
    return table.sort_values(["statistic", "prompts", "seeds"], kind="stable", ignore_index=True)


def _study(
    generator: np.random.Generator,
    whole: Whole,
    means: list[Numbers],
    seeds: int,
    prompts: int,
    number: int,
) -> dict[str, Estimate]:
    """Estimates of one study; those over seeds alone are of all prompts."""
    own, others = (generator.integers(AGENTS, size=seeds) for _ in range(2))
    if prompts == 200:
        first, second = means[0][own][None], means[1][others][None]
        return {
            "interquartile mean": interval(iqm, first, resamples=500, seed=number),
            "difference of interquartile means": difference(iqm, first, second, resamples=500, seed=number),
            "probability of improvement": improvement(first, second),
        }
    met = generator.integers(200, size=prompts)
    one, other = drawn(whole.agents[0], own, met), drawn(whole.agents[1], others, met)
    rule, worst, best = (drawn(whole.baselines[name], np.array([0]), met) for name in (BASELINE, WORST, BEST))
    low, high = bootstrap(generator, one.prompts)
    return {
        "mean QoS": estimate(_itself, [one])[0],
        "mean QoS, resampled as before": Estimate((low + high) / 2, low, high),
        f"ahead of {BASELINE}": estimate(_apart, [one, rule])[0],
        "normalised score": estimate(normalised_score, [one, worst, best])[0],
        "difference of configurations": estimate(_apart, [one, other])[0],
    }


def of_fixed_policies(table: ExpertTable, studies: int) -> pd.DataFrame:
    """Coverage by scenario, policy, requests and prompts."""
    rows = []
    for scenario in SCENARIOS:
        env, splits = environments(scenario, table, {}, {})
        train = splits["train"]
        places = table.prompt_indices("train")
        for name in POLICIES:
            policy = _policy(name, env, train)
            length = Schedule.of(env, train, 1).length
            whole = evaluate_policy(policy, env, {"train": train}, TRUTH_REQUESTS, TRUTH_SEED)["train"]
            truth, skewness = float(whole.prompts.mean()[0]), skewness_of_prompts(whole)
            for requests in REQUESTS:
                for prompts in PROMPTS:
                    serve = _server(policy, env, train, requests, prompts)
                    generator, held, alone = np.random.default_rng(0), 0, 0
                    for begin in range(0, studies, BATCH):
                        met = places[generator.integers(len(places), size=(BATCH, prompts))]
                        keys = jax.random.split(jax.random.key(begin + 1), BATCH)
                        found = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), serve(jnp.asarray(met), keys))
                        for study in range(BATCH):
                            of_prompts, of_episodes = (
                                UnitSums(part[0][study][None, :, :1], part[1][study][None])
                                for part in (
                                    (found.prompts, found.prompt_requests),
                                    (found.episodes, found.episode_requests),
                                )
                            )
                            [now] = estimate(_itself, [Brought(of_prompts, of_episodes if length > 1 else None)])
                            [before] = estimate(_itself, [Brought(of_prompts, None)])
                            held += now.low <= truth <= now.high
                            alone += before.low <= truth <= before.high
                    done = -(-studies // BATCH) * BATCH
                    rows.append((scenario, name, skewness, requests, prompts, 100 * held / done, 100 * alone / done))
                    print(*rows[-1], flush=True)
    return pd.DataFrame(
        rows, columns=["scenario", "policy", "skewness", "requests", "prompts", "coverage", "prompts_alone"]
    )


def skewness_of_prompts(whole: Brought) -> float:
    """Of what a policy brings on each prompt; to one decimal."""
    sums, counts = (leaf[0] for leaf in whole.prompts)
    met = counts > 0
    return round(float(skew(sums[met, 0] / counts[met])), 1)


def _server(policy: Policy, env: EdgeExperts, train: EnvParams, requests: int, prompts: int):  # type: ignore[no-untyped-def]
    """Studies at once: each has a table of its own prompts, [B, P] rows of the whole one, and a key."""
    schedule = Schedule.of(env, train, requests)
    meta = replace(train.table.meta, prompt_ids=tuple(map(str, range(prompts))), digest=str(prompts))

    def study(met: jax.Array, key: jax.Array) -> evaluation.Sums:
        arrays = {
            name: jnp.asarray(getattr(train.table, name))[met]
            for name in ("relevance", "words", "score_mean", "score_std", "fused_words")
        }
        own = replace(train, table=ExpertTable(**arrays, meta=meta), prompts=jnp.arange(prompts), num_prompts=prompts)
        return sums(policy, env, own, key, schedule, schedule.episodes)

    return jax.jit(lambda met, keys: jax.lax.map(lambda each: study(*each), (met, keys), batch_size=10))


def _itself(means: Numbers) -> Numbers:
    return means[..., :1]


def _apart(one: Numbers, other: Numbers) -> Numbers:
    return one[..., :1] - other[..., :1]


if __name__ == "__main__":
    main()
