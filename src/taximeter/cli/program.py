"""Running any Python program inside this process, as ``python`` itself would run it.

From then on the process is the program's: ``sys.argv``, ``sys.path`` and ``__main__`` stay as they
are when its main code ends, since its threads and exit handlers may still look at them.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from types import CodeType, ModuleType, TracebackType
from typing import Any

from taximeter.errors import ConfigurationError

_BETWEEN = (__file__, runpy.__file__, "<frozen runpy>")
"""Frames of these files stand between the command and the program; tracebacks leave them out."""


def script(path: str, arguments: Sequence[str]) -> Callable[[], None]:
    """``python path arguments…`` as a function; what the program raises comes out of it.

    Raises:
        ConfigurationError: There is no such file (when made, not when run).
    """
    if os.path.isdir(path) or _is_zip(path):
        return lambda: _run_folder(path, arguments)
    source = _read(path)
    file = os.path.abspath(path)  # As python does: it still holds when the program changes folder.

    def run() -> None:
        code = compile(source, file, "exec", dont_inherit=True)
        loader = importlib.machinery.SourceFileLoader("__main__", file)
        _prepare([path, *arguments], os.path.dirname(os.path.realpath(path)))
        _run(code, file, loader, None)

    return run


def module(name: str, arguments: Sequence[str]) -> Callable[[], None]:
    """``python -m name arguments…`` as a function. Finding it may import its package, as there."""

    def run() -> None:
        _prepare(["-m", *arguments], os.getcwd())
        spec = _find(name)
        loader: Any = spec.loader
        code = loader.get_code(spec.name) if hasattr(loader, "get_code") else None
        if code is None:
            raise ConfigurationError(f"module {name!r} has no Python code to run")
        path = spec.origin or name
        sys.argv[0] = path
        _run(code, path, loader, spec)

    return run


def tail(error: BaseException) -> TracebackType | None:
    """The error's traceback from the program's first frame on."""
    trace = error.__traceback__
    while trace is not None and not _between(trace):
        trace = trace.tb_next
    while trace is not None and _between(trace):
        trace = trace.tb_next
    return trace


def _between(trace: TracebackType) -> bool:
    return trace.tb_frame.f_code.co_filename in _BETWEEN


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"cannot open {path!r}: {error.strerror}") from None


def _is_zip(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _find(name: str) -> importlib.machinery.ModuleSpec:
    """The module, or the ``__main__`` of the package, of this name."""
    for wanted in (name, f"{name}.__main__"):
        try:
            spec = importlib.util.find_spec(wanted)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"module {wanted!r} cannot be found: {error}") from None
        if spec is None:
            raise ConfigurationError(f"there is no module named {wanted!r}")
        if spec.submodule_search_locations is None:
            return spec
    raise ConfigurationError(f"{name!r} is a package of packages and cannot be run")


def _run_folder(path: str, arguments: Sequence[str]) -> None:
    """A directory or zip file with a ``__main__.py``: runpy knows how to look inside."""
    _prepare([path, *arguments], path)
    runpy.run_path(path, run_name="__main__")


def _prepare(argv: list[str], folder: str) -> None:
    sys.argv = argv
    if not sys.flags.safe_path:  # The interpreter's first entry is the folder of our own script.
        sys.path[0] = folder


def _run(
    code: CodeType, path: str, loader: Any, spec: importlib.machinery.ModuleSpec | None
) -> None:
    main = ModuleType("__main__")
    main.__dict__.update(
        __file__=path,
        __loader__=loader,
        __spec__=spec,
        __package__=spec.parent if spec is not None else None,
        __builtins__=sys.modules["builtins"],
    )
    sys.modules["__main__"] = main
    exec(code, main.__dict__)  # noqa: S102  (running the user's program is the job)
