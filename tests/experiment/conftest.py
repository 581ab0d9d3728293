"""Small experiments that are trained once; tests that change a folder take a copy."""

import pytest
import tiny


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    """The folder of a finished sweep."""
    folder = tmp_path_factory.mktemp("experiments") / "sweep"
    assert tiny.sweep(folder).complete
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a finished training."""
    folder = tmp_path_factory.mktemp("experiments") / "train"
    assert tiny.train(folder).complete
    return folder
