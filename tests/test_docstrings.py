"""What public functions take, return and refuse is said where they are."""

import inspect
import re

import pytest

import jaxmoe
from jaxmoe.analysis.comparing import Compared
from jaxmoe.analysis.report import Report
from jaxmoe.analysis.status import Standing
from jaxmoe.experiment.confirming import Confirmation
from jaxmoe.experiment.exporting import Policy as TrainedPolicy
from jaxmoe.policy.loading import Policy

RETURNED = (jaxmoe.Experiment, jaxmoe.ExpertTable, Policy, TrainedPolicy, Confirmation, Compared, Report, Standing)
KNOWN = {"self", "cls"}


def public():
    """Functions of the package, and methods of what they return."""
    for name in jaxmoe.__all__:
        if inspect.isfunction(found := getattr(jaxmoe, name)):
            yield name, found
    for owner in RETURNED:
        for name, found in vars(owner).items():
            own = getattr(found, "__module__", "").startswith("jaxmoe") and found.__doc__
            if inspect.isfunction(found) and own and not name.startswith("_"):
                yield f"{owner.__module__.removeprefix('jaxmoe.')}.{owner.__name__}.{name}", found


@pytest.mark.parametrize(("name", "function"), [*public()], ids=lambda each: each if isinstance(each, str) else "")
def test_every_argument_is_explained(name, function):
    del name
    said = inspect.getdoc(function)
    assert said
    arguments = said.partition("Args:")[2]
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in KNOWN:
            stars = {parameter.VAR_KEYWORD: r"\*\*", parameter.VAR_POSITIONAL: r"\*"}.get(parameter.kind, "")
            assert re.search(rf"^ *{stars}{parameter.name}: \S", arguments, re.MULTILINE), parameter.name


@pytest.mark.parametrize(("name", "function"), [*public()], ids=lambda each: each if isinstance(each, str) else "")
def test_what_is_refused_is_said(name, function):
    del name
    source = inspect.getsource(function)
    if "raise InputError" in source:
        assert re.search(r"Raises:\n +InputError: \S", inspect.getdoc(function)) or "`InputError`" in function.__doc__


def test_properties_are_explained():
    for owner in RETURNED:
        for name, found in vars(owner).items():
            if isinstance(found, property) and not name.startswith("_"):
                assert found.__doc__, f"{owner.__name__}.{name}"
