"""An instrumented program as a user has one: real clients, agents, tools; it goes on until it is told otherwise.

``python -m stack.traffic`` runs it and says where its own metrics are; a word on stdin commands it: ``work``, ``fail``
(work, and let some plain calls fail), ``rest``. It ends with its stdin, and says what it was served. An activity is one
unit of work, done again and again in a thread of its own: to have more of the catalogue emitted, add one to
:data:`ACTIVITIES`.
"""

from __future__ import annotations

import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import anthropic
import openai

import seatrace
from seatrace.demo.agent import WRITER, Clients, conversations, faults
from seatrace.demo.provider import Arrival, FakeProvider, Fault

from . import patterns

PLAIN = "gpt-4o-mini"
LIMITED = "gpt-4o"


@dataclass
class World:
    """What the activities share."""

    working: threading.Event = field(default_factory=threading.Event)
    failing: threading.Event = field(default_factory=threading.Event)
    ending: threading.Event = field(default_factory=threading.Event)
    provider: FakeProvider = field(init=False)
    client: openai.OpenAI = field(init=False)
    """Never tries again."""
    house: openai.OpenAI = field(init=False)
    reports: Iterator[str] = field(init=False)
    _usual: Callable[[Arrival], Fault | None] = field(default_factory=lambda: faults(0))

    def fault(self, arrival: Arrival) -> Fault | None:
        """What goes wrong with a request."""
        if arrival.model == PLAIN:
            unlucky = Random(arrival.number).random() < 0.3
            return Fault(500) if unlucky and self.failing.is_set() else None
        if arrival.model == LIMITED:
            return Fault(429, retry_after=0.05) if arrival.of_model % 3 == 1 else None
        return self._usual(arrival)


def converse(world: World) -> None:
    """One question of the demo: agents, tools, streams, embeddings, retries; it costs money."""
    next(world.reports)


def call_plainly(world: World) -> None:
    """One model call without anything around it."""
    ask(world.client, PLAIN)


def run_into_limits(world: World) -> None:
    """Two calls of which one may be refused for good; the other gets through, if need be when it is tried again."""
    ask(world.client, LIMITED)
    ask(world.client.with_options(max_retries=2), LIMITED)


def lose_patience(world: World) -> None:
    """One call that takes longer than the program waits; not often, or the provider would count as down."""
    world.ending.wait(0.5)
    ask(world.client.with_options(timeout=0.001), PLAIN)


def ask_the_house(world: World) -> None:
    """One call to a provider of one's own, whose prices nobody knows."""
    ask(world.house, PLAIN)


def write_to_the_prompt_cache(world: World) -> None:
    """One call with a long text that the provider has not seen before."""
    with _anthropic_client(world) as client:
        text = f"{uuid.uuid4()} " + "Give heights in metres above chart datum. " * 400
        client.messages.create(
            model=WRITER,
            max_tokens=64,
            system=[{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}],
            messages=[{"role": "user", "content": "Which datum?"}],
        )


def count_tokens(world: World) -> None:
    """One call that is no inference."""
    with _anthropic_client(world) as client:
        messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "How many?"}]
        client.messages.count_tokens(model="claude-haiku-4-5", messages=messages)


@seatrace.agent("gambler")
def gamble(world: World) -> None:
    """A run that costs something and fails."""
    ask(world.client, PLAIN)
    raise LookupError("the dice are gone")


def fail_a_run(world: World) -> None:
    """One run of an agent that fails."""
    with suppress(LookupError), seatrace.session(tenant="harbour-office"):
        gamble(world)


ACTIVITIES: tuple[Callable[[World], None], ...] = (
    converse,
    call_plainly,
    run_into_limits,
    lose_patience,
    ask_the_house,
    write_to_the_prompt_cache,
    count_tokens,
    fail_a_run,
    *patterns.PATTERNS,
)


def ask(client: openai.OpenAI, model: str) -> None:
    """One chat completion; that it fails is a part of the play."""
    with suppress(openai.APIError):
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "What is the draught?"}])


def main() -> None:
    """Runs until stdin ends."""
    world = World()
    with FakeProvider(latency=0.01, schedule=world.fault) as world.provider:
        urls = (world.provider.url, world.provider.second_url, world.provider.url.replace("127.0.0.1", "localhost"))
        seatrace.instrument(
            service_name="traffic",
            providers=dict(
                zip((url.removeprefix("http://") for url in urls), ("openai", "anthropic", "house"), strict=True)
            ),
        )
        patterns.begin()
        _say(seatrace.serve_metrics(port=0).url)
        world.client, world.house = _client(urls[0]), _client(urls[2])
        with world.client, world.house, Clients(urls[0], urls[1], lambda: None) as clients:
            world.reports = conversations(clients)
            threads = [threading.Thread(target=_repeat, args=(each, world), daemon=True) for each in ACTIVITIES]
            for thread in threads:
                thread.start()
            _obey(world)
            for thread in threads:
                thread.join(30)
        seatrace.shutdown(30)
        _say(json.dumps(_served(world.provider)))


def _served(provider: FakeProvider) -> dict[str, dict[str, int]]:
    """The tokens of answers by model, as they went over the wire; without a model whose answers are not waited for."""
    found: dict[str, dict[str, int]] = {}
    for each in provider.served:
        if each.output_tokens and each.model != PLAIN:
            tokens = found.setdefault(each.model, {"input": 0, "output": 0})
            tokens["input"] += each.input_tokens or 0
            tokens["output"] += each.output_tokens
    return found


def _client(url: str) -> openai.OpenAI:
    transport = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=transport)


def _obey(world: World) -> None:
    for line in sys.stdin:
        command = line.strip()
        for event, on in ((world.working, command != "rest"), (world.failing, command == "fail")):
            event.set() if on else event.clear()
        _say(command)
    world.ending.set()
    world.working.set()


def _anthropic_client(world: World) -> anthropic.Anthropic:
    transport = anthropic.DefaultHttpxClient(trust_env=False)
    return anthropic.Anthropic(base_url=world.provider.second_url, api_key="none", http_client=transport)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _repeat(activity: Callable[[World], None], world: World) -> None:
    while world.working.wait() and not world.ending.wait(0.05):
        with suppress(anthropic.APIError, openai.APIError):
            activity(world)


if __name__ == "__main__":
    main()
