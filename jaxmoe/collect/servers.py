"""Servers and their keys. A key stays in memory: it is read from the environment and goes to its server alone."""

import ipaddress
import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from jaxmoe.collect.secrets import read_key
from jaxmoe.errors import InputError

OPENAI = "https://api.openai.com/v1"
_BASE_URL = re.compile(
    r"https?://(\[[0-9A-Fa-f:.%]+\]|[\w.-]+)(:(?P<port>\d{1,5}))?(?P<path>/[^\s?#@]*)?"
    r"(\?api-version=(?P<version>[\w.-]{1,40}))?"
)
_CALL = "/chat/completions"
_PRIVATE_ENDINGS = (".local", ".lan", ".home", ".internal", ".intranet", ".localdomain", ".home.arpa", ".localhost")
_AZURE_ENDINGS = (".azure.com", ".azure.us", ".azure.cn")


class Address(NamedTuple):
    """Where a server is, and the key that it wants."""

    url: str
    key: str  # "" for none


def main_base_url(given: str | None) -> str:
    """The server that most stages ask: the one given, else that of OPENAI_BASE_URL, else OpenAI's."""
    return checked_base_url(given or os.environ.get("OPENAI_BASE_URL") or OPENAI)


def checked_base_url(base_url: str) -> str:
    """A base URL without its last slash. Raises `InputError` unless it is http(s) with a host and holds no secret.

    The one query that it may hold is Azure's `?api-version=...`, see `split_version`.
    """
    base_url = base_url.strip()
    match = _BASE_URL.fullmatch(base_url)
    if match is None and re.search("[@?#]", base_url):  # what may be a secret is not repeated
        raise InputError(
            "a base URL holds no user, password or query (but ?api-version=... of Azure), for it is written to files; "
            "a key is set in the environment, as OPENAI_API_KEY or JAXMOE_API_KEY_ and the host"
        )
    if match is None or int(match["port"] or 0) > 65535 or not _has_host(base_url):
        raise InputError(f"the base URL {base_url!r} is not of the form http://host:port/v1 or https://host/v1")
    url, version = split_version(base_url)
    if url.endswith(_CALL):
        base = url.removesuffix(_CALL) + (f"?api-version={version}" if version else "")
        raise InputError(
            f"the base URL {base_url} is the address of a single call: {_CALL[1:]} is added to a base URL; give {base}"
        )
    return f"{url}?api-version={version}" if version else url


def _has_host(base_url: str) -> bool:
    try:
        return bool(urlsplit(base_url).hostname)
    except ValueError:  # in brackets, and no address of IPv6
        return False


def split_version(base_url: str) -> tuple[str, str]:
    """The URL without its query and its last slash, and Azure's API version, "" for another server.

    >>> split_version("https://mine.openai.azure.com/openai?api-version=2024-10-21")
    ('https://mine.openai.azure.com/openai', '2024-10-21')
    """
    url, _, version = base_url.partition("?api-version=")
    return url.rstrip("/"), version


def key_variable(base_url: str) -> str:
    """The environment variable that holds a server's key, unless the server is the main one.

    >>> key_variable("http://10.0.0.7:8000/v1")
    'JAXMOE_API_KEY_10_0_0_7_8000'
    """
    place = urlsplit(base_url).netloc.rpartition("@")[2]
    return "JAXMOE_API_KEY_" + re.sub(r"[^A-Za-z0-9]", "_", place).upper()


def address(base_url: str, main: str) -> Address:
    """A server and its key: that of its own variable, or OPENAI_API_KEY for the main server and OpenAI's.

    A server on this machine or in a private network needs none, nor does one whose variable says "none". Raises
    `InputError` if another server has none, and for a key that no header may hold.
    """
    for variable in key_variables(base_url, main):
        if key := read_key(variable):
            return Address(base_url, "" if key == "none" else key)
    if is_private(base_url):
        return Address(base_url, "")
    variable = key_variables(base_url, main)[-1]
    raise InputError(
        f"there is no API key for {base_url}; set {variable}, or say --local to use the small model here "
        f"({variable}=none if the server wants none)"
    )


def key_variables(base_url: str, main: str) -> list[str]:
    """Where the key of a server may stand, in the order in which they are looked at."""
    own = [key_variable(base_url)]
    azure = ["AZURE_OPENAI_API_KEY"] if (urlsplit(base_url).hostname or "").endswith(_AZURE_ENDINGS) else []
    return own + azure + (["OPENAI_API_KEY"] if base_url in (main, OPENAI) else [])


def is_private(base_url: str) -> bool:
    """Whether a host is this machine, or is in a network that is not public, by its name or its address.

    >>> [is_private(f"http://{host}/v1") for host in ("localhost", "[::1]", "192.168.1.4", "gpu-box", "llm.example")]
    [True, True, True, True, False]
    """
    host = (urlsplit(base_url).hostname or "").rstrip(".").lower()
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
        return found.is_private or found.is_loopback or found.is_link_local
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_ENDINGS)
