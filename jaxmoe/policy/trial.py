"""A StableHLO program is tried once in a process of its own, which may crash, hang or want all memory, before its use.

That keeps damaged files out. It is no wall against files that somebody made to do harm: a program that behaves when it
is tried may do otherwise later. StableHLO is for files that one trusts; safetensors and ONNX are read without trust.
"""

import json
import os
import signal
import subprocess
import sys

from jaxmoe.errors import InputError
from jaxmoe.names import sentence

ROWS = 1024  # observations that it is tried on, more than are asked at once in an evaluation
SECONDS = 15  # for the trial, once JAX has started
WHOLE_SECONDS = 120  # for all, on however slow a machine
BYTES, BYTES_PER_BYTE = 2**30, 16  # more than JAX itself takes; more for each byte of the file
_REFUSED = 3  # exit code where standard output says what is wrong
_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from jaxmoe.policy.trial import main; main()"
_HARMLESS = "custom_call @shape_assertion("  # the one call out of the program that jaxmoe's have
_REASON = 300  # characters of what a library says


def require_sound(content: bytes, inputs: int, actions: int, source: str) -> None:
    """Raise `InputError` unless a program, tried in a process of its own, gives preferences and actions that exist."""
    arguments = [json.dumps(sys.path), *map(str, (SECONDS, inputs, actions))]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CODE, *arguments],
            input=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            timeout=WHOLE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{source} was given up: its program did not answer within {WHOLE_SECONDS} s") from None
    if done.returncode == _REFUSED:
        raise InputError(f"{source} {done.stdout.decode('utf-8', 'replace')}")
    if done.returncode == -getattr(signal, "SIGALRM", 0):
        raise InputError(f"{source} was given up: its program did not answer within {SECONDS} s")
    if done.returncode:
        raise InputError(
            f"{source} is not a StableHLO program that this version of JAX runs: it ended the process that tried it "
            f"({_named(done.returncode)})"
        )


def main() -> None:
    """Try the program on standard input; the exit code, and a line on standard output, say how it went."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # threads of one core take little memory
    import jax

    jax.devices()
    content = sys.stdin.buffer.read()
    seconds, inputs, actions = map(int, sys.argv[2:])
    _limit(seconds, BYTES + BYTES_PER_BYTE * len(content))
    try:
        wrong = _tried(content, inputs, actions)
    except Exception as error:  # whatever a damaged program makes JAX say
        reason = sentence(str(error), _REASON) or type(error).__name__
        wrong = f"is not a StableHLO program that this version of JAX reads ({reason})"
    sys.stdout.buffer.write(wrong.encode("utf-8", "replace"))
    sys.stdout.flush()
    os._exit(_REFUSED if wrong else 0)


def _tried(content: bytes, inputs: int, actions: int) -> str:
    """What is wrong with a program, or nothing."""
    import jax.export
    import jax.numpy as jnp
    import numpy as np

    exported = jax.export.deserialize(bytearray(content))
    if [(shape.shape[1:], shape.dtype) for shape in exported.in_avals] != [((inputs,), jnp.float32)]:
        return f"does not take observations of {inputs} numbers, as its contract says"
    text = exported.mlir_module()
    if text.count("custom_call") != text.count(_HARMLESS):
        return "calls code outside of itself, which no policy does"
    found = exported.call(jnp.zeros((ROWS, inputs), jnp.float32))
    kinds = {name: (each.shape, each.dtype) for name, each in found.items()}
    if kinds != {"preferences": ((ROWS, actions), jnp.float32), "actions": ((ROWS,), jnp.int32)}:
        return f"does not give preferences and an action of {actions}, as its contract says"
    chosen = np.asarray(found["actions"])
    outside = chosen[(chosen < 0) | (chosen >= actions)]
    return f"gives the action {outside[0]}, and its contract has actions 0 to {actions - 1}" if len(outside) else ""


def _limit(seconds: int, more_bytes: int) -> None:
    """From here on so much time, no more than so much more memory, and no core file."""
    if not hasattr(signal, "SIGALRM"):
        return
    import resource

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    most = _data_bytes() + more_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _data_bytes() -> int:
    """What this process has for itself already."""
    import psutil

    held = psutil.Process().memory_info()
    return int(getattr(held, "data", held.vms))


def _named(code: int) -> str:
    """An exit code, or the signal that it stands for."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"
