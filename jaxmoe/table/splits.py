"""What prompts are for: agents train on some, others choose among what was trained, and others judge the choice."""

import itertools
from collections import defaultdict
from collections.abc import Iterable

from jaxmoe.names import visible

SPLITS = ("train", "validation", "test")
_PAIRS_TOLD, _CHARACTERS_TOLD = 3, 60

Prompt = tuple[str, str, str]  # id, split and text


def choosing(splits: Iterable[str]) -> str:
    """The split by which is chosen, of those that there are: never test prompts, which judge.

    >>> choosing(["train", "validation", "test"]), choosing(["train", "test"])
    ('validation', 'train')
    """
    return "validation" if "validation" in splits else "train"


def told(splits: Iterable[str]) -> list[str]:
    """The splits of which is told how good something is: not those that only choose.

    >>> told(["train", "validation", "test"])
    ['train', 'test']
    """
    return [split for split in splits if split != "validation"]


def prompts_in_two_splits(prompts: Iterable[Prompt]) -> list[tuple[tuple[str, str], tuple[str, str], str]]:
    """Prompts that stand in two splits: split and id of the one, of the other, and the text; in the order of `SPLITS`.

    Two texts are the same if they differ at most in white space and in upper and
    lower case; prompts without a text are like no other.

    >>> prompts_in_two_splits([("p0", "train", "A storm."), ("p1", "train", "A calm."), ("q7", "test", "a  storm.")])
    [(('train', 'p0'), ('test', 'q7'), 'A storm.')]
    """
    alike: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for prompt_id, split, text in prompts:
        if words := " ".join(text.split()):
            alike[words.casefold()].append((prompt_id, split, words))
    return [
        ((first, one), (second, other), text)
        for same in alike.values()
        for first, second in itertools.combinations(SPLITS, 2)
        for one, split, text in same
        for other, other_split, _ in same
        if (split, other_split) == (first, second)
    ]


def describe_prompts_in_two_splits(prompts: Iterable[Prompt]) -> list[str]:
    """A line that warns of prompts in two splits and names at most three pairs, or no line.

    >>> print(*describe_prompts_in_two_splits([("p0", "train", "A storm."), ("q7", "test", "A storm.")]))
    warning: the train prompt p0 and the test prompt q7 are the same: "A storm."; scores on test prompts are then not \
those of unseen prompts
    """
    pairs = prompts_in_two_splits(prompts)
    told = [
        f"the {first} prompt {_beginning(one)} and the {second} prompt {_beginning(other)} are the same: "
        f'"{_beginning(text)}"'
        for (first, one), (second, other), text in pairs[:_PAIRS_TOLD]
    ]
    if len(pairs) > _PAIRS_TOLD:
        told.append(f"and {len(pairs) - _PAIRS_TOLD} more")
    later = {second for _, (second, _), _ in pairs}
    concerned = " and ".join(split for split in SPLITS if split in later)
    unseen = f"scores on {concerned} prompts are then not those of unseen prompts"
    return [f"warning: {'; '.join([*told, unseen])}"] if pairs else []


def _beginning(text: str) -> str:
    return visible(text if len(text) <= _CHARACTERS_TOLD else text[:_CHARACTERS_TOLD].rstrip() + "...")
