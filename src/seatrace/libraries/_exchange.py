"""Requests of the Model Context Protocol as calls: what both sides of one have in common, in every version.

A request is one call of kind ``mcp_client`` where it is sent and one of kind ``mcp_server`` where it is answered,
whichever of the two programs is "the client": servers ask, too (sampling, elicitation, roots).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from time import perf_counter_ns
from typing import Any, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from seatrace import libraries
from seatrace.core import guard, pipeline, signals
from seatrace.core.drive import driven
from seatrace.core.record import TOOL_ERROR, Call, Content, Exchange, Kind
from seatrace.core.shape import get, text
from seatrace.core.step import Step, innermost_call

from ._native import QuietTracer

_INVALID_PARAMS = -32602
_VERSION_HEADER = "mcp-protocol-version"
_VERSION_META = "io.modelcontextprotocol/protocolVersion"


# --- who is on the other side -----------------------------------------------------------------------------------------


class Peer:
    """What is known of the other side of a session."""

    def __init__(self, transport: str | None = None, http: Any = None) -> None:
        self.transport = transport
        self.http = http
        """The transport object of a client over HTTP: ``url``, ``session_id``."""
        self.protocol_version: str | None = None


sessions: WeakKeyDictionary[Any, Peer] = WeakKeyDictionary()
"""By session (mcp 1.x) or dispatcher (2.x)."""

streams: WeakKeyDictionary[Any, Peer] = WeakKeyDictionary()
"""By the stream into which a session writes."""


class _Pipe:
    """Standard streams that were opened, of this process or of a new one."""

    taken = False


piped: ContextVar[_Pipe | None] = ContextVar("seatrace_mcp_piped", default=None)
"""Those that were opened here last: the next session that begins here takes them."""


def peer_of(session: Any) -> Peer:
    """Who is on the other side of ``session``."""
    peer = sessions.get(session)
    if peer is None:
        peer = sessions[session] = Peer()
    if peer.transport is None:
        stream = getattr(session, "_write_stream", None)
        known = streams.get(getattr(stream, "_inner", stream)) if stream is not None else None
        if known is not None:
            peer.transport, peer.http = known.transport, known.http
    return peer


def opened_pipe() -> None:
    """The next session that begins here goes over standard streams."""
    piped.set(_Pipe())


def timed(role: Callable[..., Kind]) -> Any:
    """Makes a replacement for the coroutine method of a session that runs as long as it lives; ``role`` says of which
    side it is."""

    def make(original: Any) -> Any:
        @functools.wraps(original)
        async def loop(session: Any, *args: Any, **kwargs: Any) -> Any:
            begun, error = perf_counter_ns(), None
            pipeline.kept("watch a connection", lambda: _take_pipe(session))
            try:
                return await original(session, *args, **kwargs)
            except Exception as failed:
                error = type(failed).__qualname__
                raise
            finally:
                _session_over(session, lambda: role(session, *args, **kwargs), begun, error)

        return loop

    return make


def _take_pipe(session: Any) -> None:
    pipe, peer = piped.get(), peer_of(session)
    if pipe is not None and not pipe.taken and peer.transport is None:
        pipe.taken, peer.transport = True, "pipe"


def _session_over(session: Any, role: Callable[[], Kind], begun: int, error: str | None) -> None:
    line = pipeline.current
    if line is None:
        return
    try:
        call = Call(role(), "", "mcp", exchange=Exchange("", peer=peer_of(session)), error_type=error)
        _describe(call)
        pipeline.tell("measure", line.emitter.session, call, (perf_counter_ns() - begun) / 1e9)
    except Exception as fault:
        guard.fault("measure", fault)


def _describe(call: Call) -> None:
    """Fills in what of the other side may not have been known at the beginning."""
    exchange = cast(Exchange, call.exchange)
    peer: Peer | None = exchange.peer
    if peer is None:
        return
    exchange.transport = exchange.transport or peer.transport
    exchange.protocol_version = exchange.protocol_version or peer.protocol_version
    if peer.http is not None and call.kind == "mcp_client":
        exchange.session_id = exchange.session_id or text(getattr(peer.http, "session_id", None))
        if call.server_address is None:
            url = urlsplit(peer.http.url)
            call.server_address = url.hostname
            call.server_port = url.port or (80 if url.scheme == "http" else 443)


# --- one request ------------------------------------------------------------------------------------------------------


def request(kind: Kind, method: str, params: Any, peer: Peer | None, request_id: Any = None) -> Call:
    """The call of a request; ``params`` are its parameters as JSON or as a model."""
    exchange = Exchange(method, None if request_id is None else str(request_id), peer=peer)
    call = Call(kind, "", "mcp", exchange=exchange)
    if method == "tools/call":
        call.operation = "execute_tool"
        call.name = text(get(params, "name"))
        if kind == "mcp_client":
            around = innermost_call()
            exchange.counts = around is None or around.kind != "tool"
    elif method == "prompts/get":
        call.prompt_name = text(get(params, "name"))
    elif method.startswith("resources/"):
        uri = get(params, "uri")
        exchange.resource_uri = None if uri is None else str(uri)
    exchange.protocol_version = text(get(_meta(params), _VERSION_META))
    _describe(call)
    return call


def arguments_of(params: Any) -> Content:
    """The arguments of a tool, where there are some."""
    return Content(tool_arguments=get(params, "arguments"))


def stamp_version(call: Call, options: Any) -> None:
    """The protocol version that goes out with a request (mcp 2.x)."""
    headers = get(options, "headers")
    if call.exchange is not None and isinstance(headers, Mapping):
        call.exchange.protocol_version = call.exchange.protocol_version or headers.get(_VERSION_HEADER)


def arrived(call: Call, params: Any, metadata: Any) -> Call:
    """What came with a request: the trace that it belongs to, the HTTP request around it."""
    meta = _meta(params)
    extra = meta if isinstance(meta, Mapping) else getattr(meta, "model_extra", None)
    carried = {name: value for name, value in (extra or {}).items() if isinstance(value, str)}
    sender = signals.arrived(carried) if carried else None
    if sender is not None:
        call.parent = carried
        here = signals.here()
        call.links = [here] if here is not None and here.span_id != sender.span_id else None
    http = getattr(metadata, "request_context", None)
    exchange = cast(Exchange, call.exchange)
    if http is not None and hasattr(http, "headers"):
        exchange.transport = "tcp"
        exchange.session_id = text(http.headers.get("mcp-session-id"))
        exchange.protocol_version = exchange.protocol_version or text(http.headers.get(_VERSION_HEADER))
        client = getattr(http, "client", None)
        if client is not None:
            exchange.client_address, exchange.client_port = client.host, client.port
    return call


def answered(call: Call, result: Any) -> None:
    """The result of a request."""
    exchange = cast(Exchange, call.exchange)
    if get(result, "isError") is True or get(result, "is_error") is True:
        call.error_type = TOOL_ERROR
        if call.kind == "mcp_client":
            _tell_tool(call)
    else:
        call.error = None  # a tool failed within, and somebody made the best of it
    if exchange.method == "initialize":
        version = text(get(result, "protocolVersion"))
        exchange.protocol_version = version or exchange.protocol_version
        if exchange.peer is not None:
            exchange.peer.protocol_version = version
    if call.content is not None and exchange.method == "tools/call":
        call.content.tool_result = result.model_dump(by_alias=True, exclude_none=True) if _is_model(result) else result


def refused(call: Call, code: int, error: BaseException | None) -> None:
    """An error in place of a result. For who asked it is always one; of who answers it is one only if it says so."""
    cast(Exchange, call.exchange).status = code
    if call.kind == "mcp_server" and not (code in (0, -32603) or -32099 <= code <= -32000):
        call.error = None
        return
    call.error, call.error_type = error or call.error, str(code)
    if call.kind == "mcp_client":
        _tell_tool(call)


def failed_within(error: BaseException) -> None:
    """A tool raised, which its server tells as a text: the request that it answers keeps the exception."""
    call = innermost_call()
    if call is not None and call.kind == "mcp_server" and isinstance(error, Exception):
        call.error = error.__cause__ if isinstance(error.__cause__, Exception) else error


def noticing(original: Any) -> Any:
    """Makes a replacement for the method that runs a tool: see :func:`failed_within`."""

    @functools.wraps(original)
    async def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original(*args, **kwargs)
        except BaseException as error:
            failed_within(error)
            raise

    return run


def _tell_tool(call: Call) -> None:
    around = innermost_call()
    if around is not None and around.kind == "tool" and around.name == call.name and around.error_type is None:
        around.error_type = call.error_type


class Request(Step):
    """A request between begin and end."""

    __slots__ = ()

    def result(self, value: Any, read: Any) -> None:
        """Reads the result, whether content is wanted or not."""
        if self._line is None or self.call.ended:
            return
        try:
            answered(self.call, value)
        except Exception as error:
            guard.fault("read a response", error)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the call, by what its error means to this side."""
        if self._line is None or self.call.ended:
            return
        _describe(self.call)
        code = _code(self.call, error)
        if code is not None:
            refused(self.call, code, error)
            error = None
        super().end(error)
        self.call.error = None


def _code(call: Call, error: BaseException | None) -> int | None:
    code = get(get(error, "error"), "code")
    if code is None and call.kind == "mcp_server" and type(error).__name__ == "ValidationError":
        return _INVALID_PARAMS
    return code if isinstance(code, int) else None


def exchanged(begin: Callable[..., Call], params: Callable[..., Any]) -> Any:
    """Makes a replacement for a coroutine method that sends or answers one request; ``begin`` and ``params`` (the
    request's) are given its arguments."""

    def make(original: Any) -> Any:
        def starter(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Step] | None:
            if pipeline.current is None:
                return None
            return lambda: Request.begin(lambda: begin(*args, **kwargs), lambda: arguments_of(params(*args, **kwargs)))

        return driven(original, starter, answered)

    return make


# --- native telemetry -------------------------------------------------------------------------------------------------


def quiet(tracer: Any) -> QuietTracer:
    """Of a library's own tracer: its spans of requests that we observe rest."""
    return QuietTracer(tracer, _rests)


def _rests(name: str, given: Mapping[str, Any]) -> bool:
    kind, call = getattr(given.get("kind"), "name", None), innermost_call()
    if kind == "CLIENT":
        rests = pipeline.current is not None and not pipeline.current.rests() and "mcp" in libraries._patches
    else:
        rests = kind == "SERVER" and call is not None and call.kind == "mcp_server"
    sent = (given.get("attributes") or {}).get("jsonrpc.request.id")
    if rests and call is not None and call.kind == "mcp_client" and call.exchange is not None and sent is not None:
        call.exchange.request_id = str(sent)
    return rests


# --- small things -----------------------------------------------------------------------------------------------------


def _meta(params: Any) -> Any:
    return params.get("_meta") if isinstance(params, Mapping) else getattr(params, "meta", None)


def _is_model(value: Any) -> bool:
    return hasattr(value, "model_dump")
