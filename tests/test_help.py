"""The command line explains itself: help on one screen, one sentence for each option, completion."""

import os
import subprocess
import sys
import textwrap

import pytest
from command_line import run as command
from typer.core import TyperGroup
from typer.main import get_command

from jaxmoe.algorithms.registry import registered_algorithm, registered_algorithms
from jaxmoe.cli import app

LINE = 60  # columns that a terminal of 80 leaves for the help of an option


def all_commands(group, context, names=()):
    """Each command that can be called, by its words."""
    for name in group.list_commands(context):
        _, found, _ = group.resolve_command(context, [name])
        if isinstance(found, TyperGroup):
            yield from all_commands(found, found.context_class(found, parent=context), (*names, name))
        else:
            yield " ".join((*names, name)), found


ROOT = get_command(app)
COMMANDS = dict(all_commands(ROOT, ROOT.context_class(ROOT)))


def complete(words):
    environment = {"_JAXMOE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    script = "import sys; sys.argv = ['jaxmoe']\nfrom jaxmoe.cli import main\n"
    script += "try: main()\nexcept SystemExit: pass\nprint('jax' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def is_sentence(text):
    return text[0].isupper() and text.endswith(".") and not text.endswith("..") and "\n" not in text


def test_help_fits_a_screen_and_groups_the_commands():
    lines = command("--help", env={"COLUMNS": "80"}).stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    panels = [line for line in lines if line in ("Data", "Train", "Look", "Take away")]
    assert panels == ["Data", "Train", "Look", "Take away"]


def test_help_of_train_names_each_algorithm_with_a_sentence():
    printed = command("train", "--help", env={"COLUMNS": "80"}).stdout
    for name in ("ppo", "dqn", "sac"):
        assert f"{name}  {registered_algorithm(name).summary}" in printed
    assert " command " not in printed


def test_every_command_is_walked_over():
    assert {"train ppo", "table show", "sweep", "collect", "evaluate"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_explained_in_one_sentence(name):
    found = COMMANDS[name]
    assert is_sentence(found.help.partition("\n")[0])
    for parameter in found.params:
        text = parameter.help
        assert getattr(parameter, "hidden", False) or text, f"{name} {parameter.name}"
        if text:
            assert is_sentence(text), f"{name} {parameter.name}: {text}"
            assert len(textwrap.wrap(text, LINE)) <= 2, f"{name} {parameter.name}: {text}"


def test_every_command_that_says_something_says_it_as_json():
    without = [name for name, found in COMMANDS.items() if not any("--json" in each.opts for each in found.params)]
    assert without == []


def test_shells_complete_commands_without_jax_and_algorithms():
    assert complete("jaxmoe ext") == ["extend", "False"]
    assert complete("jaxmoe train ") == [*registered_algorithms(), "True"]
    assert "--learning-rate" in complete("jaxmoe train ppo --le")


def test_the_script_of_completion_is_shown():
    call = f"{sys.executable} -m jaxmoe --show-completion bash; true"  # the shell is that which calls
    done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True)
    assert "_JAXMOE_COMPLETE=complete_bash" in done.stdout
