"""The way to a server: which proxy and which certificates the environment asks for, and why a connection failed.

The client library reads the same variables, but what it cannot use ends in a traceback, it knows fewer forms of
NO_PROXY, and it asks the proxy of a company's network for a server on this machine. So it is told what to do, and reads
nothing itself.
"""

import importlib.util
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import openai

from jaxmoe.collect.secrets import redacted
from jaxmoe.errors import InputError

_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PROXY_URL = re.compile(
    r"[a-z][a-z0-9+.-]*://([^/?#]*@)?"
    r"(?P<place>(\[[0-9a-f:.]+\]|[\w-]{1,63}(\.[\w-]{1,63})*\.?)(:(?P<port>\d{1,5}))?)"
    r"([/?#][^@\s]*)?",  # an @ here: a password with signs that belong percent-encoded
    re.IGNORECASE,
)
_NO_PROXY_ENTRY = re.compile(r"(?P<place>\[[^\]]*\](/\d+)?|[^:\[\]]+)(:(?P<port>\d{1,5}))?")
_NAMED_BY_HASH = re.compile(r"[0-9a-f]{8}\.\d+")  # as OpenSSL looks certificates up in a folder
_NO_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
_BROKEN = {  # by the class of the client library's error; some of their messages repeat what was sent or came
    "LocalProtocolError": "the request cannot be sent as HTTP",
    "RemoteProtocolError": "what came is no HTTP",
    "ProtocolError": "the proxy does not speak SOCKS",  # of socksio, which the SDK hands on as it is
    "TooManyRedirects": "the server sends from one place to the next",
    "UnsupportedProtocol": "the server sends to a place without http",
    "DecodingError": "the answer cannot be unpacked",
}


class Proxy(NamedTuple):
    """A proxy, and where it was read. The URL may hold a password: it is not for printing."""

    variable: str  # of the environment
    url: str


def http_client(base_url: str, timeout_s: float) -> openai.DefaultAsyncHttpxClient:
    """A client for a server, with the SDK's defaults, and the proxy and the certificates of the environment.

    Raises `InputError` if a variable of the environment is of no use, without the password in it.
    """
    proxy = None
    options: dict[str, Any] = {"trust_env": False, "timeout": timeout_s}
    try:
        if proxy := proxy_of(base_url):
            _check_proxy(proxy, _host(base_url))
            options["proxy"] = proxy.url
        if base_url.startswith("https:") or (proxy and proxy.url.lower().startswith("https:")):
            options["verify"] = _certificates() or True
        return openai.DefaultAsyncHttpxClient(**options)
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        where = f"{base_url} over {_label(proxy)}" if proxy else base_url
        raise InputError(f"no client can be made for {where} ({redacted(reason, _secrets(proxy))})") from None


def proxy_of(base_url: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy over which a server is asked, as curl and requests read the environment; none on this machine.

    >>> proxy_of("https://llm.example/v1", {"ALL_PROXY": "proxy.example:3128"})
    Proxy(variable='ALL_PROXY', url='http://proxy.example:3128')
    >>> proxy_of("http://localhost:8000/v1", {"ALL_PROXY": "proxy.example:3128"})
    """
    if _is_local(_host(base_url)) or _bypassed(base_url, _read("no_proxy", environment)[1]):
        return None
    for name in (f"{urlsplit(base_url).scheme}_proxy", "all_proxy"):
        variable, value = _read(name, environment)
        if value:
            return Proxy(variable, value if "://" in value else f"http://{value}")
    return None


def proxy_secrets(base_url: str) -> set[str]:
    """What is not to be shown of the proxy: its password, and user:password, as written and percent-decoded."""
    return _secrets(proxy_of(base_url))


def proxy_label(base_url: str) -> str:
    """The proxy for a sentence, "the proxy 127.0.0.1:3128 of HTTP_PROXY"; empty without one."""
    proxy = proxy_of(base_url)
    return _label(proxy) if proxy else ""


def connection_reason(error: BaseException) -> str:
    """Why a connection failed, in a few words.

    >>> connection_reason(ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 9)"))
    'nothing listens there (connection refused)'
    """
    chain = list(_chain(error))
    if meant := next(filter(None, map(_meaning, chain)), ""):
        return meant
    inner = chain[1] if len(chain) > 1 else error  # the outermost is the SDK's "Connection error."
    message = " ".join(str(inner).split())
    return f"{type(inner).__name__}: {message}" if message else f"the connection broke ({type(inner).__name__})"


def _read(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """A variable under its lower-case name, else its upper-case one, and its value."""
    for variable in (name, name.upper()):
        if variable == "HTTP_PROXY" and "REQUEST_METHOD" in environment:
            continue  # within a CGI script it is a header of whoever calls
        if variable in environment:
            return variable, environment[variable].strip()
    return name, ""


def _host(base_url: str) -> str:
    return (urlsplit(base_url).hostname or "").rstrip(".")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address, of version 4 also if it is written as one of version 6; None for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_local(host: str) -> bool:
    if address := _address(host):
        return address.is_loopback or address.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def _bypassed(base_url: str, no_proxy: str) -> bool:
    """Whether an entry of NO_PROXY covers the server."""
    parts = urlsplit(base_url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    entries = [entry.removeprefix(f"{parts.scheme}://").rstrip("/") for entry in re.split(r"[,\s]+", no_proxy.lower())]
    return any(_covers(entry, _host(base_url), port) for entry in entries)


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether `*`, a network, an address or the end of a name covers a host. What is none of them covers nothing."""
    match = _NO_PROXY_ENTRY.fullmatch(entry)  # none: an address of version 6 without brackets
    place = match["place"] if match else entry
    if match and match["port"] and int(match["port"]) != port:
        return False
    if place == "*":
        return True
    if address := _address(host):
        return _is_within(address, re.sub(r"^\[(.*)\]", r"\1", place))
    name = place.removeprefix("*").strip(".")
    return bool(name) and f".{host}".endswith(f".{name}")


def _is_within(address: IPv4Address | IPv6Address, network: str) -> bool:
    try:
        return address in ip_network(network, strict=False)
    except ValueError:
        return False


def _check_proxy(proxy: Proxy, host: str) -> None:
    """Raises `InputError` unless the client can use the proxy. What is no URL may be a secret, and is not repeated."""
    way_out = f"unset {proxy.variable}, or add {host} to NO_PROXY"
    scheme = proxy.url.partition("://")[0].lower()
    if re.fullmatch(r"[a-z][a-z0-9+.-]{,15}", scheme) and scheme not in _PROXY_SCHEMES:
        raise InputError(
            f"{proxy.variable} names a proxy with {scheme}://, which is not supported; write http://, https:// or, "
            f"for a SOCKS proxy, socks5:// there, {way_out}"
        )
    match = _PROXY_URL.fullmatch(proxy.url)
    if match is None or not 0 < int(match["port"] or 1) < 65536:
        raise InputError(
            f"{proxy.variable} does not name a proxy in the form http://host:port or http://user:password@host:port, "
            f"with special signs of the password percent-encoded; correct it, {way_out}"
        )
    if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise InputError(
            f"{proxy.variable} names a SOCKS proxy, for which the package socksio is needed: "
            f"pip install socksio, {way_out}"
        )


def _label(proxy: Proxy) -> str:
    match = _PROXY_URL.fullmatch(proxy.url)
    return f"the proxy {match['place']} of {proxy.variable}" if match else f"the proxy of {proxy.variable}"


def _secrets(proxy: Proxy | None) -> set[str]:
    """All up to the last @, so that nothing is missed where a special sign is not percent-encoded."""
    user_and_password = proxy.url.partition("://")[2].rpartition("@")[0] if proxy else ""
    password = user_and_password.partition(":")[2]
    return {form for text in (user_and_password, password) for form in (text, unquote(text)) if password}


def _certificates() -> ssl.SSLContext | None:
    """Those of SSL_CERT_FILE and SSL_CERT_DIR; None without the two. Raises `InputError` if they cannot be used."""
    file, folders = (os.environ.get(variable, "") for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    if not (file or folders):
        return None
    if folders:
        _check_folders(folders, alone=not file)
    try:
        if file:
            Path(file).open("rb").close()
    except OSError as error:
        raise _unusable("SSL_CERT_FILE", file, f"cannot be read ({error.strerror})") from None
    try:
        return ssl.create_default_context(cafile=file or None, capath=folders or None)
    except ssl.SSLError:
        raise _unusable("SSL_CERT_FILE", file, "holds no certificates in PEM form") from None


def _check_folders(folders: str, alone: bool) -> None:
    """OpenSSL says nothing about a list of folders without certificates, but then it trusts no server."""
    names: list[str] = []
    unread = None
    for folder in filter(None, folders.split(os.pathsep)):
        try:
            names += [path.name for path in Path(folder).iterdir()]
        except OSError as error:  # as for OpenSSL, one of a list may be missing
            unread = error
    if unread is not None and not names:
        raise _unusable("SSL_CERT_DIR", folders, f"cannot be read ({unread.strerror})")
    if alone and not any(map(_NAMED_BY_HASH.fullmatch, names)):
        raise _unusable("SSL_CERT_DIR", folders, "holds no certificates named by their hash (see openssl rehash)")


def _unusable(variable: str, path: str, problem: str) -> InputError:
    return InputError(f"{variable} names {path!r}, which {problem}; correct or unset {variable}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those behind it, outermost first; of several attempts to connect, the first one's."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        yield inner
        group = inner.exceptions if isinstance(inner, BaseExceptionGroup) else ()
        inner = group[0] if group else inner.__cause__ or inner.__context__


def _meaning(error: BaseException) -> str:
    """What one exception of the chain says; empty if it only hands on what is behind it."""
    name, message = type(error).__name__, str(error)
    if "Timeout" in name:
        return "it took too long"
    if name == "ProxyError":
        return f"the proxy did not let it through ({message.rstrip('.')})"
    if isinstance(error, ssl.SSLError):
        return _meaning_of_tls(error)
    if isinstance(error, OSError):
        return _meaning_of_system(error)
    if "disconnected without sending" in message:
        return "the server ended the connection without an answer"
    if "closed connection" in message:
        return "the answer was cut in the middle"
    return _BROKEN.get(name, "")


def _meaning_of_tls(error: ssl.SSLError) -> str:
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = getattr(error, "verify_message", "") or reason or "no reason is given"
        return f"the certificate is not accepted ({why.rstrip('.')})"
    if reason in _NO_TLS:
        return "https is not spoken there, perhaps http is"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "the connection ended while TLS was set up"
    return f"TLS failed ({reason.replace('_', ' ').lower() or 'no reason is given'})"


def _meaning_of_system(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        again = error.errno == socket.EAI_AGAIN
        return "the host name cannot be looked up at present" if again else "the host name is not known"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if isinstance(error, ConnectionError):
        return "the connection was reset"
    return f"there is no way to it ({os.strerror(error.errno).lower()})" if error.errno else ""
