"""agno: agents, teams, workflows, tools, knowledge, and the models that no observed client calls.

Runs are tapped at the functions that do the work, behind ``run``, ``arun`` and their kin: those are true generators and
coroutines, know the session, and do the work of a background run, too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from seatrace.core import pipeline
from seatrace.core.drive import follow_result
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Content, Kind, Usage
from seatrace.core.step import Step

from ._models import model_call
from ._steps import step, stepped
from ._threads import carrying
from .providers import provider_named

_RUN = re.compile(r"_a?(continue_)?run(_tasks)?(_stream)?|_a?(continue_)?execute(_stream)?")


# --- runs -------------------------------------------------------------------------------------------------------------


def _runs(kind: Kind) -> Callable[[Any, Patches], None]:
    def begin(owner: Any, *args: Any, **kwargs: Any) -> Call:
        session = kwargs.get("session_id") or getattr(kwargs.get("run_context"), "session_id", None)
        return step(kind, "agno", owner.name, description=owner.description or None, conversation_id=session)

    make = stepped(begin, content=_asked, read=_said, outcome=_outcome)

    def patch_runs(owner: Any, patches: Patches) -> None:
        names = [name for name, value in vars(owner).items() if _RUN.fullmatch(name) and callable(value)]
        if not names:
            raise AttributeError(f"{owner.__name__}._run")
        for name in names:
            patches.replace(owner, name, make)

    return patch_runs


def _answer(kwargs: dict[str, Any]) -> Any:
    return kwargs.get("run_response") or kwargs.get("workflow_run_response")


def _outcome(call: Call, value: Any, *args: Any, **kwargs: Any) -> None:
    """A run that fails returns what it has, with a word of status."""
    if getattr(getattr(_answer(kwargs), "status", None), "name", None) == "error":
        call.error_type = "_OTHER"


def _asked(*args: Any, **kwargs: Any) -> Content:
    given = getattr(_answer(kwargs), "input", None)
    words = getattr(given, "input_content", given)
    return Content(input_messages=[_message("user", words)]) if isinstance(words, str) else Content()


def _said(call: Call, value: Any) -> None:
    parts = value if isinstance(value, list) else [value]
    kept = [each.content for each in parts if isinstance(getattr(each, "content", None), str)]
    if kept and call.content is not None:
        call.content.output_messages = [_message("assistant", "".join(kept))]


def _message(role: str, words: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": words}]}


def _workers(owner: Any, patches: Patches) -> None:
    """What a run does beside itself (memories, learning) belongs to it: its threads get its context."""

    def make(original: property) -> property:
        def background_executor(self: Any) -> Any:
            executor = original.fget(self)  # type: ignore[misc]
            if "submit" not in vars(executor):
                executor.submit = carrying(executor.submit)
            return executor

        return property(background_executor, doc=original.__doc__)

    patches.replace(owner, "background_executor", make)


# --- tools ------------------------------------------------------------------------------------------------------------

_caught: ContextVar[BaseException | None] = ContextVar("seatrace_agno_caught", default=None)
"""What the tool that runs here has raised; agno makes words of it for the model."""


def _tools(module: Any, patches: Patches) -> None:
    patches.replace(module.FunctionCall, "execute", _executing)
    patches.replace(module.FunctionCall, "aexecute", _aexecuting)
    patches.replace(module, "log_exception", _catching)


def _catching(original: Any) -> Any:
    @functools.wraps(original)
    def log_exception(message: Any, *args: Any, **kwargs: Any) -> Any:
        if pipeline.current is not None and isinstance(message, BaseException):
            _caught.set(message)
        return original(message, *args, **kwargs)

    return log_exception


@contextmanager
def _at_work(run: Any) -> Iterator[Step]:
    """A step for the block; it ends with what is raised there, and else goes on."""
    tool = run.function
    begun = Step.begin(
        lambda: step("tool", "agno", tool.name, description=tool.description or None, tool_call_id=run.call_id),
        lambda: Content(tool_arguments=run.arguments or {}),
    )
    begun.enter()
    try:
        yield begun
    except BaseException as error:
        begun.leave()
        begun.end(error)
        raise
    begun.leave()


def _end_tool(run: Any, done: Any, tool: Step) -> bool:
    """A generator is a tool at work, until it ends. Always true: it was seen to."""
    error = _caught.get()
    _caught.set(None)
    if done.status == "failure":
        tool.call.error_type = "_OTHER"
        if error is not None and str(error) == done.error:
            tool.call.error, tool.call.error_type = error, type(error).__qualname__
        tool.end()
        return True
    followed = follow_result(done.result, tool, lambda: tool, _result)
    if followed is not done.result:
        done.result = run.result = followed
    return True


def _result(call: Call, value: Any) -> None:
    if call.content is not None:
        call.content.tool_result = value


def _executing(original: Any) -> Any:
    @functools.wraps(original)
    def execute(self: Any) -> Any:
        if pipeline.current is None:
            return original(self)
        with _at_work(self) as tool:
            done = original(self)
        if not pipeline.kept("read a response", lambda: _end_tool(self, done, tool)):
            tool.end()
        return done

    return execute


def _aexecuting(original: Any) -> Any:
    @functools.wraps(original)
    async def aexecute(self: Any) -> Any:
        if pipeline.current is None:
            return await original(self)
        with _at_work(self) as tool:
            done = await original(self)
        if not pipeline.kept("read a response", lambda: _end_tool(self, done, tool)):
            tool.end()
        return done

    return aexecute


# --- models and knowledge ---------------------------------------------------------------------------------------------


def _models(module: Any, patches: Patches) -> None:
    make = model_call(_begin_model, content=_messages, read=_read_answer, chunk=_read_chunk)
    for name in (
        "_invoke_with_retry",
        "_ainvoke_with_retry",
        "_invoke_stream_with_retry",
        "_ainvoke_stream_with_retry",
    ):
        patches.replace(module.Model, name, make)


def _begin_model(model: Any, **kwargs: Any) -> Call:
    provider = model.provider and provider_named(model.provider)
    return Call("inference", "chat", "agno", request_model=model.id, provider=provider)


def _messages(model: Any, *, messages: Any = (), **kwargs: Any) -> Content:
    return Content(input_messages=[_message(each.role, each.get_content_string()) for each in messages])


def _read_answer(call: Call, answer: Any) -> None:
    _read_chunk(call, answer)
    if call.content is not None and isinstance(answer.content, str):
        call.content.output_messages = [_message("assistant", answer.content)]


def _read_chunk(call: Call, chunk: Any) -> None:
    """agno adds up what the chunks say of usage, and has 0 for what it was not told."""
    told = getattr(chunk, "response_usage", None)
    if told is None or not (told.input_tokens or told.output_tokens):
        return
    read, write, thought = told.cache_read_tokens, told.cache_write_tokens, told.reasoning_tokens
    asked, said = told.input_tokens, told.output_tokens
    if call.provider == "aws.bedrock":  # says what was cached beside the input
        asked += read + write
    elif call.provider == "gcp.gemini":  # and what was thought beside the output
        said += thought
    so_far = call.usage or Usage()
    call.usage = Usage(
        input_tokens=(so_far.input_tokens or 0) + asked,
        output_tokens=(so_far.output_tokens or 0) + said,
        cache_read=((so_far.cache_read or 0) + read) or None,
        cache_write=((so_far.cache_write or 0) + write) or None,
        reasoning=((so_far.reasoning or 0) + thought) or None,
    )


def _knowledge(module: Any, patches: Patches) -> None:
    make = stepped(_begin_search, content=_query, read=_found)
    patches.replace(module.Knowledge, "search", make)
    patches.replace(module.Knowledge, "asearch", make)


def _begin_search(knowledge: Any, query: Any, max_results: Any = None, *args: Any, **kwargs: Any) -> Call:
    return step("retrieval", "agno", knowledge.name, top_k=max_results or knowledge.max_results)


def _query(knowledge: Any, query: Any, *args: Any, **kwargs: Any) -> Content:
    return Content(query=query if isinstance(query, str) else None)


def _found(call: Call, documents: Any) -> None:
    if call.content is not None:
        call.content.documents = [
            {"id": each.id, "content": each.content, "score": each.reranking_score} for each in documents
        ]


_run_agents, _run_teams, _run_workflows = _runs("agent"), _runs("agent"), _runs("workflow")

PARTS: dict[str, Callable[[Any, Patches], None]] = {
    "agno.agent._run": _run_agents,
    "agno.team._run": _run_teams,
    "agno.agent.agent": lambda module, patches: _workers(module.Agent, patches),
    "agno.team.team": lambda module, patches: _workers(module.Team, patches),
    "agno.workflow.workflow": lambda module, patches: _run_workflows(module.Workflow, patches),
    "agno.tools.function": _tools,
    "agno.models.base": _models,
    "agno.knowledge.knowledge": _knowledge,
}
