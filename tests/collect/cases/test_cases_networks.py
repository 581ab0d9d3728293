"""Networks: proxies, certificates and addresses of the environment, used or said to be of no use."""

import pytest
from scripted import Reply, Scripted, on

ELSEWHERE = "http://llm.example/v1"
NETWORKS = "localhost,127.0.0.1,::1/128,fe80::/10,[::1]"
NOWHERE = "127.0.0.1:9"


@pytest.mark.parametrize(
    ("environment", "process"),
    [
        pytest.param(
            {"HTTP_PROXY": "http://{place}", "HTTPS_PROXY": "http://{place}"}, True, id="HTTP, a real command"
        ),
        pytest.param({"ALL_PROXY": "socks5://{place}"}, False, id="SOCKS"),
        pytest.param({"HTTP_PROXY": "http://{place}", "NO_PROXY": NETWORKS}, False, id="networks in NO_PROXY"),
    ],
)
def test_a_server_on_this_machine_is_not_asked_over_a_proxy(user, environment, process):
    cannot = Reply(503, "cannot reach 127.0.0.1")
    with Scripted((on(cannot, where=lambda asked: asked.proxied),)) as server:
        env = {name: value.format(place=f"127.0.0.1:{server.port}") for name, value in environment.items()}
        done = user.collect(server, "--patience", "1", env=env, process=process)
    assert done.code == 0
    assert len(done.texts) == 8
    assert not any(asked.proxied for asked in server.log)


@pytest.mark.parametrize("no_proxy", [pytest.param("", id="alone"), pytest.param(NETWORKS, id="networks in NO_PROXY")])
def test_a_server_elsewhere_is_asked_over_a_proxy(user, no_proxy):
    with Scripted() as server:
        done = user.collect(server, base_url=ELSEWHERE, env={"HTTP_PROXY": server.place, "NO_PROXY": no_proxy})
    assert done.code == 0
    assert len(done.texts) == 8
    assert len(server.log) == 20
    assert all(asked.proxied and asked.headers["host"] == "llm.example" for asked in server.log)


@pytest.mark.parametrize(
    ("proxy", "codes", "said"),
    [
        pytest.param("socks://127.0.0.1:1080/", (2,), "socks://, which is not supported", id="an unknown scheme"),
        pytest.param(f"socks5://{NOWHERE}", (1, 2), "SOCKS|the proxy 127.0.0.1:9 of ALL_PROXY", id="SOCKS, not there"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_said(user, proxy, codes, said):
    done = user.collect(None, "--attempts", "2", base_url=ELSEWHERE, env={"ALL_PROXY": proxy})
    assert done.code in codes
    assert done.says(said)
    assert "ALL_PROXY" in done.said
    assert done.lines <= 20


def test_a_password_of_a_proxy_that_is_not_accepted_is_nowhere(user):
    """The proxy repeats the header that it got, in a page."""

    def wants_another(asked):
        page = f"<h1>Proxy Authentication Required</h1><p>Got: {asked.headers['proxy-authorization']}</p>"
        kind = {"Content-Type": "text/html", "Proxy-Authenticate": "Basic realm=house"}
        return Reply(407, f"<html><body>{page}</body></html>", headers=kind)

    secrets = ("canary-pw-7741", "crow:canary-pw-7741")
    with Scripted((on(wants_another),)) as server:
        env = {"HTTP_PROXY": f"http://crow:canary-pw-7741@127.0.0.1:{server.port}"}
        done = user.collect(server, "--attempts", "2", base_url=ELSEWHERE, env=env, secrets=secrets)
    assert done.code == 2
    assert 1 <= len(server.log) <= 20
    assert "does not accept its user and password" in done.said
    assert "<h1>" not in done.said
    assert done.lines <= 20


def test_a_file_of_certificates_that_is_missing_is_said(user):
    env = {"SSL_CERT_FILE": str(user.folder / "none.pem")}
    done = user.collect(None, "--attempts", "2", base_url="https://llm.example/v1", env=env)
    assert done.code == 2
    assert "SSL_CERT_FILE names" in done.said
    assert done.lines <= 12


def test_a_file_of_certificates_is_no_matter_where_there_is_no_tls(user):
    with Scripted() as server:
        done = user.collect(server, env={"SSL_CERT_FILE": str(user.folder / "none.pem")})
    assert done.code == 0
    assert len(done.texts) == 8
