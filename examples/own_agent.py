"""An agent of one's own: a loop, two tools, and what the whole run took.

    OPENAI_API_KEY=... python examples/own_agent.py

The trace: invoke_agent harbour-pilot, with a chat span for each turn and an execute_tool span for each tool below it.
"""

import json

import openai

import seatrace

seatrace.instrument(service_name="own-agent")


def high_water(place: str) -> str:
    """The next high water of a place."""
    return f"{place}: 14:20, 4.3 m"


def draught(ship: str) -> str:
    """How deep a ship lies in the water."""
    return f"{ship}: 11 m"


class Pilot:
    """Nothing in here knows of seatrace."""

    name = "harbour-pilot"

    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client
        self.tools = {"high_water": high_water, "draught": draught}

    def run(self, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        while True:
            reply = self.client.chat.completions.create(
                model="gpt-5-mini", messages=messages, tools=[described(name) for name in self.tools]
            )
            message = reply.choices[0].message
            if not message.tool_calls:
                return message.content or ""
            messages.append({"role": "assistant", "tool_calls": [call.model_dump() for call in message.tool_calls]})
            for call in message.tool_calls:
                result = self.tools[call.function.name](**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def described(name: str) -> dict:
    parameter = {"high_water": "place", "draught": "ship"}[name]
    properties = {parameter: {"type": "string", "examples": ["inner harbour", "Albatros"]}}
    parameters = {"type": "object", "properties": properties, "required": [parameter]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def told(call: seatrace.Call) -> None:
    if call.kind == "agent":
        run = call.run
        print(f"{call.name}: {run.model_calls} model calls, {run.tool_calls} tool calls, {run.cost} USD")


seatrace.on_call(told)

pilot = seatrace.watch(Pilot(openai.OpenAI()))  # the same object; its run() and its tools are observed
print(pilot.run("May the Albatros enter the inner harbour this afternoon?"))
