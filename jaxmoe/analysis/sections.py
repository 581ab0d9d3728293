"""The sections of a report."""

import json
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxmoe.analysis import charts, page
from jaxmoe.analysis.answer import NAMES, ON_PROMPTS, WINNER, Answer, answer, baseline_table
from jaxmoe.analysis.comparison import margin
from jaxmoe.analysis.environments import ByEnvironment, by_environment, environment_charts
from jaxmoe.analysis.intervals import Estimate
from jaxmoe.analysis.landscape import landscape_charts, points_of
from jaxmoe.analysis.page import Section, paragraph
from jaxmoe.analysis.ranking import Ranking, confirmed, listed, value, words
from jaxmoe.analysis.remarks import remarks
from jaxmoe.analysis.sensitivity import sensitivity_table
from jaxmoe.analysis.statistics import divergence_rate, sure
from jaxmoe.analysis.status import Standing
from jaxmoe.analysis.style import Drawing
from jaxmoe.analysis.tables import Tables, measure_words
from jaxmoe.names import slug
from jaxmoe.progress import duration
from jaxmoe.table.splits import told

MOST_ROWS = 1000  # of the table of configurations
MOST_VALUES = 12  # of an axis, in the table of diverged agents


class Found(NamedTuple):
    """What is said of one scenario."""

    sentences: list[str]  # who wins, where, and what matters
    opening: str
    parts: list[Section]
    drawings: list[Drawing]
    tables: dict[str, pd.DataFrame]  # kept as CSV beside the figures


def asked(tables: Tables) -> str:
    """What was searched, in a line."""
    spec, agents = tables.spec, tables.agents
    counts = {
        "configuration": len(agents[["algorithm", *tables.configuration_columns]].drop_duplicates()),
        "environment": agents["environment"].nunique(),
        "seed": agents["seed"].nunique(),
    }
    said = listed([f"{count:,} {name}{'s' if count != 1 else ''}" for name, count in counts.items()])
    algorithms = ", ".join(name.upper() for name in spec["algorithm"])
    return (
        f"{algorithms} in {', '.join(spec['scenario'])}, {len(agents):,} agents ({said}), {spec['env_steps']:,} env "
        "steps each"
    )


def standing_note(tables: Tables, at: Standing) -> str:
    """What a reader must know before the numbers: that the experiment is unfinished, or agents diverged."""
    notes = []
    if not at.complete:
        notes.append(f"This experiment is not finished: {at}. What follows is of the agents trained so far.")
    if at.trained and at.diverged == at.trained:
        when = "that were kept before" if tables.spec.get("keep") == "best" else "at that moment"
        notes.append(f"Every agent diverged: the scores are those of the policies {when}, and choose nothing.")
    if "stopped" in tables.results and tables.results["stopped"].any():
        ended = tables.results.loc[tables.results["stopped"].astype(bool), "env_steps"]
        after = f"{ended.min():,} to {ended.max():,}"
        notes.append(f"{len(ended):,} of {at.trained:,} agents stopped early, after {after} env steps.")
    if "train_normalised" not in tables.results:
        notes.append("No baselines are evaluated that a normalised score needs, so that there is none.")
    elif tables.alike:
        notes.append(
            f"The baselines that stand for 0 and for 1 differ too little on {listed(tables.alike)} prompts for a "
            "normalised score; QoS is told in its place."
        )
    return "".join(paragraph(note, "warning") for note in notes)


def of_ranking(ranking: Ranking, several: bool) -> Found:
    """Everything about one scenario."""
    prefix = f"{slug(ranking.scenario)}_" if several else ""
    where = f" ({ranking.scenario})" if several else ""
    found = answer(ranking)
    fresh = confirmed(ranking, ranking.winner)
    opening, baseline = _opening(ranking, found, fresh, prefix)
    curves = charts.curve_chart(ranking, prefix)
    profile = charts.profile_chart(ranking, prefix)
    parts = [Section(f"{prefix}learning", f"Learning{where}", page.figures([curves, profile]))]
    drawings = [*([baseline] if baseline else []), curves, profile]
    ranked, sentences = ranking.table(), [_sentence(ranking, found)]
    tables = {f"{prefix}configurations": ranked, f"{prefix}comparison": found.found}
    where_better = by_environment(ranking, found.strongest_rule())
    if where_better is not None:
        maps = environment_charts(where_better, prefix)
        parts.append(
            Section(
                f"{prefix}environments",
                f"Environment by environment{where}",
                _by_environment(where_better) + page.figures(maps),
            )
        )
        drawings += maps
        sentences += [f"{ranking.scenario}: {text}" for text in where_better.sentences(told(ranking.tables.splits))]
        tables[f"{prefix}environments"] = where_better.leads
    landscape, said = _landscape(ranking, prefix)
    if landscape:
        text = "".join(paragraph(f"{sentence[0].upper()}{sentence[1:]}.", "note") for sentence in said)
        parts.append(Section(f"{prefix}matters", f"What matters{where}", text + page.figures(landscape)))
    configurations = _configurations(ranking, ranked, prefix)
    parts.append(Section(f"{prefix}configurations", f"Configurations{where}", configurations))
    parts.append(Section(f"{prefix}diverged", f"Diverged{where}", _diverged(ranking)))
    behaviour = _behaviour(ranking, fresh, prefix)
    parts.append(Section(f"{prefix}policy", f"What the policy does{where}", page.figures(behaviour)))
    sentences += [f"{ranking.scenario}: {text}" for text in said]
    return Found(sentences, opening, parts, [*drawings, *landscape, *behaviour], tables)


def of_tables(tables: Tables, competitions: list[Ranking]) -> list[Section]:
    """What is said once: sensitivity, compute, and how to do it again."""
    sections = []
    sensitivity = sensitivity_table(competitions)
    if sensitivity is not None:
        text = (
            "For each environment: the configuration that is best there against the one that is best on average over "
            "all, both chosen on the same seeds and measured on the others. The larger the loss, the more tuning "
            "depends on where one is."
        )
        sections.append(Section("sensitivity", "Sensitivity", paragraph(text) + page.table(sensitivity)))
    return [*sections, Section("compute", "Compute", _compute(tables)), Section("again", "Do it again", _again(tables))]


def _sentence(ranking: Ranking, found: Answer) -> str:
    if ranking.diverged().all():
        return f"{ranking.scenario}: every agent diverged"
    scores = []
    for split in told(ranking.tables.splits):
        best = found.estimate(split, "normalised") or found.estimate(split, "qos") or found.measured[split]
        scores.append(f"{best:.3f} {ON_PROMPTS[split]}")
    kind = "normalised score" if found.estimate("train", "normalised") else "QoS"
    verb = "wins," if len(ranking.configurations) > 1 else "reaches"
    return f"{ranking.scenario}: {found.winner} {verb} {kind} {', '.join(scores)}"


def _opening(ranking: Ranking, found: Answer, fresh: Ranking | None, prefix: str) -> tuple[str, Drawing | None]:
    metric = "normalised" if found.estimate("train", "normalised") else "qos"
    several = len(ranking.configurations) > 1
    verb = f"wins among {len(ranking.configurations):,} configurations" if several else "is the only configuration"
    survived = not ranking.diverged().all()
    heading = f"In {ranking.scenario}, {f'{found.winner} {verb}' if survived else 'every agent diverged'}"
    left = [f"<h1>{page.as_html(heading)}</h1>"]
    if survived:
        left.append(page.tiles(_tiles(ranking, found, metric)))
        left += [paragraph(text) for text in found.verdicts(told(ranking.tables.splits))]
        left += [
            paragraph(_how_sure(ranking, found)),
            paragraph(_fresh_text(ranking, found, fresh), "" if fresh else "note"),
        ]
    compared = found.strongest_rule() is not None
    drawing = charts.baseline_chart(found.found, WINNER, metric, prefix) if compared else None
    right = page.figure(drawing) if drawing else ""
    rows = baseline_table(found, told(ranking.tables.splits))
    table = page.table(rows, texts=["policy", "knows"], winner=WINNER) if drawing else ""
    said = (
        remarks(found.found, WINNER, ranking.diverged()[ranking.winner].ravel(), ranking.tables.chooses)
        if survived
        else []
    )
    table += "".join(paragraph(text, "note") for text in said)
    return f'<div class="answer"><div>{"".join(left)}</div><div>{right}</div></div>{table}', drawing


def _tiles(ranking: Ranking, found: Answer, metric: str) -> list[tuple[str, str, str]]:
    kind = measure_words(metric)
    tiles = []
    for split in told(ranking.tables.splits):
        best = found.estimate(split, metric)
        if best is not None:
            tiles.append((f"{kind}, {NAMES[split]}", f"{best.mean:.3f}", _ends(best)))
    rule = found.strongest_rule()
    split = told(ranking.tables.splits)[-1]
    lead = found.estimate(split, "ahead", rule) if rule else None
    if rule and lead is not None:
        remark = f"{_ends(lead)} {ON_PROMPTS[split]}".strip()
        tiles.append((f"QoS beyond {rule}", f"{lead.mean:+.3f}".replace("-", "\N{MINUS SIGN}"), remark))
    return tiles


def _ends(of: Estimate) -> str:
    """Of an interval, if there is one."""
    return "" if np.isnan(of.low) else f"[{of.low:.3f}, {of.high:.3f}]"


def _how_sure(ranking: Ranking, found: Answer) -> str:
    measured, kind = found.measured[found.chosen_by], measure_words(ranking.tables.measure)
    others = ", ".join(f"{name} {of:.3f}" for name, of in found.aggregates.items())
    text = f"Interquartile mean of its {kind} over seeds {measured:.3f} {ON_PROMPTS[found.chosen_by]} ({others})"
    if ranking.runs < 2:
        return f"{text}. There is one seed only: it is measured where it was chosen, and chance is not told from skill."
    if len(ranking.configurations) == 1:
        return f"{text}."
    text += (
        f", on {_counted(ranking.measured_on)} on which nothing was chosen; on {_counted(ranking.chosen_on)} "
        f"that chose it, {found.chosen.mean:.3f}."
    )
    if found.over_runner_up is not None:
        splits = list(dict.fromkeys((found.chosen_by, ranking.tables.splits[-1])))
        margins = [(split, of) for split in splits if (of := margin(ranking, split)) is not None]
        said = listed([f"{of:.3f} {ON_PROMPTS[split]}" for split, of in margins])
        text += (
            f" On these seeds its margin over the second ({ranking.describe(int(ranking.order[1]))}) is {said}; one of "
            f"its agents beats one of the second with probability {sure(found.over_runner_up)}."
        )
    return text


def _counted(runs: slice) -> str:
    """How many seeds some runs are, in words."""
    count = runs.stop - runs.start
    return f"{count} seeds" if count != 1 else "one seed"


def _fresh_text(ranking: Ranking, found: Answer, fresh: Ranking | None) -> str:
    if fresh is None:
        return f"jaxmoe confirm {ranking.tables.where} --seeds 32 trains the winner again on seeds that chose nothing."
    again = {split: charts.whole_iqm(fresh, split) for split in ranking.tables.splits}
    said = ", ".join(f"{of:.3f} {ON_PROMPTS[split]}" for split, of in again.items())
    change, where = again[found.chosen_by].mean - found.chosen.mean, ON_PROMPTS[found.chosen_by]
    than = f"{abs(change):.3f} {'less' if change < 0 else 'more'} {where} than on the seeds that chose it"
    return f"Trained again on {fresh.runs} fresh seeds it reaches {said} (interquartile mean), {than}."


def _landscape(ranking: Ranking, prefix: str) -> tuple[list[Drawing], list[str]]:
    """Figures of what matters, and the same in a sentence for each algorithm."""
    drawings, sentences = [], []
    for points in points_of(ranking):
        found = points.importance()
        if found is not None:
            chart = found.chart(prefix)
            drawings += [] if chart is None else [chart]
            sentences.append(found.sentence())
        drawings += landscape_charts(points, found, prefix)
    return drawings, sentences


def _by_environment(found: ByEnvironment) -> str:
    text = (
        "The winner in each environment, in QoS on the same requests, with 95 % intervals over seeds, prompts and "
        "episodes. Click a heading to sort."
    )
    return paragraph(text, "note") + page.table(found.cells, texts=["environment"], sortable=True)


def _configurations(ranking: Ranking, rows: pd.DataFrame, prefix: str) -> str:
    whole, rows = rows, rows.head(MOST_ROWS)
    shown = pd.DataFrame({"rank": rows["rank"]})
    if len(set(ranking.configurations["algorithm"])) > 1:
        shown["algorithm"] = rows["algorithm"].str.upper()
    for axis in ranking.axes:
        shown[words(axis)] = [(value(cell), cell) for cell in rows[axis]]
    shown["chosen on"] = [_number(cell) for cell in rows["chosen"]]
    for split in ranking.tables.splits:
        name = f"{NAMES[split]}, measured"
        bounds = zip(rows[split], rows[f"{split}_low"], rows[f"{split}_high"], strict=True)
        shown[name] = [_number(mean, low, high) for mean, low, high in bounds]
    shown["agents"] = rows["seeds"]
    if "within_limits" in rows:
        shown["within limits"] = ["yes" if kept else "no" for kept in rows["within_limits"]]
    if "below_random" in rows:
        shown["worse than random"] = rows["below_random"]
    shown["diverged"] = rows["diverged"]
    kind = measure_words(ranking.tables.measure)
    text = (
        f"Interquartile means of the {kind} with 95 % intervals over seeds, best first. Configurations are ranked "
        f"by the {ranking.tables.objective} and {_seeds(ranking, ranking.chosen_on)} (chosen on), and measured on "
        f"{_seeds(ranking, ranking.measured_on)}; unseen prompts choose nothing. Click a heading to sort."
    )
    if ranking.left_out:
        text += f" {ranking.left_out} configurations are left out: not all their agents are trained yet."
    if len(whole) > MOST_ROWS:
        text += f" The best {MOST_ROWS:,} are shown; all are in figures/{prefix}configurations.csv."
    return paragraph(text, "note") + page.table(shown, texts=["algorithm"], sortable=True)


def _seeds(ranking: Ranking, runs: slice) -> str:
    """Those of some runs, in words: of a single one its number."""
    first, *others = ranking.seeds[runs]
    return f"the {'last' if runs.start else 'first'} {1 + len(others)} seeds" if others else f"seed {first}"


def _number(mean: float, low: float = np.nan, high: float = np.nan) -> tuple[str, float]:
    return (f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"), mean


def _diverged(ranking: Ranking) -> str:
    diverged = ranking.diverged()
    rate = divergence_rate(diverged.ravel())
    if not diverged.any():
        return paragraph(
            f"None of {diverged.size:,} agents diverged; 95 % interval of the rate: up to {rate.high:.1%}."
        )
    text = paragraph(f"{int(diverged.sum()):,} of {diverged.size:,} agents diverged: {rate:.1%}. By axis:")
    lines = []
    for axis in [name for name in ("algorithm", *ranking.axes) if len(set(ranking.configurations[name])) > 1]:
        column = ranking.configurations[axis]
        few = column.nunique() <= MOST_VALUES
        groups = (
            column
            if few
            else pd.qcut(column.rank(method="first"), 4, labels=["lowest quarter", "2nd", "3rd", "highest"])
        )
        for cell, numbers in ranking.configurations.groupby(groups, observed=True, sort=True).groups.items():
            found = divergence_rate(diverged[np.asarray(numbers)].ravel())
            lines.append({"axis": words(axis), "value": value(cell), "diverged": (f"{found:.1%}", found.mean)})
    return text + page.table(pd.DataFrame(lines), texts=["axis", "value"], sortable=True)


def _behaviour(ranking: Ranking, fresh: Ranking | None, prefix: str) -> list[Drawing]:
    trade = charts.trade_off_table(ranking)
    drawings = [charts.trade_off_chart(trade, prefix)]
    drawings.append(charts.expert_chart(ranking, prefix))
    watched = ranking.tables.behaviour
    if fresh is not None and watched is not None:
        own = watched[watched["scenario"] == ranking.scenario]
        if len(own):
            drawings += charts.behaviour_charts(own, list(ranking.tables.experts), prefix)
    return drawings


def _compute(tables: Tables) -> str:
    lines = []
    for algorithm in dict.fromkeys(tables.results["algorithm"]):
        jobs = [job for job in tables.jobs if job.algorithm == algorithm]
        steps = sum(job.agents * job.env_steps for job in jobs)
        seconds = sum(job.agents * job.env_steps / job.env_steps_per_s for job in jobs if job.env_steps_per_s)
        lines.append(
            {
                "algorithm": algorithm.upper(),
                "agents": f"{int((tables.results['algorithm'] == algorithm).sum()):,}",
                "jobs": len(jobs),
                "env steps": f"{steps:,}",
                "env steps/s": f"{steps / seconds:,.0f}" if seconds else "",
                "training": duration(seconds),
                "device": ", ".join(sorted({job.device for job in jobs})),
            }
        )
    text = paragraph("Time is that of training alone, without compiling and evaluating.", "note")
    return page.table(pd.DataFrame(lines), texts=["algorithm", "device"]) + text


def _again(tables: Tables) -> str:
    versions = sorted({job.versions for job in tables.jobs})
    text = page.code(f"jaxmoe sweep {tables.where}/spec.toml --out NEW_FOLDER\njaxmoe report NEW_FOLDER")
    facts = [
        f"Versions: {'; '.join(versions)}." if versions else "",
        f"Expert table: sha256 {tables.table_digest}.",
    ]
    text += "".join(paragraph(fact) for fact in facts if fact)
    figures = "Every figure is in figures/ as PDF and PNG, with its data as CSV."
    return text + paragraph(figures) + page.code(json.dumps(tables.spec, indent=1))
