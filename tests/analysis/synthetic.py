"""An experiment's tables with made-up results, in memory: no folder, no JAX."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd

from jaxmoe.analysis.comparison import family
from jaxmoe.analysis.ranking import rankings
from jaxmoe.analysis.tables import IDENTITY, BaselineFacts, JobFacts, Objective, Tables

EXPERTS = ("setting", "character", "action", "science")
COSTS = ("computing_cost", "transmission_cost", "latency_s", "energy_j")
METRICS = ("qos", "score", *COSTS, "arrived_share", *(f"share_{expert}" for expert in EXPERTS))
LEVELS = {"random": 0.3, "fixed_subset(6)": 0.53, "predict_then_optimise": 0.56, "one_slot_optimum": 0.575}
REQUESTS = {"train": 40 + 8 * (np.arange(24) % 5), "test": 40 + 8 * (np.arange(8) % 3)}  # of each prompt
EPISODES = 4
DROP = {"train": 0.0, "test": 0.05}  # of the normalised score
LOWER = {"train": 0.0, "test": 0.01}  # of baselines' QoS
STEPS = (0, 1024, 4096, 16_384, 65_536)


def level(policy, split):
    """The QoS of a baseline."""
    return LEVELS[policy] - LOWER[split]


def quality(agents):
    """What a configuration reaches on average, as normalised score: best at a rate of 5e-3, entropy helps a little."""
    rate = np.log10(agents["learning_rate"] / 5e-3)
    found = 0.98 - 0.12 * rate**2 + 0.02 * (agents["entropy_coef"] > 0)
    return found - 0.05 * agents["latency_weight"] if "latency_weight" in agents else found


def latency_s(agents):
    """The faster an agent learns, the slower are the experts that it asks."""
    return 4.0 + np.log10(agents["learning_rate"] / 1e-3)


def crossed_points(rates, entropies, weights):
    """Every configuration in every environment: (configuration, environment, rate, entropy, weight)."""
    for place, weight in enumerate(weights):
        for number, (rate, entropy) in enumerate(itertools.product(rates, entropies)):
            yield number, place, rate, entropy, weight


def drawn_points(count):
    """Configuration and environment drawn together."""
    generator = np.random.default_rng(3)
    for number in range(count):
        yield number, number, 10 ** generator.uniform(-3.3, -1.3), generator.uniform(0, 0.05), generator.uniform(0, 2)


def planned(algorithms, scenarios, seeds, points):
    """One row per agent."""
    rows, environments, points = [], {}, list(points)
    for algorithm, scenario in itertools.product(algorithms, scenarios):
        for configuration, place, rate, entropy, weight in points:
            environment = environments.setdefault((scenario, place), len(environments))
            row = {"configuration": configuration, "environment": environment, "algorithm": algorithm}
            row |= {"scenario": scenario, "job": len(environments), "learning_rate": rate, "discount": 0.9}
            row |= {"entropy_coef": entropy} | ({} if weight is None else {"latency_weight": weight})
            rows += [{**row, "seed": seed} for seed in range(seeds)]
    table = pd.DataFrame(rows).assign(agent=range(len(rows)))
    return table[[*IDENTITY, *(name for name in table if name not in IDENTITY)]]


def metrics_of(qos, latency):
    """All metrics of policies, from their QoS and latency."""
    found = {
        "qos": qos,
        "score": 10 * (qos + 0.2),
        "computing_cost": 0.05 + 0 * qos,
        "transmission_cost": 0.15 + 0 * qos,
    }
    found |= {"latency_s": latency + 0 * qos, "energy_j": 0.0 * qos, "arrived_share": 1.0 + 0 * qos}
    return found | {f"share_{expert}": np.clip(qos * (0.3 + 0.2 * n), 0, 1) for n, expert in enumerate(EXPERTS)}


def sums(who, qos, latency):
    """Rows of an evaluation: of each policy, split and unit the requests and the sum of each metric."""
    frames = []
    for split, by in itertools.product(REQUESTS, ("prompts", "episodes")):
        requests = REQUESTS[split]
        if by == "episodes":
            requests = np.full(EPISODES, requests.sum() // EPISODES)
        apart = np.random.default_rng(len(requests)).normal(0, 0.04, len(requests))
        apart -= np.average(apart, weights=requests)  # so that the mean over requests is the policy's
        columns = {name: np.repeat(np.asarray(of), len(requests)) for name, of in who.items()}
        columns |= {
            "split": split,
            "by": by,
            "unit": np.tile(np.arange(len(requests), dtype=np.int32), len(qos[split])),
        }
        columns["requests"] = np.tile(requests.astype(np.int32), len(qos[split]))
        means = metrics_of(np.asarray(qos[split])[:, None], np.asarray(latency)[:, None])
        for name, mean in means.items():
            noise = apart if name in ("qos", "score") else 0.0
            columns[name] = ((mean + (10 if name == "score" else 1) * noise) * requests).ravel().astype(np.float32)
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def results_of(agents, reached, frozen, baselines):
    """One row per agent: the means of all metrics on each split."""
    parts = {"env_steps": STEPS[-1], "diverged": frozen, "entropy": 1.0 - reached}
    for split, drop in DROP.items():
        qos = qos_of(reached - drop)
        for name, of in metrics_of(qos, latency_s(agents)).items():
            parts[f"{split}_{name}"] = of
            if name == "qos" and baselines:
                parts[f"{split}_normalised"] = normalised_of(qos, split)
    return agents.assign(**parts)


def qos_of(normalised):
    return LEVELS["random"] + normalised * (LEVELS["one_slot_optimum"] - LEVELS["random"])


def normalised_of(qos, split):
    worst, best = level("random", split), level("one_slot_optimum", split)
    return (qos - worst) / (best - worst)


def curves_of(agents, reached, frozen, baselines):
    """One row per agent and evaluation."""
    frames = []
    for step in STEPS:
        part = reached * np.log1p(step) / np.log1p(STEPS[-1])
        frame = agents.assign(env_steps=step, diverged=frozen & (step > 0))
        for split, drop in DROP.items():
            frame[f"{split}_qos"] = qos_of(part - drop)
            if baselines:
                frame[f"{split}_normalised"] = normalised_of(frame[f"{split}_qos"], split)
        frames.append(frame.assign(entropy=1.0 - part))
    return pd.concat(frames, ignore_index=True).sort_values(["agent", "env_steps"], ignore_index=True)


def baseline_sums(environments):
    """What baselines bring in each environment."""
    frames = [
        sums(
            {"environment": [environment] * len(LEVELS), "policy": list(LEVELS)},
            {split: [level(policy, split) for policy in LEVELS] for split in REQUESTS},
            [4.0] * len(LEVELS),
        )
        for environment in environments
    ]
    return pd.concat(frames, ignore_index=True)


def families(environments):
    """What is known of each baseline."""
    ends = {"random": 0.0, "one_slot_optimum": 1.0}
    return {
        name: BaselineFacts(
            f"what {name} knows",
            name != "one_slot_optimum",
            dict.fromkeys(environments, ends[name]) if name in ends else {},
        )
        for name in map(family, LEVELS)
    }


def make(
    *,
    name="made",
    algorithms=("ppo",),
    scenarios=("oneshot",),
    seeds=8,
    rates=(1e-3, 5e-3, 2e-2),
    entropies=(0.0, 0.03),
    weights=(None,),
    drawn=0,
    baselines=True,
    diverged=0.0,
    trained=None,
    objective=None,
):
    """The tables of an experiment.

    Args:
        name: of its folder.
        algorithms: that learn; the second is a little worse than the first, and so on.
        scenarios: each with environments of its own.
        seeds: of each configuration and environment.
        rates: learning rates.
        entropies: weights of the entropy.
        weights: of the latency: one environment each.
        drawn: so many points of configuration and environment, drawn together, instead of the grid.
        baselines: whether they are evaluated.
        diverged: share of the agents.
        trained: how many agents; all if absent.
        objective: what configurations are ranked by.
    """
    points = drawn_points(drawn) if drawn else crossed_points(rates, entropies, weights)
    agents = planned(algorithms, scenarios, seeds, points)
    return tables_of(agents, name, baselines, diverged, trained, objective)


def tables_of(agents, name, baselines=True, diverged=0.0, trained=None, objective=None, worse=0.0):
    """The tables of these agents."""
    generator = np.random.default_rng(0)
    algorithms = list(dict.fromkeys(agents["algorithm"]))
    behind = agents["algorithm"].map({algorithm: 0.03 * number for number, algorithm in enumerate(algorithms)})
    reached = quality(agents) + generator.normal(0, 0.01, len(agents)) - behind - worse
    frozen = pd.Series(generator.random(len(agents)) < diverged)
    reached = reached.where(~frozen, 0.2)
    done = slice(0, len(agents) if trained is None else trained)
    results = results_of(agents, reached, frozen, baselines)[done]

    def load_curves(chosen):
        wanted = results["agent"] if chosen is None else results["agent"][results["agent"].isin(set(chosen))]
        at = wanted.index
        return curves_of(agents.loc[at], reached[at], frozen[at], baselines)

    def load_evaluation(chosen):
        rows = results[results["agent"].isin(set(chosen))]
        qos = {split: rows[f"{split}_qos"].to_numpy() for split in REQUESTS}
        return sums({"agent": rows["agent"].to_numpy()}, qos, rows["train_latency_s"].to_numpy())

    environments = sorted(set(agents["environment"].tolist()))
    sections = {"hypers": {}, "config": {}, "params": {}, "settings": {}}
    if "latency_weight" in agents:
        sections["params"] = {"latency_weight": sorted(set(agents["latency_weight"].tolist()))}
    spec = {"algorithm": algorithms, "scenario": list(dict.fromkeys(agents["scenario"])), "env_steps": STEPS[-1]}
    return Tables(
        name=name,
        where=f"runs/{name}",
        spec=spec | sections,
        table_digest="0" * 64,
        experts=EXPERTS,
        objective=objective or Objective("normalised" if baselines else "qos"),
        environments=environments if baselines else [],
        agents=agents,
        results=results,
        baselines=baseline_sums(environments) if baselines else pd.DataFrame(),
        families=families(environments),
        jobs=[JobFacts(algorithm, 24, STEPS[-1], 250_000.0, "2 x cpu", "jaxmoe 1") for algorithm in algorithms],
        unfinished=[],
        load_curves=load_curves,
        load_evaluation=load_evaluation,
    )


def changed(tables, rows, column, value):
    """The tables with other cells in the results."""
    results = tables.results.copy()
    results.loc[rows(results), column] = value
    return replace(tables, results=results)


def confirmed(tables, seeds=5, worse=0.1):
    """The tables with the winner trained again, worse than it was chosen for, and watched at work."""
    ranking = rankings(tables)[0]
    first = tables.agents.set_index("agent").loc[ranking.agents[ranking.winner, :, 0].tolist()]
    again = first.loc[first.index.repeat(seeds)].assign(seed=list(range(seeds)) * len(first))
    agents = again.reset_index(drop=True).assign(agent=10_000 + np.arange(len(again)))[list(tables.agents)]
    generator = np.random.default_rng(5)
    watched = {"agent": 10_000, "split": "train", "prompt": "p00", "scenario": ranking.scenario}
    for expert in EXPERTS:
        watched[f"relevance_{expert}"] = generator.random(400)
        watched[f"snr_db_{expert}"] = generator.uniform(-5, 20, 400)
        watched[f"asked_{expert}"] = watched[f"snr_db_{expert}"] > 8
    asked = np.stack([watched[f"asked_{expert}"] for expert in EXPERTS], axis=1)
    watched["subset"] = ["+".join(np.array(EXPERTS)[row]) or "local" for row in asked]
    confirmation = tables_of(agents, tables.name, objective=tables.objective, worse=worse)
    return replace(tables, confirmations=[confirmation], behaviour=pd.DataFrame(watched))
