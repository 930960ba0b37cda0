"""Run something when a module is imported, or now if it has been: nothing is imported for its sake."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

Hook = Callable[[ModuleType], None]

_hooks: dict[str, Hook] = {}
_suffix_hooks: dict[str, Hook] = {}
_finding = threading.local()


def when_imported(name: str, hook: Hook) -> None:
    """Call ``hook(module)`` once ``name`` has been imported; at once if it has."""
    _hooks[name] = hook
    _listen()
    module = sys.modules.get(name)
    if module is not None:
        hook(module)


def when_any_imported(suffix: str, hook: Hook) -> None:
    """The same for every module whose name ends with ``suffix`` (e.g. ``"._base_client"``)."""
    _suffix_hooks[suffix] = hook
    _listen()
    for name, module in list(sys.modules.items()):
        if name.endswith(suffix) and isinstance(module, ModuleType):
            hook(module)


def _listen() -> None:
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _hook_for(name: str) -> Hook | None:
    hook = _hooks.get(name)
    if hook is None:
        for suffix, candidate in _suffix_hooks.items():
            if name.endswith(suffix):
                return candidate
    return hook


class _Finder(MetaPathFinder):
    """Finds nothing itself: asks the others, and has their loader call the hook afterwards."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        hook = _hook_for(fullname)
        if hook is None or fullname in getattr(_finding, "names", ()):
            return None
        _finding.names = {*getattr(_finding, "names", ()), fullname}
        try:
            spec = find_spec(fullname)
        finally:
            _finding.names = _finding.names - {fullname}
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, hook)
        return spec


class _Loader(Loader):
    """Loads as the real loader does, then puts it back and calls the hook."""

    def __init__(self, loader: Any, hook: Hook) -> None:
        self._loader = loader
        self._hook = hook

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._hook(module)

    def __getattr__(self, name: str) -> Any:  # get_source, is_package, resource readers
        return getattr(self._loader, name)
