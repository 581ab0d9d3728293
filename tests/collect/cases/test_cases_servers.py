"""Servers of other kinds: Azure's, those that only stream, those without a key, and one for each stage."""

import contextlib
import re
import socket

import pytest
from scripted import STAGES, Scripted, events, on, refusal

VERSION = "api-version=2024-10-21"
AZURE_KEY, MAIN_KEY = "azure-canary-77aa90e3d25b1f0c", "sk-canary-5b1f0c77aa90e3d2"


def own_variable(server):
    return f"JAXMOE_API_KEY_127_0_0_1_{server.port}"


def test_a_deployment_of_azure_is_asked_by_its_name_and_with_its_header(user):
    def deployed(asked):
        return asked.path == f"/openai/deployments/{asked.body['model']}/chat/completions?{VERSION}"

    with Scripted(served="/openai/deployments/{model}") as server:
        done = user.collect(server, base_url=f"{server.place}/openai?{VERSION}", key=MAIN_KEY)
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert all(map(deployed, server.log))
    assert {asked.headers["api-key"] for asked in server.log} == {MAIN_KEY}


def test_a_base_url_of_one_deployment_is_left_as_it_is(user):
    served = "/openai/deployments/mine"
    with Scripted(served=served) as server:
        done = user.collect(server, base_url=f"{server.place}{served}?{VERSION}", key=MAIN_KEY)
    assert done.code == 0
    assert len(done.texts) == 8
    assert {asked.path for asked in server.log} == {f"{served}/chat/completions?{VERSION}"}
    assert {asked.headers["api-key"] for asked in server.log} == {MAIN_KEY}


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        pytest.param("mine.openai.azure.com", True, id="Azure's"),
        pytest.param("azure.com.lan", False, id="of a name that is like Azure's"),
        pytest.param("gpu-box", False, id="of another"),
    ],
)
def test_the_key_of_azure_goes_to_hosts_of_azure_alone(user, host, sent):
    served = "/openai/deployments/mine"
    with Scripted(served=served) as server:
        env = {"AZURE_OPENAI_API_KEY": AZURE_KEY, "HTTP_PROXY": server.place}
        options = {"base_url": f"http://{host}{served}?{VERSION}", "key": "", "secrets": [AZURE_KEY]}
        done = user.collect(server, "--subsets", "local,setting", env=env, **options)
    assert len(done.texts) == 4
    assert {asked.headers["host"] for asked in server.log} == {host}
    assert all((AZURE_KEY in asked.headers.values()) == sent for asked in server.log)


@pytest.mark.parametrize(
    "host", ["gpu-box:8000", "192.168.1.4:8000", "10.0.0.7:11434", "box.local:8000", "[fd00::4]:8000"]
)
def test_a_server_of_the_own_network_needs_no_key_and_is_sent_none(user, host):
    with Scripted() as server:
        done = user.collect(server, "--subsets", "setting", base_url=f"http://{host}/v1", key="", env=proxy(server))
    assert done.texts
    assert {asked.headers["host"] for asked in server.log} == {host}
    assert not any("authorization" in asked.headers for asked in server.log)


def test_a_public_server_without_a_key_is_said_before_anything_is_sent(user):
    """A dry run needs none."""
    with Scripted() as server:
        elsewhere = {"base_url": "https://llm.example/v1", "key": "", "env": proxy(server)}
        assert user.collect(server, "--dry-run", **elsewhere).code == 0
        done = user.collect(server, **elsewhere)
    assert server.log == []
    assert done.code == 2
    assert "there is no API key for https://llm.example/v1; set OPENAI_API_KEY" in done.said
    assert done.lines == 1


def test_a_public_server_that_wants_no_key_is_sent_none(user):
    with Scripted() as server:
        env = {"JAXMOE_API_KEY_LLM_EXAMPLE": "none", **proxy(server)}
        done = user.collect(server, base_url="http://llm.example/v1", env=env)
    assert done.code == 0
    assert len(done.texts) == 8
    assert not any("authorization" in asked.headers for asked in server.log)


@pytest.mark.parametrize("takes_options", [True, False])
def test_a_server_that_only_streams_is_asked_to(user, takes_options):
    """Where it takes `stream_options` the last piece counts tokens; else the usage is unknown, and this is said."""
    rules = [refusal("Non-streaming requests are not supported here: set stream to true.", lacks="stream")]
    if not takes_options:
        rules.append(refusal("unknown parameter: stream_options", has="stream_options"))
    rules.append(on(lambda asked: events(asked, usage=takes_options)))
    with Scripted(tuple(rules)) as server:
        done = user.collect(server, "--concurrency", "1")
        refused = server.count(status=400)
        user.collect(server, "--concurrency", "1", "--samples", "2")
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert refused == server.count(status=400) <= (3 if takes_options else 6)  # learned once by each of three models
    assert "answered as streamed" in done.card
    assert "stream true" in done.card
    tokens = "800 + 400 tokens" if takes_options else "0 + 0 tokens"
    assert tokens in done.card
    assert ("the usage of 20 answers is unknown" in done.card) != takes_options


def test_each_stage_may_have_a_server_of_its_own_and_a_key_of_its_own(user):
    names = ("main", "gate", "fusion", "local", "kind", "stern")
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(Scripted()) for name in names}
        keys = {name: f"sk-canary-of-{name}-4f1c9a7be02d43d8" for name in names}
        variables = {own_variable(servers[name]): keys[name] for name in names[1:]}
        options = [f"--{name}-{what}" for name in ("gate", "fusion") for what in ("model", "base-url")]
        values = [value for name in ("gate", "fusion") for value in (name, servers[name].base_url)]
        options = [part for pair in zip(options, values, strict=True) for part in pair]
        options += ["--local-base-url", servers["local"].base_url, "--judge-model", "other judge"]
        for name in ("kind", "stern"):
            options += ["--judge-base-url", servers[name].base_url]
        everywhere = Everywhere(servers.values())
        done = user.collect(everywhere, *options, key=keys["main"], env=variables, secrets=keys.values())
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 16)
    seen = {name: {asked.stage for asked in server.log} - {"probe"} for name, server in servers.items()}
    assert seen == {
        "main": {"expert"},
        "gate": {"gate"},
        "fusion": {"fusion"},
        "local": {"local"},
        "kind": {"judge"},
        "stern": {"judge"},
    }
    for name, server in servers.items():
        assert {asked.key for asked in server.log} == {keys[name]}
    assert {asked.body["model"] for asked in servers["kind"].log} == {"judge"}
    assert {asked.body["model"] for asked in servers["stern"].log} == {"other judge"}
    for stage in STAGES:
        assert re.search(rf"- {stage}: .* at http://127\.0\.0\.1:\d+/v1, answered as", done.card)


def test_the_main_key_goes_to_no_other_server(user):
    with Scripted() as main, Scripted() as judge:
        done = user.collect(Everywhere((main, judge)), "--judge-base-url", judge.base_url, key=MAIN_KEY)
    assert done.code == 0
    assert len(judge.log) == 9  # eight judgements, one question of the client's own
    assert not any("authorization" in asked.headers for asked in judge.log)
    assert {asked.key for asked in main.log} == {MAIN_KEY}


def has_ipv6():
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no loopback address of IPv6")
def test_a_server_at_an_address_of_ipv6(user):
    with Scripted(host="::1") as server:
        done = user.collect(server, base_url=f"http://[::1]:{server.port}/v1", env={"HTTP_PROXY": "http://127.0.0.1:9"})
    assert done.code == 0
    assert (len(done.texts), len(done.scores)) == (8, 8)
    assert server.base_url in done.card


class Everywhere:
    """What several servers sent as texts."""

    def __init__(self, servers):
        self._servers = list(servers)

    @property
    def sent(self):
        return set().union(*(server.sent for server in self._servers))

    @property
    def base_url(self):
        """Of the main server."""
        return self._servers[0].base_url


def proxy(server):
    """Over it a server is reached whose name is known nowhere."""
    return {"HTTP_PROXY": server.place, "HTTPS_PROXY": server.place}
