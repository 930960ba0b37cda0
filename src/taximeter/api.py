"""What users call. Names and meanings are a contract: see docs/reference and the README."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from taximeter import checks, context, money
from taximeter.budgeting import Budget
from taximeter.budgets.limits import Limit, parse_spec
from taximeter.budgets.policy import MODES, Terms
from taximeter.budgets.windows import TOTAL, Window, parse_window
from taximeter.context import Scope
from taximeter.errors import ConfigurationError
from taximeter.estimating import Estimate, estimate
from taximeter.ledger import Stats
from taximeter.money import USD
from taximeter.runtime import RUNTIME
from taximeter.stores.base import BudgetStore
from taximeter.stores.urls import open_store

C = TypeVar("C")

_SETTINGS: dict[str, Any] = {}
_LATER: Final = {
    "max_tool_calls": "limits on tool calls",
    "max_velocity": "spend velocity",
    "loop_guard": "the loop breaker",
    "on_exceeded": "top-ups",
    "fallback": "fallback models",
}
"""Settings of the contract that this release checks but does not act on: refused, never ignored."""


def budget(
    spec: str | None = None,
    /,
    *,
    max_usd: USD | None = None,
    name: str | None = None,
    mode: str = "clamp",
    on_limit: str = "raise",
    warn_at: float | Sequence[float] = 0.8,
    on_warn: Callable[..., Any] | None = None,
    fallback: Mapping[str, Any] | None = None,
    window: str | None = None,
    wait: float = 30.0,
    max_calls: int | None = None,
    max_tokens: int | None = None,
    max_tool_calls: int | None = None,
    max_velocity: USD | None = None,
    loop_guard: Any = None,
    on_exceeded: Callable[..., Any] | None = None,
    max_stream_output_tokens: int | None = None,
    min_output_tokens: int = 16,
    unknown_model: str = "ceiling",
    on_abort: str | None = None,
    on_outage: str = "closed",
    store: str | BudgetStore | None = None,
    tags: Mapping[str, Any] | None = None,
) -> Budget:
    """A budget: use it as ``with``, ``async with`` or as a decorator (fresh for each call).

    Args:
        spec: Shorthand, e.g. ``"$5/day"`` or ``"$5/hour + 100 calls/hour"``.
        max_usd: USD the calls inside may cost. None tracks without a cap.
        name: With a store, every process that uses the same name and store shares this budget.
        mode: ``strict`` (hold the sound worst case, refuse what does not fit) · ``clamp`` (lower the
            output cap to what is affordable) · ``incremental`` (as ``clamp`` in this release) ·
            ``warn`` · ``observe`` (dry run).
        on_limit: At a stop in the middle of a stream: ``raise`` or ``truncate`` (a normal, short answer).
        warn_at: Share (or shares) of the limit at which ``on_warn(spent, limit)`` is called, once
            each; at the limit itself always.
        on_warn: Takes two Decimals (USD, or counts). What it raises is logged.
        fallback, max_tool_calls, max_velocity, loop_guard, on_exceeded: Of later releases; anything
            but None raises.
        window: ``minute`` ... ``year``: ``max_usd`` counts anew in each; None: it never does.
        wait: Seconds to wait for money that other calls in flight hold; 0: never.
        max_calls, max_tokens: Further limits, in the same window.
        max_stream_output_tokens: Most output tokens of a stream; longer ones are stopped.
        min_output_tokens: An output cap below this is refused rather than sent.
        unknown_model: ``ceiling`` (priced at the provider's dearest rate, flagged) or ``refuse``.
        on_abort: Interrupted streams: ``estimate``, ``worst_case`` or ``drain``; None: the
            provider's own rule.
        on_outage: Store down: ``closed`` (refuse), ``open`` or ``degrade`` (go on, unheld).
        store: URL or object. Default: what ``configure()`` or ``TAXIMETER_STORE`` says, else memory,
            else (window or name given) the user's SQLite file.
        tags: Identity and tags of every call inside, as for :func:`tags`.

    Raises:
        ConfigurationError: A setting is wrong; names it, its value and the way out.
    """
    for setting, what in _LATER.items():
        if locals()[setting] is not None:
            checks.later(setting, locals()[setting], what)
    period = parse_window(window) if window is not None else TOTAL
    limits = _limits(spec, max_usd, period, max_calls, max_tokens)
    windowed = any(limit.window != TOTAL for limit in limits) or period != TOTAL
    terms = Terms(
        name=checks.name(name) or ("default" if windowed else "budget"),
        mode=checks.one_of("mode", mode, MODES),  # type: ignore[arg-type]
        on_limit=checks.one_of("on_limit", on_limit, ("raise", "truncate")),  # type: ignore[arg-type]
        wait=checks.seconds("wait", wait),
        min_output_tokens=checks.count("min_output_tokens", min_output_tokens, least=1),
        max_stream_output_tokens=checks.optional_count(
            "max_stream_output_tokens", max_stream_output_tokens, least=1
        ),
        unknown_model=checks.one_of("unknown_model", unknown_model, ("ceiling", "refuse")),  # type: ignore[arg-type]
        on_abort=checks.optional_one_of("on_abort", on_abort, ("estimate", "worst_case", "drain")),  # type: ignore[arg-type]
        on_outage=checks.one_of("on_outage", on_outage, ("closed", "open", "degrade")),  # type: ignore[arg-type]
        warn_at=checks.shares("warn_at", warn_at),
        on_warn=checks.optional_callable("on_warn", on_warn),
    )
    opened, shared = _store(store, shared=windowed or name is not None)
    settings = {k: v for k, v in locals().items() if k in _BUDGET_SETTINGS}
    return Budget(
        terms,
        limits,
        opened,
        window=period,
        shared=shared,
        tags=checks.tags(tags),
        make=lambda: budget(spec, **settings),
    )


_BUDGET_SETTINGS: Final = tuple(
    name
    for name, parameter in inspect.signature(budget).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
)


def with_budget(spec: str | None = None, /, **settings: Any) -> Budget:
    """:func:`budget`, named for its use as a decorator: ``@with_budget(max_usd=0.5)``."""
    return budget(spec, **settings)


def _limits(
    spec: str | None,
    max_usd: USD | None,
    window: Window,
    max_calls: int | None,
    max_tokens: int | None,
) -> tuple[Limit, ...]:
    if spec is not None and (max_usd is not None or window != TOTAL):
        raise ConfigurationError(f"give either {spec!r} or max_usd= and window=, not both")
    limits = list(parse_spec(spec)) if spec is not None else []
    if max_usd is not None:
        amount = money.amount(max_usd, name="max_usd")
        limits.append(Limit(unit="usd", amount=amount, window=window))
    if max_calls is not None:
        count = checks.count("max_calls", max_calls)
        limits.append(Limit(unit="calls", amount=count, window=window))
    if max_tokens is not None:
        count = checks.count("max_tokens", max_tokens)
        limits.append(Limit(unit="tokens", amount=count, window=window))
    for limit in limits:
        if limit.unit == "tool_calls":
            checks.later("spec", spec, "limits on tool calls")
    return tuple(limits)


def _store(store: str | BudgetStore | None, *, shared: bool) -> tuple[BudgetStore, bool]:
    """The store, and whether other budgets of the same name share its counters."""
    chosen = store if store is not None else _configured()
    if chosen is None:
        return (open_store("sqlite://"), True) if shared else (open_store("memory://"), False)
    return open_store(chosen), shared


def _configured() -> str | BudgetStore | None:
    """The store of :func:`configure`, else of the environment, else None."""
    return _SETTINGS.get("store") or os.environ.get("TAXIMETER_STORE")


@contextmanager
def tags(
    *,
    project: str | None = None,
    group: str | None = None,
    user_id: str | None = None,
    tier: str | None = None,
    session_id: str | None = None,
    run_id: str | None = None,
    prompt_version: str | None = None,
    **more: Any,
) -> Iterator[None]:
    """Write these fields and tags on every ledger entry of the calls inside. Nests; inner wins.

    Any further name is a tag; its value is kept as text. Tags alone meter nothing: a budget,
    :func:`install`, :func:`wrap` or a tracked call does.
    """
    previous = context.SCOPE.get()
    scope = (previous or RUNTIME.installed or Scope()).tagged(
        project=project, group=group, user_id=user_id, tier=tier, session_id=session_id,
        run_id=run_id, prompt_version=prompt_version, **more,
    )  # fmt: skip
    token = context.enter(scope)
    from taximeter.ports import activate

    activate()
    try:
        yield
    finally:
        context.leave(token, previous)


def install() -> None:
    """Meter every call of this process, with or without a budget. Entries go to the ledger."""
    from taximeter.ports import activate

    _default_ledger()
    RUNTIME.installed = Scope()
    activate()


def uninstall() -> None:
    """Stop metering calls outside of budgets."""
    RUNTIME.drain()
    RUNTIME.installed = None


def configure(
    *,
    store: str | BudgetStore | None = None,
    prices: Mapping[str, Mapping[str, Any]] | None = None,
    **later: Any,
) -> None:
    """Settings of the process. ``store``: where named and windowed budgets and the ledger live;
    ``prices``: overrides, ``{"my-model": {"input_cost_per_token": "0.00001", ...}}``.

    Raises:
        ConfigurationError: An unknown or wrong setting.
    """
    for setting, value in later.items():
        if setting not in ("counters", "budgets", "config"):
            raise ConfigurationError(f"configure() knows no {setting!r}; it takes store and prices")
        checks.later(setting, value, setting)
    if store is not None:
        opened = open_store(store)
        _SETTINGS["store"] = opened
        if hasattr(opened, "save"):
            RUNTIME.ledger = opened  # type: ignore[assignment]
    if prices is not None:
        from taximeter.pricing.book import embedded

        RUNTIME.book = embedded().with_overrides(prices)


def _default_ledger() -> None:
    if RUNTIME.ledger is None:
        opened: Any = open_store(_configured() or "memory://")
        RUNTIME.ledger = opened if hasattr(opened, "save") else None


def wrap(client: C) -> C:
    """Meter one client and nothing else in the process. Returns the same client.

    Raises:
        ConfigurationError: Not a client of openai, anthropic, google-genai or httpx.
    """
    from taximeter.ports import wrap_client

    _default_ledger()
    alone = Scope(metered=True)
    wrapped: C = wrap_client(client, lambda: context.SCOPE.get() or RUNTIME.installed or alone)
    return wrapped


def stats(**filters: Any) -> Stats:
    """Totals of the configured ledger.

    Args:
        filters: ``start`` (inclusive) and ``end`` (exclusive) in seconds since the epoch; ``by``, a
            list of entry fields, ``hour``, ``day``, ``month`` (UTC) or ``tag:<name>``; and fields
            with the values that count, e.g. ``project="p"``, ``model=["a", "b"]``.

    Returns:
        The totals; ``groups`` has a pair (dict of the ``by`` values, totals) for each group.

    Raises:
        ConfigurationError: An unknown field, or the configured store keeps no ledger.
    """
    _default_ledger()
    if RUNTIME.ledger is None:
        raise ConfigurationError("the configured store keeps no ledger; use memory:// or sqlite://")
    return RUNTIME.ledger.stats(**filters)


def tracked_call(
    *,
    client: Any,
    params: Mapping[str, Any],
    group: str | None = None,
    user_id: str | None = None,
    tier: str | None = None,
    project: str | None = None,
    session_id: str | None = None,
    run_id: str | None = None,
    prompt_version: str | None = None,
    tags: Mapping[str, Any] | None = None,
    budget: Budget | None = None,
    on_budget_warning: Callable[[Any], Any] | None = None,
) -> Any:
    """Make one call, metered and tagged; returns the provider's own response.

    Args:
        client: openai (any base URL), Azure, anthropic or google-genai; an asynchronous client
            gives an awaitable.
        params: What the SDK's own method takes (``chat.completions.create``, or
            ``responses.create`` when it has ``input``; ``messages.create``; ``generate_content``).
        budget: Charged besides the budgets that are active here.
        on_budget_warning: Called with the budget's ``summary_data()`` when it warns.
    """
    from taximeter.tracking import tracked

    _default_ledger()
    who = dict(
        group=group, user_id=user_id, tier=tier, project=project, session_id=session_id,
        run_id=run_id, prompt_version=prompt_version, **(tags or {}),
    )  # fmt: skip
    return tracked(
        client, dict(params), who, stream=False, budget=budget, on_warning=on_budget_warning
    )


def tracked_stream(
    *,
    client: Any,
    params: Mapping[str, Any],
    group: str | None = None,
    user_id: str | None = None,
    tier: str | None = None,
    project: str | None = None,
    session_id: str | None = None,
    run_id: str | None = None,
    prompt_version: str | None = None,
    tags: Mapping[str, Any] | None = None,
    budget: Budget | None = None,
    on_budget_warning: Callable[[Any], Any] | None = None,
) -> Any:
    """The same for a stream; returns the provider's own stream object. See :func:`tracked_call`."""
    from taximeter.tracking import tracked

    _default_ledger()
    who = dict(
        group=group, user_id=user_id, tier=tier, project=project, session_id=session_id,
        run_id=run_id, prompt_version=prompt_version, **(tags or {}),
    )  # fmt: skip
    return tracked(
        client, dict(params), who, stream=True, budget=budget, on_warning=on_budget_warning
    )


def quote(*, model: str, provider: str | None = None, **request: Any) -> Estimate:
    """What a call would cost, before it is made: expected and worst case.

    Args:
        model: As the SDK takes it.
        provider: E.g. ``"openai"``; default: the model's maker.
        request: The other fields of the call (``messages``, ``input``, ``contents``,
            ``max_tokens``, ``tools``, ``n``, ...).

    Returns:
        Estimate: amounts in USD; ``worst_usd`` is None when the cost has no bound, and
        ``unbounded`` says why.

    Raises:
        PriceUnknownError: No price is known for the model.
    """
    return estimate(RUNTIME.book, model, provider, request, at=time.time())


__all__ = (
    "budget", "configure", "install", "quote", "stats", "tags", "tracked_call",
    "tracked_stream", "uninstall", "with_budget", "wrap",
)  # fmt: skip
