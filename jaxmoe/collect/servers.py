"""Servers and their keys. A key stays in memory: it is read from the environment and goes to its server alone."""

import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from jaxmoe.errors import InputError

OPENAI = "https://api.openai.com/v1"
REDACTED = "[API key]"
_BASE_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:(?P<port>\d{1,5}))?(/[^\s]*)?")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class Address(NamedTuple):
    """Where a server is, and the key that it wants."""

    url: str
    key: str


def main_base_url(given: str | None) -> str:
    """The server that most stages ask: the one given, else that of OPENAI_BASE_URL, else OpenAI's."""
    return checked_base_url(given or os.environ.get("OPENAI_BASE_URL") or OPENAI)


def checked_base_url(base_url: str) -> str:
    """A base URL without its last slash. Raises `InputError` unless it is http(s) with a host and holds no secret."""
    base_url = base_url.strip()
    if re.search("[@?#]", base_url):  # what may be a secret is not repeated
        raise InputError(
            "a base URL holds no user, password or query, for it is written to files; "
            "a key is set in the environment, as OPENAI_API_KEY or JAXMOE_API_KEY_ and the host"
        )
    match = _BASE_URL.fullmatch(base_url)
    if match is None or int(match["port"] or 0) > 65535:
        raise InputError(f"the base URL {base_url!r} is not of the form http://host:port/v1 or https://host/v1")
    return base_url.rstrip("/")


def key_variable(base_url: str) -> str:
    """The environment variable that holds a server's key, unless the server is the main one.

    >>> key_variable("http://10.0.0.7:8000/v1")
    'JAXMOE_API_KEY_10_0_0_7_8000'
    """
    place = urlsplit(base_url).netloc.rpartition("@")[2]
    return "JAXMOE_API_KEY_" + re.sub(r"[^A-Za-z0-9]", "_", place).upper()


def address(base_url: str, main: str) -> Address:
    """A server and its key: that of its own variable, or OPENAI_API_KEY for the main server and OpenAI's.

    Raises `InputError` if a server that is not on this machine has none.
    """
    own = os.environ.get(key_variable(base_url), "").strip()
    general = os.environ.get("OPENAI_API_KEY", "").strip() if base_url in (main, OPENAI) else ""
    if key := own or general:
        return Address(base_url, key)
    if urlsplit(base_url).hostname in _LOCAL_HOSTS:
        return Address(base_url, "none")
    variable = "OPENAI_API_KEY" if base_url in (main, OPENAI) else key_variable(base_url)
    raise InputError(f"there is no API key for {base_url}; set {variable}, or say --local to use the small model here")


def redacted(text: str, keys: set[str]) -> str:
    """Text without any of the keys, for servers that repeat what they were sent.

    >>> redacted("wrong key sk-canary!", {"sk-canary"})
    'wrong key [API key]!'
    """
    for key in sorted(keys - {"none", ""}, key=len, reverse=True):
        text = text.replace(key, REDACTED)
    return text
