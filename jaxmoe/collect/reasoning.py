"""What a model thought before it answered, told from the answer: servers hand out both in one text.

Known are blocks between tags (`<think>`, DeepSeek-R1 and Qwen; `<thinking>`, `<thought>`, `<reasoning>`; `[THINK]`,
Magistral; `◁think▷`, Kimi), also without the opening tag, which a chat template may have written, and the channels of
gpt-oss (OpenAI's harmony format).
"""

import re
from typing import NamedTuple

_NAMES = "think|thinking|thought|thoughts|reasoning|analysis|scratchpad|seed:think"
_OPENING = re.compile(
    rf"<(?P<angle>{_NAMES})>|\[(?P<square>THINK)\]|◁(?P<kimi>think)▷|<\|(?P<bar>begin_of_thought)\|>|<(?P<unused>unused94)>",
    re.IGNORECASE,
)
_ANYWHERE = ("think", "thinking", "seed:think", "begin_of_thought", "unused94")  # others count at the beginning alone
_CLOSING_ALONE = re.compile(
    r"</(?:think|thinking|seed:think)>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<unused95>", re.IGNORECASE
)
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(?P<name>\w+)[^<]*<\|message\|>(?P<text>.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
_SOLUTION = re.compile(r"\A\s*<\|begin_of_solution\|>(?P<text>.*?)(?:<\|end_of_solution\|>\s*)?\Z", re.DOTALL)


class Parts(NamedTuple):
    """A content, told apart."""

    text: str  # what is said
    reasoning: str  # what was thought, without its tags
    cut: bool  # whether the content ends while it is still thinking


def told_apart(content: str) -> Parts:
    """The answer and the reasoning of a content.

    >>> told_apart("<think>A whale, then.</think> Once there was a whale.")
    Parts(text='Once there was a whale.', reasoning='A whale, then.', cut=False)
    >>> told_apart("<think>First I should")
    Parts(text='', reasoning='First I should', cut=True)
    """
    if "<|channel|>" in content:
        return _channels(content)
    thoughts: list[str] = []
    while (closing := _CLOSING_ALONE.search(content)) and not _OPENING.search(content, 0, closing.start()):
        thoughts.append(content[: closing.start()])
        content = content[closing.end() :].lstrip()
    rest, cut = _without_blocks(content, thoughts)
    if solution := _SOLUTION.match(rest):
        rest = solution["text"].strip()
    return Parts(rest, "\n".join(thought.strip() for thought in thoughts if thought.strip()), cut)


def _without_blocks(content: str, thoughts: list[str]) -> tuple[str, bool]:
    """A content without its blocks, which are added to the thoughts; and whether the last one has no end."""
    place = 0
    while opening := _OPENING.search(content, place):
        before = content[: opening.start()]
        if before.strip() and str(opening[opening.lastgroup or 0]).lower() not in _ANYWHERE:
            place = opening.end()
            continue
        closing = re.compile(re.escape(_closing(opening)), re.IGNORECASE).search(content, opening.end())
        thoughts.append(content[opening.end() : closing.start() if closing else None])
        if closing is None:
            return before.rstrip(), True
        after = content[closing.end() :].lstrip()
        content, place = (before + after, len(before)) if before.strip() else (after, 0)
    return content, False


def _closing(opening: re.Match[str]) -> str:
    tags = {"square": "[/THINK]", "kimi": "◁/think▷", "bar": "<|end_of_thought|>", "unused": "<unused95>"}
    return tags.get(str(opening.lastgroup)) or f"</{opening['angle']}>"


def _channels(content: str) -> Parts:
    """The final channel is the text; it is cut where there is none."""
    parts = [(match["name"].lower(), match["text"].strip()) for match in _CHANNEL.finditer(content)]
    final = [text for name, text in parts if name == "final"]
    thought = "\n".join(text for name, text in parts if name != "final")
    return Parts("\n".join(final), thought, not final)
