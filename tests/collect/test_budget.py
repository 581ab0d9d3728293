"""Prices, and limits that hold at the worst of what is under way."""

import pytest

from jaxmoe.collect.answers import judge_structure
from jaxmoe.collect.budget import Budget, LimitError, Price, Prices, load_prices
from jaxmoe.collect.requests import BUNDLED, BUNDLED_MODEL, Endpoint, Request
from jaxmoe.errors import InputError

URL = "http://server/v1"
PRICES = Prices("2026-01-01", {"writer": Price(1_000_000.0, 2_000_000.0)})  # 1 and 2 dollars a token


def asking(model="writer", max_tokens=10, structure=None):
    messages = [{"role": "user", "content": "äb"}]
    return Request("local", "p", "local", 1, Endpoint(URL, model), messages, {"max_tokens": max_tokens}, structure)


WORST = (3 + 16) * 1.0 + 10 * 2.0  # bytes and the turn, and the longest answer


def budget(prices=PRICES, spent_usd=0.0, sent=0, max_cost_usd=None, max_requests=None):
    return Budget(prices, spent_usd, sent, max_cost_usd, max_requests)


# ---- price tables


def test_the_shipped_prices_have_a_date():
    prices = load_prices()
    assert prices.date == "2025-08-31"
    assert prices.of(Endpoint(URL, "gpt-4o-mini")) == Price(0.15, 0.60)


def test_an_own_price_table_replaces_the_shipped_one(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text('date = 2026-02-03\n[models]\n"mine" = { input = 0, output = 2.5 }\n')
    assert load_prices(path) == Prices("2026-02-03", {"mine": Price(0.0, 2.5)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date = ", "TOMLDecodeError"),
        ('[models]\n"m" = { input = 1, output = 2 }', "KeyError: 'date'"),
        ('date = "d"', "KeyError: 'models'"),
        ('date = "d"\nmodels = 3', "AttributeError"),
        ('date = "d"\n[models]\n"m" = 3', "TypeError"),
        ('date = "d"\n[models]\n"m" = { input = 1 }', "KeyError: 'output'"),
        ('date = "d"\n[models]\n"m" = { input = "much", output = 2 }', "ValueError"),
        ('date = "d"\n[models]\n"m" = { input = -1, output = 2 }', "is no price"),
        ('date = "d"\n[models]\n"m" = { input = 1, output = nan }', "ValueError"),
        ('date = "d"\n[models]\ngpt-4.1 = { input = 1, output = 2 }', "KeyError: 'input'"),
    ],
)
def test_what_is_no_price_table_is_refused(text, message, tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"{path}: a price table has a date .*{message}"):
        load_prices(path)


def test_unreadable_price_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        load_prices(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes('date = "März"'.encode("latin-1"))
    with pytest.raises(InputError, match="the file cannot be read"):
        load_prices(tmp_path / "latin.toml")


NAMED = Prices("d", {"gpt-4o": Price(2, 10), "gpt-4o-2024-05-13": Price(5, 15), "gpt-4": Price(30, 60)})


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("gpt-4o", Price(2, 10)),
        ("gpt-4o-2024-08-06", Price(2, 10)),
        ("gpt-4o-2024-05-13", Price(5, 15)),
        ("gpt-4-0613", Price(30, 60)),
        ("gpt-4o-mini", None),
        ("gpt-4o-mini-2024-07-18", None),
        ("gpt-4o2024", None),
        ("gpt-4o-", None),
        ("gpt-3", None),
        ("my-gpt-4o", None),
    ],
)
def test_a_dated_name_has_the_price_of_the_name_without_date(model, price):
    assert NAMED.of(Endpoint(URL, model)) == price


def test_the_small_model_is_free_and_only_where_it_is_bundled():
    assert PRICES.of(Endpoint(BUNDLED, BUNDLED_MODEL)) == Price(0.0, 0.0)
    assert PRICES.of(Endpoint(URL, BUNDLED_MODEL)) is None


# ---- what a request costs


def test_the_worst_cost_bounds_bytes_turns_and_schema():
    assert budget().worst_usd(asking()) == pytest.approx(WORST)
    assert budget().worst_usd(asking(structure=judge_structure("integer"))) > WORST
    assert budget().worst_usd(asking("stranger")) is None


@pytest.mark.parametrize(
    ("model", "counted", "cost"),
    [
        ("writer", (5, 3), 11.0),
        ("writer", (5, 0), 5.0),
        ("writer", (None, 3), WORST),
        ("writer", (5, None), WORST),
        ("stranger", (5, 3), None),
        ("stranger", (None, None), None),
    ],
)
def test_an_answer_costs_what_was_counted_or_the_worst(model, counted, cost):
    assert budget().cost_usd(asking(model), *counted) == (None if cost is None else pytest.approx(cost))


# ---- limits


def test_what_is_reserved_is_replaced_by_what_it_has_cost():
    own = budget(spent_usd=1.0, sent=2)
    reserved = own.reserve(asking())
    assert reserved == pytest.approx(WORST)
    assert (own.sent, own.spent_usd) == (3, pytest.approx(1.0 + WORST))
    own.settle(reserved, 11.0)
    assert (own.sent, own.spent_usd) == (3, pytest.approx(12.0))


def test_unknown_prices_count_as_requests_only():
    own = budget()
    own.settle(own.reserve(asking("stranger")), None)
    assert (own.sent, own.spent_usd) == (1, 0.0)


def test_no_request_is_sent_beyond_the_number():
    own = budget(sent=1, max_requests=2)
    own.reserve(asking())
    with pytest.raises(LimitError, match="--max-requests 2 is reached"):
        own.reserve(asking())
    assert own.sent == 2


@pytest.mark.parametrize(("limit", "sent"), [(2 * WORST, 2), (2 * WORST - 0.01, 1), (WORST - 0.01, 0)])
def test_the_cost_holds_for_all_that_is_under_way(limit, sent):
    own = budget(max_cost_usd=limit)
    for _ in range(sent):
        own.reserve(asking())
    with pytest.raises(LimitError, match=f"--max-cost {limit:g} could be passed by the next request") as caught:
        own.reserve(asking())
    assert f"{sent * WORST:.4f} spent or under way, {WORST:.4f} at most for this one" in str(caught.value)
    assert (own.sent, own.spent_usd) == (sent, pytest.approx(sent * WORST))


def test_what_comes_cheaper_leaves_room():
    own = budget(max_cost_usd=WORST + 1.0)
    own.settle(own.reserve(asking()), 1.0)
    own.reserve(asking())
    assert own.spent_usd == pytest.approx(WORST + 1.0)


def test_what_the_journal_has_spent_counts():
    with pytest.raises(LimitError):
        budget(spent_usd=1.0, max_cost_usd=WORST).reserve(asking())


def test_a_limit_of_cost_needs_every_price():
    endpoints = {Endpoint(URL, "writer"), Endpoint(URL, "stranger"), Endpoint(BUNDLED, BUNDLED_MODEL)}
    budget().require_prices(endpoints)
    budget(max_cost_usd=1.0).require_prices(endpoints - {Endpoint(URL, "stranger")})
    with pytest.raises(InputError, match=f"that of stranger at {URL} is unknown; give a price table with --prices"):
        budget(max_cost_usd=1.0).require_prices(endpoints)
