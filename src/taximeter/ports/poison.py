"""How a refusal raised inside an HTTP client reaches the user once and unwrapped.

Every SDK but the newest retries and wraps exceptions that ``send`` raises, yet touches the response
outside of that ``try``. So ``send`` returns a response that raises as soon as anything is asked of
it. Where an SDK touches it inside the ``try`` as well, it lets exceptions of its own base class
through: hence an error that belongs to both trees.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, Final

from taximeter.errors import TaximeterError

_BASES: Final = (
    ("openai", "OpenAIError"),
    ("anthropic", "AnthropicError"),
    ("groq", "GroqError"),
    ("together", "TogetherError"),
    ("cerebras.cloud.sdk", "CerebrasError"),
)


def dual(error: TaximeterError) -> TaximeterError:
    """``error`` in a class that the loaded SDKs take for one of their own."""
    bases = tuple(
        getattr(module, name)
        for package, name in _BASES
        if (module := sys.modules.get(package)) is not None and hasattr(module, name)
    )
    if bases:
        kind: Any = type(error)
        error.__class__ = _dual_class(kind, bases)
    return error


@cache
def _dual_class(kind: Any, bases: tuple[type, ...]) -> Any:
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind, *bases), names)


def poisoned(response_class: Any, error: TaximeterError) -> Any:
    """An instance of ``response_class`` that raises ``error`` for any attribute but dunder ones."""
    response = object.__new__(_poisoned_class(response_class))
    object.__setattr__(response, "__error__", error)
    return response


@cache
def _poisoned_class(response_class: Any) -> Any:
    def get(self: Any, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            return object.__getattribute__(self, name)
        raise object.__getattribute__(self, "__error__")

    return type("Response", (response_class,), {"__getattribute__": get})
