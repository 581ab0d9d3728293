"""Modules of other people: each registers algorithms, scenarios or baselines when it is imported.

A plugin is a file such as `my_algorithms.py`, or a module such as `package.module`. It is imported because whoever
calls names it. An experiment records name, version and digest, not the code; from a folder nothing is imported unless
its reader names the same plugin or trusts the folder.
"""

import hashlib
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jaxmoe.errors import InputError
from jaxmoe.files import with_home
from jaxmoe.names import short


class Plugin(NamedTuple):
    """What an experiment records of a plugin."""

    name: str  # of the file, or of the module
    version: str  # `__version__` of the module, "" if it has none
    digest: str  # sha256 of its file
    source: str  # where it is imported from: the path of a file, or the name of a module

    def __str__(self) -> str:
        return f"{self.name} {self.digest[:12]}"


class Shipped(NamedTuple):
    """A plugin on its way to a process on another machine."""

    name: str
    digest: str
    source: str  # path of a file here, or name of a module that is installed there
    content: bytes | None  # of a file


_LOADED: dict[str, Plugin] = {}  # by the path of the file


def load_plugins(sources: Iterable[str], folder: str | os.PathLike[str] | None = None) -> list[Plugin]:
    """Import plugins, each once in a process.

    Args:
        sources: paths of files that end in `.py`, or names of modules.
        folder: from which paths are seen; where the process is now, if absent.

    Raises:
        InputError: there is none, it raises an error, or its file has changed since it was imported.
    """
    return [_load(source, Path(folder or ".")) for source in sources]


def require_plugins(entries: Iterable[Mapping[str, Any]], where: str, trust: bool = False) -> None:
    """Have the plugins that an experiment was planned with; import them only where the caller trusts its folder.

    Raises:
        InputError: one is not loaded, is not there, or is another version than the recorded one.
    """
    for plugin in recorded(entries):
        loaded = {each.digest: each for each in _LOADED.values()}
        if plugin.digest not in loaded and trust:
            loaded |= {each.digest: each for each in load_plugins([plugin.source])}
        if plugin.digest in loaded:
            continue
        other = [each for each in _LOADED.values() if each.name == plugin.name]
        if other or trust:
            raise InputError(
                f"{where} was planned with the plugin {plugin}, and {plugin.source} is another version of it now; "
                "results would not be comparable"
            )
        raise InputError(
            f"{where} needs the plugin {plugin.name}, which is imported only if you name it, with --plugin "
            f"{plugin.source}, or trust the folder, with --trust-plugins"
        )


def shipped(entries: Iterable[Mapping[str, Any]]) -> list[Shipped]:
    """The plugins of an experiment, which this process has loaded, as other processes take them."""
    wanted = {plugin.digest for plugin in recorded(entries)}
    return [
        Shipped(each.name, each.digest, each.source, Path(path).read_bytes() if each.source.endswith(".py") else None)
        for path, each in _LOADED.items()
        if each.digest in wanted
    ]


def load_shipped(plugins: Iterable[Shipped]) -> None:
    """Import plugins that come from another process: from where they were if they are there too, else from a copy."""
    for plugin in plugins:
        if plugin.digest in {each.digest for each in _LOADED.values()}:
            continue
        path = Path(plugin.source)
        if plugin.content is None or (path.is_file() and path.read_bytes() == plugin.content):
            load_plugins([plugin.source])
            continue
        copy = Path(tempfile.mkdtemp(prefix="jaxmoe-plugin-")) / plugin.name
        copy.write_bytes(plugin.content)
        try:
            load_plugins([str(copy)])
        finally:
            shutil.rmtree(copy.parent, ignore_errors=True)


def recorded(entries: Iterable[Mapping[str, Any]]) -> list[Plugin]:
    """Plugins as an experiment has recorded them."""
    return [Plugin(*(str(entry.get(field, "")) for field in Plugin._fields)) for entry in entries]


def _load(source: str, folder: Path) -> Plugin:
    is_file = source.endswith(".py")
    if is_file:
        path = folder / with_home(source)
        try:
            path = path.resolve()
        except (OSError, RuntimeError):  # links that lead to each other
            raise InputError(f"plugin {source}: {path} leads nowhere") from None
        if not path.is_file():
            raise InputError(f"plugin {source}: there is no file {path}")
    else:
        path = _file_of(source)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = _LOADED.get(str(path))
    if known is not None:
        if known.digest != digest:
            raise InputError(f"plugin {source} has changed since this process imported it; begin a new one")
        return known
    try:
        module = _imported(path) if is_file else importlib.import_module(source)
    except InputError as error:
        raise InputError(f"plugin {source}: {error}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it does at its end, as sys.exit
        raise InputError(f"plugin {source} cannot be imported: {type(error).__name__}: {_said(error)}") from error
    version = _said(getattr(module, "__version__", ""))
    _LOADED[str(path)] = Plugin(path.name if is_file else source, version, digest, str(path) if is_file else source)
    return _LOADED[str(path)]


def _said(value: object) -> str:
    """A plugin's own value as a text; nothing where it has none."""
    try:
        return str(value)
    except Exception:
        return ""


def _file_of(name: str) -> Path:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        found = None
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise InputError(f"plugin {short(name)} is neither a file that ends in .py nor a module that can be imported")
    return Path(found.origin)


def _imported(path: Path) -> ModuleType:
    """The module of a file, under a name of its own."""
    name = f"jaxmoe_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing is left beside a user's file
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.dont_write_bytecode = writes
    return module
