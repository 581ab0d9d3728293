"""One language: words that older versions used for a thing are gone from names, options, columns, help and docs."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GONE = {  # the old word, and what is said now
    "arena": "comparison",
    "chunk": "job, or piece",
    "lane": "agents_per_device",
    "reference": "baseline",
    "reporter": "callback, or display",
    "stretch": "segment",
    "tally": "evaluation, or sums",
    "tallies": "evaluations, or sums",
}
OLD = re.compile(rf"(?<![a-z])({'|'.join(GONE)})s?(?![a-z])", re.IGNORECASE)
PLACE = re.compile(r"^_?[Pp]laces?$|[a-z]_places?$|^places?_[a-z]")  # a name in which it may be an environment
ALLOWED = {  # file, and what stands there; each helps somebody over, or means another thing
    ("jaxmoe/cli/options.py", "--references"),
    ("jaxmoe/experiment/spec.py", "references"),
    ("jaxmoe/experiment/spec.py", "chunk_width"),
    ("experiments/README.md", "called configurations settings and baselines references"),
}
PLACES = {  # of a device in space, of bytes in a file, of a digit as pydantic calls it
    "jaxmoe/collect/answers.py": {"decimal_places"},
    "jaxmoe/collect/dialects.py": {"decimal_places"},
    "jaxmoe/env/rules.py": {"_place_devices"},
    "jaxmoe/policy/tensors.py": {"_place"},
    "jaxmoe/training/arrays.py": {"Place", "_place"},
}
CODE = sorted(path for part in ("jaxmoe", "experiments") for path in (ROOT / part).rglob("*.py"))
DOCS = [path for part in ("docs", "experiments") for path in (ROOT / part).rglob("*.md")]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", *sorted(DOCS)]
SPECS = sorted((ROOT / "experiments").rglob("*.toml"))


def names_and_texts(path):
    """Names, texts (docstrings, help, options, columns) and comments of a module, with their lines."""
    kinds = {tokenize.NAME: "name", tokenize.STRING: "text", tokenize.COMMENT: "text"}
    kinds |= {getattr(tokenize, "FSTRING_MIDDLE", -1): "text"}  # texts with values in them are apart since Python 3.12
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type in kinds:
            yield token.start[0], kinds[token.type], token.string


def complaints(path, line, text):
    file = path.relative_to(ROOT).as_posix()
    for found in OLD.finditer(text):
        allowed = (part for owner, part in ALLOWED if owner == file)
        if not any(part in text for part in allowed):
            yield f"{file}:{line}: {found.group()!r} is now {GONE[found.group(1).lower()]}"


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_has_no_old_word(path):
    found = []
    for line, kind, text in names_and_texts(path):
        found += complaints(path, line, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text) if kind == "name" else text)
        if kind == "name" and PLACE.search(text) and text not in ("place", "places"):
            known = PLACES.get(path.relative_to(ROOT).as_posix(), set())
            found += [] if text in known else [f"{path}:{line}: {text!r} says place; say environment"]
    assert not found


@pytest.mark.parametrize("path", [*PAGES, *SPECS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pages_have_no_old_word(path):
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    assert not [said for number, line in lines for said in complaints(path, number, line)]


def test_only_the_model_that_scores_texts_is_a_judge():
    with_judges = {"analysis/experts.py", "analysis/table_report.py", "training/evaluation.py"}
    package = ROOT / "jaxmoe"
    found = {
        path.relative_to(package).as_posix()
        for part in ("analysis", "experiment", "training", "algorithms", "policy")
        for path in (package / part).rglob("*.py")
        if re.search(r"judge", path.read_text(encoding="utf-8"), re.IGNORECASE)
    }
    assert found <= with_judges


WORDS = [
    "experiment",
    "configuration",
    "environment",
    "agent",
    "signature",
    "job",
    "agents_per_device",
    "segment",
    "checkpoint",
    "callback",
    "baseline",
    "deployable",
    "request",
    "evaluation",
    "judge",
    "objective",
    "ranking",
    "comparison",
    "importance",
    "axis",
    "search",
    "engine",
    "driver",
    "shard",
    "params",
    "settings",
    "prompt",
    "split",
    "first look",
    "kept policy",
    "expert",
    "device",
    "gate",
    "subtask",
    "relevance",
    "passage",
    "fusion",
    "subset",
    "score",
    "QoS",
]


def test_the_glossary_says_each_word_in_one_sentence():
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", (ROOT / "docs" / "glossary.md").read_text(), flags=re.MULTILINE)
    assert sorted((word for word, _ in rows), key=str.lower) == sorted(WORDS, key=str.lower)
    for word, sentence in rows:
        assert sentence[0].isupper(), word
        assert re.fullmatch(r"[^.]*(?:\.\w[^.]*)*\.", sentence), f"{word}: {sentence}"
    assert "docs/glossary.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_files_are_not_called_by_old_words():
    assert not [path for path in (*CODE, *PAGES, *SPECS) if OLD.search(path.stem) or PLACE.search(path.stem)]
