"""The report: its numbers follow the tables, its page stands alone, and a browser shows it."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import synthetic

from jaxmoe.analysis import page, report
from jaxmoe.analysis.report import REPORT, make_report
from jaxmoe.analysis.tables import Objective
from jaxmoe.errors import InputError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
PROBE = """
<script>
const told = { errors: window.errors ?? [], figures: [], sorted: {} };
for (const svg of document.querySelectorAll("figure svg")) {
  const box = svg.getBoundingClientRect();
  told.figures.push([box.width, box.height]);
}
const table = [...document.querySelectorAll("table")].find((each) => each.querySelector("th[aria-sort]"));
const column = [...table.tHead.rows[0].cells].findIndex((head) => head.textContent === "train, measured");
const read = () => [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[column].dataset.value));
table.tHead.rows[0].cells[column].click();
told.sorted.ascending = read();
table.tHead.rows[0].cells[column].click();
told.sorted.descending = read();
told.light = getComputedStyle(document.body).backgroundColor;
document.getElementById("theme").click();
told.dark = getComputedStyle(document.body).backgroundColor;
const pre = document.createElement("pre");
pre.id = "told";
pre.textContent = JSON.stringify(told);
document.body.append(pre);
</script></body>"""
WATCH = """<script>
window.errors = [];
window.onerror = (message) => errors.push(message);
console.error = (message) => errors.push(message);
</script>"""


@pytest.fixture(scope="module")
def reported(finished):
    return make_report(finished)


@pytest.fixture
def plain(monkeypatch):
    """A report whose figures are made but not written, which takes most of the time: its page and itself."""
    monkeypatch.setattr(report, "files_of", lambda _: {})
    monkeypatch.setattr(page, "inline_svg", lambda _: "<svg></svg>")

    def made(tables):
        found = make_report(tables)
        return found.files[REPORT].decode(), found

    return made


def csv(found, name):
    return pd.read_csv(io.BytesIO(found.files[f"figures/{name}.csv"]))


def test_the_page_opens_with_the_answer_and_stands_alone(reported):
    content = reported.files[REPORT]
    text = content.decode()
    assert len(content) < 5_000_000
    main = text[text.index("<main>") :]
    assert main.index("PPO with learning rate 0.005 and entropy coef 0.03 wins among 6 configurations") < 200
    assert main.index("predict_then_optimise") < main.index("Learning curves")
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"', re.sub(r"xlink:href", "", text))
    assert set(links) == {"data:,"}
    assert "url(http" not in text
    assert "@import" not in text
    ids = re.findall(r'(?<=\s)id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:xlink:href="|url\()#([\w-]+)', text)) <= set(ids)
    assert reported.sentences[0].startswith("oneshot: PPO with learning rate 0.005 and entropy coef 0.03 wins")
    assert "PPO in oneshot, 48 agents (6 configurations, 1 environment and 8 seeds), 65,536 env steps each" in text


def test_the_page_speaks_of_configurations_and_baselines(reported):
    text = re.sub(r"<(script|style|svg|pre)\b.*?</\1>", "", reported.files[REPORT].decode(), flags=re.DOTALL)
    words = set(re.findall(r"[a-z]+", re.sub(r"<[^>]*>|jaxmoe sweep", " ", text).lower()))
    assert words & {"references", "reference", "sweep", "sweeps", "settings", "study", "arena", "chunk"} == set()


def test_every_figure_is_there_as_pdf_png_and_csv(reported):
    names = {Path(name).stem for name in reported.files if name.endswith(".png")}
    assert names == set(re.findall(r'<figure id="figure-([^"]+)"', reported.files[REPORT].decode()))
    assert len(names) == reported.figures
    for name in names:
        pdf, png = (reported.files[f"figures/{name}.{kind}"] for kind in ("pdf", "png"))
        assert b"/FontFile2" in pdf  # TrueType, embedded
        assert b"/Type3" not in pdf
        width_pt = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", pdf).group(1))
        assert width_pt == pytest.approx(3.5 * 72)
        assert png.startswith(b"\x89PNG")
        assert len(csv(reported, name))
    assert set(reported.files) == {REPORT} | {
        f"figures/{name}.{kind}" for name in names for kind in ("pdf", "png", "csv")
    } | {"figures/configurations.csv", "figures/comparison.csv"}


def test_the_comparison_with_every_baseline_is_kept(reported):
    rows = csv(reported, "comparison")
    ahead = rows[(rows["policy"] == "random") & (rows["metric"] == "ahead")].set_index("split")
    assert set(ahead.index) == {"train", "test"}
    assert f"+{ahead.loc['test', 'mean']:.3f}" in reported.files[REPORT].decode()


def test_the_configurations_are_kept_as_a_table_best_first(reported):
    rows = csv(reported, "configurations")
    assert rows["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert rows["chosen"].is_monotonic_decreasing
    assert (rows["train_low"] <= rows["train"]).all()
    assert (rows["train"] <= rows["train_high"]).all()


def test_a_changed_result_changes_the_report(finished, reported, plain):
    def measured(results):
        return (results["configuration"] == 3) & (results["seed"] >= 4)

    text, _ = plain(synthetic.changed(finished, measured, "train_normalised", 0.99))
    pattern = r"Interquartile mean of its normalised score over seeds ([\d.]+)"
    numbers = [re.search(pattern, page).group(1) for page in (reported.files[REPORT].decode(), text)]
    assert numbers[1] == "0.990" != numbers[0]


def test_a_changed_evaluation_changes_the_answer(finished, reported, plain):
    def load_evaluation(chosen):
        rows = finished.load_evaluation(chosen)
        rows["qos"] = rows["qos"].where(rows["unit"] > 0, rows["qos"] + 10)
        return rows

    assert plain(replace(finished, load_evaluation=load_evaluation))[1].sentences[0] != reported.sentences[0]


def test_several_scenarios_algorithms_and_environments(crossed, plain):
    text, found = plain(crossed)
    winners = [answer for answer in found.sentences if " wins, " in answer]
    assert [answer.split(":")[0] for answer in winners] == ["oneshot", "queueing"]
    assert any("of 2 environments" in sentence for sentence in found.sentences)
    assert any(
        "configurations of PPO in 2 environments differ no more than seeds do, where the" in text
        for text in found.sentences
    )
    assert 'id="sensitivity"' in text
    assert 'id="figure-queueing_ahead_of_baselines"' in text
    assert "differ no more than seeds do" in text
    assert "agents diverged:" in text
    assert "288 agents (12 configurations, 4 environments and 6 seeds)" in text
    assert {"oneshot_configurations", "queueing_environments"} <= {Path(name).stem for name in found.files}


def test_drawn_points_are_one_ranking(drawn, plain):
    text, found = plain(drawn)
    assert "wins among 40 configurations" in text
    assert "latency weight" in found.sentences[0]
    assert 'id="sensitivity"' not in text
    assert len(csv(found, "configurations")) == 40
    assert "that a surface describes (9" in found.sentences[-1]


@pytest.mark.parametrize("which", ["finished", "drawn"])
def test_the_winner_trained_again_is_told_and_watched(which, plain, request):
    text, _ = plain(synthetic.confirmed(request.getfixturevalue(which)))
    told = re.search(r"Trained again on 5 fresh seeds it reaches (0\.\d+) .* (0\.\d+) less on train prompts than", text)
    reached, drop = told.groups()
    assert 0.7 < float(reached) < 1.0
    assert float(drop) > 0.05
    assert {"behaviour", "subsets"} <= set(re.findall(r'id="figure-([^"]+)"', text))


def test_another_configuration_trained_again_is_not_the_winner(finished, plain):
    confirmed = synthetic.confirmed(finished)
    [other] = confirmed.confirmations
    agents, results = (rows.assign(configuration=0) for rows in (other.agents, other.results))
    text, _ = plain(replace(confirmed, confirmations=[replace(other, agents=agents, results=results)]))
    assert "jaxmoe confirm runs/finished" in text


def test_all_diverged_is_said_and_nobody_wins(plain):
    text, found = plain(synthetic.make(diverged=1.1, seeds=4))
    assert found.sentences[0] == "oneshot: every agent diverged"
    assert "Every agent diverged" in text
    assert "wins" not in text


def test_without_baselines_and_with_one_seed_there_is_a_report(plain):
    text, _ = plain(synthetic.make(baselines=False, seeds=1))
    assert "No baselines are evaluated that a normalised score needs" in text
    assert "There is one seed only" in text
    assert "[nan" not in text


def test_without_an_interval_none_is_shown(plain):
    text, _ = plain(synthetic.make(seeds=2))
    assert "Interquartile mean" in text
    assert "[nan" not in text


def test_one_configuration_is_a_report_too(plain):
    assert "PPO is the only configuration" in plain(synthetic.make(rates=(5e-3,), entropies=(0.0,)))[0]


def test_an_unfinished_experiment_says_so(plain):
    text, _ = plain(synthetic.make(trained=24))
    assert "This experiment is not finished: 24 of 48 agents trained" in text
    assert "3 configurations are left out" in text


def test_the_objective_is_named_and_its_limits_are_shown(plain):
    tables = synthetic.make(objective=Objective("latency_s", limits={"qos": 0.57}))
    text, _ = plain(tables)
    assert "ranked by the mean latency s on train prompts, qos at most 0.57 and the first 4 seeds" in text
    assert ">within limits<" in text


def test_a_single_seed_is_called_by_its_number(plain):
    tables = synthetic.make(seeds=2)
    others = {name: getattr(tables, name).assign(seed=lambda of: of["seed"] + 7) for name in ("agents", "results")}
    text, _ = plain(replace(tables, **others))
    assert "and seed 7 (chosen on), and measured on seed 8;" in text


def test_a_winner_that_does_better_again_does_more_and_has_no_negative_drop(plain):
    text, _ = plain(synthetic.confirmed(synthetic.make(), worse=-0.1))
    assert re.search(r"Trained again on 5 fresh seeds it reaches .* 0\.\d+ more on train prompts than", text)


def test_more_than_a_thousand_configurations_are_cut_on_the_page_and_whole_in_the_file(plain):
    tables = synthetic.make(rates=[10 ** (-3 + number / 400) for number in range(601)], seeds=1)
    text, found = plain(tables)
    table = re.search(r'<section id="configurations">.*?</section>', text, re.DOTALL).group()
    assert table.count("<tr") == 1 + 1000
    assert "The best 1,000 are shown; all are in figures/configurations.csv." in table
    rows = csv(found, "configurations")
    assert rows["rank"].tolist() == list(range(1, 1203))
    assert "wins among 1,202 configurations" in text


def test_nothing_trained_yet_is_one_sentence():
    with pytest.raises(InputError, match="runs/made: none of 48 agents is trained yet"):
        make_report(synthetic.make(trained=0))
    with pytest.raises(InputError, match="no configuration has all its environments yet"):
        make_report(synthetic.make(weights=(0.0, 1.0), trained=8))


def test_baselines_of_other_environments_alone_are_no_trouble(plain):
    """As in an experiment that is stopped while it evaluates baselines."""
    tables = synthetic.make(weights=(0.0, 0.04), rates=(5e-3,), baselines=False)
    other = synthetic.make().baselines.assign(environment=1)
    assert "QoS" in plain(replace(tables, baselines=other))[1].sentences[0]


def test_a_status_starts_no_scipy_and_a_report_no_jax():
    script = """
import sys
sys.path.insert(0, sys.argv[1])
import synthetic
from jaxmoe.analysis.status import status_lines
tables = synthetic.make(rates=(1e-3, 5e-3), entropies=(0.0,), seeds=2)
status_lines(tables)
print(sorted({"jax", "scipy", "matplotlib"} & set(sys.modules)))
from jaxmoe.analysis import page, report
report.files_of, page.inline_svg = lambda _: {}, lambda _: ""
report.make_report(tables)
print(sorted({"jax", "pyarrow.parquet"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["[]", "[]"], done.stderr


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_shows_and_sorts_it(reported, tmp_path):
    text = reported.files[REPORT].decode().replace("<head>", f"<head>{WATCH}").replace("</body>", PROBE)
    (tmp_path / "probed.html").write_text(text)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1280,900"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    command = [str(CHROMIUM), *flags, (tmp_path / "probed.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    told = json.loads(re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL).group(1))
    assert told["errors"] == []
    assert len(told["figures"]) == reported.figures
    assert all(width > 300 and height > 80 for width, height in told["figures"])
    assert told["sorted"]["ascending"] == sorted(told["sorted"]["ascending"])
    assert told["sorted"]["descending"] == sorted(told["sorted"]["ascending"], reverse=True)
    assert told["light"] != told["dark"]
