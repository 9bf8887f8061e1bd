"""The ``claude_agent_sdk`` package: a program of its own calls the model, runs the tools, and tells of it in messages.

``query()`` is one run, from its first message to its end. With ``ClaudeSDKClient`` a run lasts from a question to its
result. What a message tells is read when it arrives, whenever the program looks at it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from seatrace.core import context, guard, pipeline
from seatrace.core.drive import driven
from seatrace.core.patch import Patches
from seatrace.core.step import Step

from ._claude_session import Session

_KEY = "claude_agent_sdk"
"""Where a run keeps its session, until the connection is made that it is about."""

_sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()
"""By the ``Query`` that holds the connection."""


def patch(module: ModuleType, patches: Patches) -> None:
    """Observes the loaded package."""
    query = sys.modules["claude_agent_sdk._internal.query"].Query
    patches.replace(query, "start", _start)
    patches.replace(query, "_handle_control_request", _handle)
    patches.replace(query, "close", _close)
    internal = sys.modules["claude_agent_sdk._internal.client"].InternalClient
    patches.replace(internal, "process_query", lambda original: driven(original, _begin))
    patches.replace(module.ClaudeSDKClient, "connect", _connect)
    patches.replace(module.ClaudeSDKClient, "query", _ask)


def _begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Step] | None:
    if pipeline.current is None:
        return None

    def start() -> Step:
        given = {**dict(zip(("prompt", "options"), args[1:], strict=False)), **kwargs}
        session = Session(given.get("options"), lasting=True)
        step = session.ask(given.get("prompt"))
        if step.call.run is not None:
            step.call.run.kept[_KEY] = session
        return step

    return start


def _start(original: Any) -> Any:
    @functools.wraps(original)
    async def start(query: Any) -> Any:
        line = pipeline.current
        if line is not None and not line.rests() and query not in _sessions:
            run = context.current_scope().run
            session = (run.kept.pop(_KEY, None) if run is not None else None) or Session(None)
            _sessions[query] = session
            try:
                query._message_send.send = _watching(query._message_send.send, session)
            except Exception as error:
                guard.fault("watch a connection", error)
        return await original(query)

    return start


def _watching(send: Any, session: Session) -> Any:
    @functools.wraps(send)
    async def watching(message: Any) -> Any:
        session.saw(message)
        return await send(message)

    return watching


def _handle(original: Any) -> Any:
    """Answers what the program asks for: hooks, permissions, tools that run in this process."""

    @functools.wraps(original)
    async def handle(query: Any, request: Any) -> Any:
        session = _sessions.get(query)
        step = None if session is None else session.within(request)
        if step is None:
            return await original(query, request)
        with step.around():
            return await original(query, request)

    return handle


def _close(original: Any) -> Any:
    @functools.wraps(original)
    async def close(query: Any) -> Any:
        try:
            return await original(query)
        finally:
            session = _sessions.pop(query, None)
            if session is not None:
                pipeline.kept("watch a connection", session.finish)

    return close


def _connect(original: Any) -> Any:
    @functools.wraps(original)
    async def connect(client: Any, prompt: Any = None) -> Any:
        result = await original(client, prompt)
        session = _sessions.get(client._query)
        if session is not None:
            session.options = client.options
            if prompt is not None:
                session.ask(prompt)
        return result

    return connect


def _ask(original: Any) -> Any:
    @functools.wraps(original)
    async def query(client: Any, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        session = _sessions.get(client._query) if client._query is not None else None
        if session is not None:
            session.ask(prompt)
        try:
            return await original(client, prompt, *args, **kwargs)
        except BaseException as error:
            if session is not None:
                pipeline.kept("watch a connection", partial(session.finish, error))
            raise

    return query
