"""Who spends on what: tags on every call inside a block, and totals by user and model."""

import openai

import taximeter
from taximeter.testing import SimulatedProvider

taximeter.configure(store="memory://")  # "sqlite:///usage.db" would keep it.
taximeter.install()  # Meter every call of this process, budget or not.

with (
    SimulatedProvider() as provider,
    openai.OpenAI(base_url=provider.base_url, api_key="any") as client,
):
    for user, model in [("ada", "gpt-4o-mini"), ("ada", "gpt-4o"), ("grace", "gpt-4o-mini")]:
        with taximeter.tags(user_id=user, project="demo", team="search"):
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Hello"}]
            )

stats = taximeter.stats(by=["user_id", "model"], project="demo")
for group, totals in stats.groups:
    print(f"{group['user_id']:<6} {group['model']:<24} ${totals.total_cost_usd}")
print(f"{stats.total_requests} calls, {stats.total_tokens} tokens, ${stats.total_cost_usd}")
