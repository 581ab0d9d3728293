"""What a model thought before it answered, told from the answer: servers hand out both in one text.

Known are blocks between tags (`<think>`, DeepSeek-R1 and Qwen; `<thinking>`, `<thought>`, `<reasoning>`; `[THINK]`,
Magistral; `◁think▷`, Kimi; `<|START_THINKING|>`, Cohere; `<details type="reasoning">`, Open WebUI), also without the
opening tag, which a chat template may have written, and the channels of gpt-oss (OpenAI's harmony format), also without
their special tokens.
"""

import re
from typing import NamedTuple


class _Block(NamedTuple):
    """A kind of block of reasoning."""

    opening: re.Pattern[str]
    closing: re.Pattern[str]
    anywhere: bool  # whether the tags stand in no other text; else they count at the beginning alone


class Parts(NamedTuple):
    """A content, told apart."""

    text: str  # what is said
    reasoning: str  # what was thought, without its tags
    cut: bool  # whether the content ends while it is still thinking


def _tag(names: str, anywhere: bool) -> _Block:
    opening = re.compile(rf"<({names})(\s[^<>]{{0,200}})?>", re.IGNORECASE)
    return _Block(opening, re.compile(rf"</({names})\s*>", re.IGNORECASE), anywhere)


def _signs(opening: str, closing: str) -> _Block:
    return _Block(re.compile(opening, re.IGNORECASE), re.compile(closing, re.IGNORECASE), True)


_BLOCKS = (
    _tag("think|thinking|seed:think", anywhere=True),
    _tag("thought|thoughts|reasoning|analysis|scratchpad", anywhere=False),
    _signs(r"\[THINK\]", r"\[/THINK\]"),
    _signs("◁think▷", "◁/think▷"),
    _signs(r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    _signs(r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    _signs("<unused94>", "<unused95>"),
    _signs(r'<details\b[^<>]*type="reasoning"[^<>]*>', r"</details\s*>"),
)
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(?P<name>\w+)(?:(?!<\|(?:message|channel|end)\|>).)*<\|message\|>"
    r"(?P<text>.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
_WITHOUT_CHANNEL = re.compile(r"\A\s*(analysis|commentary|final)\s*<\|message\|>")
_BARE_CHANNELS = re.compile(r"\Aanalysis(?P<thought>.*?)assistant\s*final(?P<text>.*)\Z", re.DOTALL)
_AROUND = (  # what may stand around the whole answer after a block
    re.compile(r"\A\s*<\|begin_of_solution\|>(?P<text>.*?)(?:<\|end_of_solution\|>\s*)?\Z", re.DOTALL),
    re.compile(r"\A\s*<\|START_RESPONSE\|>(?P<text>.*?)(?:<\|END_RESPONSE\|>\s*)?\Z", re.DOTALL),
    re.compile(r"\A\s*<answer>(?P<text>.*?)</answer>\s*\Z", re.DOTALL | re.IGNORECASE),
)


def told_apart(content: str) -> Parts:
    """The answer and the reasoning of a content.

    >>> told_apart("<think>A whale, then.</think> Once there was a whale.")
    Parts(text='Once there was a whale.', reasoning='A whale, then.', cut=False)
    >>> told_apart("<think>First I should")
    Parts(text='', reasoning='First I should', cut=True)
    """
    if _WITHOUT_CHANNEL.match(content):
        content = "<|channel|>" + content.lstrip()
    if "<|channel|>" in content:
        return _channels(content)
    if bare := _BARE_CHANNELS.match(content):
        return Parts(bare["text"].strip(), bare["thought"].strip(), False)
    thoughts: list[str] = []
    rest, cut = _without_blocks(_after_closing_alone(content, thoughts), thoughts)
    rest = _after_closing_alone(rest, thoughts)
    for around in _AROUND if thoughts else ():
        if match := around.match(rest):
            rest = match["text"].strip()
    return Parts(rest, "\n".join(thought.strip() for thought in thoughts if thought.strip()), cut)


def _after_closing_alone(content: str, thoughts: list[str]) -> str:
    """What comes after closing tags that nothing has opened; what is before them is added to the thoughts."""
    for block in (block for block in _BLOCKS if block.anywhere):
        while (closing := block.closing.search(content)) and not block.opening.search(content, 0, closing.start()):
            if block.closing.pattern.startswith("</details"):
                break
            thoughts.append(content[: closing.start()])
            content = content[closing.end() :].lstrip()
    return content


def _without_blocks(content: str, thoughts: list[str]) -> tuple[str, bool]:
    """A content without its blocks, which are added to the thoughts; and whether the last one has no end."""
    place = 0
    while first := _first_opening(content, place):
        block, opening = first
        before = content[: opening.start()]
        closing = _its_closing(block, content, opening.end())
        thoughts.append(content[opening.end() : closing.start() if closing else None])
        if closing is None:
            return before.rstrip(), True
        after = content[closing.end() :].lstrip()
        content, place = (before + after, len(before)) if before.strip() else (after, 0)
    return content, False


def _first_opening(content: str, place: int) -> tuple[_Block, re.Match[str]] | None:
    """The first block from a place on, of a kind that may begin there."""
    found = [
        (block, opening)
        for block in _BLOCKS
        if (opening := block.opening.search(content, place))
        and (block.anywhere or not content[: opening.start()].strip())
    ]
    return min(found, key=lambda pair: pair[1].start(), default=None)


def _its_closing(block: _Block, content: str, place: int) -> re.Match[str] | None:
    """The closing tag of a block that begins before a place; blocks of its kind may stand in it.

    Where those are not closed, the first closing tag is its own.
    """
    depth, first, at = 1, block.closing.search(content, place), place
    while closing := block.closing.search(content, at):
        depth += len(block.opening.findall(content, at, closing.start())) - 1
        if depth == 0:
            return closing
        at = closing.end()
    return first


def _channels(content: str) -> Parts:
    """The final channel is the text; it is cut where there is none."""
    parts = [(match["name"].lower(), match["text"].strip()) for match in _CHANNEL.finditer(content)]
    final = [text for name, text in parts if name == "final"]
    thought = "\n".join(text for name, text in parts if name != "final")
    return Parts("\n".join(final), thought, not final)
