"""How well do agents do in networks that they have never seen?

    python experiments/unseen_networks.py

Agents learn `queueing` in one network, in networks that every episode draws anew and tells them, or in such networks
without being told. Of each way the best learning rate is chosen on validation prompts by some seeds, and other seeds
are trained with it. These serve the same requests in ten networks that none of them has met, beside the strongest
deployable baseline, which believes the right numbers, or those of the one network. Writes
`results/unseen_networks.csv`, one row for each network, policy and split, and prints means over the networks.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

import jaxmoe
from jaxmoe.algorithms.registry import registered_algorithm
from jaxmoe.analysis.intervals import Brought, Estimate, UnitSums, estimate
from jaxmoe.env.baselines import BASELINES
from jaxmoe.experiment.trained import TrainedAgent, stacked
from jaxmoe.training.baselines import BaselineEvaluation
from jaxmoe.training.batches import batches
from jaxmoe.training.evaluation import AgentEvaluation, Schedule
from jaxmoe.training.inputs import checked_config, environments
from jaxmoe.training.policies import ALONE, Family, PolicyEvaluation
from jaxmoe.training.sizes import evaluated_per_device

RESULTS = Path(__file__).parent / "results" / "unseen_networks.csv"
SCENARIO, DEVICES = "queueing", 4
RANGES = {  # of each device's numbers
    "compute_coefficient": ("log_uniform", 2e-5, 1e-3),
    "seconds_per_word": ("log_uniform", 0.01, 0.12),
    "background_probability": ("uniform", 0.0, 0.5),
    "joules_per_word": ("uniform", 0.0, 0.06),
    "tx_power_dbm": ("uniform", -6.0, 6.0),
}
WAYS = ("one network", "drawn anew, told", "drawn anew, not told")
RIGHT, WRONG = "predict_then_optimise, right numbers", "predict_then_optimise, wrong numbers"

Network = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Agents and a baseline in networks that they have never seen.")
    parser.add_argument("--env-steps", type=int, default=600_000)
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 5e-3])
    parser.add_argument("--choosing", type=int, default=4, help="seeds that choose the learning rate")
    parser.add_argument("--seeds", type=int, default=8, help="other seeds, which are compared")
    parser.add_argument("--networks", type=int, default=10, help="that nobody has met")
    parser.add_argument("--requests", type=int, default=4096, help="that each policy serves in each network and split")
    parser.add_argument("--out", type=Path, default=RESULTS, help="CSV file")
    arguments = parser.parse_args()
    met, *unseen = networks(1 + arguments.networks)
    found = {way: of_agents(trained(way, met, arguments), unseen, arguments.requests) for way in WAYS}
    found |= of_baseline(met, unseen, arguments.requests)
    rows = [
        (network, policy, split, *estimate(_qos, [each[split]])[0])
        for policy, brought in found.items()
        for network, each in enumerate(brought)
        for split in each
    ]
    table = pd.DataFrame(rows, columns=["network", "policy", "split", *Estimate._fields])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.out, index=False, float_format="%.6f")
    for split in ("validation", "test"):
        print(
            f"\nMean QoS in {len(unseen)} unseen networks, {split} prompts, and beyond the baseline with right numbers"
        )
        print_means({policy: [each[split] for each in brought] for policy, brought in found.items()})


def networks(count: int) -> list[Network]:
    """So many networks, each device's numbers drawn from `RANGES`."""
    draws = np.random.default_rng(2026)
    return [{name: _drawn(draws, *how) for name, how in RANGES.items()} for _ in range(count)]


def _drawn(draws: np.random.Generator, how: str, low: float, high: float) -> list[float]:
    shares = draws.uniform(size=DEVICES)
    values = low * (high / low) ** shares if how == "log_uniform" else low + shares * (high - low)
    return [float(f"{value:.4g}") for value in values]


def trained(way: str, met: Network, arguments: argparse.Namespace) -> list[TrainedAgent]:
    """Agents that have chosen nothing, trained in a way with the learning rate that is best on validation prompts."""
    anew = {name: {"each_episode": {how: [low, high]}} for name, (how, low, high) in RANGES.items()}
    if way == "drawn anew, not told":
        anew = {name: {**said, "observed": False} for name, said in anew.items()}
    spec = {
        "algorithm": "ppo", "scenario": SCENARIO, "env_steps": arguments.env_steps, "seeds": arguments.choosing,
        "hypers": {"learning_rate": arguments.rates}, "params": met if way == "one network" else anew,
        "objective": {"metric": "qos"}, "baselines": "none", "evaluations": 1, "requests": arguments.requests,
    }  # fmt: skip
    experiment = jaxmoe.sweep(spec)
    experiment.confirm(seeds=arguments.seeds)
    [confirmed] = experiment.tables.confirmations
    print(f"{way}: learning rate {experiment.best()['learning_rate']:g}", flush=True)
    return experiment.agents(confirmed.results["agent"])


def of_agents(agents: Sequence[TrainedAgent], unseen: Sequence[Network], requests: int) -> list[dict[str, Brought]]:
    """What agents bring in each network, on each split; where they were told numbers, they are told these."""
    signature, table = agents[0].job.signature, jaxmoe.load_table()
    drawn = {name: value for name, value in signature.static_numbers.items() if isinstance(value, Mapping)}
    told = any(value.get("observed", True) for value in drawn.values())
    tensors, found = stacked(agents), []
    for network in unseen:
        params: dict[str, Any] = network
        if told:
            params = {name: {"each_episode": {"choice": [each]}} for name, each in network.items()}
        env, splits = environments(SCENARIO, table, signature.settings, params)
        module = registered_algorithm(signature.algorithm)
        algorithm = module.make(env, checked_config(module.Config, signature.config), splits["train"])
        run = AgentEvaluation(algorithm, env, splits, requests)
        width = evaluated_per_device(jax.default_backend(), jax.local_device_count(), len(agents))
        parts = batches(algorithm.actor.parameters(tensors), width)
        found.append(run(parts, [{}] * len(parts), len(agents)))
    return found


def of_baseline(met: Network, unseen: Sequence[Network], requests: int) -> dict[str, list[dict[str, Brought]]]:
    """What the strongest deployable baseline brings in each network, with its numbers and with those of another one."""
    table = jaxmoe.load_table()
    places = [environments(SCENARIO, table, {}, network) for network in unseen]
    env, splits = places[0]
    deployable = tuple(name for name, each in BASELINES.items() if each.deployable)
    evaluate = BaselineEvaluation(env, splits["train"], requests, deployable)
    right: list[dict[str, Brought]] = []
    for number, (_, each) in enumerate(places):
        brought = evaluate(each)
        means = {name: float(found.mean()[0, 0]) for name, found in brought["train"].items()}
        if (best := max(means, key=means.__getitem__)) != "predict_then_optimise":
            print(f"in network {number} the strongest deployable baseline is {best}: {means}")
        right.append({split: found["predict_then_optimise"] for split, found in brought.items()})
    numbers = {name: np.array(each, np.float32) for name, each in met.items()}
    informed = BASELINES["predict_then_optimise"].policy(env, splits["train"], 0)

    def misinformed(key: Any, observation: Any, state: Any, params: Any) -> Any:
        return informed(key, observation, state, params.replace(**numbers))

    family = Family(lambda _: misinformed, ALONE)
    wrong = PolicyEvaluation([family], env, Schedule.of(env, splits["train"], requests))
    return {RIGHT: right, WRONG: [{split: wrong(own)[0] for split, own in each.items()} for _, each in places]}


def print_means(found: dict[str, list[Brought]]) -> None:
    """Means over the networks, and the lead, with intervals over seeds, prompts and episodes."""
    count = len(found[RIGHT])
    for policy, own in found.items():
        [mean] = estimate(_mean_qos, own)
        if policy == RIGHT:
            print(f"{policy:<38}{mean:.3f}")
            continue
        [lead] = estimate(lambda *means: _mean_qos(*means[:count]) - _mean_qos(*means[count:]), [*own, *found[RIGHT]])
        pairs = zip(own, found[RIGHT], strict=True)
        ahead = sum(float(_all(one)) > float(_all(other)) for one, other in pairs)
        print(f"{policy:<38}{mean:.3f}  {lead:+.3f}, ahead in {ahead} of {count}")


def _qos(means: np.ndarray) -> np.ndarray:
    return means[..., :1]


def _mean_qos(*means: np.ndarray) -> np.ndarray:
    return np.mean([each[..., :1] for each in means], axis=0)


def _all(brought: Brought) -> float:
    sums: UnitSums = brought.prompts
    return float(sums.mean()[0])


if __name__ == "__main__":
    main()
