"""The page on what a study costs says what its command prints."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_what_follows_for_a_million_agents_is_on_the_page():
    command = [sys.executable, ROOT / "experiments" / "benchmarks" / "study_cost.py", "--million"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"```text\n{printed.rstrip()}\n```" in (ROOT / "docs" / "cost.md").read_text()
