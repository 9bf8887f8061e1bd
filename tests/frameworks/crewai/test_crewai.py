"""crewai's crews, flows and agents on their voyage (``frameworks/crew.py``)."""

# ruff: noqa: E501 (trees of spans are as wide as they are)

from __future__ import annotations

import asyncio
import functools
import json
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from frameworks.crew import ANSWER, CAPTAIN, MODEL, PILOT, PILOTED, QUESTION, captain, chart, radio, tide, totals, tree
from seatrace.demo.fake_model import Ask, Reply, ToolCall
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

os.environ.update(CREWAI_DISABLE_TELEMETRY="true", CREWAI_DISABLE_TRACKING="true", CREWAI_TRACING_ENABLED="false")
os.environ.update(CREWAI_TESTING="true")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from crewai import LLM, Agent, BaseLLM, Crew, Flow, Process, Task
    from crewai.flow.flow import listen, start
    from crewai.tools import BaseTool, tool

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # its own fields
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # clients and stores stay open
]

_meeting = threading.Barrier(2)


def together(function: Callable[..., Any]) -> Callable[..., Any]:
    """A tool that waits for the other one of its turn."""

    @functools.wraps(function)
    def meet(**given: Any) -> Any:
        _meeting.wait(10)
        return function(**given)

    return meet


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it stores, it stores here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path))


def model(provider: FakeProvider, **settings: Any) -> Any:
    return LLM(model=f"openai/{MODEL}", base_url=f"{provider.url}/v1", api_key="sk-test", **settings)


def agent(provider: FakeProvider, **settings: Any) -> Agent:
    helmsman = Agent(role="pilot", goal="Steer.", backstory=PILOT, llm=model(provider))

    def pilot(task: str) -> str:
        """Asks the pilot."""
        return str(helmsman.kickoff(task))

    tools = [tool(each.__name__)(each) for each in (together(tide), together(chart), radio, pilot)]
    settings = {"llm": model(provider), "tools": tools, **settings}
    return Agent(role="captain", goal="Command the ship.", backstory=CAPTAIN, **settings)


def crew(provider: FakeProvider, **settings: Any) -> Crew:
    commander = agent(provider)
    task = Task(description=QUESTION, expected_output="The state of the ship.", agent=commander)
    return Crew(name="voyage", agents=[commander], tasks=[task], **settings)


VOYAGE = snapshot("""\
invoke_workflow voyage agent.name='voyage' seatrace.run.model_calls=5 seatrace.run.steps=0 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
  invoke_agent captain agent.description='Command the ship.' agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=4 seatrace.run.unpriced_calls=5
    chat gpt-4o-mini
    execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
    execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
    chat gpt-4o-mini
    execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
    chat gpt-4o-mini
    execute_tool pilot agent.name='captain' tool.description='Asks the pilot.' tool.name='pilot' tool.type='function'
      invoke_agent pilot agent.description='Steer.' agent.name='pilot' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
        chat gpt-4o-mini
    chat gpt-4o-mini\
""")


def test_kickoff(provider: FakeProvider, captured: Captured) -> None:
    assert str(crew(provider).kickoff()) == ANSWER
    assert tree(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true
    assert all(span.attributes["gen_ai.tool.call.id"] for span in captured.spans if "execute_tool" in span.name)


async def test_kickoff_async(provider: FakeProvider, captured: Captured) -> None:
    assert str(await crew(provider).kickoff_async()) == ANSWER
    assert tree(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


async def test_akickoff(provider: FakeProvider, captured: Captured) -> None:
    assert str(await crew(provider).akickoff()) == ANSWER
    assert tree(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


def test_stream(provider: FakeProvider) -> None:
    bare = crew(provider, stream=True).kickoff()
    words = "".join(chunk.content for chunk in bare)
    with capture() as captured:
        stream = crew(provider, stream=True).kickoff()
        assert type(stream) is type(bare)
        assert "".join(chunk.content for chunk in stream) == words
        assert str(stream.result) == str(bare.result) == ANSWER
    assert tree(captured.spans) == VOYAGE


def test_kickoff_for_each(provider: FakeProvider, captured: Captured) -> None:
    crew = Crew(name="voyage", agents=[one := agent(provider, tools=[])], tasks=[_task(one, "Go to {port}.")])
    assert [str(each) for each in crew.kickoff_for_each([{"port": "Oslo"}, {"port": "Rome"}])] == [ANSWER] * 2
    assert tree(captured.spans) == snapshot("""\
invoke_workflow voyage agent.name='voyage' seatrace.run.model_calls=1 seatrace.run.steps=0 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
  invoke_agent captain agent.description='Command the ship.' agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
invoke_workflow voyage agent.name='voyage' seatrace.run.model_calls=1 seatrace.run.steps=0 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
  invoke_agent captain agent.description='Command the ship.' agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini\
""")
    said, true = totals(captured.spans, provider.served)
    assert said == true


async def test_two_crews_at_once_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    def voyage(name: str) -> Crew:
        one = agent(provider, tools=[tool("radio")(radio)])
        return Crew(name=name, agents=[one], tasks=[_task(one)])

    await asyncio.gather(voyage("east").kickoff_async(), voyage("west").akickoff())
    for name in ("east", "west"):
        (root,) = (span for span in captured.spans if span.name == f"invoke_workflow {name}")
        names = [span.name for span in captured.spans if span.context.trace_id == root.context.trace_id]
        assert sorted(names) == [f"chat {MODEL}"] * 2 + [
            "execute_tool radio",
            "invoke_agent captain",
            f"invoke_workflow {name}",
        ]


def _task(agent: Agent, asked: str = QUESTION, **settings: Any) -> Task:
    return Task(description=asked, expected_output="The state of the ship.", agent=agent, **settings)


def test_task_in_a_thread(provider: FakeProvider, captured: Captured) -> None:
    one = agent(provider, tools=[tool("radio")(radio)])
    assert str(Crew(name="voyage", agents=[one], tasks=[_task(one, async_execution=True)]).kickoff()) == ANSWER
    assert len({span.context.trace_id for span in captured.spans}) == 1


# --- delegation -------------------------------------------------------------------------------------------------------


def delegating(ask: Ask) -> Reply:
    """The captain does what he does, and then has the pilot do the rest."""
    said = "\n".join(piece.text for piece in ask.pieces)
    offered = [each.name for each in ask.tools]
    if CAPTAIN in said and "delegate_work_to_coworker" in offered and PILOTED not in said:
        given = {"task": "Find the way.", "context": "It is dark.", "coworker": "pilot"}
        return Reply("", (ToolCall("delegate_work_to_coworker", json.dumps(given)),), "tools", 10, 0)
    return captain(ask)


@pytest.fixture
def delegated() -> Iterator[FakeProvider]:
    with FakeProvider(model=delegating) as provider:
        yield provider


def test_delegation(delegated: FakeProvider, captured: Captured) -> None:
    one = agent(delegated, tools=[], allow_delegation=True)
    pilot = Agent(role="pilot", goal="Steer.", backstory=PILOT, llm=model(delegated))
    assert str(Crew(name="voyage", agents=[one, pilot], tasks=[_task(one)]).kickoff()) == ANSWER
    assert _names(captured) == snapshot("""\
invoke_workflow voyage
  invoke_agent captain
    chat
    execute_tool Delegate work to coworker
      invoke_agent pilot
        chat
    chat\
""")
    said, true = totals(captured.spans, delegated.served)
    assert said == true


def test_hierarchy(delegated: FakeProvider, captured: Captured) -> None:
    manager = agent(delegated, tools=[], allow_delegation=True)
    pilot = Agent(role="pilot", goal="Steer.", backstory=PILOT, llm=model(delegated))
    task = Task(description=QUESTION, expected_output="The state of the ship.")
    crew = Crew(name="voyage", agents=[pilot], tasks=[task], manager_agent=manager, process=Process.hierarchical)
    assert str(crew.kickoff()) == ANSWER
    assert _names(captured) == snapshot("""\
invoke_workflow voyage
  invoke_agent captain
    chat
    execute_tool Delegate work to coworker
      invoke_agent pilot
        chat
    chat\
""")


def _names(captured: Captured) -> str:
    return "\n".join(line.split("=")[0].rpartition(" ")[0] or line for line in tree(captured.spans).split("\n"))


# --- agents and flows -------------------------------------------------------------------------------------------------


def test_agent_alone(provider: FakeProvider, captured: Captured) -> None:
    assert agent(provider).kickoff(QUESTION).raw == ANSWER
    assert [span.name for span in captured.spans][-1] == "invoke_agent captain"
    said, true = totals(captured.spans, provider.served)
    assert said == true


async def test_agent_alone_async(provider: FakeProvider, captured: Captured) -> None:
    assert (await agent(provider, tools=[]).kickoff_async(QUESTION)).raw == ANSWER
    again = agent(provider, tools=[]).kickoff(QUESTION)  # in a loop that is a coroutine
    assert asyncio.iscoroutine(again)
    assert (await again).raw == ANSWER
    assert (await agent(provider, tools=[]).akickoff(QUESTION)).raw == ANSWER
    assert [span.name for span in captured.spans] == [f"chat {MODEL}", "invoke_agent captain"] * 3


def test_agent_that_fails(captured: Captured) -> None:
    class Overboard(Sailor):  # made while its base is observed
        def call(self, *args: Any, **kwargs: Any) -> Any:
            raise ConnectionError("no signal")

    with pytest.raises(ConnectionError, match="no signal"):
        Crew(
            name="voyage",
            agents=[
                one := Agent(
                    role="captain", goal="x", backstory="x", llm=Overboard(model="sailor-1"), max_retry_limit=0
                )
            ],
            tasks=[_task(one)],
        ).kickoff()
    assert {(span.name, span.attributes["error.type"]) for span in captured.spans} == {
        ("chat sailor-1", "ConnectionError"),
        ("invoke_agent captain", "ConnectionError"),
        ("invoke_workflow voyage", "ConnectionError"),
    }


def test_flow(provider: FakeProvider, captured: Captured) -> None:
    class Passage(Flow):
        _skip_auto_memory = True  # which would load a database

        @start()
        def leave(self) -> str:
            return str(crew_of(agent(provider, tools=[])).kickoff())

        @listen(leave)
        def arrive(self, said: str) -> str:
            return said

    def crew_of(one: Agent) -> Crew:
        return Crew(name="voyage", agents=[one], tasks=[_task(one)])

    assert Passage().kickoff() == ANSWER
    assert _names(captured) == snapshot("""\
invoke_workflow Passage
  invoke_workflow voyage
    invoke_agent captain
      chat\
""")
    said, true = totals(captured.spans, provider.served)
    assert said == true


# --- tools ------------------------------------------------------------------------------------------------------------


class Log(BaseTool):
    name: str = "log"
    description: str = "Reads the log."

    def _run(self, page: str) -> str:
        return f"wet on {page}"


def test_tools_called_by_hand(captured: Captured) -> None:
    log = Log()
    assert log.run(page="one") == log.to_structured_tool().invoke({"page": "one"}) == "wet on one"
    assert tool("tide")(tide).run(port="Oslo") == tide("Oslo")
    assert _names(captured) == "execute_tool log\nexecute_tool log\nexecute_tool tide"
    assert {span.attributes["gen_ai.tool.description"] for span in captured.spans if "log" in span.name} == {
        "Reads the log."
    }


async def test_tool_in_an_executor_is_within_its_step(captured: Captured) -> None:
    class Nested(Log):
        def _run(self, page: str) -> str:
            return str(tool("tide")(tide).run(port=page))

    assert await Nested().to_structured_tool().ainvoke({"page": "Oslo"}) == tide("Oslo")
    assert tree(captured.spans).split("\n")[1].startswith("  execute_tool tide")


def texting(ask: Ask) -> Reply:
    """A model that calls tools in words."""
    said = "\n".join(piece.text for piece in ask.pieces)
    words = f"Thought: I know.\nFinal Answer: {ANSWER}"
    if "Observation: " not in said.rpartition("Begin!")[2] and "no signal" not in said:
        words = 'Thought: Ask.\nAction: radio\nAction Input: {"channel": 16}'
    return Reply(words, (), "stop", 1, 0)


def test_tool_errors_in_words(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeProvider(model=texting) as provider:
        llm = model(provider)
        monkeypatch.setattr(type(llm), "supports_function_calling", lambda self: False)
        one = agent(provider, llm=llm, tools=[tool("radio")(radio)])
        assert str(Crew(name="voyage", agents=[one], tasks=[_task(one)]).kickoff()) == ANSWER
    errors = [span.attributes.get("error.type") for span in captured.spans if span.name == "execute_tool radio"]
    assert set(errors) == {"ConnectionError"}


def test_cached_result_is_no_execution(captured: Captured) -> None:
    def twice(ask: Ask) -> Reply:
        asked = sum(piece.text.count("log(") for piece in ask.pieces)
        call = ToolCall("log", json.dumps({"page": "one"}))
        return Reply("", (call,), "tools", 1, 0) if asked < 2 else Reply(ANSWER, (), "stop", 1, 0)

    with FakeProvider(model=twice) as provider:
        one = agent(provider, tools=[Log()])
        assert str(Crew(name="voyage", agents=[one], tasks=[_task(one)], cache=True).kickoff()) == ANSWER
    assert [span.name for span in captured.spans].count("execute_tool log") == 1


def test_content(provider: FakeProvider) -> None:
    with capture(capture_content=True) as captured:
        crew(provider).kickoff(inputs={"port": "Oslo"})
    spans = {span.name: span.attributes for span in captured.spans}
    assert spans["execute_tool tide"]["gen_ai.tool.call.result"].startswith("high at noon")
    assert "port" in json.loads(spans["execute_tool tide"]["gen_ai.tool.call.arguments"])
    assert QUESTION in spans["invoke_agent captain"]["gen_ai.input.messages"]
    assert ANSWER in spans["invoke_agent captain"]["gen_ai.output.messages"]
    assert "Oslo" in spans["invoke_workflow voyage"]["gen_ai.input.messages"]


def test_no_content(provider: FakeProvider, captured: Captured) -> None:
    crew(provider).kickoff(inputs={"port": "Oslo"})
    told = " ".join(str(value) for span in captured.spans for value in span.attributes.values())
    assert not any(word in told for word in ("noon", "chart 7", QUESTION, ANSWER, PILOTED, "Oslo"))


# --- models -----------------------------------------------------------------------------------------------------------


class Sailor(BaseLLM):
    """A model that no client serves."""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        self._track_token_usage_internal({"prompt_tokens": 5, "completion_tokens": 4})
        return ANSWER

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


async def test_model_without_a_client(captured: Captured) -> None:
    sailor = Sailor(model="sailor-1", provider="sea")
    for _ in range(2):
        assert sailor.call("Ahoy") == await sailor.acall("Ahoy") == ANSWER
    assert [span.name for span in captured.spans] == ["chat sailor-1"] * 4
    counts = [(call.usage.input_tokens, call.usage.output_tokens, call.provider) for call in captured.calls]
    assert counts == [(5, 4, "sea")] * 4


# --- plans ------------------------------------------------------------------------------------------------------------


class Planner(Sailor):
    """Plans for a crew, and for an agent, each in the form that is asked for."""

    def supports_function_calling(self) -> bool:
        return False

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        said = str(messages)
        if "READY" in said:
            return "1. Look at the chart.\n\nREADY: I am ready to execute the task."
        if "Task Execution Planner" not in said:
            return super().call(messages)
        plan = {"task_number": 1, "task": "sail", "plan": "Look at the chart."}
        return json.dumps({"list_of_plans_per_task": [plan]})


def _family(captured: Captured) -> list[tuple[str, str | None]]:
    names = {span.context.span_id: span.name for span in captured.spans}
    return [(span.name, names[span.parent.span_id] if span.parent else None) for span in captured.spans]


def test_plan_of_a_crew() -> None:
    sailor, planner = Sailor(model="sailor-1"), Planner(model="planner-1")
    one = Agent(role="captain", goal="Command the ship.", backstory="At sea.", llm=sailor)
    crew = Crew(name="voyage", agents=[one], tasks=[_task(one, "Sail.")], planning=True, planning_llm=planner)
    with capture(capture_content=True) as captured:
        assert str(crew.kickoff()) == ANSWER
    (plan,) = [span for span in captured.spans if span.name == "plan"]
    assert plan.kind.name == "INTERNAL"
    assert "Look at the chart." in plan.attributes["gen_ai.output.messages"]
    assert _family(captured) == snapshot(
        [
            ("chat planner-1", "invoke_agent Task Execution Planner"),
            ("invoke_agent Task Execution Planner", "plan"),
            ("plan", "invoke_workflow voyage"),
            ("chat sailor-1", "invoke_agent captain"),
            ("invoke_agent captain", "invoke_workflow voyage"),
            ("invoke_workflow voyage", None),
        ]
    )


def test_plan_of_an_agent() -> None:
    one = Agent(role="captain", goal="Command the ship.", backstory=CAPTAIN, llm=Planner(model="planner-1"))
    with capture(capture_content=True) as captured:
        from crewai.utilities.reasoning_handler import AgentReasoning  # as crewai does, when an agent begins to plan

        output = AgentReasoning(task=_task(one, "Sail."), agent=one).handle_agent_reasoning()
    assert "Look at the chart." in output.plan.plan
    plan = captured.spans[-1]
    assert (plan.name, plan.kind.name) == ("plan captain", "INTERNAL")
    assert "Look at the chart." in plan.attributes["gen_ai.output.messages"]
    assert set(_family(captured)) == {("chat planner-1", "plan captain"), ("plan captain", None)}


def test_uninstrument_restores() -> None:
    from crewai.flow.runtime import Flow as Runtime
    from crewai.tools.base_tool import Tool
    from crewai.tools.structured_tool import CrewStructuredTool

    owners = [
        Agent,
        Crew,
        Runtime,
        BaseTool,
        Tool,
        CrewStructuredTool,
        BaseLLM,
        Sailor,
        type(LLM(model="openai/gpt-4o", api_key="x")),
    ]
    names = [
        "kickoff",
        "kickoff_async",
        "akickoff",
        "execute_task",
        "run",
        "arun",
        "invoke",
        "ainvoke",
        "call",
        "acall",
        "__init_subclass__",
    ]
    before = [[vars(owner).get(name) for name in names] for owner in owners]
    with capture():
        assert [[vars(owner).get(name) for name in names] for owner in owners] != before
    assert [[vars(owner).get(name) for name in names] for owner in owners] == before
