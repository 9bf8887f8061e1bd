"""Simple questions go to a small model, hard ones to a large one; what that saved is counted.

    OPENAI_API_KEY=... python examples/routing.py

Telemetry goes to a collector on http://localhost:4318; without one, set SEATRACE_EXPORTER=none or =console.
"""

from dataclasses import dataclass
from typing import Any

import openai

import seatrace
from seatrace.runtime import Choice, ModelOption, ModelSelector, StructuredOutput

seatrace.instrument(service_name="routing")

client = openai.OpenAI()
selector = ModelSelector(
    {
        "simple": [ModelOption("gpt-5-nano", "openai", context=400_000)],
        "hard": [ModelOption("gpt-5", "openai", context=400_000), ModelOption("gpt-5-mini", "openai")],
    },
    rules=[(lambda request: len(request.text) < 100, "simple")],
)


@dataclass
class Verdict:
    may_enter: bool
    why: str


verdict = StructuredOutput(Verdict)


def ask(question: str) -> Verdict:
    def once(messages: list[Any]) -> Any:
        request = {"messages": messages, **verdict.openai_chat()}

        def make(choice: Choice) -> Any:
            print(f"{choice.model} ({choice.tier}, {choice.reason}), saves {choice.estimated_saving or 0:.6f} USD")
            return client.chat.completions.create(model=choice.model, **request)

        return selector.call_sync(request, make)

    return verdict.ask_sync([{"role": "user", "content": question}], once)


print(ask("May the ferry enter?"))
print(ask("May a freighter of 12 metres draught enter two hours before low water, " + "with a list to port? " * 10))
client.close()
