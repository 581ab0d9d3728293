"""Names that are paths, markup, formulas, commands of a terminal or of a spreadsheet are names in a report."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import fuzzing
import pytest
import synthetic
from matplotlib.figure import Figure

from jaxmoe.analysis.report import REPORT, make_report
from jaxmoe.names import visible

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
FILE = re.compile(r"report\.html|figures/[A-Za-z0-9_][A-Za-z0-9_.-]{0,150}\.(pdf|png|csv)")
LINK = re.compile(r"#[\w.-]+|data:,|data:image/png;base64,[\w+/=\s]+")
WORST = [  # twenty
    '"><img src=x onerror="window.hit=1">', "</script><script>window.hit=1</script>", "<svg onload=window.hit=1>",
    "javascript:window.hit=1", "' onmouseover='window.hit=1", "]]><!--", "${window.hit=1}", "&lt;b&gt;",
    "$\\frac{1}{0}$", "cheap $0.15_in_$0.60", "[red]gpt[/red] [/]", "../../../victim/x", "=cmd|' /C calc'!A0",
    "@SUM(1+1)", "_hidden", "\x1b[2J\x1b]0;x\x07", "a\u202egnp.exe",
    "名前 имя اسم", "x" * 300, "a\nb\0c",
]  # fmt: skip


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.handlers = Counter(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        for name, value in attrs:
            self.ids += [value] if name == "id" else []
            self.links += [value] if name in ("href", "src", "xlink:href") else []
            self.handlers += [name] if name.startswith("on") else []


@pytest.fixture
def reported(monkeypatch):
    """Makes the report of an experiment with names that are given."""

    def make(names):
        experts, (scenario, other, policy, folder) = names[:4], names[4:]
        if len(set(experts)) < 4 or scenario == other:
            return None
        levels = dict(zip(["random", f"{policy}(6)", "x", "one_slot_optimum"], synthetic.LEVELS.values(), strict=True))
        monkeypatch.setattr(synthetic, "EXPERTS", tuple(experts))
        monkeypatch.setattr(synthetic, "LEVELS", levels)
        plain = synthetic.make(name=folder, scenarios=(scenario, other), seeds=3, rates=(1e-3, 5e-3), entropies=(0.0,))
        return make_report(synthetic.confirmed(plain))

    return make


def drawn_names(chance):
    """Eight names, a half of them put together of others."""
    known = [name for name in fuzzing.STRANGE if name != "\ud800"]  # which no table can hold
    names = chance.sample(known, 4) + ["".join(chance.sample(known, 2))[:2000] for _ in range(4)]
    chance.shuffle(names)
    return names


def require_sound(report, names):
    """Names are texts on the page, its files have names of their own, and no cell is computed."""
    text = report.files[REPORT].decode()
    page = Page(text)
    assert page.handlers == []
    assert page.tags["script"] == 1
    assert not {"img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert [link for link in page.links if not LINK.fullmatch(link)] == []
    assert [name for name in page.ids if not re.fullmatch(r"[\w.-]+", name)] == []
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert all(FILE.fullmatch(name) for name in report.files), list(report.files)
    assert all(escape(visible(name)) in text for name in names)
    for name, content in report.files.items():
        if name.endswith(".csv"):
            cells = [cell for row in csv.reader(io.StringIO(content.decode(), newline="")) for cell in row]
            wrong = [
                cell for cell in cells if cell.startswith(("=", "@", "\t", "\r")) or re.match(r"[+-][^\d.i]", cell)
            ]
            assert not wrong, (name, wrong[:3])


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are drawn for the page alone, and their files are empty: that takes a third of the time."""
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda *given, **how: save(*given, **how) if how["format"] == "svg" else None
    )


@pytest.mark.usefixtures("undrawn")
@fuzzing.cases(quick=4, whole=38)  # of eight names each
def test_strange_names_are_names_in_a_report(reported, numbers):
    for chance in fuzzing.each(numbers, "names"):
        names = drawn_names(chance)
        print([ascii(name[:40]) for name in names])
        with fuzzing.within_limits():
            report = reported(names)
        if report is not None:
            require_sound(report, names[4:6])


def test_the_twenty_worst_names_are_names_in_a_report(reported):
    for begin in (0, 8, 12):
        require_sound(reported(WORST[begin : begin + 8]), WORST[begin + 4 : begin + 6])


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_runs_and_loads_nothing_of_the_twenty_worst_names(reported, tmp_path):
    for begin in (0, 8, 12):
        report = reported(WORST[begin : begin + 8])
        probe = """<script>
        const loaded = performance.getEntriesByType("resource").map((each) => each.name);
        const told = { hit: window.hit ?? 0, loaded };
        told.figures = [...document.querySelectorAll("figure svg")].map((svg) => svg.getBoundingClientRect().width);
        const pre = document.createElement("pre");
        pre.id = "told";
        pre.textContent = JSON.stringify(told);
        document.body.append(pre);
        </script></body>"""
        path = Path(tmp_path / f"page{begin}.html")
        path.write_bytes(report.files[REPORT].replace(b"</body>", probe.encode()))
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
        command = [str(CHROMIUM), *flags, path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        told = json.loads(re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL).group(1))
        assert told["hit"] == 0
        assert [name for name in told["loaded"] if not name.startswith("data:")] == []
        assert len(told["figures"]) == report.figures
        assert all(width > 300 for width in told["figures"])
