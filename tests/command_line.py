"""The command line: in this process, which takes no time to start, or in one of its own, which can be killed."""

import contextlib
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from jaxmoe.cli import main

# Shells start what runs in their background with Ctrl-C ignored, which its children inherit.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = [sys.executable, "-c", f"{HEED}; import sys; sys.argv[0] = 'jaxmoe'; from jaxmoe.cli import main; main()"]


class Done(NamedTuple):
    """A command that came to its end."""

    code: int
    out: str
    error: str

    @property
    def stdout(self) -> str:
        return self.out

    @property
    def stderr(self) -> str:
        return self.error


def run(*arguments, env=None, cwd=None) -> Done:
    """`jaxmoe` in this process."""
    out, error, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd or Path.cwd()),
        mock.patch.dict(os.environ, env or {}),
        mock.patch.object(sys, "argv", ["jaxmoe", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(error),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return Done(code, out.getvalue(), error.getvalue())


def start(*arguments, **options) -> subprocess.Popen:
    """`jaxmoe` in a process of its own."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
