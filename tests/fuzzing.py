"""Bent inputs, many and always the same, and the rule that each of them has to keep.

The rule: a sound result or one sentence and exit code 2; never a traceback, a file outside the folder, a user's file
that is changed, more than 20 s, or more than 1 GB.
"""

import copy
import json
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from command_line import Done, run
from snapshot import contents

SECONDS = 20  # of the processor; and of the clock, on machines that others use too:
CLOCK_SECONDS = 6 * SECONDS
BYTES = 10**9
LONGEST = 600  # characters of a sentence, without the names of the files in it

STRANGE = [
    "", " ", ".", "..", "/", "../../victim/x", "/etc/passwd", "~", "a/b", "a\\b", "CON", "-rf", "--help", "@x", "=1+1",
    '"><img src=x onerror=document.title=1>', "</script><script>document.title=1</script>", "&amp;", "'", '"',
    "`id`", "${HOME}", "$x$", "$\\frac{1}{0}$", "a_b^c", "%s%n", "{0}", "[red]x[/red]", "[/]", "\x1b[2J\x1b]0;x\x07",
    "\x9b2J", "a\nb", "a\r\nb", "a\tb", "a\0b", "\u202egnp.exe", "\u200b", "\ufeff", "\u0430", "e\u0301", "\uff15",
    "\ud800", "Ⅷ", "ﬁ", "İ", "ß", "😀", "名前", "x" * 300, "x" * 100_000, "a.b" * 2_000, "nan", "inf", "-0", "1e999",
    "null", "true", "1_0", "a\r=1",
]  # fmt: skip
NUMBERS = [
    0, -1, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**63), 10**9, 10**15, 10**400, 0.5, -0.5,
    1e-300, 1e300, 1e16, float("nan"), float("inf"), float("-inf"), -0.0, True, False,
]  # fmt: skip


def cases(quick: int = 30, whole: int = 300) -> pytest.MarkDecorator:
    """Numbers of cases: the first ones in each run of the suite, the others where slow tests run too."""
    blocks = [pytest.param(range(quick), id=f"0-{quick - 1}")]
    if whole > quick:
        blocks.append(pytest.param(range(quick, whole), id=f"{quick}-{whole - 1}", marks=pytest.mark.slow))
    return pytest.mark.parametrize("numbers", blocks)


def each(numbers: range, what: str) -> Iterator[random.Random]:
    """A source of chance for each case, always the same one; what is printed last names the case that failed."""
    for number in numbers:
        print(f"case {number} of {what}")
        yield random.Random(f"{what} {number}")


@contextmanager
def within_limits() -> Iterator[None]:
    """What takes too long, or too much memory, fails."""

    def late(*_: Any) -> None:
        raise AssertionError(f"more than {SECONDS} s")

    began, peak = psutil.Process().memory_info().rss, _peak()
    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, CLOCK_SECONDS)}
    before = {number: signal.signal(number, late) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert _peak() == peak or _peak() - began < BYTES, f"{(_peak() - began) / 1e9:.1f} GB"


def _peak() -> int:
    """Bytes, the most that this process has ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tree(root: Path, but: Path | None = None) -> dict[Path, Any]:
    """All that is below a folder, but for what is below another one."""
    return {path: at for path, at in contents(root, ()).items() if but is None or not path.is_relative_to(but)}


def keeps_the_rule(*arguments: Any, root: Path, out: Path | None = None, said: int = LONGEST) -> Done:
    """Give a command, in this process, and fail unless it keeps the rule.

    Args:
        arguments: of `jaxmoe`.
        root: a folder with all that must not change; the command runs in it.
        out: the folder or the file below it that the command may write, if there is one.
        said: characters that a refusal may take, without what the command was given.
    """
    before = tree(root, out)
    with within_limits():
        done = run(*arguments, cwd=root)
    assert tree(root, out) == before, "a file was changed that is none of its own"
    assert "Traceback" not in done.error, done.error
    assert done.code in (0, 2), (done.code, done.error[-2000:])
    if done.code:
        assert_one_sentence(done.error, said + sum(min(len(str(each)), 400) for each in arguments))
    return done


def assert_one_sentence(error: str, longest: int = LONGEST) -> None:
    """The last line of standard error is the sentence, and nothing in it reaches a terminal as a command."""
    lines = [line for line in error.split("\n") if line]
    assert lines, "nothing was said"
    assert lines[-1].startswith("jaxmoe: "), error[-2000:]
    assert sum(line.startswith("jaxmoe: ") for line in lines) == 1
    assert len(lines[-1]) <= longest, (len(lines[-1]), lines[-1][:500])
    strange = {sign for sign in lines[-1] if not sign.isprintable()}
    assert not strange, (strange, lines[-1][:500])


def bent_value(chance: random.Random) -> Any:
    """A value that is not what somebody expects."""
    kinds: list[Callable[[], Any]] = [
        lambda: chance.choice(STRANGE),
        lambda: chance.choice(STRANGE),
        lambda: chance.choice(NUMBERS),
        lambda: chance.choice(NUMBERS),
        lambda: None,
        list,
        dict,
        lambda: [chance.choice(NUMBERS), chance.choice(STRANGE)],
        lambda: {chance.choice(STRANGE): chance.choice(NUMBERS)},
        lambda: [[]] * 3,
        lambda: list(range(1000)),
        lambda: deep(chance.choice([3, 50, 900])),
    ]
    return chance.choice(kinds)()


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def bent_document(document: Any, chance: random.Random) -> Any:
    """A JSON document or a section with one to three entries changed, dropped, doubled or added, wherever they are."""
    bent = copy.deepcopy(document)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        holders = [each for each in _holders(bent) if each]
        if not holders:
            return bent_value(chance)
        holder = chance.choice(holders)
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        what = chance.choice(["change", "change", "change", "drop", "add", "swap"])
        if what == "drop":
            del holder[key]
        elif what == "add" and isinstance(holder, dict):
            holder[chance.choice(STRANGE)] = bent_value(chance)
        elif what == "add":
            holder.insert(key, _copy(holder[key]))
        elif what == "swap":
            holder[key] = _copy(chance.choice(holders))
        else:
            holder[key] = bent_value(chance)
    return bent


def _holders(document: Any, levels: int = 60) -> Iterator[Any]:
    """All dictionaries and lists of a document, but for those that are very deep in it."""
    if levels and isinstance(document, dict | list):
        yield document
        for value in document.values() if isinstance(document, dict) else document:
            yield from _holders(value, levels - 1)


def _copy(value: Any) -> Any:
    """A copy; of what is too deep to be copied another deep list."""
    try:
        return copy.deepcopy(value)
    except RecursionError:
        return deep(200)


def bent_bytes(content: bytes, chance: random.Random) -> bytes:
    """A file with bits flipped, its end cut off, a part zeroed, doubled or replaced."""
    what = chance.choice(["flip", "flip", "cut", "zero", "double", "insert", "noise", "empty"])
    if what == "empty" or not content:
        return b""
    at = chance.randrange(len(content))
    end = min(len(content), at + chance.choice([1, 4, 64, 4096]))
    if what == "flip":
        changed = bytearray(content)
        for _ in range(chance.choice([1, 1, 8, 64])):
            changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return bytes(changed)
    if what == "cut":
        return content[:at]
    if what == "zero":
        return content[:at] + bytes(end - at) + content[end:]
    if what == "double":
        return content[:end] + content[at:]
    if what == "insert":
        return content[:at] + chance.randbytes(end - at) + content[at:]
    return content[:at] + chance.randbytes(end - at) + content[end:]


def bent_json(content: bytes, chance: random.Random) -> bytes:
    """A JSON file, bent in what it says or in its bytes."""
    if chance.random() < 0.2:
        return bent_bytes(content, chance)
    bent = bent_document(json.loads(content), chance)
    try:
        return json.dumps(bent).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b"[" * 5000 + b"]" * 5000
