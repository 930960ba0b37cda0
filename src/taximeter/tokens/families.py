"""Model families: whose tokenizer a model has, and the constants its provider adds unseen.

Every number is in tokens, or tokens per token of the family's reference vocabulary. They were read off
recorded provider answers, then rounded up: simple generous constants outlive a close fit.
``*_max`` is meant to cover 99.9 % of requests; ``bound_*`` more than ever seen, by a good margin.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, NamedTuple

VocabularyName = Literal["o200k_base", "cl100k_base"]


class Family(NamedTuple):
    """Models that count alike. A named tuple: the cheapest frozen record to import."""

    name: str
    vocabulary: VocabularyName = "o200k_base"
    text: float = 1.1  # billed tokens per token of the reference vocabulary, in plain text
    text_max: float = 1.85
    message: float = 4.0  # framing of one message
    message_max: float = 16.0
    prompt: float = 3.0  # hidden once per request
    prompt_max: float = 120.0
    tool_prompt: float = 20.0  # hidden once per request that offers tools, beside ``prompt``
    tool_prompt_max: float = 900.0
    tools: float = 1.0  # billed tokens per token of the tools' JSON
    tools_max: float = 1.9
    schema: float = 0.5  # the same for a response schema alone: several providers do not bill it
    schema_prompt: float = 0.0
    tool: float = 0.0  # framing of one tool
    tool_max: float = 40.0
    bound_prompt: int = 1_000  # what strict holds for hidden prompts, without tools
    bound_tools: int = 2_000  # and with them, in all
    answer: float = 1.0  # an answer beyond its text: end and start marks
    answer_max: float = 30.0
    tool_call: float = 12.0  # an answer that calls tools, beyond names and arguments
    tool_call_max: float = 130.0
    token_deltas: bool = False  # streams one token a delta on its own provider


GPT_4O: Final = Family(
    name="gpt-4o/4.1", text=1.0, text_max=1.25, message=4, message_max=8, prompt=3, prompt_max=40,
    tool_prompt=8, tool_prompt_max=420, tools=0.72, schema=0.72, tools_max=1.3, tool_max=24, bound_prompt=300,
    bound_tools=1_200, answer=1, answer_max=30, tool_call=8, tool_call_max=60, token_deltas=True,
)  # fmt: skip
GPT_35: Final = GPT_4O._replace(name="gpt-3.5/4", vocabulary="cl100k_base", tools=0.8, tool_call=7)
GPT_5: Final = GPT_4O._replace(
    name="gpt-5/o", text_max=1.3, message_max=12, prompt_max=120, tool_prompt=16, tool_prompt_max=400,
    tools=0.85, tools_max=1.5, bound_prompt=500, bound_tools=1_500, answer=4, answer_max=70,
    tool_call=12, tool_call_max=130,
)  # fmt: skip
GPT_OSS: Final = GPT_5._replace(name="gpt-oss", prompt=65, prompt_max=140, text=1.05)
CLAUDE: Final = Family(
    # Citations bring a hidden prompt of some 600 tokens, without any tool.
    name="claude<=4.6", text=1.15, text_max=1.75, message=4, message_max=16, prompt=4, prompt_max=700,
    tool_prompt=470, tool_prompt_max=800, schema=0.9, schema_prompt=100, tools=1.25, tools_max=1.7, tool_max=60, bound_prompt=1_500,
    bound_tools=3_000, answer=4, answer_max=50, tool_call=43, tool_call_max=160,
)  # fmt: skip
CLAUDE_NEW: Final = CLAUDE._replace(
    name="claude-new", text=1.42, text_max=1.9, tools=1.7, tools_max=2.4, tool_prompt=450,
    tool_prompt_max=1_000, schema_prompt=0, prompt_max=900, tool_call_max=180,
)  # fmt: skip
GEMINI: Final = Family(
    name="gemini", text=1.04, text_max=1.5, message=1, message_max=8, prompt=1, prompt_max=40,
    tool_prompt=0, tool_prompt_max=250, schema=0, tools=0.75, tools_max=1.6, tool_max=40, bound_prompt=400,
    bound_tools=1_500, answer=1, answer_max=30, tool_call=5, tool_call_max=110,
)  # fmt: skip
MISTRAL: Final = Family(
    name="mistral", text=1.08, text_max=1.45, message=3, message_max=12, prompt=2, prompt_max=60,
    tool_prompt=8, tool_prompt_max=300, schema=0, tools=1.25, tools_max=1.7, bound_prompt=700,
    bound_tools=1_500, answer=2, answer_max=30, tool_call=4, tool_call_max=60,
)  # fmt: skip
LLAMA: Final = Family(
    name="llama", text=1.06, text_max=1.5, message=5, message_max=12, prompt=20, prompt_max=80,
    tool_prompt=100, tool_prompt_max=900, tools=1.4, tools_max=2.0, tool_call=50, tool_call_max=300,
    token_deltas=True,
)  # fmt: skip
NOVA: Final = Family(
    name="nova", text=1.02, text_max=1.6, message=1, message_max=12, prompt=2, prompt_max=80,
    tool_prompt=830, tool_prompt_max=1_200, tools=0.6, tools_max=1.8, bound_prompt=700,
    bound_tools=2_500, tool_call=12, tool_call_max=180,
)  # fmt: skip
DEEPSEEK: Final = Family(
    name="deepseek", text=1.03, text_max=1.4, message=3, message_max=12, prompt=4, prompt_max=140,
    tool_prompt=240, tool_prompt_max=500, tools=1.1, tools_max=1.8, answer=1, answer_max=80,
    tool_call=38, tool_call_max=130, token_deltas=True,
)  # fmt: skip
COMMAND: Final = Family(
    # Cohere bills what its ``billed_units`` say: without the hidden prompt of 500 (tools: 1,400)
    # tokens that its ``tokens`` count. The maxima cover hosts that bill those too.
    name="command", text=1.08, text_max=1.8, message=1, message_max=20, prompt=0, prompt_max=650,
    tool_prompt=8, tool_prompt_max=1_150, tools=0.7, tools_max=2.0, bound_prompt=1_500,
    bound_tools=3_500, answer=2, answer_max=100, tool_call=40, tool_call_max=200, token_deltas=True,
)  # fmt: skip
GROK: Final = Family(
    name="grok", text=1.0, text_max=1.4, message=4, message_max=12, prompt=8, prompt_max=760,
    tool_prompt=250, tool_prompt_max=560, tools=1.2, tools_max=1.7, bound_prompt=1_500,
    bound_tools=3_000, answer=1, answer_max=40, tool_call=21, tool_call_max=100,
)  # fmt: skip
QWEN: Final = Family(
    name="qwen", text=1.08, text_max=1.5, message=4, message_max=12, prompt=6, prompt_max=120,
    tool_prompt=60, tool_prompt_max=500, schema=0, tools=1.1, tools_max=1.8, answer=4, answer_max=80,
    tool_call=20, tool_call_max=130,
)  # fmt: skip
UNKNOWN: Final = Family(name="unknown")

_MARKS: Final[tuple[tuple[str, Family], ...]] = (
    # First match in the lowered model name wins: narrow marks before wide ones.
    ("gpt-oss", GPT_OSS), ("distill-llama", LLAMA), ("distill-qwen", QWEN),
    ("gpt-5", GPT_5), ("gpt-6", GPT_5), ("computer-use", GPT_4O),
    ("gpt-3.5", GPT_35), ("gpt-35", GPT_35), ("gpt-4o", GPT_4O), ("chatgpt-4o", GPT_4O),
    ("gpt-4.1", GPT_4O), ("gpt-4.5", GPT_4O), ("gpt-41", GPT_4O), ("gpt-audio", GPT_4O),
    ("gpt-realtime", GPT_4O), ("gpt-4", GPT_35), ("text-embedding", GPT_35), ("codex", GPT_5),
    ("gemini", GEMINI), ("gemma", GEMINI), ("nova-", NOVA), ("titan", NOVA), ("deepseek", DEEPSEEK),
    ("llama", LLAMA), ("mistral", MISTRAL), ("mixtral", MISTRAL), ("magistral", MISTRAL),
    ("ministral", MISTRAL), ("codestral", MISTRAL), ("devstral", MISTRAL), ("pixtral", MISTRAL),
    ("voxtral", MISTRAL), ("cohere", COMMAND), ("command", COMMAND), ("grok", GROK),
    ("qwen", QWEN), ("qwq", QWEN),
)  # fmt: skip
_O_SERIES: Final = ("o1", "o3", "o4")
_OLD_CLAUDE: Final = (
    "claude-2", "claude-v2", "claude-instant", "claude-1", "claude-3", "opus-4-0", "opus-4-1",
    "opus-4-5", "opus-4-6", "opus-4-2025", "opus-4@2025", "sonnet-4-0", "sonnet-4-5", "sonnet-4-6",
    "sonnet-4-2025", "sonnet-4@2025", "haiku-4-5", "opus-4.1", "opus-4.5", "opus-4.6", "sonnet-4.5",
    "sonnet-4.6", "haiku-4.5", "claude-4.5", "claude-4.6", "claude-4.1", "claude-4-", "3-7-sonnet",
    "3.7-sonnet", "3.5-sonnet", "3-5-sonnet",
)  # fmt: skip
_OLD_CLAUDE_WHOLE: Final = ("claude-sonnet-4", "claude-opus-4", "claude-4")


@lru_cache(maxsize=1024)
def family(model: str) -> Family:
    """The family of a model, from its name on any provider (``us.anthropic.claude-sonnet-4-6``).

    A name that says nothing (an Azure deployment, a router) is ``unknown``: wide margins, never zero.
    """
    name = model.lower()
    if "claude" in name:
        old = any(mark in name for mark in _OLD_CLAUDE) or name.endswith(_OLD_CLAUDE_WHOLE)
        return CLAUDE if old else CLAUDE_NEW
    for mark, found in _MARKS:
        if mark in name:
            return found
    last = name.rpartition("/")[2].rpartition(":")[2]
    return GPT_5 if last.startswith(_O_SERIES) else UNKNOWN


@lru_cache(maxsize=1024)
def may_reason_unseen(model: str) -> bool:
    """Whether this model may bill reasoning that no stream shows, without having been asked to.

    True when it cannot be ruled out (unknown names too). Claude up to 4.6 reasons only when the
    request says so, which ``WireRequest.thinking_budget`` tells.
    """
    name, found = model.lower(), family(model)
    if found is GROK:
        return "non-reasoning" not in name and "grok-2" not in name
    if found is GEMINI:
        return not any(mark in name for mark in ("gemini-1", "gemini-2.0", "gemma", "embedding"))
    if found is MISTRAL:
        return "magistral" in name
    if found is GPT_5:
        return "chat-latest" not in name
    return found in (CLAUDE_NEW, UNKNOWN, GPT_OSS, QWEN, DEEPSEEK)
