"""Ctrl-C where an event loop runs while a table is collected, as in a notebook."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import pytest
from jupyter_client import KernelManager
from scripted import Reply, Scripted, on
from user_runs import KEY

from jaxmoe.collect.journal import Journal

CONCURRENCY = 16  # where nothing else is said

CELL = """
import asyncio, json, signal, sys
import jaxmoe
from jaxmoe.collect.plan import Settings

async def cell():
    asyncio.get_running_loop()
    settings = Settings("writer", sys.argv[1], judge_models=("judge",), local_model="small", samples=1)
    return jaxmoe.collect_table("prompts.csv", "experts.json", "out", settings)

signal.signal(signal.SIGINT, signal.default_int_handler)
run = asyncio.run if sys.argv[2] == "asyncio.run" else asyncio.new_event_loop().run_until_complete
found = run(cell())
answered = sum(count for (_, status), count in found.statuses.items() if status == "done")
print(json.dumps([found.interrupted, found.complete, answered]), flush=True)
sys.stdin.read()  # a kernel lives on, and could go on sending
"""


def start(user, server, loop):
    return subprocess.Popen(
        [sys.executable, "-c", CELL, server.base_url, loop],
        cwd=user.folder,
        env=os.environ | {"OPENAI_API_KEY": KEY},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, runs):
    end = time.monotonic() + 30
    while not condition() and runs():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    "loop",
    ["a kernel's", "asyncio.run"],
)
def test_ctrl_c_on_a_running_loop_ends_the_paid_requests_at_once(user, loop):
    user.write("prompts.csv", "\n".join(["prompt", *(f"story {number}" for number in range(24))]))
    with Scripted((on(Reply(delay_s=0.05)),)) as server, start(user, server, loop) as process:
        wait_until(lambda: server.count(status=200) > 40, lambda: process.poll() is None)
        process.send_signal(signal.SIGINT)
        interrupted, complete, answered = json.loads(process.stdout.readline())
        sent = len(server.log)
        time.sleep(0.3)
        assert len(server.log) == sent
        _, error = process.communicate()
    assert (process.returncode, error) == (0, "")
    assert interrupted
    assert not complete
    assert 40 < sent < 216 + 2  # of all, and a question to each of two models
    assert 40 - CONCURRENCY < answered <= sent
    rows = (user.folder / "out" / "texts.jsonl").read_text().splitlines()
    assert rows
    assert {json.loads(row)["text"] for row in rows} <= server.sent
    assert (user.folder / "out" / "README.md").is_file()


KERNELS_CELL = """
import jaxmoe
from jaxmoe.collect.plan import Settings

settings = Settings("writer", {url!r}, judge_models=("judge",), local_model="small", samples=1)
found = jaxmoe.collect_table("prompts.csv", "experts.json", "out", settings)
"""


@contextmanager
def a_kernel(user, monkeypatch):
    """A Jupyter kernel in the user's folder, with one that may ask it."""
    monkeypatch.setenv("HOME", str(user.folder))
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(user.folder / name.lower()))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(user.folder))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def printed(client, code):
    """What a cell prints, once it is done."""
    said = []
    done = client.execute_interactive(
        code, timeout=10, output_hook=lambda message: said.append(message["content"].get("text", ""))
    )
    assert done["content"]["status"] == "ok", done["content"]
    return "".join(said)


@pytest.mark.notebook
def test_a_kernel_that_is_interrupted_answers_at_once_and_goes_on_later(user, monkeypatch):
    """The cell ends with what there is; the kernel lives, and the same cell again asks only for what is missing."""
    user.write("prompts.csv", "\n".join(["prompt", *(f"story {number}" for number in range(24))]))
    slow = on(Reply(delay_s=0.05), times=120)
    with Scripted((slow,)) as server, a_kernel(user, monkeypatch) as (manager, client):
        cell = KERNELS_CELL.format(url=server.base_url)
        client.execute(cell)
        wait_until(lambda: server.count(status=200) > 40, manager.is_alive)
        manager.interrupt_kernel()
        began = time.monotonic()
        assert printed(client, "print(found.interrupted, found.complete)") == "True False\n"
        assert time.monotonic() - began < 5
        before = len(server.log)
        assert 40 < before < 216 + 2  # of all, and a question to each of two models
        with closing(Journal(user.folder / "out" / "journal.sqlite")) as journal:
            answered = sum(row["status"] == "done" for row in journal.rows())
        assert 40 - CONCURRENCY < answered <= before
        assert printed(client, cell + "print(found.complete)") == "True\n"
    texts = [json.loads(row)["text"] for row in (user.folder / "out" / "texts.jsonl").read_text().splitlines()]
    assert len(texts) == 24 * 4
    assert set(texts) <= server.sent
    assert len(server.log) - before <= 218 - answered + 2
