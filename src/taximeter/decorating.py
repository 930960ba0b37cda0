"""Run functions, coroutines and generators inside a budget, each call in a fresh one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from taximeter.context import SCOPE

if TYPE_CHECKING:
    from taximeter.budgeting import Budget

P = ParamSpec("P")
R = TypeVar("R")


def decorated(fn: Callable[P, R], make: Callable[[], Budget]) -> Callable[P, R]:
    """``fn`` with a budget of its own around each call; the budget is not passed to it."""
    wrapper: Any
    if inspect.isasyncgenfunction(fn):
        wrapper = _async_generator(fn, make)
    elif inspect.isgeneratorfunction(fn):
        wrapper = _generator(fn, make)
    elif inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            async with make():
                return await fn(*args, **kwargs)

    else:

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with make():
                return fn(*args, **kwargs)

    result: Callable[P, R] = wrapper
    return result


def _generator(fn: Callable[..., Any], make: Callable[[], Budget]) -> Callable[..., Any]:
    """Each step runs in the generator's own context, so the scope never leaks to the consumer."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        own = copy_context()
        budget = make()
        own.run(budget.__enter__)
        error: BaseException | None = None
        steps = fn(*args, **kwargs)
        try:
            value = own.run(next, steps)
            while True:
                try:
                    sent = yield value
                except GeneratorExit:
                    own.run(steps.close)
                    raise
                except BaseException as thrown:  # noqa: BLE001 (what was thrown in goes on in)
                    value = own.run(steps.throw, thrown)
                else:
                    value = own.run(steps.send, sent)
        except StopIteration as stop:
            return stop.value
        except BaseException as raised:
            error = raised
            raise
        finally:
            own.run(budget.__exit__, type(error) if error else None, error, None)

    return wrapper


def _async_generator(fn: Callable[..., Any], make: Callable[[], Budget]) -> Callable[..., Any]:
    """The scope is set for each step and unset while the consumer has the value."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        budget = make()
        budget.__enter__()  # Once, for its clean-up at the end; the scope itself is set step by step.
        inside = SCOPE.get()
        outside = budget.left_scope()
        SCOPE.set(outside)
        error: BaseException | None = None
        steps = fn(*args, **kwargs)
        try:
            while True:
                SCOPE.set(inside)
                try:
                    value = await anext(steps)
                except StopAsyncIteration:
                    return
                finally:
                    SCOPE.set(outside)
                yield value
        except BaseException as raised:
            error = raised
            raise
        finally:
            SCOPE.set(inside)
            try:
                await steps.aclose()
            finally:
                await budget.__aexit__(type(error) if error else None, error, None)
                SCOPE.set(outside)

    return wrapper
