"""A budget around a stream: the fare while it runs, and what is left at the end.

The simulated provider answers on this machine, so no key is needed. With your own key, leave it out
and make the client as you always do: nothing else changes.
"""

import openai

from taximeter import BudgetExceededError, budget
from taximeter.testing import Reply, SimulatedProvider

with (
    SimulatedProvider(Reply(text="A taximeter runs while you ride. " * 60)) as provider,
    openai.OpenAI(base_url=provider.base_url, api_key="any") as client,
):
    try:
        with budget(max_usd="0.0002") as b:
            stream = client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[{"role": "user", "content": "What does a taximeter do?"}],
                stream=True,
            )
            for number, chunk in enumerate(stream):
                if chunk.choices and chunk.choices[0].delta.content:
                    print(chunk.choices[0].delta.content, end="")
                if number % 100 == 99:
                    print(f"\n  fare ${b.spent:f}, set aside ${b.held:f}, left ${b.remaining:f}")
    except BudgetExceededError as stop:
        print(f"\nstopped: {stop}")
    print(b.summary())
    print(f"the provider's invoice: ${sum(line.cost_usd for line in provider.invoice)}")
