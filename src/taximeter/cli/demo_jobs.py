"""What the demo's clients do: official SDKs, each job in a thread, all charged to one budget.

The jobs know nothing of taximeter but the tag that names them. The two that go too far have no output
cap of their own; the provider would go on for as long as it is listened to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from taximeter.errors import BudgetExceededError, MissingExtraError
from taximeter.testing import Fault, ReceivedRequest, Reply, SimulatedProvider

CAPPED: Final = 350
"""The output cap that ordinary calls ask for; their answers are shorter."""

ENDLESS: Final = 30_000
"""Tokens of an answer that nobody will read to its end."""

CUT_SHORT: Final = ("length", "max_tokens")
"""What ordinary code sees of an answer that was ended early: a normal, short one."""

State = Literal["waiting", "running", "done", "cut", "truncated", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Tokens a second of ordinary answers; seconds between events of the two that go too far."""

    ordinary: float
    endless: float


SHOW: Final = Pace(ordinary=100.0, endless=0.016)
FAST: Final = Pace(ordinary=600.0, endless=0.006)
TOKENS_PER_EVENT: Final = 8


@dataclass(slots=True, kw_only=True)
class Job:
    """One call of the demo, and how it ended."""

    name: str
    model: str
    note: str
    work: Callable[[Clients, Job], str]  # gives the answer's own reason for its end
    state: State = "waiting"
    ending: str = ""
    error: BaseException | None = None
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, clients: Clients) -> None:
        """Do the work and remember how it ended; never raises."""
        self.state = "running"
        try:
            self.ending = self.work(clients, self)
            self.state = "truncated" if self.ending in CUT_SHORT else "done"
        except BudgetExceededError as stop:
            self.state, self.error = "cut", stop
            self.ending = type(stop).__name__
        except Exception as error:  # noqa: BLE001  (shown in the demo's table; it then fails)
            self.state, self.error = "failed", error
            self.ending = f"{type(error).__name__}: {error}"
        finally:
            self.over.set()


class Clients:
    """The official SDKs, pointed at the simulated provider.

    Raises:
        MissingExtraError: An SDK is not installed.
    """

    def __init__(self, provider: SimulatedProvider) -> None:
        try:
            import anthropic
            import openai
        except ImportError as missing:
            raise MissingExtraError(str(missing.name), "openai,anthropic,cli") from None
        self.versions = f"openai {openai.__version__}, anthropic {anthropic.__version__}"
        self.openai = openai.OpenAI(base_url=provider.base_url, api_key="demo", max_retries=0)
        self.anthropic = anthropic.Anthropic(
            base_url=provider.anthropic_url, api_key="demo", max_retries=0
        )

    def close(self) -> None:
        """Let go of the connections."""
        self.openai.close()
        self.anthropic.close()


def replies(pace: Pace) -> Callable[[ReceivedRequest], Reply]:
    """What the provider answers, by what it is asked.

    The endless answers begin and then wait for ``provider.release()``, so that the others find the
    money that they need whatever the speed of the machine.
    """

    def reply(request: ReceivedRequest) -> Reply:
        text = str(request.body)
        if "never end" in text or "whole history" in text:
            return Reply(
                tokens=ENDLESS,
                tokens_per_event=TOKENS_PER_EVENT,
                delay_per_event=pace.endless,
                fault=Fault.STALL(after=2),
            )
        if "footnote" in text:
            return Reply(tokens=170, tokens_per_second=pace.ordinary * 2)
        return Reply(tokens=150 + 31 * (len(text) % 7), tokens_per_second=pace.ordinary)

    return reply


def ordinary() -> list[Job]:
    """Calls that end by themselves."""
    return [
        Job(name="chat", model="gpt-4o-mini", note="stream", work=_chat),
        Job(name="translate", model="gpt-4.1-mini", note="stream", work=_chat),
        Job(name="answer", model="gpt-4.1", note="Responses, stream", work=_responses),
        Job(name="summary", model="claude-haiku-4-5", note="text_stream", work=_text_stream),
        Job(name="review", model="claude-sonnet-4-5", note="stream", work=_messages),
        Job(name="classify", model="gpt-4.1", note="not streamed", work=_whole),
    ]


def runaway() -> Job:
    """A stream that would go on for ever; the budget cuts it."""
    return Job(name="runaway", model="gpt-4o", note="stream, no cap", work=_endless)


def history() -> Job:
    """A stream that its own small budget ends like a short answer."""
    return Job(name="history", model="gpt-4o-mini", note="stream, no cap", work=_endless)


def footnote() -> Job:
    """Takes money from ``history``'s small budget while that is running."""
    return Job(name="footnote", model="gpt-4.1", note="not streamed", work=_footnote)


_PROMPTS: Final = {
    "chat": "How does a taximeter count the fare?",
    "translate": "Translate 'the fare is running' into five languages.",
    "answer": "Why do meters count both distance and time?",
    "summary": "Summarise the rules for prepaid cabs.",
    "review": "Review this receipt for mistakes.",
    "classify": "Is this a taxi or a bus? Explain.",
    "footnote": "Write a footnote on hansom cabs.",
    "runaway": "Tell a story of a taxi ride that must never end.",
    "history": "Tell the whole history of taxis.",
}


def _ask(job: Job) -> list[dict[str, str]]:
    return [{"role": "user", "content": _PROMPTS[job.name]}]


def _chat(clients: Clients, job: Job) -> str:
    stream = clients.openai.chat.completions.create(
        model=job.model,
        messages=_ask(job),  # type: ignore[arg-type]
        max_tokens=CAPPED,
        stream=True,
    )
    return _finish(stream)


def _endless(clients: Clients, job: Job) -> str:
    stream = clients.openai.chat.completions.create(
        model=job.model,
        messages=_ask(job),  # type: ignore[arg-type]
        stream=True,
    )
    return _finish(stream)


def _finish(stream: Any) -> str:
    """Read a chat stream to its end; its finish reason."""
    finish = ""
    for chunk in stream:
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
    return finish


def _responses(clients: Clients, job: Job) -> str:
    stream: Any = clients.openai.responses.create(
        model=job.model, input=_PROMPTS[job.name], max_output_tokens=CAPPED, stream=True
    )
    ending = ""
    for event in stream:
        if event.type == "response.completed":
            ending = str(event.response.status)
    return ending


def _text_stream(clients: Clients, job: Job) -> str:
    with clients.anthropic.messages.stream(
        model=job.model,
        max_tokens=CAPPED,
        messages=_ask(job),  # type: ignore[arg-type]
    ) as stream:
        for _ in stream.text_stream:
            continue
        return str(stream.get_final_message().stop_reason)


def _messages(clients: Clients, job: Job) -> str:
    stream: Any = clients.anthropic.messages.create(
        model=job.model,
        max_tokens=CAPPED,
        messages=_ask(job),  # type: ignore[arg-type]
        stream=True,
    )
    ending = ""
    for event in stream:
        if event.type == "message_delta":
            ending = str(event.delta.stop_reason)
    return ending


def _footnote(clients: Clients, job: Job) -> str:
    return _whole(clients, job, 200)


def _whole(clients: Clients, job: Job, cap: int = CAPPED) -> str:
    answer = clients.openai.chat.completions.create(
        model=job.model,
        messages=_ask(job),  # type: ignore[arg-type]
        max_tokens=cap,
    )
    return answer.choices[0].finish_reason
