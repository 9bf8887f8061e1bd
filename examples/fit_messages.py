"""A conversation that has grown too long is made to fit: tool calls keep their results, the newest question stays.

    python examples/fit_messages.py

Needs no network and no key.
"""

from typing import Any

from seatrace.runtime import fit_messages

TOOL_RESULT = "survey of the inner harbour: " + "depth 12.4 m, silt, no wreck; " * 400

messages: list[dict[str, Any]] = [{"role": "system", "content": "You are a harbour pilot. Be brief."}]
for number in range(20):
    call = {"id": f"call_{number}", "type": "function", "function": {"name": "survey", "arguments": "{}"}}
    messages += [
        {"role": "user", "content": f"May ship {number} enter, and where is she to berth?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"call_{number}", "content": TOOL_RESULT},
        {"role": "assistant", "content": f"Ship {number} may enter and berths at quay {number % 4}."},
    ]
messages.append({"role": "user", "content": "And the next one?"})

fit = fit_messages(messages, 16_000, model="gpt-5-mini", reserve_output=1_000)

print(f"before: {len(messages)} messages, {fit.tokens_before.n} tokens ({fit.tokens_before.high} at most)")
print(f"after:  {len(fit.messages)} messages, {fit.tokens_after.n} tokens ({fit.tokens_after.high} at most)")
print(f"left out {len(fit.dropped)}, shortened {len(fit.truncated)}; prompt cache broken: {fit.cache_prefix_broken}")
print(f"first kept question: {fit.messages[1]['content']}")
