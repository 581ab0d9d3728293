"""Proxies, certificates and reasons, with real sockets on loopback wherever a connection decides."""

import asyncio
import base64
import os
import re
import socket
import ssl
import struct
import sys
import threading
from contextlib import contextmanager, suppress
from itertools import pairwise

import openai
import pytest

from jaxmoe.collect.network import connection_reason, http_client, proxy_label, proxy_of, proxy_secrets
from jaxmoe.errors import InputError

ELSEWHERE = "http://llm.example/v1"
SECURE = "https://llm.example/v1"
PROXY = "http://proxy.example:3128"
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBdjCCAR2gAwIBAgIBATAKBggqhkjOPQQDAjAWMRQwEgYDVQQDDAtsbG0uZXhh
bXBsZTAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowFjEUMBIGA1UE
AwwLbGxtLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQSA/O5PMDl
ji7n1zOG9AOAvNhne84NBhUvOI4SPRoeIMkBe/X8hFbwpMRBqHRW9s/91mQAUzFj
LYgRR4wSuXwEo1owWDAWBgNVHREEDzANggtsbG0uZXhhbXBsZTAPBgNVHRMBAf8E
BTADAQH/MA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4EFgQUlQw1tfPWqw8J24YndCMQ
CctgxMEwCgYIKoZIzj0EAwIDRwAwRAIgLFn/f2a1dGRVbb+MZRPfgVrk4h3AOLGB
ZwaDFotqfWMCIE6XlJ2EHMp4bebmTuyqi1KJHevlkDZPmFKMJxKeY1Hs
-----END CERTIFICATE-----
"""  # of llm.example, signed by itself, until 2120
CERTIFICATE_KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3rR2jU4rwrqnypRQ
fm3c/GqlfnB8v7iSiQ/Z0jtTpqChRANCAAQSA/O5PMDlji7n1zOG9AOAvNhne84N
BhUvOI4SPRoeIMkBe/X8hFbwpMRBqHRW9s/91mQAUzFjLYgRR4wSuXwE
-----END PRIVATE KEY-----
"""  # made for these tests, and used nowhere else
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUEST_METHOD"):
            monkeypatch.delenv(name)


@pytest.fixture
def certificate(tmp_path):
    path = tmp_path / "llm.pem"
    path.write_text(CERTIFICATE)
    return path


@pytest.fixture
def tls(tmp_path, certificate):
    """TLS as llm.example speaks it."""
    key = tmp_path / "key.pem"
    key.write_text(CERTIFICATE_KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@contextmanager
def peer(handle):
    """Listens on loopback, hands each connection to `handle`, and gives the port."""
    listener, over = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve():
        while not over.is_set():
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                if not over.is_set():
                    handle(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        with socket.create_connection(listener.getsockname()):  # wakes the thread up
            thread.join()
        listener.close()


def request_of(connection):
    """The whole request, so that closing the connection afterwards does not reset it."""
    received = b""
    while b"\r\n\r\n" not in received:
        if not (more := connection.recv(65536)):
            return received
        received += more
    length = re.search(rb"content-length: (\d+)", received, re.IGNORECASE)
    wanted = received.index(b"\r\n\r\n") + 4 + (int(length[1]) if length else 0)
    while len(received) < wanted:
        received += connection.recv(65536)
    return received


def answering(answer, log=None):
    def handle(connection):
        request = request_of(connection)
        if log is not None and request:
            log.append(request)
        connection.sendall(answer)

    return handle


def tunnelling(context, log):
    """A proxy that opens a tunnel and is itself the server at its end."""

    def handle(connection):
        log.append(request_of(connection))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as inner:
            log.append(request_of(inner))
            inner.sendall(ANSWER)

    return handle


def reset(connection):
    request_of(connection)
    reset_at_once(connection)


def reset_at_once(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def speaking_no_tls(connection):
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def ask(base_url, timeout_s=10.0):
    """What the SDK raises for one request, None if there is an answer."""

    async def once():
        http = http_client(base_url, timeout_s)
        async with openai.AsyncOpenAI(
            base_url=base_url, api_key="k", http_client=http, max_retries=0, timeout=timeout_s
        ) as sdk:
            try:
                await sdk.chat.completions.create(model="m", messages=[])
            except openai.APIError as error:
                return error

    return asyncio.run(once())


def failure(base_url):
    error = ask(base_url)
    assert isinstance(error, openai.APIConnectionError)
    return connection_reason(error)


def made(base_url):
    """The client; it has no connection yet, and closing it needs no loop of its own."""
    http = http_client(base_url, 7.0)
    asyncio.run(http.aclose())
    return http


def sentence(base_url):
    with pytest.raises(InputError) as raised:
        http_client(base_url, 1.0)
    said = str(raised.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("base_url", "environment", "expected"),
    [
        (ELSEWHERE, {}, None),
        (ELSEWHERE, {"http_proxy": PROXY}, ("http_proxy", PROXY)),
        (ELSEWHERE, {"HTTP_PROXY": PROXY}, ("HTTP_PROXY", PROXY)),
        (ELSEWHERE, {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None),
        (ELSEWHERE, {"HTTP_PROXY": "http://upper:1", "http_proxy": "http://lower:1"}, ("http_proxy", "http://lower:1")),
        (ELSEWHERE, {"HTTP_PROXY": PROXY, "http_proxy": ""}, None),
        (ELSEWHERE, {"HTTPS_PROXY": PROXY}, None),
        (SECURE, {"HTTP_PROXY": PROXY}, None),
        (SECURE, {"HTTPS_PROXY": PROXY}, ("HTTPS_PROXY", PROXY)),
        (SECURE, {"HTTPS_PROXY": PROXY, "REQUEST_METHOD": "GET"}, ("HTTPS_PROXY", PROXY)),
        (SECURE, {"ALL_PROXY": "socks5://p:1", "https_proxy": PROXY}, ("https_proxy", PROXY)),
        (SECURE, {"ALL_PROXY": "proxy.example:3128"}, ("ALL_PROXY", PROXY)),
        (SECURE, {"all_proxy": PROXY, "HTTPS_PROXY": ""}, ("all_proxy", PROXY)),
        (SECURE, {"all_proxy": "  "}, None),
        (SECURE, {"HTTPS_PROXY": f" {PROXY}\n"}, ("HTTPS_PROXY", PROXY)),
    ],
)
def test_the_proxy_is_the_one_of_the_scheme_else_that_of_all(base_url, environment, expected):
    assert proxy_of(base_url, environment) == expected


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost.", "model.localhost", "127.0.0.1", "127.9.8.7", "0.0.0.0"),
        *("[::1]", "[0:0::1]", "[::1%25lo]", "[::]", "[::ffff:127.0.0.1]"),
    ],
)
@pytest.mark.parametrize("value", [PROXY, "socks5://proxy.example:1080", "socks://x", "http://"])
def test_no_proxy_is_used_on_this_machine_however_it_is_set(monkeypatch, host, value):
    monkeypatch.setenv("ALL_PROXY", value)
    assert proxy_of(f"http://{host}:8000/v1") is None
    assert not made(f"http://{host}:8000/v1")._mounts


@pytest.mark.parametrize("host", ["localhost.example", "notlocalhost", "128.0.0.1", "10.0.0.1", "[fe80::1]"])
def test_other_hosts_are_not_taken_for_this_machine(host):
    assert proxy_of(f"http://{host}:8000/v1", {"ALL_PROXY": PROXY})


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("*", "llm.example"),
        ("other.example, *", "llm.example"),
        ("llm.example", "llm.example"),
        ("LLM.Example", "llm.example"),
        ("llm.example", "LLM.example"),
        ("llm.example.", "llm.example"),
        ("example", "llm.example"),
        (".example", "llm.example"),
        ("*.example", "llm.example"),
        (".llm.example", "llm.example"),
        (" , ,a.example,\t llm.example ,", "llm.example"),
        ("a.example llm.example", "llm.example"),
        ("http://llm.example/", "llm.example"),
        ("llm.example:80", "llm.example"),
        ("llm.example:8000", "llm.example:8000"),
        (".example:8000", "llm.example:8000"),
        ("10.0.0.7", "10.0.0.7:8000"),
        ("10.0.0.7:8000", "10.0.0.7:8000"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.1.2.3/8", "10.9.9.9"),
        ("10.0.0.0/8", "[::ffff:10.1.2.3]"),
        ("fd00::7", "[fd00::7]:8000"),
        ("[fd00::7]", "[fd00::7]:8000"),
        ("[fd00::7]:8000", "[fd00::7]:8000"),
        ("FD00:0::7", "[fd00::7]"),
        ("localhost,127.0.0.1,::1/128,fe80::/10,[::1]", "[fe80::1]"),
        ("fe80::/10", "[fe80::1%25eth0]"),
        ("[fd00::]/8", "[fd12::1]"),
        ("[fd00::/8]", "[fd12::1]"),
    ],
)
def test_no_proxy_covers(no_proxy, host):
    assert proxy_of(f"http://{host}/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": no_proxy}) is None
    assert proxy_of(f"http://{host}/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "*", "no_proxy": no_proxy}) is None


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("", "llm.example"),
        (" ,, ", "llm.example"),
        (".", "llm.example"),
        ("/", "llm.example"),
        ("lm.example", "llm.example"),
        ("llm.example.org", "llm.example"),
        ("https://llm.example", "llm.example"),
        ("llm.example:443", "llm.example"),
        ("llm.example:8000", "llm.example"),
        ("llm.example:x", "llm.example"),
        ("llm.example:999999", "llm.example"),
        ("10.0.0.0/99", "10.0.0.7"),
        ("10.0.0.0/", "10.0.0.7"),
        ("10/8", "10.0.0.7"),
        ("0.0.7", "10.0.0.7"),
        ("10.0.0.7:80", "10.0.0.7:8000"),
        ("11.0.0.0/8", "10.0.0.7"),
        ("10.0.0.0/8", "llm.example"),
        ("fe80::/10", "10.0.0.7"),
        ("[fd00::7]:80", "[fd00::7]:8000"),
        ("[fd00::7", "[fd00::7]"),
        ("]],[[,::::,[]", "[fd00::7]"),
        ("::1/128,fe80::/10,[::1]", "[fd00::7]"),
    ],
)
def test_no_proxy_does_not_cover(no_proxy, host):
    assert proxy_of(f"http://{host}/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": no_proxy})


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        ("http://proxy.example:3128", set()),
        ("http://crow@proxy.example", set()),
        ("http://crow:@proxy.example", set()),
        ("http://crow:pw@proxy.example", {"crow:pw", "pw"}),
        ("crow:pw@proxy.example:3128", {"crow:pw", "pw"}),
        ("http://cr%40w:p%3Aw@proxy.example", {"cr%40w:p%3Aw", "cr@w:p:w", "p%3Aw", "p:w"}),
        ("http://crow:p@w@proxy.example", {"crow:p@w", "p@w"}),
        ("http://crow:1#2/3@proxy.example:3128", {"crow:1#2/3", "1#2/3"}),
        ("socks://crow:pw@proxy.example", {"crow:pw", "pw"}),
    ],
)
def test_the_password_of_a_proxy_is_secret_in_all_its_forms(monkeypatch, value, secrets):
    monkeypatch.setenv("HTTP_PROXY", value)
    assert proxy_secrets(ELSEWHERE) == secrets
    assert proxy_secrets(SECURE) == proxy_secrets("http://localhost/v1") == set()


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("", ""),
        ("http://crow:pw@127.0.0.1:3128/", "the proxy 127.0.0.1:3128 of HTTP_PROXY"),
        ("proxy.example", "the proxy proxy.example of HTTP_PROXY"),
        ("socks5://[fd00::1]:1080", "the proxy [fd00::1]:1080 of HTTP_PROXY"),
        ("http://crow:1#pw@proxy.example:3128", "the proxy of HTTP_PROXY"),
    ],
)
def test_a_proxy_is_named_without_its_password(monkeypatch, value, label):
    monkeypatch.setenv("HTTP_PROXY", value)
    assert proxy_label(ELSEWHERE) == label


@pytest.mark.parametrize("value", ["socks://127.0.0.1:9/", "SOCKS4://127.0.0.1:9", "socks4a://h", "ftp://u:pw-77@h"])
def test_a_scheme_that_no_proxy_has_is_named(monkeypatch, value):
    monkeypatch.setenv("ALL_PROXY", value)
    said = sentence(ELSEWHERE)
    assert value.partition("://")[0].lower() + "://" in said
    assert "unset ALL_PROXY, or add llm.example to NO_PROXY" in said
    assert "pw-77" not in said


@pytest.mark.parametrize(
    "value",
    [
        *(
            "http://",
            "http:///x",
            "http://:3128",
            "http://h:x",
            "http://h:0",
            "http://h:65536",
            "http://h:",
            "//h:3128",
        ),
        *("http:/h:3128", "http:h:3128", '"http://h:1"', "http://h h:1", "http://a..b:1", "http://" + 64 * "h"),
        *("http://[::1:3128", "http://[fd00::zz]:1", "http://[1:2]:3128", "http://crow:canary-pw@"),
        *("http://crow:1#canary-pw@h:1", "http://crow:canary-pw/x@h:1", "http://crow:canary-pw@h:x"),
        *("crow:canary-pw://x@h", "http://crow:canary-pw\x01@h:1"),
    ],
)
def test_what_is_no_address_of_a_proxy_is_one_sentence_without_a_secret(monkeypatch, value):
    monkeypatch.setenv("HTTP_PROXY", value)
    said = sentence(ELSEWHERE)
    assert "HTTP_PROXY" in said
    assert "canary" not in said
    assert "crow" not in said


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS5"])
def test_socks_needs_a_package(monkeypatch, scheme):
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed, should it be
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://crow:canary-pw@127.0.0.1:9")
    said = sentence(ELSEWHERE)
    assert "pip install socksio, unset ALL_PROXY, or add llm.example to NO_PROXY" in said
    assert "canary" not in said


def test_whatever_else_keeps_the_client_from_being_made_is_one_sentence(monkeypatch):
    def fails(**options):
        raise RuntimeError(f"cannot\nuse {options['proxy']}")

    monkeypatch.setattr(openai, "DefaultAsyncHttpxClient", fails)
    monkeypatch.setenv("HTTP_PROXY", "http://crow:canary-pw@127.0.0.1:3128")
    said = sentence(ELSEWHERE)
    assert "RuntimeError: cannot use" in said
    assert "the proxy 127.0.0.1:3128 of HTTP_PROXY" in said
    assert "canary" not in said


@pytest.mark.parametrize(
    "value", ["", PROXY, "http://proxy:3128/", "http://crow:p@w@[fd00::1]:1", "https://proxy.example"]
)
def test_the_defaults_of_the_sdk_are_kept(monkeypatch, certificate, value):
    monkeypatch.setenv("ALL_PROXY", value)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    http, plain = made(SECURE), openai.DefaultAsyncHttpxClient(trust_env=False)
    asyncio.run(plain.aclose())
    assert http.follow_redirects is plain.follow_redirects is True
    assert http.timeout.read == http.timeout.connect == 7.0
    assert not http.trust_env
    assert len(http._mounts) == bool(value)
    for transport in [http._transport, *http._mounts.values()]:
        for limit in ("_max_connections", "_max_keepalive_connections", "_keepalive_expiry"):
            assert getattr(transport._pool, limit) == getattr(plain._transport._pool, limit)
        assert transport._pool._max_connections >= 500


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("name", ["none.pem", "folder", "words.pem", "empty.pem", "no\nline.pem"])
def test_certificates_that_cannot_be_used_are_one_sentence(monkeypatch, tmp_path, variable, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "words.pem").write_text("These are no certificates.")
    (tmp_path / "empty.pem").write_text("")
    path = str(tmp_path / name)
    monkeypatch.setenv(variable, path)
    said = sentence(SECURE)
    assert f"{variable} names {path!r}, which" in said
    assert f"correct or unset {variable}" in said


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_may_not_be_read_are_one_sentence(monkeypatch, tmp_path, variable):
    def forbidden(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.open", forbidden)  # who runs the tests may be allowed everything
    monkeypatch.setattr("pathlib.Path.iterdir", forbidden)
    monkeypatch.setenv(variable, str(tmp_path))
    assert "cannot be read (Permission denied)" in sentence(SECURE)


def test_what_only_the_making_of_tls_does_not_like_is_not_blamed_on_the_certificates(
    monkeypatch, certificate, tmp_path
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "none" / "keys"))
    assert "FileNotFoundError" in sentence(SECURE)


def test_certificates_matter_for_https_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert made(ELSEWHERE)
    assert made("http://127.0.0.1:8000/v1")
    assert "SSL_CERT_FILE" in sentence("https://localhost:8000/v1")
    monkeypatch.setenv("HTTP_PROXY", "https://proxy.example")
    assert "SSL_CERT_FILE" in sentence(ELSEWHERE)


def test_empty_variables_leave_the_default_certificates(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", "")
    assert made(SECURE)


def test_one_folder_of_a_list_may_be_missing(monkeypatch, tmp_path, certificate):
    (tmp_path / "0a1b2c3d.0").write_text(CERTIFICATE)
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join([str(tmp_path / "none"), str(tmp_path)]))
    assert made(SECURE)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert made(SECURE)


def test_a_server_on_this_machine_is_asked_without_the_proxy(monkeypatch):
    there, passed = [], []
    with peer(answering(ANSWER, there)) as port, peer(answering(ANSWER, passed)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy}")
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{proxy}")
        assert ask(f"http://localhost:{port}/v1") is None
        assert ask(f"http://127.0.0.1:{port}/v1") is None
    assert (len(there), passed) == (2, [])


def test_a_server_elsewhere_is_asked_through_the_proxy(monkeypatch):
    passed = []
    with peer(answering(ANSWER, passed)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://crow:p%40w@127.0.0.1:{proxy}")
        assert ask(ELSEWHERE) is None
    assert passed[0].startswith(b"POST http://llm.example/v1/chat/completions HTTP/1.1\r\n")
    assert b"Basic " + base64.b64encode(b"crow:p@w") in passed[0]


def test_https_goes_through_a_tunnel_with_the_certificates_of_the_environment(monkeypatch, certificate, tls):
    passed = []
    with peer(tunnelling(tls, passed)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy}")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert ask(SECURE) is None
    assert passed[0].startswith(b"CONNECT llm.example:443 HTTP/1.1\r\n")
    assert passed[1].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


def test_a_proxy_is_spoken_to_in_tls_with_the_certificates_of_the_environment(monkeypatch, certificate, tls):
    passed = []

    def handle(connection):
        with tls.wrap_socket(connection, server_side=True) as inner:
            answering(ANSWER, passed)(inner)

    lookup = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest, **more: lookup("127.0.0.1", *rest, **more))
    with peer(handle) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"https://llm.example:{proxy}")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert ask("http://other.example/v1") is None
    assert passed[0].startswith(b"POST http://other.example/v1/chat/completions ")


HALF = ANSWER.replace(b"Length: 2", b"Length: 200")


@pytest.mark.parametrize(
    ("handle", "reason"),
    [
        (reset, "the connection was reset"),
        (answering(b""), "the server ended the connection without an answer"),
        (answering(HALF), "the answer was cut in the middle"),
        (answering(ANSWER[:30]), "the server ended the connection without an answer"),
        (answering(b"SSH-2.0-canary\r\n\r\n"), "what came is no HTTP"),
        (
            answering(ANSWER.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")),
            "the answer cannot be unpacked",
        ),
        (
            answering(b"HTTP/1.1 307 -\r\nLocation: ftp://h/\r\nContent-Length: 0\r\n\r\n"),
            "the server sends to a place",
        ),
    ],
)
def test_a_broken_connection_has_a_reason(handle, reason):
    with peer(handle) as port:
        assert failure(f"http://127.0.0.1:{port}/v1").startswith(reason)


def test_nothing_listens():
    assert failure(f"http://127.0.0.1:{unused_port()}/v1") == "nothing listens there (connection refused)"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (socket.EAI_NONAME, "the host name is not known"),
        (socket.EAI_AGAIN, "the host name cannot be looked up at present"),
    ],
)
def test_an_unknown_host(monkeypatch, code, reason):
    def unknown(*_, **__):
        raise socket.gaierror(code, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert failure(ELSEWHERE) == reason


@pytest.mark.parametrize(
    ("handle", "reason"),
    [
        (speaking_no_tls, "https is not spoken there"),
        (lambda connection: connection.recv(65536), "the connection ended while TLS was set up"),
        (reset_at_once, "the connection was reset"),
    ],
)
def test_tls_that_does_not_come_about(handle, reason):
    with peer(handle) as port:
        assert failure(f"https://127.0.0.1:{port}/v1").startswith(reason)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_certificate_that_is_not_accepted(monkeypatch, certificate, tls, trusted):
    if trusted:  # then its name is wrong
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    def handle(connection):
        tls.wrap_socket(connection, server_side=True).close()

    with peer(handle) as port:
        reason = failure(f"https://127.0.0.1:{port}/v1")
    why = "IP address mismatch" if trusted else "self.signed certificate"
    assert re.match(rf"the certificate is not accepted \({why}[^()]*\)$", reason)


@pytest.mark.parametrize("base_url", [ELSEWHERE, SECURE])
def test_a_proxy_that_is_not_there(monkeypatch, base_url):
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{unused_port()}")
    assert failure(base_url) == "nothing listens there (connection refused)"


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "503 Service Unavailable"])
def test_a_proxy_that_opens_no_tunnel(monkeypatch, status):
    with peer(answering(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://crow:canary-pw@127.0.0.1:{proxy}")
        assert failure(SECURE) == f"the proxy did not let it through ({status})"


def test_a_proxy_that_answers_itself_is_seen_by_its_status(monkeypatch):
    with peer(answering(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy}")
        error = ask(ELSEWHERE)
    assert isinstance(error, openai.APIStatusError)
    assert error.status_code == 407


def behind(*errors):
    for outer, inner in pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


class LocalProtocolError(Exception):
    """Named as the client library's."""


class ProtocolError(Exception):
    """Named as socksio's."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("some\nwords"), "ValueError: some words"),
        (ValueError(), "the connection broke (ValueError)"),
        (behind(ValueError("Connection error."), KeyError()), "the connection broke (KeyError)"),
        (behind(ValueError("Connection error."), LocalProtocolError("b'Bearer canary'")), "the request cannot be sent"),
        (ProtocolError("Malformed reply"), "the proxy does not speak SOCKS"),
        (OSError(113, "Connect call failed ('10.0.0.7', 9)"), "there is no way to it (no route to host)"),
        (ExceptionGroup("attempts", [ConnectionRefusedError(111, "-"), OSError(101, "-")]), "nothing listens there"),
        (BrokenPipeError(32, "Broken pipe"), "the connection was reset"),
        (ssl.SSLError(1, "[SSL] handshake failure"), "TLS failed ("),
        (TimeoutError(), "it took too long"),
        (openai.APITimeoutError(request=None), "it took too long"),
    ],
)
def test_whatever_it_is_there_is_a_reason(error, reason):
    assert connection_reason(error).startswith(reason)
    error.__cause__ = error  # a chain without an end
    assert connection_reason(error)
