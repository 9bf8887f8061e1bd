"""Makes calls under seatrace and another instrumentation, and prints what was sent: ``python -m frameworks.beside.calls
OTHER FIRST``. In a process of its own, since not every instrumentation can be taken out again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import anthropic
import openai

import seatrace
from frameworks.crew import MODEL, QUESTION, captain
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
CLAUDE = "claude-sonnet-4-5"


def chat() -> None:
    with openai.OpenAI() as client:
        client.chat.completions.create(model=MODEL, messages=MESSAGES)


def chat_stream() -> None:
    options: Any = {"include_usage": True}
    with openai.OpenAI() as client:
        for _ in client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, stream_options=options):
            pass


def responses() -> None:
    with openai.OpenAI() as client:
        client.responses.create(model=MODEL, input=QUESTION)


def embeddings() -> None:
    with openai.OpenAI() as client:
        client.embeddings.create(model="text-embedding-3-small", input=[QUESTION])


def chat_async() -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI() as client:
            await client.chat.completions.create(model=MODEL, messages=MESSAGES)

    asyncio.run(main())


def messages() -> None:
    with anthropic.Anthropic() as client:
        client.messages.create(model=CLAUDE, max_tokens=100, messages=MESSAGES)


def messages_stream() -> None:
    with (
        anthropic.Anthropic() as client,
        client.messages.stream(model=CLAUDE, max_tokens=100, messages=MESSAGES) as stream,
    ):
        for _ in stream:
            pass


def messages_async() -> None:
    async def main() -> None:
        async with anthropic.AsyncAnthropic() as client:
            await client.messages.create(model=CLAUDE, max_tokens=100, messages=MESSAGES)

    asyncio.run(main())


CALLS = (chat, chat_stream, responses, embeddings, chat_async, messages, messages_stream, messages_async)

_TOKENS = ("usage.input_tokens", "token_count.prompt", "usage.prompt_tokens")


def told(captured: Captured) -> list[dict[str, Any]]:
    """The spans that say how many tokens a model took, by anybody's names; a run's sum is none."""
    return [
        {"scope": span.instrumentation_scope.name, **dict(span.attributes or {})}
        for span in captured.spans
        if not span.name.startswith("invoke_agent") and any(name.endswith(_TOKENS) for name in span.attributes or {})
    ]


def other(name: str, tracer_provider: Any) -> None:
    """Sets the other one up: OpenTelemetry's, OpenInference or OpenLLMetry."""
    if name == "OpenTelemetry":
        from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor
        from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
    elif name == "OpenInference":
        from openinference.instrumentation.anthropic import AnthropicInstrumentor
        from openinference.instrumentation.openai import OpenAIInstrumentor
    else:
        from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor
    for each in (OpenAIInstrumentor(), AnthropicInstrumentor()):
        each.instrument(tracer_provider=tracer_provider, skip_dep_check=True)


def main() -> None:
    """Calls, and prints as JSON what each sent."""
    name, first = sys.argv[1:]
    with FakeProvider(model=captain) as provider:
        os.environ.update(OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=f"{provider.url}/v1")
        os.environ.update(ANTHROPIC_API_KEY="sk-test", ANTHROPIC_BASE_URL=provider.second_url)
        hosts = (provider.url.removeprefix("http://"), provider.second_url.removeprefix("http://"))
        settings: Any = {"providers": dict(zip(hosts, ("openai", "anthropic"), strict=True))}
        with capture(**settings) as captured:
            if first == "they":
                seatrace.uninstrument()
            other(name, captured.tracer_provider)
            if first == "they":
                seatrace.instrument(
                    tracer_provider=captured.tracer_provider, meter_provider=captured.meter_provider, **settings
                )
            seen, cost = {}, 0.0
            for call in CALLS:
                with seatrace.agent("captain"):
                    call()
                total = captured.total("seatrace.cost")
                [run] = [dict(each.attributes or {}) for each in captured.spans if each.name == "invoke_agent captain"]
                served = provider.served.pop()
                seen[call.__name__] = {
                    "model": served.model,
                    "input_tokens": served.input_tokens,
                    "spans": told(captured),
                    "cost": total - cost,
                    "run": run,
                }
                cost = total
                captured._spans.clear()
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
