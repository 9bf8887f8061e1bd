"""Runs, model calls and tools out of the messages of Claude Code's program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from time import perf_counter_ns, time_ns
from typing import Any

from seatrace.core import guard, pipeline
from seatrace.core.record import TOOL_ERROR, Call, Content
from seatrace.core.step import Step

from ._claude_usage import Said, true_up
from ._steps import step

_LIBRARY = "claude_agent_sdk"
_NAME = "claude"
_SYNTHETIC = "<synthetic>"
"""The model of messages that the program makes up itself."""

_CLOUDS = {
    "CLAUDE_CODE_USE_BEDROCK": "aws.bedrock",
    "CLAUDE_CODE_USE_VERTEX": "gcp.vertex_ai",
    "CLAUDE_CODE_USE_FOUNDRY": "azure.ai.inference",
}

Moment = tuple[int, int]


class _Thread:
    """An agent at work: the one that was asked, or a sub-agent."""

    def __init__(self, agent: Step) -> None:
        self.agent = agent
        self.since: Moment = _now()
        """When its model was asked: once the answers of its tools were there."""
        self.streaming: Said | None = None


class _Tool:
    """A tool at work, or a sub-agent."""

    def __init__(self, step: Step, given: Any) -> None:
        self.step = step
        self.given = given if isinstance(given, dict) else {}
        self.here = False
        """Whether it runs in this process, and has begun to."""


class Session:
    """What happens on one connection. ``lasting``: all of it is one run, which others end."""

    def __init__(self, options: Any, *, lasting: bool = False) -> None:
        self.options = options
        self._lasting = lasting
        self._root: Step | None = None
        self._threads: dict[str | None, _Thread] = {}
        self._tools: dict[str, _Tool] = {}
        self._said: dict[str, Said] = {}
        self._left: list[Step] = []
        """Sub-agents that are done, whose model calls have yet to be counted."""
        self._totals: Mapping[str, Any] = {}
        """What was used so far, by model, as the last result told."""
        self._conversation: str | None = None

    # --- from without -------------------------------------------------------------------------------------------------

    def ask(self, prompt: Any) -> Step:
        """A question begins a run, unless one goes on."""
        if self._root is None:
            self._root = Step.begin(self._run, lambda: _question(prompt))
            self._threads[None] = _Thread(self._root)
        return self._root

    def within(self, request: Any) -> Step | None:
        """The step that a request of the program belongs to."""
        try:
            asked = request["request"]
            message = asked.get("message") or {}
            if asked.get("subtype") == "mcp_message" and message.get("method") == "tools/call":
                return self._answered_here(asked.get("server_name"), message.get("params") or {}) or self._root
        except Exception as error:
            guard.fault("read a request", error)
        return self._root

    def saw(self, message: Any) -> None:
        """A message arrived.

        Raises:
            Refused: A run is stopped.
        """
        kind = message.get("type") if isinstance(message, dict) else None
        read = _READERS.get(kind or "")
        if read is None or pipeline.current is None:
            return
        try:
            self._conversation = message.get("session_id") or self._conversation
            if self._root is None and kind in ("assistant", "stream_event"):
                self.ask(None)  # a turn that nobody asked for: a task in the background has ended
            if self._root is not None:
                read(self, message)
        except pipeline.Refused:
            raise
        except Exception as error:
            guard.fault("read a message", error)

    def finish(self, error: BaseException | None = None) -> None:
        """The connection ends, or a question failed: so does all that is open."""
        self._settle({})
        for each in (
            *(tool.step for tool in self._tools.values()),
            *(thread.agent for thread in self._threads.values()),
        ):
            if each is not self._root:
                each.abandon()
        root, self._root = self._root, None
        if root is not None and root.live:
            root.call.conversation_id = self._conversation
            if error is not None:
                root.end(error)
            elif not self._lasting:
                root.abandon()
        self._tools.clear()
        self._threads.clear()

    def __del__(self) -> None:
        if self._root is not None and not self._lasting:
            self._root.abandon()

    # --- messages -----------------------------------------------------------------------------------------------------

    def _system(self, message: Mapping[str, Any]) -> None:
        if message.get("subtype") == "init":
            self._thread(None).since = _now()

    def _assistant(self, message: Mapping[str, Any]) -> None:
        told = message["message"]
        thread = self._thread(message.get("parent_tool_use_id"))
        if told.get("model") == _SYNTHETIC:
            return
        said = self._call(thread, told, main=message.get("parent_tool_use_id") is None)
        said.add(told)
        if message.get("error"):
            said.call.error_type = str(message["error"])
        for block in told.get("content") or ():
            if isinstance(block, dict) and block.get("type") == "tool_use":
                self._tool(thread, block)

    def _stream_event(self, message: Mapping[str, Any]) -> None:
        event = message["event"]
        kind = event.get("type")
        if kind not in ("message_start", "message_delta"):
            return
        thread = self._thread(message.get("parent_tool_use_id"))
        if kind == "message_start":
            thread.streaming = self._call(thread, event["message"], main=message.get("parent_tool_use_id") is None)
            thread.streaming.began()
        elif thread.streaming is not None:
            thread.streaming.add({**event.get("delta", {}), "usage": event.get("usage")})

    def _user(self, message: Mapping[str, Any]) -> None:
        parent = message.get("parent_tool_use_id")
        content = message["message"].get("content")
        results = [each for each in _blocks(content) if each.get("type") == "tool_result"]
        for block in results:
            self._returned(block)
        if parent is None or parent in self._tools:
            self._thread(parent).since = _now()

    def _result(self, message: Mapping[str, Any]) -> None:
        root = self._root
        if root is None:
            return
        self._settle(message)
        call = root.call
        call.conversation_id = self._conversation
        for name in ("total_cost_usd", "num_turns"):
            if message.get(name) is not None:
                call.attributes[f"{_LIBRARY}.{name}"] = message[name]
        if message.get("is_error"):
            word = message.get("subtype")
            root.failed(str(word if word and word != "success" else message.get("api_error_status") or "api_error"))
        root.result(message.get("result"), _answer)
        if not self._lasting:
            self._root = None
            root.end()
            self.finish()

    def _error(self, message: Mapping[str, Any]) -> None:
        """The program broke off; whoever reads the messages is told by an exception."""
        if self._root is not None and not self._lasting:
            error = message.get("exception")
            self._root.failed(error if isinstance(error, Exception) else "process_error")
            self.finish()

    # --- model calls --------------------------------------------------------------------------------------------------

    def _call(self, thread: _Thread, told: Mapping[str, Any], *, main: bool) -> Said:
        ident, model = str(told.get("id")), told.get("model")
        said = self._said.get(ident)
        if said is None:
            call = Call("inference", "chat", _LIBRARY, provider=self._provider(), request_model=model)
            call.conversation_id = self._conversation
            line = pipeline.current
            if line is not None and thread.agent.live:
                call.content = Content() if line.wants_content else None
                with thread.agent.around():
                    line.begin(call, at=thread.since)
            said = self._said[ident] = Said(call, line if call.started else None, ident, main=main)
        return said

    def _settle(self, result: Mapping[str, Any]) -> None:
        """All model calls end at the result, since it tells what they used; each at the time of its last message."""
        said, self._said = list(self._said.values()), {}
        try:
            self._totals = true_up(said, result, self._totals)
        finally:
            for call in said:
                call.end()
            for agent in self._left:
                agent.end()
            self._left.clear()

    def _provider(self) -> str:
        env = {**os.environ, **(getattr(self.options, "env", None) or {})}
        return next((name for key, name in _CLOUDS.items() if env.get(key) not in (None, "", "0")), "anthropic")

    # --- agents and tools ---------------------------------------------------------------------------------------------

    def _run(self) -> Call:
        extra = getattr(self.options, "extra_args", None) or {}
        model = getattr(self.options, "model", None)
        return step("agent", _LIBRARY, extra.get("agent") or _NAME, provider=self._provider(), request_model=model)

    def _thread(self, parent: str | None) -> _Thread:
        thread = self._threads.get(parent)
        if thread is None:
            tool, told = self._tools.get(parent or ""), self._conversation
            name = tool.given.get("subagent_type") if tool is not None else None
            with (self.ask(None) if tool is None else tool.step).around():
                agent = Step.begin(lambda: step("agent", _LIBRARY, name, conversation_id=told))
            thread = self._threads[parent] = _Thread(agent)
        return thread

    def _tool(self, thread: _Thread, block: Mapping[str, Any]) -> None:
        ident, name, given = block["id"], block["name"], block.get("input")
        if ident in self._tools:
            return
        told = self._conversation
        with thread.agent.around():
            begun = Step.begin(
                lambda: step("tool", _LIBRARY, name, tool_call_id=ident, conversation_id=told),
                lambda: Content(tool_arguments=given),
            )
        self._tools[ident] = _Tool(begun, given)

    def _answered_here(self, server: Any, params: Mapping[str, Any]) -> Step | None:
        """The tool call that a server in this process is asked to answer."""
        name, given = f"mcp__{server}__{params.get('name')}", params.get("arguments") or {}
        named = self._tools.get((params.get("_meta") or {}).get("claudecode/toolUseId", ""))
        waiting = [each for each in self._tools.values() if each.step.call.name == name and not each.here]
        same = [each for each in waiting if each.given == given]
        tool = named or next(iter(same or waiting), None)
        if tool is None:
            return None
        tool.here = True
        return tool.step

    def _returned(self, block: Mapping[str, Any]) -> None:
        ident = block.get("tool_use_id") or ""
        tool, thread = self._tools.pop(ident, None), self._threads.pop(ident, None)
        if thread is not None:
            thread.agent.call.ended_clock = perf_counter_ns()
            self._left.append(thread.agent)
        if tool is not None:
            if block.get("is_error"):
                tool.step.failed(TOOL_ERROR)
            tool.step.result(block.get("content"), _tool_result)
            tool.step.end()


_READERS = {
    "system": Session._system,
    "assistant": Session._assistant,
    "stream_event": Session._stream_event,
    "user": Session._user,
    "result": Session._result,
    "error": Session._error,
}


def _now() -> Moment:
    return time_ns(), perf_counter_ns()


def _blocks(content: Any) -> Iterable[Mapping[str, Any]]:
    return [each for each in content if isinstance(each, dict)] if isinstance(content, list) else []


def _question(prompt: Any) -> Content:
    if not isinstance(prompt, str):
        return Content()
    return Content(input_messages=[{"role": "user", "parts": [{"type": "text", "content": prompt}]}])


def _answer(call: Call, words: Any) -> None:
    if call.content is not None and isinstance(words, str):
        parts = [{"type": "text", "content": words}]
        call.content.output_messages = [{"role": "assistant", "parts": parts}]


def _tool_result(call: Call, value: Any) -> None:
    if call.content is not None:
        call.content.tool_result = value
