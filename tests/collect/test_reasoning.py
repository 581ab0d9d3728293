"""What was thought is told from what was said, and ordinary brackets are left alone."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from jaxmoe.collect.reasoning import Parts, told_apart

TAGS = [
    *(
        (f"<{name}>", f"</{name}>")
        for name in (
            "think",
            "thinking",
            "thought",
            "thoughts",
            "reasoning",
            "analysis",
            "scratchpad",
            "seed:think",
            "Think",
            "THINKING",
        )
    ),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<unused94>", "<unused95>"),
]
WORDS = ("<thought>", "<thoughts>", "<reasoning>", "<analysis>", "<scratchpad>")  # which a text may hold
SPECIAL = [tags for tags in TAGS if tags[0] not in WORDS]


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_a_block_at_the_beginning_is_reasoning(opening, closing):
    told = told_apart(f"\n{opening}\nA whale,\nthen.\n{closing}\n\nOnce <i>there</i> was.\n")
    assert told == Parts("Once <i>there</i> was.\n", "A whale,\nthen.", False)
    assert told_apart(f"{opening}{closing}Once.") == Parts("Once.", "", False)
    assert told_apart(f"{opening}a{closing}{opening}b{closing}Once.") == Parts("Once.", "a\nb", False)


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_a_block_without_its_end_is_cut(opening, closing):
    assert told_apart(f"{opening}\nFirst I") == Parts("", "First I", True)
    assert told_apart(f"{opening}a{closing}{opening}b") == Parts("", "a\nb", True)
    assert told_apart(opening) == Parts("", "", True)


@pytest.mark.parametrize(("opening", "closing"), SPECIAL)
def test_a_block_whose_opening_tag_the_template_has_written(opening, closing):
    assert told_apart(f"A whale, then.\n{closing}\n\nOnce.") == Parts("Once.", "A whale, then.", False)
    assert told_apart(f"a{closing}{opening}b{closing}Once.") == Parts("Once.", "a\nb", False)
    assert told_apart(f"{closing}Once.") == Parts("Once.", "", False)


@pytest.mark.parametrize(("opening", "closing"), SPECIAL)
def test_a_block_in_the_middle(opening, closing):
    assert told_apart(f"Once. {opening}And now?{closing} Then.") == Parts("Once. Then.", "And now?", False)
    assert told_apart(f"Once. {opening}And now?") == Parts("Once.", "And now?", True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Once there was a whale.",
        "a < b and b > c, <b>bold</b> & [x] <3",
        "  He wrote: <analysis>of the storm</analysis>, and left.",
        "Her <thought>first</thought> one, her <reasoning>best</reasoning>, <scratchpad>",
        "think, [think no], </thought> </analysis>",
        "<thinker>no</thinker> <think-tank>",
        "<THE END>",
        "<|end|> |channel|",
        "line\n\n\nline \n",
    ],
)
def test_an_ordinary_text_is_left_as_it_is(text):
    assert told_apart(text) == Parts(text, "", False)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (
            "<|channel|>analysis<|message|>A whale.<|end|><|start|>assistant<|channel|>final<|message|>Once.<|return|>",
            Parts("Once.", "A whale.", False),
        ),
        ("<|channel|>final<|message|>Once.", Parts("Once.", "", False)),
        ("<|start|>assistant<|channel|>final <|message|> Once. <|end|>", Parts("Once.", "", False)),
        ("<|channel|>analysis<|message|>A wh", Parts("", "A wh", True)),
        (
            "<|channel|>analysis<|message|>a<|end|><|channel|>commentary<|message|>b<|end|><|channel|>final<|message|>c",
            Parts("c", "a\nb", False),
        ),
        ("<|channel|>final<|message|>a < b<|end|>", Parts("a < b", "", False)),
        ("<|channel|>", Parts("", "", True)),
    ],
)
def test_channels(content, parts):
    assert told_apart(content) == parts


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>\nOnce.\n<|end_of_solution|>", "Once."),
        ("<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>Once.", "Once."),
    ],
)
def test_a_solution_loses_its_tags(content, text):
    assert told_apart(content) == Parts(text, "a", False)


@given(
    st.lists(
        st.sampled_from(["a", " ", "\n", "<", ">", "/", "|", *(tag for tags in TAGS for tag in tags)])
        | st.sampled_from(["<|channel|>", "final", "<|message|>", "<|end|>"]),
        max_size=12,
    ).map("".join)
)
def test_whatever_comes_ends_and_adds_nothing(content):
    found = told_apart(content)
    assert len(found.text) + len(found.reasoning) <= len(content)
    assert set(found.text) <= set(content)


@pytest.mark.parametrize(
    "content",
    [
        '<think time="5s">plan</think >\nOnce.',
        "<think>plan <think>more</think> plan</think> Once.",
        "<think>plan</think>more</think> Once.",
        "<|START_THINKING|>plan<|END_THINKING|><|START_RESPONSE|>Once.<|END_RESPONSE|>",
        '<details type="reasoning" done="true"><summary>plan</summary></details>\nOnce.',
        "<think>plan</think><answer>Once.</answer>",
        "<|channel|>analysis<|message|>plan<|end|><|start|>assistant<|channel|>final <|constrain|>text<|message|>Once.",
        "analysis<|message|>plan<|end|><|start|>assistant<|channel|>final<|message|>Once.",
        "analysisThe plan.assistantfinalOnce.",
    ],
)
def test_reasoning_of_rarer_forms_is_told_from_the_text(content):
    found = told_apart(content)
    assert (found.text, found.cut) == ("Once.", False)
    assert "plan" in found.reasoning


@pytest.mark.parametrize("content", ["analysis<|message|>The plan", '<think time="5s">The plan'])
def test_rarer_forms_that_end_in_reasoning_are_cut(content):
    assert told_apart(content).cut


@pytest.mark.parametrize("content", ["<answer>Once.</answer>", "<thinkers> said <b>no</b>", "analysis is done"])
def test_what_only_looks_like_reasoning_stays(content):
    assert told_apart(content).text == content
