"""What configurations are ranked by: one objective, and everybody names the same winner."""

import re

import pytest
import tiny

import jaxmoe
from jaxmoe.analysis.statistics import iqm
from jaxmoe.errors import InputError

RATES = {"hypers.learning_rate": [1e-3, 3e-3, 1e-2], "seeds": 4}


def ranked(**objective):
    """The ranking of the same agents by another objective."""
    return tiny.sweep(None, {**RATES, **{f"objective.{name}": value for name, value in objective.items()}})


def means(found, column):
    """Means over environments and the seeds that choose, by learning rate."""
    rows = found.results[found.results["seed"] < 2]
    return rows.groupby("learning_rate")[column].mean()


@pytest.mark.parametrize(
    ("metric", "column", "ascending"),
    [
        ("auto", "validation_normalised", False),
        ("normalised", "validation_normalised", False),
        ("qos", "validation_qos", False),
        ("score", "validation_score", False),
        ("latency_s", "validation_latency_s", True),
        ("transmission_cost", "validation_transmission_cost", True),
    ],
)
def test_a_metric_of_the_evaluation_ranks(metric, column, ascending):
    found = ranked(metric=metric)
    expected = means(found, column).sort_values(ascending=ascending, kind="stable")
    assert found.ranking()["learning_rate"].tolist() == pytest.approx(expected.index.tolist())
    assert found.ranking()["chosen"].tolist() == pytest.approx(expected.tolist())
    assert found.best()["learning_rate"] == found.ranking()["learning_rate"][0]


@pytest.mark.parametrize("statistic", ["mean", "iqm", "min"])
def test_a_statistic_over_seeds_ranks(statistic):
    found = ranked(metric="qos", statistic=statistic)
    table = found.ranking()
    assert table["chosen"].tolist() == sorted(table["chosen"], reverse=True)
    if statistic == "mean":
        assert sorted(table["chosen"]) == pytest.approx(sorted(means(found, "validation_qos")))
    if statistic == "iqm":
        rows = found.results[found.results["seed"] < 2].sort_values(["environment", "seed"])
        scores = {rate: own["validation_qos"].to_numpy().reshape(2, 2) for rate, own in rows.groupby("learning_rate")}
        assert sorted(table["chosen"]) == pytest.approx(sorted(float(iqm(each)) for each in scores.values()))
    if statistic == "min":
        worst = found.results[found.results["seed"] < 2].groupby("learning_rate")["validation_qos"].min()
        assert sorted(table["chosen"]) == pytest.approx(sorted(worst))  # the worst run of the worst environment


def test_what_exceeds_a_limit_comes_last():
    free = ranked(metric="qos")
    costs = means(free, "validation_transmission_cost")
    top = float((costs.min() + costs.sort_values().iloc[1]) / 2)
    found = ranked(metric="qos", limits={"transmission_cost": top})
    table = found.ranking()
    assert table["within_limits"].tolist() == [True, False, False]
    assert table["learning_rate"][0] == costs.idxmin()
    assert table["chosen"][1] >= table["chosen"][2]
    none = ranked(metric="qos", limits={"transmission_cost": 0.0})
    assert not none.ranking()["within_limits"].any()
    assert none.ranking()["learning_rate"].tolist() == free.ranking()["learning_rate"].tolist()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"objective.metric": "quality"}, "objective: an evaluation has no metric 'quality'; choose among normalised"),
        ({"objective.limits": {"latency": 3.0}}, "objective: an evaluation has no metric 'latency'; choose among"),
        ({"objective.limits": {"auto": 3.0}}, "objective: an evaluation has no metric 'auto'"),
        ({"objective.metric": "normalised", "baselines": ["random"]}, "'normalised' needs the baseline one_slot_opt"),
        ({"objective.limits": {"normalised": 1.0}, "baselines": "none"}, "'normalised' needs the baseline random"),
    ],
)
def test_what_cannot_be_ranked_by_is_refused_before_training(tmp_path, overrides, message):
    with pytest.raises(InputError, match=message):
        tiny.sweep(tmp_path / "out", overrides)
    assert not (tmp_path / "out").exists()


def test_without_baselines_it_is_the_qos():
    found = tiny.sweep(None, {**RATES, "baselines": "none"})
    assert found.tables.measure == "qos"
    best = means(found, "validation_qos").sort_values()[::-1]
    assert found.ranking()["chosen"].tolist() == pytest.approx(best.tolist())


def winners(folder, tmp_path):
    """The learning rate of the winner, as everybody who names one names it."""
    experiment = jaxmoe.load(folder)
    agent = jaxmoe.export(folder, tmp_path / "policy.safetensors").agent["number"]
    results = experiment.results.set_index("agent")
    comparison = experiment.comparison()
    own = comparison[comparison["policy"].str.startswith("ppo")]
    said = {
        "best()": experiment.best()["learning_rate"],
        "ranking()": experiment.ranking()["learning_rate"][0],
        "export": results.loc[agent, "learning_rate"],
        "policy()": experiment.policy().contract.hypers["learning_rate"],
    }
    configuration = set(own["configuration"])
    assert configuration == {experiment.best()["configuration"]}
    printed = tiny.command("best", folder).stdout
    said["jaxmoe best"] = float(re.search(r"learning rate ([\d.e-]+)", printed)[1])
    assert f"best agent: {agent};" in printed
    again = tiny.command("sweep", tmp_path / "spec.toml", "--out", folder).stdout
    lines = again.splitlines()
    row = lines[1 + next(n for n, line in enumerate(lines) if line.split()[:1] == ["no."])].split()
    assert row[0] == str(experiment.best()["configuration"])
    said["printed table"] = float(row[1])
    said["status"] = float(re.search(r"learning rate ([\d.e-]+)", tiny.command("status", folder).stdout)[1])
    said["report"] = float(re.search(r"learning rate ([\d.e-]+) wins", jaxmoe.report(folder).sentences[0])[1])
    served = experiment.evaluate(requests=256, baselines="none")
    mine = served[(served["metric"] == "qos") & (served["split"] == "train")]["mean"].item()
    rows = experiment.results[experiment.results["learning_rate"] == said["best()"]]
    return said, mine, rows


@pytest.mark.parametrize(
    "objective",
    [
        {"metric": "qos"},
        pytest.param({"metric": "latency_s"}, marks=pytest.mark.slow),
        pytest.param({"metric": "normalised", "statistic": "min"}, marks=pytest.mark.slow),
        {"metric": "qos", "limits": {"transmission_cost": 0.15}},
    ],
    ids=str,
)
def test_everybody_names_the_same_configuration(tmp_path, objective):
    spec = {**tiny.SPEC, "objective": objective, "params": {"latency_weight": 0.0}, "seeds": 4}
    spec["hypers"] = {"learning_rate": [1e-3, 3e-3, 1e-2]}
    tiny.sweep(tmp_path / "out", spec=spec)
    tiny.spec_file(tmp_path / "spec.toml", spec)
    said, served, rows = winners(tmp_path / "out", tmp_path)
    assert len(set(said.values())) == 1, said
    assert served == pytest.approx(rows["validation_qos"].mean(), abs=0.1)
