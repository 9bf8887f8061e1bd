"""What each tenant spends: prices of one's own, a discount, and a sum by tenant.

    OPENAI_API_KEY=... ANTHROPIC_API_KEY=... python examples/prices_and_tenants.py

A collector gets the same as the metric seatrace.cost, with the attribute seatrace.tenant.
"""

from collections import defaultdict

import anthropic
import openai

import seatrace

seatrace.instrument(
    service_name="prices-and-tenants",
    prices={
        "openai/gpt-5-mini": {"input": 0.2, "output": 1.5, "cache_read": 0.02},  # USD per million tokens
        "ollama/*": {"input": 0},  # free, on purpose
    },
)
seatrace.prices().multiply("anthropic", 0.9)  # a negotiated discount of 10 %

spent: dict[str, float] = defaultdict(float)


def told(call: seatrace.Call) -> None:
    if call.cost is None:
        print(f"{call.request_model}: no price known")  # and counted in seatrace.cost.unpriced
        return
    tenant = call.scope.tenant or "nobody"
    spent[tenant] += call.cost.total
    print(f"{tenant:<9} {call.request_model:<17} {call.cost.total:.6f} USD, prices: {call.cost.basis}")


seatrace.on_call(told)

question = {"role": "user", "content": "What is a spring tide?"}
with openai.OpenAI() as client:
    for tenant, model in (("acme", "gpt-5-mini"), ("umbrella", "gpt-5-mini"), ("acme", "gpt-4o-mini")):
        with seatrace.session(tenant=tenant):
            client.chat.completions.create(model=model, messages=[question])
with anthropic.Anthropic() as client, seatrace.session(tenant="umbrella"):
    client.messages.create(model="claude-haiku-4-5", max_tokens=100, messages=[question])

for tenant, amount in spent.items():
    print(f"{tenant:<9} {amount:.6f} USD in all")
