"""Agreement of judges, against numbers worked out by hand."""

import math

import numpy as np
import pytest

from jaxmoe.collect.agreement import Agreement, agreement, describe_agreement
from jaxmoe.collect.pipeline import Collected
from jaxmoe.collect.requests import DONE, INVALID, Answer

WORDS = (10, 90, 20)  # of the texts local, a and b


def collected(*judges, words=WORDS):
    """Scores of three texts by each judge; None for a judgement that failed."""
    texts = {("p", subset): Answer(DONE, text="word " * count) for subset, count in enumerate(words)}
    scores = {
        ("p", subset, str(judge)): Answer(DONE, value=score) if score is not None else Answer(INVALID, value=9.0)
        for judge, own in enumerate(judges, start=1)
        for subset, score in enumerate(own)
    }
    return Collected(texts=texts, scores=scores)


def test_two_judges():
    found = agreement(collected((2.0, 4.0, 6.0), (4.0, 8.0, 6.0)))
    assert (found.texts, found.judges) == (3, 2)
    assert found.mean_std == pytest.approx((1 + 2 + 0) / 3)
    assert found.pearson == pytest.approx(4 / 8)  # deviations -2, 0, 2 and -2, 2, 0
    # ranks of the words 1, 3, 2 and of the means 3, 6, 6
    assert found.length_spearman == pytest.approx(1.5 / math.sqrt(1.5 * 2))


def test_pearson_is_the_mean_over_pairs_of_judges():
    found = agreement(collected((1.0, 2.0, 3.0), (2.0, 4.0, 6.0), (3.0, 2.0, 1.0)))
    assert found.judges == 3
    assert found.pearson == pytest.approx((1 - 1 - 1) / 3)


def test_a_failed_judgement_is_no_number():
    found = agreement(collected((2.0, 4.0, 6.0), (4.0, None, 6.0)))
    assert (found.texts, found.judges) == (3, 2)
    assert found.mean_std == pytest.approx((1 + 0) / 2)
    assert math.isnan(found.pearson)  # of two texts alone
    assert found.length_spearman == pytest.approx(0.5)  # words 1, 3, 2 against means 3, 4, 6


def test_a_text_that_nobody_scored_does_not_count():
    assert agreement(collected((2.0, None, 6.0), (4.0, None, 6.0))).texts == 2


def test_length_against_score():
    assert agreement(collected((1.0, 9.0, 5.0))).length_spearman == pytest.approx(1.0)
    assert agreement(collected((9.0, 1.0, 5.0))).length_spearman == pytest.approx(-1.0)
    assert math.isnan(agreement(collected((1.0, 9.0, 5.0), words=(7, 7, 7))).length_spearman)


def test_judges_that_do_not_vary_agree_on_nothing():
    found = agreement(collected((5.0, 5.0, 5.0), (1.0, 2.0, 3.0)))
    assert math.isnan(found.pearson)
    assert found.mean_std == pytest.approx((2 + 1.5 + 1) / 3)


def test_one_judge_has_nobody_to_agree_with():
    found = agreement(collected((2.0, 4.0, 6.0)))
    assert (found.texts, found.judges) == (3, 1)
    assert math.isnan(found.mean_std)
    assert math.isnan(found.pearson)


@pytest.mark.parametrize("found", [Collected(), collected((None, None, None))])
def test_without_scores_there_is_nothing_to_say(found):
    numbers = agreement(found)
    assert (numbers.texts, numbers.judges) == (0, 0)
    assert all(math.isnan(number) for number in numbers[2:])
    assert describe_agreement(numbers) == ["no text was scored"]


@pytest.mark.parametrize(
    ("numbers", "lines"),
    [
        (Agreement(6, 1, np.nan, np.nan, 0.504), ["6 texts were scored; score and length of a text: Spearman 0.50"]),
        (
            Agreement(6, 3, 0.756, -0.25, np.nan),
            [
                "6 texts were scored; score and length of a text: Spearman unknown (too few, or all the same)",
                "3 judgements of a text: Pearson -0.25 between two of them, standard deviation 0.76 within a text",
            ],
        ),
    ],
)
def test_agreement_in_words(numbers, lines):
    assert describe_agreement(numbers) == lines
