"""What requests cost, and the limits that a run must not pass."""

import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from jaxmoe.collect.requests import BUNDLED, Endpoint, Request
from jaxmoe.errors import InputError
from jaxmoe.table.formats import decoded

_MILLION = 1_000_000


class LimitError(Exception):
    """The next request could pass a limit that the user set; the message says which."""


class Price(NamedTuple):
    """US dollars per million tokens."""

    input: float
    output: float

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Of one request, in US dollars.

        >>> Price(2.0, 10.0).of(1000, 500)
        0.007
        """
        return (prompt_tokens * self.input + completion_tokens * self.output) / _MILLION


class Prices(NamedTuple):
    """A price table and its date."""

    date: str
    models: dict[str, Price]

    def of(self, endpoint: Endpoint) -> Price | None:
        """The model's price, also by the name without a date at its end; None where it is unknown.

        The small model on this machine is free.

        >>> Prices("2025-08-31", {"gpt-4o": Price(2.5, 10)}).of(Endpoint("", "gpt-4o-2024-08-06"))
        Price(input=2.5, output=10)
        """
        if endpoint.base_url == BUNDLED:
            return Price(0.0, 0.0)
        named = [name for name in self.models if endpoint.model == name or _dated(endpoint.model, name)]
        return self.models[max(named, key=len)] if named else None


def in_dollars(cost_usd: float, unpriced: int = 0) -> str:
    """A cost as a person reads it; what is not known is not shown as nothing.

    >>> in_dollars(1.5), in_dollars(0.0, unpriced=3), in_dollars(1.5, unpriced=3)
    ('1.5000 US dollars', 'at an unknown price', '1.5000 US dollars and 3 requests of unknown price')
    """
    if unpriced and not cost_usd:
        return "at an unknown price"
    amount = f"{cost_usd:.4f} US dollars" if cost_usd == 0 or cost_usd >= 0.00005 else "under 0.0001 US dollars"
    return f"{amount} and {unpriced} requests of unknown price" if unpriced else amount


def load_prices(path: Path | None = None) -> Prices:
    """The price table of a file, or the shipped one. Raises `InputError` if it is not one."""
    if path is None:
        text, name = (resources.files("jaxmoe.collect") / "prices.toml").read_text(encoding="utf-8"), "prices.toml"
    else:
        text, name = decoded(path), str(path)
    try:
        found = tomllib.loads(text)
        models = {
            model: Price(_dollars(entry["input"]), _dollars(entry["output"]))
            for model, entry in found["models"].items()
        }
        return Prices(str(found["date"]), models)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f'{name}: a price table has a date and, under [models], entries such as "gpt-4o" = {{ input = 2.5, '
            f"output = 10.0 }} in US dollars per million tokens; {type(error).__name__}: {error}"
        ) from None


class Budget:
    """Counts requests and cost against the limits, what is under way at its worst."""

    def __init__(
        self, prices: Prices, spent_usd: float, sent: int, max_cost_usd: float | None, max_requests: int | None
    ) -> None:
        """Begin with what the journal has spent already."""
        self.prices, self.spent_usd, self.sent = prices, spent_usd, sent
        self.max_cost_usd, self.max_requests = max_cost_usd, max_requests

    def require_prices(self, endpoints: set[Endpoint]) -> None:
        """Raise `InputError` if a limit of cost is set and a price is unknown."""
        unknown = sorted(str(endpoint) for endpoint in endpoints if self.prices.of(endpoint) is None)
        if self.max_cost_usd is not None and unknown:
            raise InputError(
                f"--max-cost needs the price of every model, and that of {unknown[0]} is unknown; "
                "give a price table with --prices (0 for a server of your own)"
            )

    def worst_usd(self, request: Request) -> float | None:
        """What a request can cost at most, None where the price is unknown."""
        price = self.prices.of(request.endpoint)
        return price and price.of(request.most_prompt_tokens, request.parameters["max_tokens"])

    def cost_usd(self, request: Request, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """What an answered request has cost; at its worst where the server did not count."""
        price = self.prices.of(request.endpoint)
        if price is None or prompt_tokens is None or completion_tokens is None:
            return self.worst_usd(request)
        return price.of(prompt_tokens, completion_tokens)

    def reserve(self, request: Request) -> float | None:
        """Count a request that is about to be sent; its worst cost. Raises `LimitError` if it could pass a limit."""
        worst = self.worst_usd(request)
        if self.max_requests is not None and self.sent >= self.max_requests:
            raise LimitError(f"--max-requests {self.max_requests} is reached")
        if self.max_cost_usd is not None and self.spent_usd + (worst or 0.0) > self.max_cost_usd:
            raise LimitError(
                f"--max-cost {self.max_cost_usd:g} could be passed by the next request "
                f"({self.spent_usd:.4f} spent or under way, {worst or 0.0:.4f} at most for this one, in US dollars)"
            )
        self.sent += 1
        self.spent_usd += worst or 0.0
        return worst

    def settle(self, reserved_usd: float | None, cost_usd: float | None) -> None:
        """Replace what was reserved by what it has cost."""
        self.spent_usd += (cost_usd or 0.0) - (reserved_usd or 0.0)


def _dollars(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is no price")
    return float(value)


def _dated(model: str, name: str) -> bool:
    rest = model.removeprefix(name)
    return rest != model and rest.startswith("-") and rest[1:].replace("-", "").isdigit()
