"""Keys are taken out of what is said about a request, whatever form they are in, and nothing else is."""

import base64
import html
import json
import logging
import urllib.parse

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from jaxmoe.collect.secrets import REDACTED, read_key, redacted, redacting_logs, repeats_secret
from jaxmoe.errors import InputError

PLAIN, ODD, SHORT = "sk-canary-3141592653", 'sk-"a\\b+c/d%2F=e&f<g>', "k-1234"
BEFORE, AFTER = "401: wrong key ", " (see the manual, 100%)"


def in_base64(text):
    return base64.b64encode(text.encode()).decode()


def escaped(text, times=1):
    for _ in range(times):
        text = json.dumps(text)[1:-1]
    return text


FORMS = {
    "as it is": str,
    "JSON": escaped,
    "JSON in JSON": lambda key: escaped(key, 2),
    "JSON in JSON in JSON": lambda key: escaped(key, 3),
    "repr": lambda key: repr(key)[1:-1],
    "bytes": lambda key: repr(key.encode())[2:-1],
    "URL": lambda key: urllib.parse.quote(key, safe=""),
    "URL, with a slash": urllib.parse.quote,
    "URL in URL": lambda key: urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
    "form": urllib.parse.quote_plus,
    "HTML": html.escape,
    "HTML in JSON": lambda key: escaped(html.escape(key)),
    "HTML by numbers": lambda key: "".join(f"&#{ord(character)};" for character in key),
    "HTML by hexadecimal numbers": lambda key: "".join(f"&#x{ord(character):02x};" for character in key),
    "JSON by numbers": lambda key: "".join(f"\\u{ord(character):04x}" for character in key),
    "Python by numbers": lambda key: "".join(f"\\x{ord(character):02X}" for character in key),
    "a slash of PHP": lambda key: escaped(key).replace("/", "\\/"),
    "lines": lambda key: "\n".join([key[:3], key[3:]]),
    "lines of the web": lambda key: "\r\n  ".join([key[:2], key[2:]]),
    "escaped lines": lambda key: escaped("\n".join([key[:3], key[3:]])),
    "basic": lambda key: in_base64(f":{key}"),
    "basic of a user": lambda key: in_base64(f"user:{key}"),
    "basic of another user": lambda key: in_base64(f"me:{key}"),
    "base64 of the header": lambda key: in_base64(f"Authorization: Bearer {key}\r\n"),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(f"user:{key}".encode()).decode(),
    "base64 without its end": lambda key: in_base64(f"user:{key}").rstrip("="),
    "base64 in a URL": lambda key: urllib.parse.quote(in_base64(f"user:{key}"), safe=""),
}


@pytest.mark.parametrize("key", [PLAIN, ODD, SHORT, "a key with spaces", "c2stY2FuYXJ5LTAx=="])
@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_redacted_in_every_form_and_the_rest_stays(form, key):
    repeated = FORMS[form](key)
    assert redacted(f"{BEFORE}{repeated}{AFTER}", {key}) == f"{BEFORE}{REDACTED}{AFTER}"
    assert redacted(f"{repeated}, {repeated}", {key}) == f"{REDACTED}, {REDACTED}"
    assert redacted(repeated, {key}) == REDACTED


@pytest.mark.parametrize(
    ("text", "keys", "found"),
    [
        ("wrong key sk-canary-3141!", {"sk-canary-3141"}, f"wrong key {REDACTED}!"),
        (f"{PLAIN}{PLAIN}", {PLAIN}, REDACTED * 2),
        ("Bearer abc4ef", {"abc4", "abc4ef"}, f"Bearer {REDACTED}"),
        ("ab-1 and xyz2", {"ab-1", "xyz2"}, f"{REDACTED} and {REDACTED}"),
        ("key=ab-1;xyz2", {"ab-1", "xyz2"}, f"key={REDACTED};{REDACTED}"),
        (f"its twin is {PLAIN}-b", {PLAIN, f"{PLAIN}-b"}, f"its twin is {REDACTED}"),
        ("line \\nk-1234\\n", {SHORT}, f"line \\n{REDACTED}\\n"),
        ("line\\nsk-canary-3141\\nand on", {"sk-canary-3141"}, f"line\\n{REDACTED}\\nand on"),
        (f"password: {'x' * 9}", {"x" * 9}, f"password: {REDACTED}"),
    ],
)
def test_several_keys(text, keys, found):
    assert redacted(text, keys) == found


def test_a_long_key_that_was_cut_is_redacted_as_far_as_it_goes():
    key = "sk-canary-" + "0123456789" * 3
    for length in (16, 20, len(key) - 1):
        assert redacted(f"wrong: {key[:length]}...", {key}) == f"wrong: {REDACTED}..."
    assert redacted(f"wrong: {key[:15]}...", {key}) == f"wrong: {key[:15]}..."
    assert redacted(f"{key[:20]}XYZ, {key[:25]}", {key}) == f"{REDACTED}XYZ, {REDACTED}"


@pytest.mark.parametrize("word", ["key", "test", "none", "secret", "EMPTY", "1234"])
@pytest.mark.parametrize(
    "text",
    [
        "the {} of it",
        "{}",
        "a monkey{}s house, con{}ed",
        '"{}": 3',
        "bearer of {}s",
        "Bearer {}s",
        "forbearer {}",
        "basically {}",
    ],
)
def test_a_word_is_a_word(text, word):
    assert redacted(text.format(word, word), {word}) == text.format(word, word)


@pytest.mark.parametrize("word", ["key", "test", "EMPTY", "1234"])
@pytest.mark.parametrize(
    "text", ["Bearer {}", "'Authorization': 'Bearer {}'", "bearer  {}.", "BASIC {},", "Bearer\n{}"]
)
def test_a_word_after_the_name_of_a_scheme_is_a_key(text, word):
    assert redacted(text.format(word), {word}) == text.format(REDACTED)


@pytest.mark.parametrize(
    "text",
    [
        "k-12345 and ok-1234 and k_1234 and K-1234 and k-123",
        "sk-canary-31415, canary, sk-, 3141592653, sk_canary_3141592653",
        "100% of it, 50%25 more, &amp; so on, \\n \\u0041 \\x41 &#65; C:\\new",
        "azEyMzQ= aGVsbG8gd29ybGQ= /v1/chat/completions eyJhbGciOiJIUzI1NiJ9",
        "",
        " \n ",
        "Ein Wal für Ü. 日本語 \ud800",
    ],
)
def test_what_is_no_key_stays(text):
    assert redacted(text, {PLAIN, ODD, SHORT}) == text


@pytest.mark.parametrize("keys", [set(), {""}, {" "}, {" " * 20}, ["", PLAIN], iter([PLAIN])])
def test_empty_keys_are_none(keys):
    assert redacted("this and that", keys) == "this and that"


def test_a_name_that_is_a_key_is_redacted_where_it_stands_alone():
    found = redacted("lm-studio, my-lm-studio, lm-studio-2, lm-studios, lm-studio", {"lm-studio"})
    assert found == f"{REDACTED}, my-lm-studio, lm-studio-2, lm-studios, {REDACTED}"


@given(text=st.text(max_size=200), place=st.integers(0, 200), form=st.sampled_from(sorted(FORMS)))
@example(text="\\", place=1, form="as it is")
@example(text="%", place=1, form="as it is")
@example(text="&#", place=2, form="as it is")
def test_whatever_stands_around_it_the_key_is_gone(text, place, form):
    found = redacted(f"{text[:place]} {FORMS[form](PLAIN)} {text[place:]}", {PLAIN})
    assert REDACTED in found
    assert PLAIN not in "".join(found.split())


@given(st.text('abc-k1234%\\&#;x0"\n ', max_size=60))
def test_a_text_without_the_key_in_it_stays(text):
    assert redacted(text, {"sk-Canary-Z"}) == text


# ---- texts


@pytest.mark.parametrize(
    ("text", "keys", "found"),
    [
        (f"Once {PLAIN} was lost.", {PLAIN}, True),
        (f"Once {PLAIN[:7]}\n{PLAIN[7:]} was lost.", {PLAIN}, True),
        ("A key with\nspaces in it.", {"key with spaces-1"}, False),
        ("Open the key with spaces-1!", {"key with spaces-1"}, True),
        (f"Once {SHORT} was lost.", {SHORT}, False),
        ("a test of the key", {"test", "key"}, False),
        ("congratulations and more", {"congratulationsand"}, False),
        ("my lm-studio-local-key", {"lm-studio-local-key"}, False),
        ("in 20260101120000 and on", {"20260101120000"}, False),
        ("eleven: abcdefghi-1", {"abcdefghi-1"}, False),
        ("twelve: abcdefghij-1", {"abcdefghij-1"}, True),
        (f"Once {PLAIN[:7]}\\n{PLAIN[7:]} was lost.", {PLAIN}, True),
        ("nothing", set(), False),
        ("nothing", {""}, False),
    ],
)
def test_a_text_repeats_a_key_if_it_is_no_chance(text, keys, found):
    assert repeats_secret(text, keys) is found


# ---- keys from the environment


@pytest.mark.parametrize(
    ("given", "key"), [(" sk-1\n", "sk-1"), ("\tsk 1\r\n", "sk 1"), ("", ""), (" \n", ""), ("~! %", "~! %")]
)
def test_a_key_is_read_without_white_space_at_its_ends(given, key, monkeypatch):
    monkeypatch.setenv("MY_KEY", given)
    assert read_key("MY_KEY") == key


def test_a_key_that_is_not_set_is_none(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    assert read_key("MY_KEY") == ""


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("sk-canary\nsk-2", r"character 10 of 14 is a control character \(a line end\)"),
        ("sk-canary\rsk-2", r"character 10 of 14 is a control character \(a line end\)"),
        ("sk-canary\tsk-2", "character 10 of 14 is a control character; copy"),
        ("sk-canary\x7f2", "character 10 of 11 is a control character; copy"),
        ("sk-canary\u2013", "character 10 of 10 is not an ASCII character"),
        ("\ufeffsk-canary", "character 1 of 10 is not an ASCII character"),
        ("sk-canary\xa02", "character 10 of 11 is not an ASCII character"),
    ],
)
def test_a_key_that_no_header_can_hold_is_told_by_its_place(given, what, monkeypatch):
    monkeypatch.setenv("MY_KEY", given)
    with pytest.raises(InputError, match=f"the key in MY_KEY cannot be sent: {what}") as caught:
        read_key("MY_KEY")
    assert "canary" not in str(caught.value)


# ---- logs


def test_logs_of_libraries_hold_no_key_while_it_is_in_use(caplog):
    logger, keys = logging.getLogger("some.library"), set()
    with caplog.at_level(logging.DEBUG), redacting_logs(keys):
        keys.add(PLAIN)  # a server that was asked later
        logger.debug("sent %s with %s", {"Authorization": f"Bearer {PLAIN}"}, 3)
        try:
            raise ValueError(f"header {PLAIN}")
        except ValueError:
            logger.exception("oh no %%")
    assert f"sent {{'Authorization': 'Bearer {REDACTED}'}} with 3" in caplog.text
    assert f"ValueError: header {REDACTED}" in caplog.text
    assert PLAIN not in caplog.text
    with caplog.at_level(logging.DEBUG):
        logger.debug("after %s", PLAIN)
    assert f"after {PLAIN}" in caplog.text
