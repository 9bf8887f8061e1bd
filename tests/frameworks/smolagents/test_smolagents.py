# ruff: noqa: E501, RUF012 (a span is a line; smolagents' way to describe a tool)
"""smolagents' agents on their voyage (``frameworks/crew.py``)."""

from __future__ import annotations

import copy
import json
import pickle
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import GeneratorType
from typing import Any

import pytest
from inline_snapshot import snapshot
from smolagents import ChatMessage, CodeAgent, LogLevel, Model, OpenAIServerModel, Tool, ToolCallingAgent
from smolagents.models import ChatMessageStreamDelta
from smolagents.monitoring import TokenUsage

from frameworks import crew
from frameworks.crew import ANSWER, CAPTAIN, MODEL, PILOT, PILOTED, QUESTION, totals, tree, turns
from seatrace.demo.fake_model import Ask, Reply, ToolCall
from seatrace.demo.provider import FakeProvider
from seatrace.testing import Captured, capture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:smolagents")


class Tide(Tool):
    name = "tide"
    description = "Says when high water is."
    inputs = {"port": {"type": "string", "description": "Where."}}
    output_type = "string"

    def forward(self, port: str) -> str:
        return crew.tide(port)


class Chart(Tool):
    name = "chart"
    description = "Finds the chart of a port."
    inputs = {"port": {"type": "string", "description": "Where."}}
    output_type = "string"

    def forward(self, port: str) -> str:
        return crew.chart(port)


class Radio(Tool):
    name = "radio"
    description = "Calls the harbour master."
    inputs = {"channel": {"type": "integer", "description": "On which channel."}}
    output_type = "string"

    def forward(self, channel: int) -> str:
        return crew.radio(channel)


def sailor(ask: Ask) -> Reply:
    """The captain, in smolagents' way: its history is text, and an answer is a tool call, or code that calls one."""
    said = "\n".join(piece.text for piece in ask.pieces)
    offered = {tool.name for tool in ask.tools}
    if not offered:
        code = 'print(tide(port="Kiel"))' if "high at noon" not in said else f"final_answer({ANSWER!r})"
        return Reply(f"Thought: so be it.\n<code>\n{code}\n</code>", (), "stop", 12, 0)
    wanted: dict[str, Any] = {"final_answer": {"answer": PILOTED if CAPTAIN not in said else ANSWER}}
    if CAPTAIN in said:
        turns = ({"tide": {"port": "Kiel"}, "chart": {"port": "Kiel"}}, {"radio": {"channel": 16}})
        turns += ({"pilot": {"task": "Find the way."}},)
        wanted = next(
            (
                turn
                for turn in turns
                if not any(f"{word} '{name}'" in said for name in turn for word in ("'name':", "tool"))
            ),
            wanted,
        )
    calls = [ToolCall(name, json.dumps(arguments)) for name, arguments in wanted.items()]
    return Reply("", calls, "tools", 10 * len(calls), 0)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(model=sailor) as provider:
        yield provider


_alive: list[OpenAIServerModel] = []
"""The models: nobody closes the connections of one that is dropped."""


def model(provider: FakeProvider) -> OpenAIServerModel:
    _alive.append(OpenAIServerModel(MODEL, api_base=f"{provider.url}/v1", api_key="sk-test"))
    return _alive[-1]


def captain(provider: FakeProvider, **settings: Any) -> ToolCallingAgent:
    pilot = ToolCallingAgent(
        [],
        model(provider),
        name="pilot",
        description="Knows the way.",
        instructions=PILOT,
        verbosity_level=LogLevel.OFF,
    )
    return ToolCallingAgent(
        [Tide(), Chart(), Radio()],
        model(provider),
        managed_agents=[pilot],
        name="captain",
        instructions=CAPTAIN,
        verbosity_level=LogLevel.OFF,
        **settings,
    )


VOYAGE = snapshot("""\
invoke_agent captain agent.name='captain' response.finish_reasons=('tool_call',) seatrace.run.model_calls=5 seatrace.run.steps=4 seatrace.run.tool_calls=5 seatrace.run.unpriced_calls=5
  chat gpt-4o-mini
  execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  execute_tool chart agent.name='captain' tool.description='Finds the chart of a port.' tool.name='chart' tool.type='function'
  chat gpt-4o-mini
  execute_tool radio ERROR error.type='ConnectionError' agent.name='captain' tool.description='Calls the harbour master.' tool.name='radio' tool.type='function'
  chat gpt-4o-mini
  invoke_agent pilot agent.description='Knows the way.' agent.name='pilot' response.finish_reasons=('tool_call',) seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=1 seatrace.run.unpriced_calls=1
    chat gpt-4o-mini
    execute_tool final_answer agent.name='pilot' tool.description='Provides a final answer to the given problem.' tool.name='final_answer' tool.type='function'
  chat gpt-4o-mini
  execute_tool final_answer agent.name='captain' tool.description='Provides a final answer to the given problem.' tool.name='final_answer' tool.type='function'\
""")


def test_run(provider: FakeProvider, captured: Captured) -> None:
    assert captain(provider).run(QUESTION) == ANSWER
    assert turns(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


def test_steps_as_a_stream(provider: FakeProvider, captured: Captured) -> None:
    stream = captain(provider).run(QUESTION, stream=True)
    assert type(stream) is GeneratorType
    assert list(stream)[-1].output == ANSWER
    assert turns(captured.spans) == VOYAGE


def test_streamed_model(provider: FakeProvider, captured: Captured) -> None:
    deltas = list(captain(provider, stream_outputs=True).run(QUESTION, stream=True))
    assert any(isinstance(each, ChatMessageStreamDelta) for each in deltas)
    assert turns(captured.spans) == VOYAGE
    said, true = totals(captured.spans, provider.served)
    assert said == true


# --- agents that write code -------------------------------------------------------------------------------------------


def test_code(provider: FakeProvider, captured: Captured) -> None:
    agent = CodeAgent([Tide()], model(provider), name="captain", verbosity_level=LogLevel.OFF)
    assert agent.run(QUESTION) == ANSWER
    assert tree(captured.spans) == snapshot("""\
invoke_agent captain agent.name='captain' response.finish_reasons=('stop',) seatrace.run.model_calls=2 seatrace.run.steps=2 seatrace.run.tool_calls=2 seatrace.run.unpriced_calls=2
  chat gpt-4o-mini
  execute_tool tide agent.name='captain' tool.description='Says when high water is.' tool.name='tide' tool.type='function'
  chat gpt-4o-mini
  execute_tool final_answer agent.name='captain' tool.description='Provides a final answer to the given problem.' tool.name='final_answer' tool.type='function'\
""")
    said, true = totals(captured.spans, provider.served)
    assert said == true


# --- models that no observed client calls -----------------------------------------------------------------------------


class Parrot(Model):
    """A model of the program's own."""

    def generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatMessage:
        said = 'Thought: aye.\n<code>\nfinal_answer("aye")\n</code>'
        return ChatMessage("assistant", said, token_usage=TokenUsage(7, 3))

    def generate_stream(self, messages: Any, *args: Any, **kwargs: Any) -> Iterator[ChatMessageStreamDelta]:
        for word in ("Thought: aye.\n<code>", '\nfinal_answer("aye")\n</code>'):
            yield ChatMessageStreamDelta(word)
        yield ChatMessageStreamDelta("", token_usage=TokenUsage(7, 3))


@pytest.mark.parametrize("stream_outputs", [False, True])
def test_own_model(captured: Captured, stream_outputs: bool) -> None:
    agent = CodeAgent([], Parrot(model_id="parrot-1"), stream_outputs=stream_outputs, verbosity_level=LogLevel.OFF)
    assert agent.run(QUESTION) == "aye"
    (chat,) = [call for call in captured.calls if call.kind == "inference"]
    assert chat.usage is not None
    assert (chat.usage.input_tokens, chat.usage.output_tokens, chat.stream) == (7, 3, stream_outputs)
    assert tree(captured.spans) == snapshot("""\
invoke_agent seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=1 seatrace.run.unpriced_calls=1
  chat parrot-1
  execute_tool final_answer tool.description='Provides a final answer to the given problem.' tool.name='final_answer' tool.type='function'\
""")


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream_outputs", [False, True])
def test_plan(stream_outputs: bool) -> None:
    with capture(capture_content=True) as got:
        agent = CodeAgent(
            [],
            Parrot(model_id="parrot-1"),
            name="captain",
            planning_interval=3,
            stream_outputs=stream_outputs,
            verbosity_level=LogLevel.OFF,
        )
        assert agent.run(QUESTION) == "aye"
    names = {span.context.span_id: span.name for span in got.spans}
    family = [(span.name, names.get(span.parent.span_id) if span.parent else None) for span in got.spans]
    assert family == snapshot(
        [
            ("chat parrot-1", "plan captain"),
            ("plan captain", "invoke_agent captain"),
            ("chat parrot-1", "invoke_agent captain"),
            ("execute_tool final_answer", "invoke_agent captain"),
            ("invoke_agent captain", None),
        ]
    )
    (plan,) = [span for span in got.spans if span.name.startswith("plan")]
    assert plan.kind.name == "INTERNAL"
    assert (plan.attributes["gen_ai.operation.name"], plan.attributes["gen_ai.agent.name"]) == ("plan", "captain")
    assert QUESTION in plan.attributes["gen_ai.input.messages"]
    assert "Thought: aye." in plan.attributes["gen_ai.output.messages"]


def test_plan_that_fails(captured: Captured) -> None:
    with pytest.raises(Exception, match="mute"):
        CodeAgent([], Mute(model_id="mute-1"), planning_interval=3, verbosity_level=LogLevel.OFF).run(QUESTION)
    (plan,) = [span for span in captured.spans if span.name == "plan"]
    assert plan.attributes["error.type"] == "ZeroDivisionError"


# --- failures ---------------------------------------------------------------------------------------------------------


class Mute(Model):
    def generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatMessage:
        raise ZeroDivisionError("mute")


def test_failed_run_is_an_error(captured: Captured) -> None:
    from smolagents.utils import AgentGenerationError

    with pytest.raises(AgentGenerationError):
        CodeAgent([], Mute(model_id="mute-1"), name="captain", verbosity_level=LogLevel.OFF).run(QUESTION)
    assert tree(captured.spans) == snapshot("""\
invoke_agent captain ERROR error.type='AgentGenerationError' agent.name='captain' seatrace.run.model_calls=1 seatrace.run.steps=1 seatrace.run.tool_calls=0
  chat mute-1 ERROR\
""")


# --- a guest ----------------------------------------------------------------------------------------------------------


def story(events: Any) -> list[tuple[type, str]]:
    """What came, without what differs from run to run."""
    return [
        (type(each), str(getattr(each, "output", getattr(each, "content", None))))
        for each in events
        if type(each).__name__ != "ToolOutput"  # of a parallel turn, in the order in which they are done
    ]


def test_nothing_changes(provider: FakeProvider) -> None:
    plain = story(captain(provider).run(QUESTION, stream=True))
    with capture():
        agent = captain(provider)
        assert story(agent.run(QUESTION, stream=True)) == plain
        with pytest.raises(TypeError):
            agent.run()
        with pytest.raises(TypeError):
            Tide()(harbour="Kiel")
        assert copy.copy(Tide())(port="Kiel") == crew.tide("Kiel")
        assert pickle.loads(pickle.dumps(Tide()))(port="Kiel") == crew.tide("Kiel")


def test_uninstrument_restores() -> None:
    from smolagents import MultiStepAgent, local_python_executor
    from smolagents.models import AmazonBedrockModel

    owners = (MultiStepAgent, Tool, Model, OpenAIServerModel, AmazonBedrockModel, Parrot, local_python_executor)

    def standing() -> list[dict[str, Any]]:
        return [dict(vars(owner)) for owner in owners]

    before = standing()
    with capture():
        assert standing() != before
    after = standing()
    for a, b in zip(before, after, strict=True):
        assert a.keys() == b.keys()
        assert all(a[name] is b[name] for name in a)


def test_abandoned_stream_ends_its_spans(provider: FakeProvider, captured: Captured) -> None:
    agent = captain(provider)
    stream = agent.run(QUESTION, stream=True)
    for _ in stream:
        break
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        stream.close()  # as without us: smolagents yields once more
    del stream
    assert [span.name for span in captured.spans].count("invoke_agent captain") == 1


def test_content(provider: FakeProvider) -> None:
    with capture(capture_content=True) as got:
        captain(provider).run(QUESTION)
    spans = {span.name: dict(span.attributes or {}) for span in got.spans}
    assert spans["execute_tool tide"]["gen_ai.tool.call.result"] == snapshot("high at noon in Kiel")
    assert spans["execute_tool tide"]["gen_ai.tool.call.arguments"] == snapshot('{"port": "Kiel"}')
    assert QUESTION in spans["invoke_agent captain"]["gen_ai.input.messages"]
    assert ANSWER in spans["invoke_agent captain"]["gen_ai.output.messages"]


def test_content_of_own_model() -> None:
    with capture(capture_content=True) as got:
        CodeAgent([], Parrot(model_id="parrot-1"), verbosity_level=LogLevel.OFF).run(QUESTION)
    (chat,) = [dict(span.attributes or {}) for span in got.spans if span.name.startswith("chat")]
    assert QUESTION in chat["gen_ai.input.messages"]
    assert "final_answer" in chat["gen_ai.output.messages"]


def test_no_content_without_asking(provider: FakeProvider, captured: Captured) -> None:
    captain(provider).run(QUESTION)
    told = repr([dict(span.attributes or {}) for span in captured.spans])
    assert not any(words in told for words in (QUESTION, ANSWER, PILOTED, "high at noon", "no signal"))


def test_runs_in_threads_do_not_mix(provider: FakeProvider, captured: Captured) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: captain(provider).run(QUESTION), range(2)))
    runs = re.split(r"\n(?=\S)", turns(captured.spans))
    assert len(runs) == 2
    for run in runs:
        assert run == VOYAGE


def test_code_that_takes_too_long(captured: Captured) -> None:
    """The thread that smolagents leaves behind ends its spans, too."""
    from smolagents import local_python_executor

    if not hasattr(local_python_executor, "timeout"):
        return

    class Slow(Tide):
        name = "slow"

        def forward(self, port: str) -> str:
            time.sleep(0.2)
            return "late"

    @local_python_executor.timeout(0.05)
    def code() -> str:
        return str(Slow()(port="Kiel"))

    from seatrace import agent

    with pytest.raises(local_python_executor.ExecutionTimeoutError), agent("captain"):
        code()
    assert tree(captured.spans).splitlines()[1].startswith("  execute_tool slow")
