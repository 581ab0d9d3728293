"""What jaxmoe adds to each request of a collection, over the bare SDK: journal, budget, pace and checks.

Both ask the same server, a process of its own on this machine that answers at once, with the same number of requests
under way; they take turns, and the difference of their times per request is the overhead.
"""

import argparse
import asyncio
import importlib.metadata
import json
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

import openai
from peers.machine import describe

from jaxmoe.collect.answers import judge_structure
from jaxmoe.collect.budget import Budget, load_prices
from jaxmoe.collect.client import Client, Limits
from jaxmoe.collect.journal import Journal
from jaxmoe.collect.requests import Endpoint, Request
from jaxmoe.collect.servers import Address

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "stub",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": '{"score": 7}'}}],
    "usage": {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000, help="of each contender in a round")
    parser.add_argument("--concurrency", type=int, default=64, help="requests under way")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    about = {**describe(), "openai": importlib.metadata.version("openai")}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    receiver, sender = multiprocessing.Pipe(duplex=False)
    stub = multiprocessing.get_context("spawn").Process(target=serve, args=(sender,), daemon=True)
    stub.start()
    base_url = f"http://127.0.0.1:{receiver.recv()}/v1"
    times: dict[str, list[float]] = {"bare SDK": [], "jaxmoe": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-1, arguments.rounds):  # the first round warms up
            requests = [request(base_url, f"{number} {index}") for index in range(arguments.requests)]
            bare = asyncio.run(ask_bare(base_url, requests, arguments.concurrency))
            own = asyncio.run(ask_with_jaxmoe(requests, arguments.concurrency, Path(folder, f"{number}.sqlite")))
            if number >= 0:
                times["bare SDK"].append(bare)
                times["jaxmoe"].append(own)
    stub.terminate()
    for name, seconds in times.items():
        each = [1e3 * value / arguments.requests for value in seconds]
        print(
            f"{name:<9} {statistics.median(each):.2f} ms per request (rounds: {', '.join(f'{ms:.2f}' for ms in each)})"
        )
    differences = [1e3 * (own - bare) / arguments.requests for bare, own in zip(*times.values(), strict=True)]
    print(f"overhead  {statistics.median(differences):.2f} ms per request, {arguments.concurrency} requests under way")


def request(base_url: str, text: str) -> Request:
    """A judgement of a text of usual length."""
    messages = [{"role": "system", "content": "You score stories."}, {"role": "user", "content": text + " word" * 250}]
    parameters = {"max_tokens": 64, "temperature": 0.7, "seed": 1}
    return Request(
        "judge", "p00", "a+b", 1, Endpoint(base_url, "stub"), messages, parameters, judge_structure("integer")
    )


async def ask_bare(base_url: str, requests: list[Request], concurrency: int) -> float:
    """Seconds that the SDK alone takes."""
    places = asyncio.Semaphore(concurrency)
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as sdk:

        async def ask(request: Request) -> None:
            async with places:
                await sdk.chat.completions.create(
                    model="stub",
                    messages=request.messages,
                    response_format={"type": "json_object"},
                    **request.parameters,
                )

        began = time.perf_counter()
        await asyncio.gather(*map(ask, requests))
        return time.perf_counter() - began


async def ask_with_jaxmoe(requests: list[Request], concurrency: int, path: Path) -> float:
    """Seconds that the client of the collection takes, with its journal on disk."""
    journal = Journal(path)
    journal.put_dialect(requests[0].endpoint, {"structure": "json_object", "token_limit": "max_tokens", "without": []})
    client = Client(
        journal, Budget(load_prices(), 0.0, 0, None, None), Limits(concurrency), lambda url: Address(url, "none")
    )
    began = time.perf_counter()
    answers = await asyncio.gather(*map(client.ask, requests))
    seconds = time.perf_counter() - began
    await client.close()
    journal.close()
    if any(answer.value != 7.0 for answer in answers):
        raise SystemExit("the stub's answers were not understood")
    return seconds


def serve(sender: "multiprocessing.connection.Connection") -> None:
    """Answer every request at once, over kept connections."""
    content = json.dumps(ANSWER).encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content) + content

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                [length] = [
                    line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
                ]
                await reader.readexactly(int(length))
                writer.write(reply)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            writer.close()

    async def listen() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        sender.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(listen())


if __name__ == "__main__":
    main()
