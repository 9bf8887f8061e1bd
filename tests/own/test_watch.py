"""Home-made agents as people write them, observed by ``seatrace.watch``."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import types
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

import seatrace
from seatrace.own import objects
from seatrace.testing import Captured, capture


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


def add(left: int, right: int) -> int:
    """Adds."""
    return left + right


class Search:
    name = "search"
    description = "Searches."

    def execute(self, query: str) -> str:
        return self.look_up(query)

    def look_up(self, query: str) -> str:
        return query.upper()


class Fetch:
    """Methods that call each other."""

    def run(self, url: str) -> str:
        return asyncio.run(self.arun(url))

    async def arun(self, url: str) -> str:
        return url


@dataclass
class Wrapped:
    name: str
    fn: Callable[..., Any]


class Callme:
    def __call__(self, word: str) -> str:
        return word


class Agent:
    """With every method; some call others."""

    kept: ClassVar[int] = 0

    def __init__(self, name: str = "helper", tools: Any = None) -> None:
        self.name = name
        self.tools = tools if tools is not None else []

    def run(self, question: str) -> str:
        return "".join(self.stream(question))

    def stream(self, question: str) -> Iterator[str]:
        for tool in self.tools.values() if isinstance(self.tools, dict) else self.tools:
            del tool
        yield question
        yield "!"

    async def arun(self, question: str) -> str:
        return "".join([word async for word in self.astream(question)])

    async def astream(self, question: str) -> AsyncIterator[str]:
        yield question
        await asyncio.sleep(0)
        yield "!"


def names(captured: Captured) -> list[str]:
    return [span.name for span in captured.spans]


def test_all_ways_to_run_are_one_run_each(captured: Captured) -> None:
    agent = Agent()
    assert seatrace.watch(agent) is agent
    assert agent.run("a") == "a!"
    assert list(agent.stream("a")) == ["a", "!"]
    assert asyncio.run(agent.arun("a")) == "a!"

    async def main() -> list[str]:
        return [word async for word in agent.astream("a")]

    assert asyncio.run(main()) == ["a", "!"]
    assert names(captured) == ["invoke_agent helper"] * 4


def test_only_what_is_watched_is_observed(captured: Captured) -> None:
    class Mine(Agent):
        pass

    watched, other = Mine("watched"), Mine("other")
    seatrace.watch(watched)
    other.run("a")
    Agent("another").run("a")
    watched.run("a")
    assert names(captured) == ["invoke_agent watched"]


def test_the_object_stays_what_it_is(captured: Captured) -> None:
    agent = Agent(tools=[])
    fields, plain = dict(vars(agent)), Agent.__dict__["run"]
    seatrace.watch(agent)
    seatrace.watch(agent)
    assert type(agent) is Agent
    assert vars(agent) == fields
    assert inspect.ismethod(agent.run)
    assert agent.run.__self__ is agent
    assert str(inspect.signature(agent.run)) == "(question: 'str') -> 'str'"
    assert inspect.isasyncgenfunction(agent.astream)
    assert inspect.iscoroutinefunction(agent.arun)
    assert getattr(plain, "__wrapped__", plain) is inspect.unwrap(Agent.run)
    for again in (copy.copy(agent), copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        again.name = "copy"
        assert again.run.__self__ is again
        again.run("a")
    assert names(captured) == []
    agent.run("a")
    assert names(captured) == ["invoke_agent helper"]


def test_recursion_is_runs_of_its_own_and_super_is_not(captured: Captured) -> None:
    class Base:
        def run(self, depth: int) -> int:
            return depth

    class Derived(Base):
        def run(self, depth: int) -> int:
            return self.run(depth - 1) if depth else super().run(depth)

    seatrace.watch(Base(), name="base").run(1)
    seatrace.watch(Derived(), name="derived").run(2)
    assert names(captured) == ["invoke_agent base", *["invoke_agent derived"] * 3]


def test_a_run_through_a_tool_is_a_run_of_its_own(captured: Captured) -> None:
    class Nested:
        tools: list[Any]

        def run(self) -> list[str]:
            return self.tools[0]()

        def stream(self) -> Iterator[str]:
            yield "x"

    agent = Nested()
    agent.tools = [lambda: list(agent.stream())]
    seatrace.watch(agent).run()
    assert names(captured) == ["invoke_agent Nested", "execute_tool <lambda>", "invoke_agent Nested"]


@pytest.mark.parametrize("container", [list, tuple])
def test_tools_of_every_form(captured: Captured, container: type) -> None:
    wrapped = Wrapped("wrapped", lambda: 1)
    tools = [add, functools.partial(add, 1), Search(), Fetch(), wrapped, Callme(), {"name": "spec", "function": add}]
    identities = [id(tool) for tool in tools[2:]]
    agent = seatrace.watch(Agent(tools=container(tools)))
    made: Any = agent.tools
    assert type(made) is container
    assert [id(tool) for tool in made[2:]] == identities
    assert made[0] == add
    assert made[0](1, 2) == 3
    assert made[1](2) == 3
    assert made[2].execute("q") == "Q"
    assert made[3].run("u") == "u"
    assert made[4].fn() == 1
    assert made[5]("w") == "w"
    assert made[6]["function"](2, 2) == 4
    seatrace.watch(agent)
    assert names(captured) == [
        "execute_tool add",
        "execute_tool add",
        "execute_tool search",
        "execute_tool Fetch",
        "execute_tool wrapped",
        "execute_tool Callme",
        "execute_tool spec",
    ]
    assert (captured.spans[2].attributes or {})["gen_ai.tool.description"] == "Searches."
    assert add(1, 1) == 2
    assert len(captured.spans) == 7


def test_tools_in_a_mapping_have_its_keys_for_names(captured: Captured) -> None:
    specification = {"type": "function", "function": {"name": "add"}}
    agent = seatrace.watch(Agent(tools={"plus": add, "find": Search(), "spec": specification, "text": "no tool"}))
    assert agent.tools["plus"](1, 2) == 3
    assert agent.tools["find"].execute("q") == "Q"
    assert agent.tools["spec"] is specification
    assert names(captured) == ["execute_tool plus", "execute_tool find"]


def test_observed_tools_pickle(captured: Captured) -> None:
    agent = seatrace.watch(Agent(tools=[add]))
    again = pickle.loads(pickle.dumps(agent))
    assert again.tools[0](1, 2) == 3
    assert names(captured) == ["execute_tool add"]


def test_calls_nest_under_the_run(captured: Captured) -> None:
    @dataclass
    class Runner:
        tools: dict[str, Any] = field(default_factory=lambda: {"add": add})

        def run(self) -> int:
            return int(self.tools["add"](1, 2))

    assert seatrace.watch(Runner(), name="runner").run() == 3
    tool, run = captured.spans
    assert tool.parent is not None
    assert run.context is not None
    assert tool.parent.span_id == run.context.span_id
    assert (tool.attributes or {})["gen_ai.agent.name"] == "runner"
    assert captured.total("gen_ai.invoke_agent.tool_calls", gen_ai_agent_name="runner") == 1


def test_methods_of_every_kind(captured: Captured) -> None:
    class Odd:
        @staticmethod
        def run(word: str) -> str:
            return word

        @classmethod
        def stream(cls, word: str) -> Iterator[str]:
            yield word

    class Plain:
        pass

    plain: Any = Plain()
    plain.run = add
    module: Any = types.SimpleNamespace(run=add, name="space")
    odd = seatrace.watch(Odd())
    assert odd.run("a") == "a"
    assert list(odd.stream("a")) == ["a"]
    assert seatrace.watch(plain).run(1, 2) == 3
    assert seatrace.watch(module).run(1, 2) == 3
    assert seatrace.watch(Callme(), name="callable")("x") == "x"
    assert names(captured) == [
        "invoke_agent Odd",
        "invoke_agent Odd",
        "invoke_agent Plain",
        "invoke_agent space",
        "invoke_agent callable",
    ]


def test_an_agent_whose_methods_are_decorated_already_is_left_alone(captured: Captured) -> None:
    class Decorated:
        @seatrace.agent("mine")
        def run(self) -> int:
            return 1

    assert seatrace.watch(Decorated(), name="other").run() == 1
    assert names(captured) == ["invoke_agent mine"]


def test_slots_are_no_obstacle(captured: Captured) -> None:
    class Slots:
        __slots__ = ()

        def run(self) -> int:
            return 1

    agent = Slots()
    assert seatrace.watch(agent).run() == 1
    assert names(captured) == ["invoke_agent Slots"]


def test_what_cannot_be_replaced_is_told() -> None:
    @dataclass(frozen=True)
    class Frozen:
        fn: Callable[..., Any]

    with pytest.raises(TypeError, match="expected to be able to replace 'fn' of Frozen"):
        seatrace.watch(Agent(tools=[Frozen(add)]))


def test_watching_leaks_nothing() -> None:
    before = len(objects._known)
    for _ in range(50):
        seatrace.watch(Agent(tools=[Search()]))
    gc.collect()
    assert len(objects._known) == before


def test_an_error_in_a_run_is_the_same_object(captured: Captured) -> None:
    error = ValueError("no")

    class Failing:
        def run(self) -> None:
            raise error

    with pytest.raises(ValueError) as raised:
        seatrace.watch(Failing()).run()
    assert raised.value is error
    [span] = captured.spans
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert captured.points("gen_ai.invoke_agent.duration")[0].attributes["error.type"] == "ValueError"
