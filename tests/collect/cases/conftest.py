"""A user in an environment of their own, with pauses that tests can wait for.

No server here speaks TLS, so the machine's list of authorities is not read, which takes a quarter of a collection.
"""

import os
import re
import ssl

import pytest
from user_runs import User

from jaxmoe.collect.client import Limits

_NETWORK = re.compile(
    r"(http|https|all|no)_proxy|SSL_CERT_(FILE|DIR)|(AZURE_)?OPENAI_.*|JAXMOE_API_KEY_.*", re.IGNORECASE
)


@pytest.fixture(autouse=True)
def _nobodys_environment(monkeypatch):
    for name in filter(_NETWORK.fullmatch, list(os.environ)):
        monkeypatch.delenv(name)


@pytest.fixture
def user(tmp_path, monkeypatch):
    defaults = Limits._field_defaults | {"first_pause_s": 0.01}
    monkeypatch.setattr(Limits.__new__, "__defaults__", tuple(defaults.values()))
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
    return User(tmp_path, monkeypatch)
