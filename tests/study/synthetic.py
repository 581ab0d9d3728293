"""A sweep's folder with made-up results, in the form in which a sweep writes it."""

import itertools
import json

import numpy as np
import pandas as pd

EXPERTS = ("setting", "character", "action", "science")
METRICS = ("qos", "score", "computing_cost", "transmission_cost", "latency_s", "energy_j", "arrived_share")
LEVELS = {"random": 0.3, "fixed_subset(6)": 0.53, "predict_then_optimise": 0.56, "one_slot_optimum": 0.575}
PROMPTS = {"train": [f"p{number:02d}" for number in range(24)], "test": [f"p{number}" for number in range(24, 32)]}
STEPS = (0, 1024, 4096, 16_384, 65_536)
PROVENANCE = {
    "versions": {"jaxmoe": "0.1.0", "jax": "0.10.2", "python": "3.11.2"},
    "device": {"platform": "cpu", "kind": "cpu", "count": 2},
    "lanes": 16,
    "env_steps_per_s": 250_000,
}


def quality(row):
    """What a setting's agents reach on average, as normalised score: best at a rate of 5e-3, entropy helps a little."""
    rate = np.log10(row["learning_rate"] / 5e-3)
    return 0.98 - 0.12 * rate**2 + 0.02 * (row["entropy_coef"] > 0) - 0.05 * row.get("latency_weight", 0.0)


def agents_table(algorithms, scenarios, seeds, rates, entropies, weights):
    rows, environments = [], {}
    points = itertools.product(algorithms, scenarios, rates, entropies, weights)
    for configuration, (algorithm, scenario, rate, entropy, weight) in enumerate(points):
        environment = environments.setdefault((scenario, weight), len(environments))
        row = {"configuration": configuration, "algorithm": algorithm, "scenario": scenario, "environment": environment}
        row |= {"learning_rate": rate, "discount": 0.9, "entropy_coef": entropy}
        row |= {"latency_weight": weight} if weight is not None else {}
        rows += [{"agent": configuration * seeds + seed, **row, "seed": seed} for seed in range(seeds)]
    names = ["agent", "configuration", "seed", "algorithm", "scenario", "environment"]
    table = pd.DataFrame(rows)
    return table[[*names, *(name for name in table if name not in names)]]


def qos_of(levels, normalised):
    worst, best = levels["random"], levels["one_slot_optimum"]
    return worst + normalised * (best - worst)


def prompt_rows(who, qos, generator):
    """One row per member, split and prompt, whose mean over prompts is the member's QoS."""
    frames = []
    for split, ids in PROMPTS.items():
        deviations = generator.normal(0, 0.04, len(ids))
        values = qos[split].to_numpy()[:, None] + (deviations - deviations.mean())[None, :]
        rows = who.loc[who.index.repeat(len(ids))].reset_index(drop=True)
        rows = rows.assign(split=split, prompt=np.tile(ids, len(who)), slots=64, qos=values.ravel())
        rows = rows.assign(score=10 * (rows["qos"] + 0.2), computing_cost=0.05, transmission_cost=0.15)
        rows = rows.assign(latency_s=4.0 + rows["qos"], energy_j=0.0, arrived_share=1.0)
        for number, expert in enumerate(EXPERTS):
            rows[f"share_{expert}"] = np.clip(rows["qos"] * (0.3 + 0.4 * number), 0, 1)
        frames.append(rows)
    return pd.concat(frames, ignore_index=True)


def make(
    folder,
    *,
    algorithms=("ppo",),
    scenarios=("oneshot",),
    seeds=8,
    rates=(1e-3, 5e-3, 2e-2),
    entropies=(0.0, 0.03),
    weights=(None,),
    references=True,
    diverged=0.0,
):
    """Write a finished sweep into a new folder; returns the folder."""
    generator = np.random.default_rng(0)
    agents = agents_table(algorithms, scenarios, seeds, rates, entropies, weights)
    reached = agents.apply(quality, axis=1) + generator.normal(0, 0.01, len(agents))
    reached -= 0.03 * agents["algorithm"].map({name: number for number, name in enumerate(algorithms)})
    frozen = generator.random(len(agents)) < diverged
    reached = reached.where(~frozen, 0.2)
    frames = []
    for step in STEPS:
        normalised = reached * np.log1p(step) / np.log1p(STEPS[-1]) + generator.normal(0, 0.005, len(agents)) * (
            step < STEPS[-1]
        )
        frame = agents[["agent", "configuration", "seed"]].assign(env_steps=step, diverged=frozen & (step > 0))
        for split, drop in (("train", 0.0), ("test", 0.05)):
            frame[f"{split}_qos"] = qos_of(LEVELS, normalised - drop)
            if references:
                frame[f"{split}_normalised"] = normalised - drop
        frames.append(frame.assign(entropy=1.0 - normalised))
    curves = pd.concat(frames, ignore_index=True).sort_values(["agent", "env_steps"], ignore_index=True)
    last = curves.groupby("agent").tail(1).drop(columns=["configuration", "seed"])
    results = agents.merge(last, on="agent")
    qos = {split: results[f"{split}_qos"] for split in PROMPTS}
    policies = pd.DataFrame(
        [(number, policy) for number in sorted(set(agents["environment"])) for policy in LEVELS],
        columns=["environment", "policy"],
    )
    levels = {split: policies["policy"].map(LEVELS) - (0.01 if split == "test" else 0.0) for split in PROMPTS}
    tables = {
        "agents": agents,
        "results": results,
        "curves": curves,
        "prompts": prompt_rows(agents[["agent"]], qos, generator),
        "references": prompt_rows(policies, levels, generator) if references else pd.DataFrame(),
    }
    folder.mkdir(parents=True)
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    params = {} if weights == (None,) else {"latency_weight": list(weights)}
    spec = {"algorithm": list(algorithms), "scenario": list(scenarios), "env_steps": STEPS[-1], "seeds": seeds}
    spec |= {"root_seed": 0, "search": {"method": "grid", "samples": None, "seed": 0}, "table": None}
    spec |= {"hypers": {"learning_rate": list(rates), "entropy_coef": list(entropies)}, "config": {}, "params": params}
    manifest = {"format": 1, "spec": spec | {"settings": {}}, "table_digest": "0" * 64, "shard": "0/1", "widths": {}}
    done = {"agents-000-0000000": {"agents": agents["agent"].tolist(), **PROVENANCE, "files": {}}}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"done": done}))
    (folder / "spec.toml").write_text('algorithm = ["ppo"]\n')
    return folder
