"""One line, then OpenAI as ever: a plain call, a stream, and what seatrace saw of them.

    OPENAI_API_KEY=... python examples/openai_chat.py

Telemetry goes to a collector on http://localhost:4318; without one, set SEATRACE_EXPORTER=none or =console.
"""

import openai

import seatrace

seatrace.instrument(service_name="openai-chat")

MODEL = "gpt-5-mini"


def told(call: seatrace.Call) -> None:
    """Prints each call when it has ended, priced and counted."""
    usage = call.usage or seatrace.Usage()
    cost = f"{call.cost.total:.6f} USD" if call.cost else "no price"
    print(f"\n[{call.request_model}: {usage.input_tokens} tokens in, {usage.output_tokens} out, {cost}]")


seatrace.on_call(told)

client = openai.OpenAI()
question = "What makes the tide?"

reply = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}])
print(reply.choices[0].message.content)

# OpenAI names the tokens of a chat stream only if asked to.
chunks = client.chat.completions.create(
    model=MODEL,
    messages=[{"role": "user", "content": f"{question} In one sentence."}],
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in chunks:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
