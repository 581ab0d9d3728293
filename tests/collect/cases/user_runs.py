"""A user with a folder, an environment and a key, the commands that they give, and what these leave.

Whatever a situation is, three things hold and are looked at after each command: there is no traceback, each text of
the table is one that the server sent as such, to the letter, and the key is nowhere, in no form.
"""

import base64
import csv
import io
import json
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import command_line
from user_files import EXPERTS

KEY = "sk-canary-4f1c9a7be02d43d8"
WORD = 8  # characters: a shorter key is a word, which texts may hold
PROMPTS = "prompt_id,split,prompt\np00,train,a whale who is lost\np01,test,two bakers at night\n"
OPTIONS = {"prompts": "prompts.csv", "experts": "experts.json", "model": "writer", "judge-model": "judge"}
OPTIONS |= {"local-model": "small", "samples": "1", "timeout": "5"}


class Outcome(NamedTuple):
    """What a command leaves; texts with all white space as one blank."""

    code: int
    said: str  # standard output, then standard error
    lines: int  # that were printed and are not empty
    card: str
    texts: list[str]
    scores: list[str]

    def says(self, pattern: str) -> bool:
        """Whether it was printed."""
        return re.search(pattern, self.said, re.IGNORECASE) is not None


class User:
    """Someone with the usual prompts and experts, whose commands run in this process unless they say so."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        self.write("prompts.csv", PROMPTS)
        self.write("experts.json", json.dumps(EXPERTS))

    def write(self, name: str, text: str) -> None:
        """A file in the folder, with exactly this text."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())

    def collect(self, server, *options, base_url=None, out="out", **run) -> Outcome:
        """`jaxmoe collect` with the usual options, and further ones that go before them."""
        usual = OPTIONS | {"base-url": base_url or server.base_url, "out": out}
        named = [part for name, value in usual.items() for part in (f"--{name}", value)]
        return self.run(server, "collect", *named, *options, out=out, **run)

    def run(self, server, *arguments, key=KEY, secrets=(), env=None, out="out", process=False) -> Outcome:
        """Any command; `secrets` are those beside the key, and `server` is who may have sent texts, or None."""
        environment = {"HOME": str(self.folder / "home"), **({"OPENAI_API_KEY": key} if key else {}), **(env or {})}
        run = self._in_a_process if process else self._in_this_process
        code, printed = run([str(argument) for argument in arguments], environment)
        outcome = self._outcome(code, printed, self.folder / out)
        assert "Traceback" not in outcome.said
        assert server is None or set(outcome.texts) <= server.sent
        words = [part for part in key.split() if len(part) >= WORD]
        self._assert_nowhere([*words, *secrets], printed)
        return outcome

    def _in_this_process(self, arguments, environment):
        with self._monkeypatch.context() as patch:
            patch.chdir(self.folder)
            done = command_line.run(*arguments, env=environment)
        return done.code, done.out + done.error

    def _in_a_process(self, arguments, environment):
        with command_line.start(*arguments, cwd=self.folder, env=os.environ | environment) as process:
            out, error = process.communicate(timeout=60)
        return process.returncode, out + error

    def _outcome(self, code, printed, folder):
        texts = [json.loads(line)["text"] for line in _read(folder / "texts.jsonl").split("\n") if line]
        rows = csv.DictReader(io.StringIO(_read(folder / "scores.csv")))
        return Outcome(
            code,
            " ".join(printed.split()),
            sum(bool(line.strip()) for line in printed.splitlines()),
            " ".join(_read(folder / "README.md").split()),
            texts,
            [row["score"] for row in rows if row["score"]],
        )

    def _assert_nowhere(self, secrets, printed):
        """In no form, white space and escaped line ends left out, in no file and in no line."""
        places = {"the output": printed.encode()}
        places |= {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        squeezed = {name: _squeezed(content) for name, content in places.items()}
        forms = {form for secret in secrets for form in _forms(secret)}
        assert [name for name, content in squeezed.items() if any(form in content for form in forms)] == []


def _squeezed(content: bytes) -> bytes:
    return content.translate(None, b" \t\r\n\f\v").replace(b"\\r", b"").replace(b"\\n", b"")


def _forms(secret: str) -> set[bytes]:
    """How a secret may be written."""
    forms = [secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe=""), quote(secret)]
    forms += [
        base64.b64encode(text.encode()).decode().rstrip("=") for text in (secret, f":{secret}", f"Bearer {secret}")
    ]
    return {form.encode() for form in forms}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
