"""Where servers are, which key goes where, and that no key is ever said."""

import pytest

from jaxmoe.collect.secrets import redacted
from jaxmoe.collect.servers import OPENAI, Address, address, checked_base_url, key_variable, main_base_url
from jaxmoe.errors import InputError

CANARY = "sk-canary-3141"
OTHER = "https://llm.example.com/v1"
VARIABLE = "JAXMOE_API_KEY_LLM_EXAMPLE_COM"


# ---- base URLs


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("https://llm.example.com/v1/", OTHER),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("https://host", "https://host"),
    ],
)
def test_base_urls_lose_their_last_slash_and_nothing_else(given, found):
    assert checked_base_url(given) == found


@pytest.mark.parametrize(
    "given",
    [
        f"https://user:{CANARY}@llm.example.com/v1",
        f"https://{CANARY}@llm.example.com/v1",
        f"https://:{CANARY}@llm.example.com/v1",
        f"https://llm.example.com/v1?api_key={CANARY}",
        f"https://llm.example.com/v1#{CANARY}",
    ],
)
def test_a_secret_in_a_base_url_is_refused_and_not_said(given):
    with pytest.raises(InputError, match="holds no user, password or query") as caught:
        checked_base_url(given)
    assert CANARY not in str(caught.value)
    assert "JAXMOE_API_KEY_ and the host" in str(caught.value)


@pytest.mark.parametrize("given", ["", "llm.example.com/v1", "ftp://llm.example.com", "https://", "file:///etc/hosts"])
def test_what_is_no_base_url_is_refused(given):
    with pytest.raises(InputError, match=r"is not of the form http://host:port/v1 or https://host/v1"):
        checked_base_url(given)


def test_the_main_server_is_the_one_given_then_the_environments_then_openais(monkeypatch):
    assert main_base_url(None) == main_base_url("") == OPENAI
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gateway:4000/v1/")
    assert main_base_url(None) == "http://gateway:4000/v1"
    assert main_base_url(OTHER) == OTHER
    monkeypatch.setenv("OPENAI_BASE_URL", "gateway")
    with pytest.raises(InputError, match="'gateway' is not of the form"):
        main_base_url(None)


# ---- keys


@pytest.mark.parametrize(
    ("base_url", "variable"),
    [
        (OTHER, VARIABLE),
        ("http://localhost:8000/v1", "JAXMOE_API_KEY_LOCALHOST_8000"),
        (f"https://user:{CANARY}@my-host/v1", "JAXMOE_API_KEY_MY_HOST"),
    ],
)
def test_each_server_has_a_variable(base_url, variable):
    assert key_variable(base_url) == variable


@pytest.mark.parametrize(
    ("base_url", "main", "keys", "key"),
    [
        (OPENAI, OPENAI, {"OPENAI_API_KEY": CANARY}, CANARY),
        (OPENAI, OTHER, {"OPENAI_API_KEY": CANARY}, CANARY),
        (OTHER, OTHER, {"OPENAI_API_KEY": CANARY}, CANARY),
        (OTHER, OTHER, {"OPENAI_API_KEY": CANARY, VARIABLE: "own"}, "own"),
        (OTHER, OPENAI, {"OPENAI_API_KEY": CANARY, VARIABLE: "own"}, "own"),
        (OTHER, OPENAI, {VARIABLE: " own\n"}, "own"),
        ("http://localhost:1/v1", OPENAI, {"OPENAI_API_KEY": CANARY}, ""),
        ("http://127.0.0.1:1/v1", OPENAI, {"OPENAI_API_KEY": CANARY}, ""),
        ("http://[::1]:1/v1", OPENAI, {"OPENAI_API_KEY": CANARY}, ""),
        ("http://localhost:1/v1", OPENAI, {"JAXMOE_API_KEY_LOCALHOST_1": "own"}, "own"),
        ("http://localhost:1/v1", "http://localhost:1/v1", {}, ""),
        ("http://10.0.0.7:8000/v1", OPENAI, {"OPENAI_API_KEY": CANARY}, ""),
        ("http://gpu-box:8000/v1", OPENAI, {}, ""),
        (OTHER, OPENAI, {VARIABLE: "none"}, ""),
        ("https://mine.openai.azure.com?api-version=1", OPENAI, {"AZURE_OPENAI_API_KEY": "azure"}, "azure"),
    ],
)
def test_a_server_gets_its_own_key_or_none(base_url, main, keys, key, monkeypatch):
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    assert address(base_url, main) == Address(base_url, key)


@pytest.mark.parametrize(
    ("base_url", "main", "keys", "variable"),
    [
        (OPENAI, OPENAI, {}, "OPENAI_API_KEY"),
        (OPENAI, OPENAI, {"OPENAI_API_KEY": " "}, "OPENAI_API_KEY"),
        (OTHER, OTHER, {}, "OPENAI_API_KEY"),
        (OTHER, OPENAI, {"OPENAI_API_KEY": CANARY}, VARIABLE),
        ("http://8.8.8.8:8000/v1", OPENAI, {"OPENAI_API_KEY": CANARY}, "JAXMOE_API_KEY_8_8_8_8_8000"),
        ("http://localhost.evil.com/v1", OPENAI, {"OPENAI_API_KEY": CANARY}, "JAXMOE_API_KEY_LOCALHOST_EVIL_COM"),
    ],
)
def test_a_server_without_a_key_is_told_which_variable_to_set(base_url, main, keys, variable, monkeypatch):
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"no API key for {base_url}; set {variable}, or say --local") as caught:
        address(base_url, main)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "keys", "found"),
    [
        ("wrong key sk-canary-3141!", {CANARY}, "wrong key [API key]!"),
        (f"{CANARY}{CANARY}", {CANARY}, "[API key][API key]"),
        ("Bearer abc4ef", {"abc4", "abc4ef"}, "Bearer [API key]"),
        ("ab-1 and xyz2", {"ab-1", "xyz2"}, "[API key] and [API key]"),
        ("none of it", {"none", ""}, "none of it"),
        ("nothing", set(), "nothing"),
    ],
)
def test_redacted(text, keys, found):
    assert redacted(text, keys) == found
