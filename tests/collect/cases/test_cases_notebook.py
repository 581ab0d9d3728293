"""Ctrl-C where an event loop runs while a table is collected, as in a notebook."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from scripted import Reply, Scripted, on

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
        env=os.environ | {"OPENAI_API_KEY": "sk-canary-4f1c9a7be02d43d8"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, process):
    end = time.monotonic() + 30
    while not condition() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    "loop",
    ["a kernel's", "asyncio.run"],
)
def test_ctrl_c_on_a_running_loop_ends_the_paid_requests_at_once(user, loop):
    user.write("prompts.csv", "\n".join(["prompt", *(f"story {number}" for number in range(24))]))
    with Scripted((on(Reply(delay_s=0.05)),)) as server, start(user, server, loop) as process:
        wait_until(lambda: server.count(status=200) > 40, process)
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
