"""A budget for each call of a function; a stream that reaches it ends like any short answer."""

import openai

from taximeter import budget
from taximeter.testing import Reply, SimulatedProvider


@budget(max_usd="0.0001", on_limit="truncate")
def explain(client: openai.OpenAI, topic: str) -> str:
    """Each call has its own $0.0001; the code inside knows nothing of budgets."""
    stream = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": f"Explain {topic}."}],
        stream=True,
    )
    text = ""
    for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason
    return f"{len(text.split())} words about {topic}, finish_reason={finish}"


replies = [Reply(text="Short and cheap."), Reply(text="It goes on and on. " * 200)]
with (
    SimulatedProvider(replies) as provider,
    openai.OpenAI(base_url=provider.base_url, api_key="any") as client,
):
    print(explain(client, "brevity"))
    print(explain(client, "everything"))
