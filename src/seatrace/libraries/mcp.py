"""mcp: requests at the one method that sends them and the one that answers them, in 1.x and 2.x; the sessions' loops.

The native spans of 2.x rest; the trace context goes out in ``params._meta`` as 2.x sends it itself.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from seatrace.core import guard, pipeline, signals
from seatrace.core.patch import Patches
from seatrace.core.record import Call, Kind
from seatrace.core.step import Step

from . import _exchange as exchange
from ._exchange import Peer, Request, exchanged, peer_of, quiet, timed


def _package(module: Any, patches: Patches) -> None:
    if "mcp.shared.session" not in sys.modules and "mcp.shared.jsonrpc_dispatcher" not in sys.modules:
        raise AttributeError("mcp.shared.session and mcp.shared.jsonrpc_dispatcher")


# --- 2.x --------------------------------------------------------------------------------------------------------------


def _dispatcher(module: Any, patches: Patches) -> None:
    of = module.JSONRPCDispatcher
    patches.replace(of, "send_raw_request", exchanged(_send, _sent))
    patches.replace(of, "run", timed(_side_of_loop))


def _direct_dispatcher(module: Any, patches: Patches) -> None:
    patches.replace(module.DirectDispatcher, "_dispatch_request", exchanged(_send, _sent))
    patches.replace(module.DirectDispatcher, "run", timed(_side_of_loop))


def _runner(module: Any, patches: Patches) -> None:
    patches.replace(module.ServerRunner, "_on_request", exchanged(_answer, _asked))


def _client_session(module: Any, patches: Patches) -> None:
    if hasattr(module.ClientSession, "_on_request"):
        patches.replace(module.ClientSession, "_on_request", exchanged(_answer, _asked))


def _native(module: Any, patches: Patches) -> None:
    patches.replace(module, "_tracer", quiet)


def _send(dispatcher: Any, method: str, params: Any, opts: Any = None, **_: Any) -> Call:
    call = exchange.request("mcp_client", method, params or {}, peer_of(dispatcher))
    exchange.stamp_version(call, opts)
    return call


def _sent(dispatcher: Any, method: str, params: Any, *_: Any, **__: Any) -> Any:
    return params or {}


def _answer(side: Any, dctx: Any, method: str, params: Any) -> Call:
    dispatcher = getattr(getattr(dctx, "_inner", dctx), "_dispatcher", None)
    peer = None if dispatcher is None else peer_of(dispatcher)
    call = exchange.request("mcp_server", method, params or {}, peer, getattr(dctx, "request_id", None))
    exchange.arrived(call, params or {}, getattr(dctx, "message_metadata", None))
    connection = getattr(side, "connection", None)
    if connection is not None and call.exchange is not None and method != "initialize":
        call.exchange.protocol_version = connection.protocol_version
        call.exchange.session_id = call.exchange.session_id or connection.session_id
    return call


def _asked(side: Any, dctx: Any, method: str, params: Any) -> Any:
    return params or {}


def _side_of_loop(dispatcher: Any, on_request: Any, *_: Any, **__: Any) -> Kind:
    answers = type(getattr(on_request, "__self__", None)).__mro__
    return "mcp_client" if any(each.__name__ == "ClientSession" for each in answers) else "mcp_server"


# --- 1.x --------------------------------------------------------------------------------------------------------------


def _session(module: Any, patches: Patches) -> None:
    send = exchanged(_send_model, lambda session, request, *_, **__: request.root.params)
    patches.replace(module.BaseSession, "send_request", lambda original: send(_carrying(original)))
    patches.replace(module.BaseSession, "_receive_loop", timed(_side_of_session))
    of = module.RequestResponder
    patches.replace(of, "__enter__", _entering)
    patches.replace(of, "__exit__", _exiting)
    patches.replace(of, "respond", _responding)


def _side_of_session(session: Any) -> Kind:
    return "mcp_server" if session._receive_request_type.__name__ == "ClientRequest" else "mcp_client"


def _send_model(session: Any, request: Any, *_: Any, **__: Any) -> Call:
    root = request.root
    return exchange.request("mcp_client", root.method, root.params or {}, peer_of(session), session._request_id)


def _carrying(original: Any) -> Any:
    """Sends the current trace context with a request, in a copy of it."""

    @functools.wraps(original)
    async def send_request(session: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        line = pipeline.current
        carried = {} if line is None or line.rests() else signals.carrier()
        if carried:
            try:
                request = _with_meta(request, carried)
            except Exception as error:
                guard.fault("carry a context", error)
        return await original(session, request, *args, **kwargs)

    return send_request


def _with_meta(message: Any, carried: dict[str, str]) -> Any:
    root = message.root
    params = root.params
    if params is None:
        return message.model_copy(
            update={"root": type(root).model_validate({"method": root.method, "params": {"_meta": carried}})}
        )
    if isinstance(params, dict):
        params = {**params, "_meta": {**(params.get("_meta") or {}), **carried}}
    else:
        kind = sys.modules["mcp.types"].RequestParams.Meta
        meta = kind(**carried) if params.meta is None else params.meta.model_copy(update=carried)
        params = params.model_copy(update={"meta": meta})
    return message.model_copy(update={"root": root.model_copy(update={"params": params})})


_answering: WeakKeyDictionary[Any, Step] = WeakKeyDictionary()


def _entering(original: Any) -> Any:
    @functools.wraps(original)
    def __enter__(responder: Any) -> Any:
        result = original(responder)
        if pipeline.current is not None:
            step = _answering[responder] = Request.begin(
                lambda: _answer_model(responder), lambda: exchange.arguments_of(responder.request.root.params or {})
            )
            step.enter()
        return result

    return __enter__


def _answer_model(responder: Any) -> Call:
    method, peer = responder.request.root.method, peer_of(responder._session)
    params = responder.request.root.params or {}
    call = exchange.request("mcp_server", method, params, peer, responder.request_id)
    return exchange.arrived(call, params, responder.message_metadata)


def _responding(original: Any) -> Any:
    @functools.wraps(original)
    async def respond(responder: Any, response: Any) -> Any:
        step = _answering.get(responder)
        if step is not None and step.call.exchange is not None:
            pipeline.kept("read a response", lambda: _answered(step, response))
        return await original(responder, response)

    return respond


def _answered(step: Step, response: Any) -> None:
    code = getattr(response, "code", None)
    if isinstance(code, int):
        exchange.refused(step.call, code, None)
    else:
        step.result(getattr(response, "root", response), None)


def _exiting(original: Any) -> Any:
    @functools.wraps(original)
    def __exit__(responder: Any, kind: Any, error: Any, trace: Any) -> Any:
        step = _answering.pop(responder, None)
        if step is not None:
            step.leave()
            step.end(error)
        return original(responder, kind, error, trace)

    return __exit__


# --- both -------------------------------------------------------------------------------------------------------------


def _sent_over(stream: Any, transport: Any) -> None:
    exchange.streams[getattr(stream, "_inner", stream)] = Peer("tcp", transport)


def _http_client(module: Any, patches: Patches) -> None:
    def make(original: Any) -> Any:
        @functools.wraps(original)
        async def post_writer(transport: Any, *args: Any, **kwargs: Any) -> Any:
            stream = kwargs.get("write_stream") or (args[3] if len(args) > 3 else None)
            if stream is not None:
                pipeline.kept("watch a connection", lambda: _sent_over(stream, transport))
            return await original(transport, *args, **kwargs)

        return post_writer

    patches.replace(module.StreamableHTTPTransport, "post_writer", make)


def _stdio_client(module: Any, patches: Patches) -> None:
    def make(original: Any) -> Any:
        @functools.wraps(original)
        async def create_process(*args: Any, **kwargs: Any) -> Any:
            process = await original(*args, **kwargs)
            exchange.opened_pipe()
            return process

        return create_process

    patches.replace(module, "_create_platform_compatible_process", make)


def _stdio_server(module: Any, patches: Patches) -> None:
    def make(original: Any) -> Any:
        def open_stream(*args: Any, **kwargs: Any) -> Any:
            exchange.opened_pipe()
            return original(*args, **kwargs)

        return open_stream

    patches.replace(module, "_claim_fd" if hasattr(module, "_claim_fd") else "TextIOWrapper", make)


def _tools(module: Any, patches: Patches) -> None:
    patches.replace(module.Tool, "run", exchange.noticing)


PARTS: dict[str, Callable[[Any, Patches], None]] = {
    "mcp": _package,
    "mcp.shared.jsonrpc_dispatcher": _dispatcher,
    "mcp.shared.direct_dispatcher": _direct_dispatcher,
    "mcp.shared._otel": _native,
    "mcp.server.runner": _runner,
    "mcp.client.session": _client_session,
    "mcp.shared.session": _session,
    "mcp.client.streamable_http": _http_client,
    "mcp.client.stdio": _stdio_client,
    "mcp.server.stdio": _stdio_server,
    "mcp.server.fastmcp.tools.base": _tools,
    "mcp.server.mcpserver.tools.base": _tools,
}
