"""An instrumented program as a user has one: real clients, agents, tools; it goes on until it is told otherwise.

``python -m stack.traffic`` runs it, a word on stdin commands it: ``work``, ``fail`` (work, and let every other plain call
fail), ``rest``. It ends with its stdin. An activity is one unit of work, done again and again in a thread of its own:
to have more of the catalogue emitted, add one to :data:`ACTIVITIES`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import anthropic
import openai

import seatrace
from seatrace.demo.agent import Clients, conversations, faults
from seatrace.demo.provider import Arrival, FakeProvider, Fault

PLAIN = "gpt-4o-mini"
LIMITED = "gpt-4o"
UNPRICED = "house-model"


@dataclass
class World:
    """What the activities share."""

    working: threading.Event = field(default_factory=threading.Event)
    failing: threading.Event = field(default_factory=threading.Event)
    ending: threading.Event = field(default_factory=threading.Event)
    provider: FakeProvider = field(init=False)
    client: openai.OpenAI = field(init=False)
    """Never tries again."""
    reports: Iterator[str] = field(init=False)
    _usual: Callable[[Arrival], Fault | None] = field(default_factory=lambda: faults(0))

    def fault(self, arrival: Arrival) -> Fault | None:
        """What goes wrong with a request."""
        if arrival.model == PLAIN:
            return Fault(500) if self.failing.is_set() and arrival.of_model % 2 else None
        if arrival.model == LIMITED:
            return Fault(429, retry_after=0.05) if arrival.of_model % 3 else None
        return self._usual(arrival)


def converse(world: World) -> None:
    """One question of the demo: agents, tools, streams, embeddings, retries; it costs money."""
    next(world.reports)


def call_plainly(world: World) -> None:
    """One model call without anything around it."""
    try:
        ask(world.client, PLAIN)
    except openai.APIStatusError:
        pass


def run_into_limits(world: World) -> None:
    """One call that the provider refuses twice; the client tries again."""
    ask(world.client.with_options(max_retries=3), LIMITED)


def use_an_unknown_model(world: World) -> None:
    """One call that nobody knows the price of."""
    ask(world.client, UNPRICED)


def count_tokens(world: World) -> None:
    """One call that is no inference."""
    with anthropic.Anthropic(
        base_url=world.provider.second_url,
        api_key="none",
        http_client=anthropic.DefaultHttpxClient(trust_env=False),
    ) as client:
        messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "How many?"}]
        client.messages.count_tokens(model="claude-haiku-4-5", messages=messages)


@seatrace.agent("gambler")
def gamble(world: World) -> None:
    """A run that costs something and fails."""
    ask(world.client, PLAIN)
    raise LookupError("the dice are gone")


def fail_a_run(world: World) -> None:
    """One run of an agent that fails."""
    try:
        with seatrace.session(tenant="harbour-office"):
            gamble(world)
    except (LookupError, openai.APIStatusError):
        pass


ACTIVITIES: tuple[Callable[[World], None], ...] = (
    converse,
    call_plainly,
    run_into_limits,
    use_an_unknown_model,
    count_tokens,
    fail_a_run,
)


def ask(client: openai.OpenAI, model: str) -> None:
    """One chat completion."""
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "What is the draught?"}])


def main() -> None:
    """Runs until stdin ends."""
    world = World()
    with FakeProvider(latency=0.01, schedule=world.fault) as provider:
        seatrace.instrument(
            service_name="traffic",
            providers={_address(provider.url): "openai", _address(provider.second_url): "anthropic"},
        )
        world.provider = provider
        http_client = openai.DefaultHttpxClient(trust_env=False)
        world.client = openai.OpenAI(
            base_url=f"{provider.url}/v1", api_key="none", max_retries=0, http_client=http_client
        )
        with world.client, Clients(provider.url, provider.second_url, lambda: None) as clients:
            world.reports = conversations(clients)
            threads = [threading.Thread(target=_repeat, args=(each, world), daemon=True) for each in ACTIVITIES]
            for thread in threads:
                thread.start()
            _obey(world)
            for thread in threads:
                thread.join(30)
        seatrace.shutdown(30)


def _obey(world: World) -> None:
    for line in sys.stdin:
        command = line.strip()
        for event, on in ((world.working, command != "rest"), (world.failing, command == "fail")):
            event.set() if on else event.clear()
        print(command, flush=True)
    world.ending.set()
    world.working.set()


def _repeat(activity: Callable[[World], None], world: World) -> None:
    while world.working.wait() and not world.ending.wait(0.05):
        activity(world)


def _address(url: str) -> str:
    return url.removeprefix("http://")


if __name__ == "__main__":
    main()
