"""Collecting an expert table: the run as a whole, from the user's files to records, table and data card."""

import asyncio
import concurrent.futures
import contextlib
import math
import os
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from filelock import FileLock, Timeout

from jaxmoe.collect.agreement import agreement, describe_agreement
from jaxmoe.collect.budget import Budget, LimitError, in_dollars, load_prices
from jaxmoe.collect.card import data_card, uncounted, warnings
from jaxmoe.collect.client import Client, Limits, understood
from jaxmoe.collect.estimate import Estimate, describe_estimates, estimate
from jaxmoe.collect.failures import advice, failures
from jaxmoe.collect.inputs import load_experts, read_prompts
from jaxmoe.collect.journal import FILE, Journal
from jaxmoe.collect.local import small_model
from jaxmoe.collect.pipeline import Collected, run_pipeline
from jaxmoe.collect.plan import Plan, Settings, make_plan
from jaxmoe.collect.records import write_records
from jaxmoe.collect.requests import BUNDLED, INVALID, LENGTH, NOT_ASKED, REFUSED, Answer, Request
from jaxmoe.collect.secrets import redacting_logs
from jaxmoe.collect.servers import Address, address, main_base_url
from jaxmoe.errors import InputError
from jaxmoe.files import with_home, write_text
from jaxmoe.progress import SILENT, Display, duration
from jaxmoe.table import ExpertTable, load_table
from jaxmoe.table.records import RAW_FILES
from jaxmoe.values import count

T = TypeVar("T")
MOST_AT_ONCE = 10_000  # requests
FAILURES_SHOWN = 3  # the most frequent; the data card has all

AnyPath = str | os.PathLike[str]


class Spending(NamedTuple):
    """Limits of a whole folder, whatever number of runs it takes."""

    max_cost_usd: float | None = None
    max_requests: int | None = None
    prices: Path | None = None  # price table; the shipped one if absent

    def check(self) -> None:
        """Raise `InputError` for a limit that is none."""
        for name, value in (("max_cost", self.max_cost_usd), ("max_requests", self.max_requests)):
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"{name} = {value}, it must be a number from 0 on")


class Collection(NamedTuple):
    """What a run leaves."""

    folder: Path
    table: ExpertTable | None  # with what is there, perhaps with gaps; None without any text
    statuses: dict[tuple[str, str], int]  # requests by stage and status
    notes: list[str]  # what a user should know: frequent failures, agreement of judges, warnings
    spent: str  # requests and cost of the folder so far
    stopped: str  # why it ended early, "" if it did not
    interrupted: bool
    advice: list[str]  # what to do about gaps
    max_experts: int | None  # of the subsets that were to be scored; any number if absent

    @property
    def gaps(self) -> list[tuple[str, str]]:
        """What the table lacks of what was to be scored."""
        return [] if self.table is None else self.table.gaps(self.max_experts)

    @property
    def complete(self) -> bool:
        """Whether the table can be trained on, with `max_experts` in the settings if subsets of more are left out."""
        return self.table is not None and not self.gaps


class CollectProgress(NamedTuple):
    """Where a collection stands."""

    done: int
    total: int
    failures: int
    per_s: float
    cost_usd: float
    concurrency: int
    unpriced: bool = False  # whether there are models whose price is unknown

    @property
    def share_done(self) -> float:
        """From 0 to 1."""
        return self.done / max(1, self.total)

    def __str__(self) -> str:
        left = duration((self.total - self.done) / self.per_s) if self.per_s else "unknown"
        cost = in_dollars(self.cost_usd)
        if self.unpriced:
            cost = f"{cost} and what has no known price" if self.cost_usd else in_dollars(0.0, unpriced=1)
        return (
            f"{self.done:,} of {self.total:,} requests, {self.failures} without use, {self.per_s:.1f} requests/s, "
            f"{self.concurrency} at once, {cost}, {left} left"
        )


def collect_table(
    prompts: AnyPath,
    experts: AnyPath,
    out: AnyPath,
    settings: Settings | None = None,
    *,
    limits: Limits | None = None,
    spending: Spending | None = None,
    retry_failed: bool = False,
    report: Display = SILENT,
) -> Collection:
    """Ask the models for all texts and scores that the folder's journal lacks, and write records, table and data card.

    The same call goes on where an earlier one ended; what was answered is never asked again.

    Args:
        prompts: CSV, Excel or Parquet file with a column `prompt`, and if wanted `prompt_id` and `split`.
        experts: JSON list of objects with `expert` and `system_prompt`, and if wanted `model` and `base_url`.
        out: folder of the collection, a new one or one to go on with.
        settings: models, templates and how texts are judged.
        limits: concurrency, attempts and time-out of requests, and how long a crowded server is waited for.
        spending: limits of cost and requests.
        retry_failed: ask again what was refused or answered in a wrong form.
        report: told how it goes.

    Raises:
        InputError: files or settings that do not fit; a wrong key, an unknown model or a used-up quota, after the
            records of what is there were written.
    """
    limits = limits or Limits()
    count(limits.concurrency, "concurrency", MOST_AT_ONCE)
    count(limits.attempts, "attempts")
    if not limits.timeout_s > 0 or not limits.patience_s >= 0:
        raise InputError(
            f"timeout_s = {limits.timeout_s} must be above 0, and patience_s = {limits.patience_s} at least 0"
        )
    (spending := spending or Spending()).check()
    plan = _plan(prompts, experts, settings)
    with _claimed(with_home(out)) as folder:
        return on_a_loop(lambda: _collect(plan, folder, limits, spending, retry_failed, report))


def estimate_collection(
    prompts: AnyPath,
    experts: AnyPath,
    out: AnyPath,
    settings: Settings | None = None,
    *,
    spending: Spending | None = None,
) -> tuple[list[Estimate], list[str]]:
    """What `collect_table` would still send, by stage and model, and the same in words. Nothing is sent or written.

    Args:
        prompts: CSV file of the requests.
        experts: JSON file that says who the experts are.
        out: folder of the collection, with what is collected already, if anything.
        settings: models, servers and sizes.
        spending: prices, if any are known.

    Raises:
        InputError: a file or a value in it is not what it must be.
    """
    plan = _plan(prompts, experts, settings)
    prices = load_prices((spending or Spending()).prices)
    path = with_home(out) / FILE

    async def count() -> list[Estimate]:
        with contextlib.closing(Journal(path if path.is_file() else Path(":memory:"))) as journal:
            return await estimate(plan, journal, prices)

    found = on_a_loop(count)
    return found, describe_estimates(found, prices)


def _plan(prompts: AnyPath, experts: AnyPath, settings: Settings | None) -> Plan:
    return make_plan(read_prompts(with_home(prompts)), load_experts(with_home(experts)), settings or Settings())


async def _collect(
    plan: Plan, folder: Path, limits: Limits, spending: Spending, retry_failed: bool, report: Display
) -> Collection:
    prices = load_prices(spending.prices)
    with contextlib.closing(Journal(folder / FILE)) as journal, contextlib.ExitStack() as stack:
        if retry_failed:
            journal.forget((REFUSED, INVALID))
        totals = journal.totals()
        budget = Budget(prices, totals.cost_usd, totals.requests, spending.max_cost_usd, spending.max_requests)
        budget.require_prices(plan.endpoints)
        client = Client(journal, budget, limits, server_addresses(plan, stack, report), report)
        stack.enter_context(redacting_logs(client.secrets))
        watched = _Watch(plan, client, budget, report)
        interrupted = False
        try:
            await run_pipeline(plan, watched.ask, prompts_at_once=2 * limits.concurrency)
        except asyncio.CancelledError:  # Ctrl-C: what was answered is in the journal
            interrupted = True
        finally:
            await client.close()
        collection = await _written(plan, folder, journal, client, interrupted)
    if isinstance(client.stopped, InputError):
        raise client.stopped
    return collection


class _Watch:
    """Counts what is answered, for the report."""

    def __init__(self, plan: Plan, client: Client, budget: Budget, report: Display) -> None:
        self._client, self._budget, self._report = client, budget, report
        self._total, self._done, self._failures, self._sent = sum(plan.counts().values()), 0, 0, budget.sent
        self._began = time.monotonic()
        self._unpriced = any(budget.prices.of(endpoint) is None for endpoint in plan.endpoints)
        report.stage(
            f"{self._total:,} requests in all, {', '.join(f'{n:,} {s}' for s, n in plan.counts().items() if n)}"
        )

    async def ask(self, request: Request) -> Answer:
        answer = await self._client.ask(request)
        if answer is not NOT_ASKED:
            self._done += 1
            self._failures += not answer.usable
            per_s = (self._budget.sent - self._sent) / max(1e-9, time.monotonic() - self._began)
            spent_usd, concurrency = self._budget.spent_usd, self._client.concurrency
            self._report.progress(
                CollectProgress(self._done, self._total, self._failures, per_s, spent_usd, concurrency, self._unpriced)
            )
        return answer


async def _written(plan: Plan, folder: Path, journal: Journal, client: Client, interrupted: bool) -> Collection:
    """Records, table and data card of everything in the journal, whichever run asked for it."""
    keys = set()

    async def look_up(request: Request) -> Answer:
        keys.add(request.key)
        known = journal.answer(request.key)
        return understood(request, known) if known else NOT_ASKED

    found = await run_pipeline(plan, look_up, prompts_at_once=1)
    rows = [row for row in journal.rows() if row["key"] in keys or row["stage"] == "probe"]
    write_records(folder, plan, found)
    table = _table(folder, found)
    card = data_card(plan, found, rows, table)
    write_text(folder / "README.md", card)
    totals, stopped = journal.totals(), client.stopped
    kinds = failures(rows)
    more = [f"and {len(kinds) - FAILURES_SHOWN} more kinds of failure: see README.md there"]
    cut = sum(answer.status == LENGTH for answer in found.texts.values())
    return Collection(
        folder,
        table,
        dict(Counter((row["stage"], row["status"]) for row in rows)),
        [
            *kinds[:FAILURES_SHOWN],
            *(more if len(kinds) > FAILURES_SHOWN else []),
            *client.notes(),
            *(
                [f"{cut} texts were cut at the limit of {plan.settings.max_tokens} tokens (--max-tokens)"]
                if cut
                else []
            ),
            *describe_agreement(agreement(found)),
            *warnings(plan),
        ],
        f"{totals.requests:,} requests sent, {in_dollars(totals.cost_usd, totals.unpriced)}"
        + uncounted(totals.uncounted),
        str(stopped) if isinstance(stopped, LimitError) else "",
        interrupted,
        advice(rows),
        plan.max_experts,
    )


def _table(folder: Path, found: Collected) -> ExpertTable | None:
    """The table as far as it goes, also as a file."""
    if not any(answer.usable for answer in found.scores.values()) or not any(a.usable for a in found.gate.values()):
        return None
    table = load_table(folder, missing="keep")
    table.save(folder / "table.parquet", overwrite=True)
    return table


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[Path]:
    """The folder for this process alone. Raises `InputError` if it holds something else, or another process has it."""
    if not (folder / FILE).is_file() and (kept := [name for name in RAW_FILES if (folder / name).exists()]):
        raise InputError(f"{folder} holds a {kept[0]} and no journal of a collection; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            yield folder
    except Timeout:
        raise InputError(f"another process is collecting into {folder}; wait for it or choose another folder") from None
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose another folder") from None


def server_addresses(plan: Plan, stack: contextlib.ExitStack, report: Display) -> Callable[[str], Address]:
    """Where servers are, with their keys; all are looked up now, so that a missing key is said before work begins."""
    main = main_base_url(plan.settings.base_url)
    found = {url: address(url, main) for url in {endpoint.base_url for endpoint in plan.endpoints} - {BUNDLED}}
    if any(endpoint.base_url == BUNDLED for endpoint in plan.endpoints):
        report.stage("starting the small model on this machine")
        found[BUNDLED] = stack.enter_context(small_model())
    return found.__getitem__


def on_a_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine, also where an event loop runs already, as in a notebook.

    Ctrl-C cancels the coroutine in both cases, and what it then returns is returned.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    return _on_a_thread(work)


@contextlib.contextmanager
def _ctrl_c_raises() -> Iterator[None]:
    """Ctrl-C ends a wait in this block, also where the running loop has a handler that waits for its next turn."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _on_a_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    started: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    async def cancellable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        started.put(lambda: loop.call_soon_threadsafe(task.cancel) if task else None)
        return await work()

    with _ctrl_c_raises(), concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: asyncio.run(cancellable()))
        try:
            return future.result()
        except KeyboardInterrupt:  # waiting for the thread without this would go on paying
            started.get()()
        try:
            return future.result()
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
