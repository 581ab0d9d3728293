"""The report: its numbers follow the tables, its page stands alone, and a browser shows it."""

import json
import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import synthetic

import jaxmoe
from jaxmoe.errors import InputError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *BROWSERS))), None)
PROBE = """
<script>
const told = { errors: window.errors ?? [], figures: [], sorted: {} };
for (const svg of document.querySelectorAll("figure svg")) {
  const box = svg.getBoundingClientRect();
  told.figures.push([box.width, box.height]);
}
const table = [...document.querySelectorAll("table")].find((each) => each.querySelector("th[aria-sort]"));
const column = [...table.tHead.rows[0].cells].findIndex((head) => head.textContent === "train, judged");
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
def reported(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "sweep"
    shutil.copytree(finished, folder)
    return jaxmoe.report(folder)


def page_of(folder):
    return jaxmoe.report(folder).path.read_text()


def test_the_page_opens_with_the_answer_and_stands_alone(reported):
    text = reported.path.read_text()
    assert reported.path.stat().st_size < 5_000_000
    main = text[text.index("<main>") :]
    assert main.index("PPO with learning rate 0.005 and entropy coef 0.03 wins among 6 settings") < 200
    assert main.index("predict_then_optimise") < main.index("Learning curves")
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"', re.sub(r"xlink:href", "", text))
    assert set(links) == {"data:,"}
    assert "url(http" not in text
    assert "@import" not in text
    ids = re.findall(r'(?<=\s)id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:xlink:href="|url\()#([\w-]+)', text)) <= set(ids)
    assert reported.sentences[0].startswith("oneshot: PPO with learning rate 0.005 and entropy coef 0.03 wins")


def test_every_figure_is_there_as_pdf_png_and_csv(reported):
    names = {path.stem for path in (reported.path.parent / "figures").glob("*.png")}
    assert names == set(re.findall(r'<figure id="figure-([^"]+)"', reported.path.read_text()))
    assert len(names) == reported.figures
    for name in names:
        pdf, png, csv = (reported.path.parent / "figures" / f"{name}.{kind}" for kind in ("pdf", "png", "csv"))
        assert b"/FontFile2" in pdf.read_bytes()  # TrueType, embedded
        assert b"/Type3" not in pdf.read_bytes()
        width_pt = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", pdf.read_bytes()).group(1))
        assert width_pt == pytest.approx(3.5 * 72)
        assert png.read_bytes().startswith(b"\x89PNG")
        assert len(pd.read_csv(csv))


def test_the_comparison_with_every_reference_is_kept(reported):
    rows = pd.read_csv(reported.path.parent / "figures" / "comparison.csv")
    ahead = rows[(rows["policy"] == "random") & (rows["metric"] == "ahead")].set_index("split")
    assert set(ahead.index) == {"train", "test"}
    assert f"+{ahead.loc['test', 'mean']:.3f}" in reported.path.read_text()


def test_the_settings_are_kept_as_a_table_best_first(reported):
    rows = pd.read_csv(reported.path.parent / "figures" / "settings.csv")
    assert rows["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert rows["chosen"].is_monotonic_decreasing
    assert (rows["train_low"] <= rows["train"]).all()
    assert (rows["train"] <= rows["train_high"]).all()


def test_a_changed_value_in_the_results_changes_the_report(tmp_path):
    folder = synthetic.make(tmp_path / "sweep")
    before = page_of(folder)
    results = pd.read_parquet(folder / "results.parquet")
    winner = results["configuration"] == 3
    best = results[winner & (results["seed"] >= 4)]["train_normalised"].idxmax()
    results.loc[best, "train_normalised"] = 0.1
    results.to_parquet(folder / "results.parquet", index=False)
    pattern = r"Interquartile mean of its normalised score over seeds ([\d.]+)"
    numbers = [re.search(pattern, text).group(1) for text in (before, page_of(folder))]
    assert numbers[0] != numbers[1]


def test_a_changed_value_in_the_prompts_changes_the_answer(tmp_path):
    folder = synthetic.make(tmp_path / "sweep")
    before = jaxmoe.report(folder).sentences
    prompts = pd.read_parquet(folder / "prompts.parquet")
    prompts.loc[prompts["prompt"] == "p00", "qos"] += 0.1
    prompts.to_parquet(folder / "prompts.parquet", index=False)
    assert jaxmoe.report(folder).sentences != before


@pytest.mark.slow
def test_several_scenarios_algorithms_and_environments(crossed, tmp_path):
    shutil.copytree(crossed, tmp_path / "sweep")
    found = jaxmoe.report(tmp_path / "sweep")
    winners = [answer for answer in found.sentences if " wins, " in answer]
    assert [answer.split(":")[0] for answer in winners] == ["oneshot", "queueing"]
    text = found.path.read_text()
    assert 'id="sensitivity"' in text
    assert "of the variance" in text
    assert "agents diverged:" in text


def test_all_diverged_is_said_and_nobody_wins(tmp_path):
    found = jaxmoe.report(synthetic.make(tmp_path / "sweep", diverged=1.1, seeds=4))
    assert found.sentences == ["oneshot: every agent diverged"]
    text = found.path.read_text()
    assert "Every agent diverged" in text
    assert "wins" not in text


def test_without_references_and_with_one_seed_there_is_a_report(tmp_path):
    text = page_of(synthetic.make(tmp_path / "sweep", references=False, seeds=1))
    assert "The references are not evaluated" in text
    assert "There is one seed only" in text


def test_one_setting_is_a_report_too(tmp_path):
    text = page_of(synthetic.make(tmp_path / "sweep", rates=(5e-3,), entropies=(0.0,)))
    assert "PPO is the only setting" in text


def test_nothing_trained_yet_is_one_sentence(finished, tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    shutil.copy(finished / "agents.parquet", folder)
    manifest = json.loads((finished / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"done": {}}))
    with pytest.raises(InputError, match="none of 48 agents is trained yet"):
        jaxmoe.report(folder)
    assert not (folder / "report.html").exists()


def test_a_report_starts_no_jax(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "sweep")
    script = "import sys, jaxmoe; jaxmoe.report(sys.argv[1]); print('jax' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "sweep")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH or in CHROMIUM")
def test_a_browser_shows_and_sorts_it(reported, tmp_path):
    text = reported.path.read_text().replace("<head>", f"<head>{WATCH}").replace("</body>", PROBE)
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


def test_references_of_other_environments_alone_are_no_trouble(tmp_path):
    """As in a sweep that is stopped while it evaluates references."""
    folder = synthetic.make(tmp_path / "sweep", weights=(0.0, 0.04), rates=(5e-3,), references=False)
    rows = pd.read_parquet(synthetic.make(tmp_path / "other") / "references.parquet")
    rows.assign(environment=1).to_parquet(folder / "references.parquet", index=False)
    assert "QoS" in jaxmoe.report(folder).sentences[0]


def test_without_an_interval_none_is_shown(tmp_path):
    text = page_of(synthetic.make(tmp_path / "sweep", seeds=2))
    assert "Interquartile mean" in text
    assert "[nan" not in text
