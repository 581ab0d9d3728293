"""Texts: what a server sent as one, to the letter, and nothing else. Scores stay strict."""

import json

import pytest
from scripted import TEXTS, Reply, Scripted, on

PLAN = "PLANMARK: sea, storm, home"  # what a model thinks, which belongs into no text


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(
            lambda asked: Reply(content=f"<think>\nThe user wants a story. {PLAN}.\n</think>\n\n{asked.text}"),
            id="a block of reasoning before it",
        ),
        pytest.param(
            lambda asked: Reply(content=f"Okay, the user asked for a story. {PLAN}.\n</think>\n\n{asked.text}"),
            id="a block of reasoning without its beginning",
        ),
        pytest.param(
            lambda asked: Reply(
                content=f"<|channel|>analysis<|message|>{PLAN}<|end|><|start|>assistant<|channel|>final<|message|>{asked.text}"
            ),
            id="channels of gpt-oss",
        ),
        pytest.param(
            lambda _: Reply(message={"reasoning_content": PLAN}), id="reasoning in the field reasoning_content"
        ),
        pytest.param(
            lambda _: Reply(
                message={"reasoning": PLAN, "reasoning_details": [{"type": "reasoning.text", "text": PLAN}]}
            ),
            id="reasoning in the field reasoning, and its details",
        ),
    ],
)
def test_reasoning_is_no_part_of_a_text_and_is_told_to_no_other_model(user, reply):
    def told_apart(asked):
        return reply(asked)._replace(visible=asked.text)

    with Scripted((on(told_apart, stage=TEXTS),)) as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert not [text for text in done.texts if "PLANMARK" in text or "think>" in text or "<|" in text]
    assert server.count(contains="PLANMARK") == 0


def test_a_text_in_parts_is_whole(user):
    def in_parts(asked):
        parts = [{"type": "text", "text": "Long ago. "}, {"type": "text", "text": asked.text}]
        return Reply(content=parts, visible=f"Long ago. {asked.text}")

    with Scripted((on(in_parts, stage=TEXTS),)) as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert all(text.startswith("Long ago. The ") for text in done.texts)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        pytest.param(
            Reply(content=None, message={"content": None, "reasoning_content": "MARK. I would begin with the sea"}),
            "there is reasoning and no text",
            id="null, all tokens went into reasoning",
        ),
        pytest.param(
            Reply(completion={"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
            "without choices, perhaps because of a content filter",
            id="no choices",
        ),
        pytest.param(
            Reply(
                content="MARK Under a grey",
                choice={"finish_reason": "error", "error": {"code": 502, "message": "the walrus provider went idle"}},
            ),
            "walrus provider went idle",
            id="finish reason error, half a text",
        ),
        pytest.param(
            Reply(content="MARK Under a", choice={"finish_reason": "SAFETY"}),
            "filter (finish reason SAFETY)",
            id="finish reason SAFETY",
        ),
        pytest.param(
            Reply(message={"content": None, "refusal": "Whales are beyond what I may write of."}),
            "Whales are beyond what I may write of.",
            id="the field refusal",
        ),
        pytest.param(
            Reply(
                body={
                    "object": "chat.completion",
                    "choices": None,
                    "error": {"message": "upstream is molten", "code": 502},
                }
            ),
            "502: upstream is molten",
            id="an error inside status 200",
        ),
    ],
)
def test_what_is_no_text_is_kept_out_and_its_reason_shown(user, reply, said):
    with Scripted((on(reply._replace(visible=""), stage="local"),)) as server:
        done = user.collect(server, "--attempts", "2")
    assert done.code == 1
    assert (len(done.texts), len(done.scores)) == (6, 6)
    assert said in done.said
    assert said in done.card
    assert server.count(contains="MARK") == 0
    assert server.count(stage="local") <= 4


def test_a_text_that_is_cut_inside_its_reasoning_is_none(user):
    thinking = "<think>\nPLANMARK. First I should find the whale, and then"
    reply = Reply(content=thinking, choice={"finish_reason": "length"}, visible="")
    with Scripted((on(reply, stage="expert"),)) as server:
        done = user.collect(server)
    assert done.code == 1
    assert len(done.texts) == 2  # of the own device
    assert "cut while the model was reasoning (finish reason length)" in done.said
    assert "--max-tokens" in done.said
    assert server.count(contains="PLANMARK") == 0
    assert server.count(stage="expert") == 4  # paid, and not asked again


def test_a_text_that_ends_at_the_limit_of_tokens_is_kept_and_said(user):
    def cut(asked):
        return Reply(content=f"CUTMARK {asked.text} And then the", choice={"finish_reason": "length"})

    with Scripted((on(cut, stage="local"),)) as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert sum(text.startswith("CUTMARK") for text in done.texts) == 2
    assert "2 texts were cut at the limit of 2048 tokens" in done.said
    assert "2 of 8 texts were cut at the limit of tokens" in done.card


def test_other_names_of_a_natural_end_are_one(user):
    """And so is none at all."""
    names = {"expert": "eos", "fusion": "end_turn", "local": "STOP", "judge": "stop_sequence", "gate": None}
    rules = [on(Reply(choice={"finish_reason": name}), stage=stage) for stage, name in names.items()]
    with Scripted(tuple(rules)) as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)


def test_a_stream_that_nobody_asked_for_is_read_as_one_text(user):
    def streamed(_):
        parts = [{"role": "assistant", "content": "Once "}, {"content": "more."}]
        pieces = [{"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in parts]
        pieces[-1]["choices"][0]["finish_reason"] = "stop"
        body = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
        return Reply(body=body, visible="Once more.", headers={"Content-Type": "text/event-stream"})

    with Scripted((on(streamed, stage="local"),)) as server:
        done = user.collect(server, "--attempts", "2")
    assert done.code == 0
    assert done.texts.count("Once more.") == 2
    assert not [text for text in done.texts if "data:" in text or "chunk" in text or "DONE" in text]


def test_a_prompt_that_a_filter_stops_is_refused_and_not_asked_again(user):
    """Status 400 with a code and an inner error, for one of two prompts."""
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True}}}
    error = {"message": "The prompt was stopped by the content rules of this deployment (gull).", "param": "prompt"}
    reply = Reply(400, {"error": {**error, "code": "content_filter", "status": 400, "innererror": inner}})
    with Scripted((on(reply, stage="expert", contains="bakers"),)) as server:
        done = user.collect(server)
        before = len(server.log)
        user.collect(server)
    assert done.code == 1
    assert (len(done.texts), len(done.scores)) == (5, 5)
    assert "gull" in done.said
    assert "--retry-failed asks again what was refused" in done.said
    assert server.count(stage="expert", status=400) == 2
    assert len(server.log) == before


def test_a_block_of_reasoning_before_a_structured_answer_is_left_out(user):
    """The score in it is none."""

    def thinks(asked):
        return Reply(content=f'<think>\nLet me see, perhaps {{"score": 3}}?\n</think>\n{asked.text}')

    with Scripted((on(thinks, stage=("gate", "judge", "probe")),)) as server:
        done = user.collect(server)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    given = sorted(str(json.loads(asked.text)["score"]) for asked in server.asked(stage="judge"))
    assert sorted(done.scores) == given


def test_a_score_in_words_or_as_a_fraction_is_none(user):
    words = Reply(content="I would give this story a 7 out of 10.")
    with Scripted((on(words, stage="judge", contains="whale"), on(Reply(content="7/10"), stage="judge"))) as server:
        done = user.collect(server)
    assert done.code == 1
    assert (len(done.texts), len(done.scores)) == (8, 0)
    assert "the answer is not JSON" in done.said
