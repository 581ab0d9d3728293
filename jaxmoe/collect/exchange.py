"""One request and what comes back: an answer, or an error that says whether and when to ask again, in a sentence.

Here errors and headers of servers become text, and here keys are taken out of it.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import openai

from jaxmoe.collect import reasons
from jaxmoe.collect.completions import ErrorInside, RetryError, StrangeError, read_completion
from jaxmoe.collect.dialects import Dialect, body, sent_parameters
from jaxmoe.collect.network import connection_reason, http_client, proxy_label, proxy_secrets
from jaxmoe.collect.reasons import Reason, read_reason, retry_after_s, shortened
from jaxmoe.collect.requests import INVALID, Answer, Endpoint, Request
from jaxmoe.collect.secrets import redacted, repeats_secret
from jaxmoe.collect.servers import Address, key_variable, split_version
from jaxmoe.errors import InputError

_SAID = ("error", "returned_model", "fingerprint", "finish_reason")  # by a server, which may repeat a key


class TroubleError(RetryError):
    """A time-out, here or behind a gateway: perhaps there are too many requests."""


class UnreachableError(TroubleError):
    """There is no connection to the server."""


class CrowdedError(Exception):
    """The server has too much to do, or is not ready; with the seconds that it asks to wait, if it does."""

    def __init__(self, said: str, wait_s: float | None) -> None:
        super().__init__(said)
        self.wait_s = wait_s


class RefusedError(Exception):
    """The server does not answer this request as it was asked; `meaning` is one of the words of `reasons`.

    `last` is what ends the run, unless the request can be asked in another way.
    """

    def __init__(self, said: str, meaning: str, reason: Reason, last: InputError | None = None) -> None:
        super().__init__(said)
        self.meaning, self.reason, self.last = meaning, reason, last


class Exchange:
    """Connections to servers, and what they say."""

    def __init__(self, address_of: Callable[[str], Address], timeout_s: float) -> None:
        """`address_of` says where the server of an endpoint is, and its key."""
        self.secrets: set[str] = set()
        self._address_of, self._timeout_s = address_of, timeout_s
        self._sdks: dict[str, openai.AsyncOpenAI] = {}
        self._without_key: set[str] = set()  # base URLs of servers that want none
        self._good: set[str] = set()  # base URLs at which there are completions

    async def close(self) -> None:
        """Close all connections."""
        for sdk in self._sdks.values():
            await sdk.close()

    async def send(self, request: Request, dialect: Dialect) -> Answer:
        """The answer. Raises one of the errors above, and `InputError` where no further request makes sense."""
        sent, base_url = body(request, dialect), request.endpoint.base_url
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                text, kind, moved = await self._post(base_url, sent, request.key)
        except (openai.APITimeoutError, TimeoutError):
            raise TroubleError(f"timed out after {self._timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            raise self._unreachable(base_url, error) from None
        except openai.APIStatusError as error:
            raise self._after_status(request.endpoint, error) from None
        except openai.OpenAIError as error:
            raise RetryError(self._clean(f"the reply is no completion ({type(error).__name__}: {error})")) from None
        except Exception as error:  # of a proxy that does not speak SOCKS: the SDK does not know its library's errors
            if not type(error).__module__.startswith("socksio"):
                raise
            raise self._unreachable(base_url, error) from None
        answer = self._read(request.endpoint, text, kind, moved)
        return replace(answer, latency_s=time.monotonic() - began, sent=json.dumps(sent_parameters(sent)))

    async def _post(self, base_url: str, sent: dict[str, Any], key: str) -> tuple[str, str, str]:
        """Body and content type of the reply, of which the SDK reads no more than its status; where it was sent to."""
        create = self._sdk(base_url).chat.completions.with_raw_response.create
        rest = {name: value for name, value in sent.items() if name not in ("model", "messages")}
        headers: dict[str, Any] = {"Authorization": openai.Omit()} if base_url in self._without_key else {}
        reply = await create(
            model=sent["model"],
            messages=sent["messages"],
            extra_body=rest,
            extra_headers={"Idempotency-Key": key, **headers},
        )
        found = reply.http_response
        return _text_of(found), found.headers.get("content-type", ""), str(found.url) if found.history else ""

    def _read(self, endpoint: Endpoint, text: str, kind: str, moved: str) -> Answer:
        """The answer in a reply of status 200."""
        try:
            answer = read_completion(text, kind)
        except ErrorInside as error:
            raise self._meaning(endpoint, error.status, error.reason, None) from None
        except StrangeError as error:
            if endpoint.base_url in self._good:
                raise RetryError(shortened(self._clean(str(error))), unpaid=error.unpaid) from None
            there = f"; it sends to {moved}" if moved else ""
            page = shortened(self._clean(f"{error}{there}"))
            raise StrangeError(f"{page}; {_path_advice(endpoint.base_url)}", unpaid=error.unpaid) from None
        except RetryError as error:
            raise RetryError(shortened(self._clean(str(error))), unpaid=error.unpaid) from None
        self._good.add(endpoint.base_url)
        said: dict[str, Any] = {name: shortened(self._clean(getattr(answer, name))) for name in _SAID}
        answer = replace(answer, **said)
        if repeats_secret(answer.text, self.secrets) or repeats_secret(answer.reasoning, self.secrets):
            return replace(answer, status=INVALID, text="", reasoning="", error="the text repeats the API key")
        return answer

    def _after_status(self, endpoint: Endpoint, error: openai.APIStatusError) -> Exception:
        reply = error.response
        reason = read_reason(_text_of(reply), reply.headers.get("content-type", ""))
        moved = str(reply.url) if reply.history else ""
        return self._meaning(endpoint, error.status_code, reason, retry_after_s(reply.headers), moved)

    def _meaning(
        self, endpoint: Endpoint, status: int, reason: Reason, wait_s: float | None, moved: str = ""
    ) -> Exception:
        """What an error of the server means, as an exception to be raised."""
        said = f"{status}: {shortened(self._clean(reason.said))}"
        wait_s = reason.wait_s if wait_s is None else wait_s
        found = reasons.meaning(status, reason, endpoint.model, wait_s)
        if found == reasons.CROWDED:
            return CrowdedError(said, wait_s)
        if found == reasons.TROUBLE:
            return TroubleError(said, unpaid=True)
        if found in (reasons.PASSING, reasons.FILTERED, reasons.REFUSED):
            return RefusedError(said, found, reason)
        last = InputError(_last_sentence(found, endpoint, said, self._clean(moved)))
        return RefusedError(said, found, reason, last) if found in (reasons.MODEL, reasons.PATH) else last

    def _unreachable(self, base_url: str, error: Exception) -> UnreachableError:
        reason = connection_reason(error)
        proxy = proxy_label(base_url)
        said = f"{base_url} cannot be reached{f' through {proxy}' if proxy else ''}: {reason}"
        return UnreachableError(shortened(self._clean(said)), unpaid="refused" in reason or "not known" in reason)

    def _sdk(self, base_url: str) -> openai.AsyncOpenAI:
        if base_url not in self._sdks:
            url, key = self._address_of(base_url)
            self.secrets |= {key} - {""} | proxy_secrets(url)
            self._sdks[base_url] = _new_sdk(url, key, self._timeout_s)
            if not key:
                self._without_key.add(base_url)
        return self._sdks[base_url]

    def _clean(self, text: str) -> str:
        return redacted(text, self.secrets)


def _new_sdk(url: str, key: str, timeout_s: float) -> openai.AsyncOpenAI:
    """The SDK for a server, Azure's where its URL has an API version.

    The network is tried first, since the SDK prints a traceback of its own after a failed start. Raises `InputError`
    for an environment that makes a connection impossible.
    """
    base_url, version = split_version(url)
    common: dict[str, Any] = {"timeout": timeout_s, "max_retries": 0, "http_client": http_client(base_url, timeout_s)}
    if version:
        common["base_url" if base_url.count("/") > 2 else "azure_endpoint"] = base_url
        return openai.AsyncAzureOpenAI(api_version=version, api_key=key or "none", **common)
    return openai.AsyncOpenAI(base_url=base_url, api_key=key or "none", **common)


def _last_sentence(found: str, where: Endpoint, said: str, moved: str) -> str:
    """What ends a run, and what to do about it."""
    if found == reasons.KEY:
        variable = key_variable(where.base_url)
        keys = f"a key is read from {variable}, and for the main server from OPENAI_API_KEY"
        return f"{where.base_url} does not accept the API key or its rights ({said}); {keys}"
    if found == reasons.CREDIT:
        return f"the quota or credit at {where.base_url} is used up ({said}); what was collected is kept"
    if found == reasons.PROXY:
        proxy = proxy_label(where.base_url) or "a proxy"
        return f"{proxy} does not accept its user and password ({said}); mend them in the variable"
    if found == reasons.MODEL:
        return f"{where.base_url} does not know the model {where.model!r} ({said})"
    there = f"; it sends to {moved}" if moved else ""
    return f"there are no chat completions at {where.base_url} ({said}){there}; {_path_advice(where.base_url)}"


def _path_advice(base_url: str) -> str:
    url, version = split_version(base_url)
    if version:
        return "is the name of the deployment right, which is the model's here, and the api-version?"
    if url.endswith("/v1"):
        return f"jaxmoe asks {url}/chat/completions: is that the address of its API?"
    return f"most servers want a base URL that ends in /v1: try {url}/v1"


def _text_of(reply: Any) -> str:
    """JSON is UTF-8 whatever a header says; else the text is what the header makes of it."""
    try:
        return str(reply.content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return str(reply.text)
