"""The sections of a report."""

from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxmoe.progress import duration
from jaxmoe.study import charts, page
from jaxmoe.study.answer import NAMES, PLACES, WINNER, Answer, answer, reference_table
from jaxmoe.study.arena import Arena, arenas, value, words
from jaxmoe.study.landscape import importance_chart, importance_sentence, landscape_charts, points_of
from jaxmoe.study.page import Section, paragraph
from jaxmoe.study.places import Places, place_charts, places
from jaxmoe.study.reading import MEASURES, Study, read_study
from jaxmoe.study.sensitivity import sensitivity_table
from jaxmoe.study.statistics import divergence_rate
from jaxmoe.study.status import Standing
from jaxmoe.study.style import Drawing

BEHAVIOUR = "behaviour.parquet"
MOST_VALUES = 12  # of an axis, in the table of diverged agents


class Found(NamedTuple):
    """What is said of one scenario."""

    sentences: list[str]  # who wins, where, and what matters
    opening: str
    parts: list[Section]
    drawings: list[Drawing]
    tables: dict[str, pd.DataFrame]  # kept as CSV beside the figures


def best_folder(study: Study, scenario: str, algorithm: str | None = None) -> Path:
    """Where the training on fresh seeds of the winner, or of the best setting of an algorithm, is kept."""
    return study.folder / (f"best-{scenario}-{algorithm}" if algorithm else f"best-{scenario}")


def asked(study: Study) -> str:
    """What was searched, in a line."""
    spec, agents = study.spec, study.agents
    own = ["algorithm", *study.setting_columns, *study.place_columns]
    settings, seeds = len(agents.drop_duplicates(own)), agents["seed"].nunique()
    algorithms = ", ".join(name.upper() for name in spec["algorithm"])
    return (
        f"{algorithms} in {', '.join(spec['scenario'])}, {len(agents):,} agents ({settings:,} configurations x {seeds} "
        f"seeds), {spec['env_steps']:,} env steps each"
    )


def standing_note(study: Study, at: Standing) -> str:
    """What a reader must know before the numbers: that the sweep is unfinished, or agents diverged."""
    notes = []
    if not at.complete:
        notes.append(f"This sweep is not finished: {at}. What follows is of the agents trained so far.")
    if at.trained and at.diverged == at.trained:
        notes.append("Every agent diverged: the scores are those of the policies at that moment, and choose nothing.")
    if study.measure == "qos":
        notes.append(
            "The references are not evaluated, so that there is no normalised score: agents are ranked by QoS."
        )
    return "".join(paragraph(note, "warning") for note in notes)


def of_arena(arena: Arena, several: bool) -> Found:
    """Everything about one scenario."""
    prefix = f"{arena.scenario}_" if several else ""
    where = f" ({arena.scenario})" if several else ""
    found = answer(arena)
    fresh = _fresh(arena)
    opening, reference = _opening(arena, found, fresh, prefix)
    curves = charts.curve_chart(arena, found.found, prefix)
    profile = charts.profile_chart(arena, prefix)
    parts = [Section(f"{prefix}learning", f"Learning{where}", page.figures([curves, profile]))]
    drawings = [*([reference] if reference else []), curves, profile]
    settings, sentences = arena.table(), [_sentence(arena, found)]
    tables = {f"{prefix}settings": settings, f"{prefix}comparison": found.found}
    where_better = places(arena, found.strongest_rule())
    if where_better is not None:
        maps = place_charts(where_better, prefix)
        parts.append(
            Section(f"{prefix}places", f"Environment by environment{where}", _places(where_better) + page.figures(maps))
        )
        drawings += maps
        sentences += [f"{arena.scenario}: {text}" for text in where_better.sentences(arena.study.splits)]
        tables[f"{prefix}environments"] = where_better.leads
    landscape, said = _landscape(arena, prefix)
    if landscape:
        parts.append(Section(f"{prefix}matters", f"What matters{where}", page.figures(landscape)))
    parts.append(Section(f"{prefix}settings", f"Settings{where}", _settings(arena, settings)))
    parts.append(Section(f"{prefix}diverged", f"Diverged{where}", _diverged(arena)))
    behaviour = _behaviour(arena, fresh, prefix)
    parts.append(Section(f"{prefix}policy", f"What the policy does{where}", page.figures(behaviour)))
    sentences += [f"{arena.scenario}: {text}" for text in said]
    return Found(sentences, opening, parts, [*drawings, *landscape, *behaviour], tables)


def of_study(study: Study, competitions: list[Arena]) -> list[Section]:
    """What is said once: sensitivity, compute, and how to do it again."""
    sections = []
    sensitivity = sensitivity_table(competitions)
    if sensitivity is not None:
        text = (
            "For each environment: the setting that is best there against the one that is best on average over all, "
            "both chosen on the same seeds and judged on the others. The larger the loss, the more tuning depends on "
            "where one is."
        )
        sections.append(Section("sensitivity", "Sensitivity", paragraph(text) + page.table(sensitivity)))
    return [*sections, Section("compute", "Compute", _compute(study)), Section("again", "Do it again", _again(study))]


def _sentence(arena: Arena, found: Answer) -> str:
    if arena.diverged().all():
        return f"{arena.scenario}: every agent diverged"
    scores = []
    for split in arena.study.splits:
        best = found.estimate(split, "normalised") or found.estimate(split, "qos") or found.judged[split]
        scores.append(f"{best:.3f} {PLACES[split]}")
    kind = "normalised score" if found.estimate("train", "normalised") else "QoS"
    verb = "wins," if len(arena.settings) > 1 else "reaches"
    return f"{arena.scenario}: {found.winner} {verb} {kind} {', '.join(scores)}"


def _opening(arena: Arena, found: Answer, fresh: Arena | None, prefix: str) -> tuple[str, Drawing | None]:
    metric = "normalised" if found.estimate("train", "normalised") else "qos"
    verb = f"wins among {len(arena.settings):,} settings" if len(arena.settings) > 1 else "is the only setting"
    survived = not arena.diverged().all()
    heading = f"In {arena.scenario}, {f'{found.winner} {verb}' if survived else 'every agent diverged'}"
    left = [f"<h1>{escape(heading)}</h1>"]
    if survived:
        left.append(page.tiles(_tiles(arena, found, metric)))
        left += [paragraph(text) for text in found.verdicts(arena.study.splits)]
        left += [
            paragraph(_how_sure(arena, found)),
            paragraph(_fresh_text(arena, found, fresh), "" if fresh else "note"),
        ]
    compared = found.strongest_rule() is not None
    drawing = charts.reference_chart(found.found, WINNER, metric, prefix) if compared else None
    right = page.figure(drawing) if drawing else ""
    rows = reference_table(found, arena.study.splits)
    table = page.table(rows, texts=["policy", "knows"], winner=WINNER) if drawing else ""
    return f'<div class="answer"><div>{"".join(left)}</div><div>{right}</div></div>{table}', drawing


def _tiles(arena: Arena, found: Answer, metric: str) -> list[tuple[str, str, str]]:
    kind = MEASURES[metric]
    tiles = []
    for split in arena.study.splits:
        best = found.estimate(split, metric)
        if best is not None:
            tiles.append((f"{kind}, {NAMES[split]}", f"{best.mean:.3f}", f"[{best.low:.3f}, {best.high:.3f}]"))
    rule = found.strongest_rule()
    split = arena.study.splits[-1]
    lead = found.estimate(split, "ahead", rule) if rule else None
    if rule and lead is not None:
        remark = f"[{lead.low:.3f}, {lead.high:.3f}] {PLACES[split]}"
        tiles.append((f"QoS beyond {rule}", f"{lead.mean:+.3f}".replace("-", "\N{MINUS SIGN}"), remark))
    return tiles


def _how_sure(arena: Arena, found: Answer) -> str:
    judged, kind = found.judged["train"], MEASURES[arena.study.measure]
    others = ", ".join(f"{name} {of:.3f}" for name, of in found.aggregates.items())
    text = f"Interquartile mean of its {kind} over seeds {judged:.3f} on train prompts ({others})"
    if arena.runs < 2:
        return f"{text}. There is one seed only: it is judged where it was chosen, and chance is not told from skill."
    if len(arena.settings) == 1:
        return f"{text}."
    text += (
        f", on {arena.judged_on.stop - arena.judged_on.start} seeds on which nothing was chosen; on the "
        f"{arena.chosen_on.stop} seeds that chose it, {found.chosen.mean:.3f}."
    )
    if found.over_runner_up is not None:
        text += (
            f" One of its agents beats one of the runner-up ({arena.describe(int(arena.ranking[1]))}) with probability "
            f"{found.over_runner_up:.2f}."
        )
    return text


def _fresh(arena: Arena) -> Arena | None:
    """The winner's training on fresh seeds, if there is one."""
    folder = best_folder(arena.study, arena.scenario)
    if not (folder / "results.parquet").is_file():
        return None
    found = arenas(read_study(folder))
    same = found and found[0].describe(0, arena.axes) == arena.describe(arena.winner)
    return found[0] if same else None


def _fresh_text(arena: Arena, found: Answer, fresh: Arena | None) -> str:
    if fresh is None:
        return f"jaxmoe best {arena.study.folder} --fresh-seeds 32 trains the winner again on seeds that chose nothing."
    again = {split: charts.whole_iqm(fresh, split) for split in arena.study.splits}
    said = ", ".join(f"{of:.3f} {PLACES[split]}" for split, of in again.items())
    drop = found.chosen.mean - again["train"].mean
    return f"Trained again on {fresh.runs} fresh seeds it reaches {said} (interquartile mean), a drop of {drop:.3f}."


def _landscape(arena: Arena, prefix: str) -> tuple[list[Drawing], list[str]]:
    """Figures of what matters, and the same in a sentence for each algorithm."""
    drawings, sentences = [], []
    for points in points_of(arena):
        found = points.importance()
        if found is not None:
            drawings.append(importance_chart(points, found, prefix))
            sentences.append(importance_sentence(points, found))
        drawings += landscape_charts(points, found, prefix)
    return drawings, sentences


def _places(found: Places) -> str:
    text = (
        "The winner in each environment, in QoS on the same requests, with 95 % intervals over prompts and seeds. "
        "Click a heading to sort."
    )
    return paragraph(text, "note") + page.table(found.cells, texts=["environment"], sortable=True)


def _settings(arena: Arena, rows: pd.DataFrame) -> str:
    shown = pd.DataFrame({"rank": rows["rank"]})
    if len(set(arena.settings["algorithm"])) > 1:
        shown["algorithm"] = rows["algorithm"].str.upper()
    for axis in arena.axes:
        shown[words(axis)] = [(value(cell), cell) for cell in rows[axis]]
    shown["chosen on"] = [_number(cell) for cell in rows["chosen"]]
    for split in arena.study.splits:
        name = {"train": "train, judged", "test": "unseen, judged"}[split]
        bounds = zip(rows[split], rows[f"{split}_low"], rows[f"{split}_high"], strict=True)
        shown[name] = [_number(mean, low, high) for mean, low, high in bounds]
    shown["agents"] = rows["seeds"]
    if "below_random" in rows:
        shown["worse than random"] = rows["below_random"]
    shown["diverged"] = rows["diverged"]
    kind = MEASURES[arena.study.measure]
    text = (
        f"Interquartile means of the {kind} with 95 % intervals over seeds, best first. Settings are ranked on train "
        f"prompts and {_seeds(arena.chosen_on)} (chosen on), and judged on {_seeds(arena.judged_on)}; unseen prompts "
        "choose nothing. Click a heading to sort."
    )
    if arena.left_out:
        text += f" {arena.left_out} settings are left out: not all their agents are trained yet."
    return paragraph(text, "note") + page.table(shown, texts=["algorithm"], sortable=True)


def _seeds(runs: slice) -> str:
    count = runs.stop - runs.start
    return f"the {'first' if runs.start == 0 else 'last'} {count} seeds" if count > 1 else f"seed {runs.start + 1}"


def _number(mean: float, low: float = np.nan, high: float = np.nan) -> tuple[str, float]:
    return (f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} [{low:.3f}, {high:.3f}]"), mean


def _diverged(arena: Arena) -> str:
    diverged = arena.diverged()
    rate = divergence_rate(diverged.ravel())
    if not diverged.any():
        return paragraph(
            f"None of {diverged.size:,} agents diverged; 95 % interval of the rate: up to {rate.high:.1%}."
        )
    text = paragraph(f"{int(diverged.sum()):,} of {diverged.size:,} agents diverged: {rate:.1%}. By axis:")
    lines = []
    for axis in [name for name in ("algorithm", *arena.axes) if len(set(arena.settings[name])) > 1]:
        column = arena.settings[axis]
        few = column.nunique() <= MOST_VALUES
        groups = (
            column
            if few
            else pd.qcut(column.rank(method="first"), 4, labels=["lowest quarter", "2nd", "3rd", "highest"])
        )
        for cell, numbers in arena.settings.groupby(groups, observed=True, sort=True).groups.items():
            found = divergence_rate(diverged[np.asarray(numbers)].ravel())
            lines.append({"axis": words(axis), "value": value(cell), "diverged": (f"{found:.1%}", found.mean)})
    return text + page.table(pd.DataFrame(lines), texts=["axis", "value"], sortable=True)


def _behaviour(arena: Arena, fresh: Arena | None, prefix: str) -> list[Drawing]:
    trade = charts.trade_off_table(arena)
    drawings = [charts.trade_off_chart(trade, prefix)]
    drawings.append(charts.expert_chart(charts.expert_table(arena), prefix))
    path = best_folder(arena.study, arena.scenario) / BEHAVIOUR
    if fresh is not None and path.is_file():
        drawings += charts.behaviour_charts(pd.read_parquet(path), arena.study.experts, prefix)
    return drawings


def _compute(study: Study) -> str:
    parts = [about for about in study.manifest["done"].values() if "env_steps_per_s" in about]
    rows = study.agents[["agent", "algorithm"]]
    lines = []
    for algorithm in dict.fromkeys(study.results["algorithm"]):
        own = set(rows[rows["algorithm"] == algorithm]["agent"])
        chunks = [about for about in parts if own & set(about["agents"])]
        agents = sum(len(about["agents"]) for about in chunks)
        steps = agents * study.spec["env_steps"]
        seconds = sum(
            len(about["agents"]) * study.spec["env_steps"] / about["env_steps_per_s"]
            for about in chunks
            if about["env_steps_per_s"]
        )
        devices = {f"{about['device']['count']} x {about['device']['kind']}" for about in chunks}
        lines.append(
            {
                "algorithm": algorithm.upper(),
                "agents": f"{agents:,}",
                "chunks": len(chunks),
                "env steps": f"{steps:,}",
                "env steps/s": f"{steps / seconds:,.0f}" if seconds else "",
                "training": duration(seconds),
                "device": ", ".join(sorted(devices)),
            }
        )
    text = paragraph("Time is that of training alone, without compiling and evaluating.", "note")
    return page.table(pd.DataFrame(lines), texts=["algorithm", "device"]) + text


def _again(study: Study) -> str:
    manifest = study.manifest
    parts = list(manifest["done"].values())
    versions = sorted(
        {", ".join(f"{k} {v}" for k, v in about["versions"].items()) for about in parts if "versions" in about}
    )
    spec = study.folder / "spec.toml"
    text = page.code(f"jaxmoe sweep {study.folder}/spec.toml --out NEW_FOLDER\njaxmoe report NEW_FOLDER")
    facts = [
        f"Versions: {'; '.join(versions)}." if versions else "",
        f"Expert table: sha256 {manifest['table_digest']}.",
    ]
    text += "".join(paragraph(fact) for fact in facts if fact)
    figures = "Every figure is in figures/ as PDF and PNG, with its data as CSV."
    return text + paragraph(figures) + (page.code(spec.read_text()) if spec.is_file() else "")
