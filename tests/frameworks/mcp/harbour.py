"""The harbour: an MCP server by the high-level API of the installed mcp, or by fastmcp; and a sailor who asks it.

As a program each of them is observed and exports its telemetry where the environment says:
``python -m frameworks.mcp.harbour serve|sail LIBRARY stdio|PORT [LIBRARY]``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from typing import Any

from frameworks.crew import chart, radio, tide

MODERN = int(version("mcp").split(".")[0]) > 1
LIBRARIES = ("mcp", "fastmcp")


def build(library: str) -> Any:
    """The server."""
    if library == "fastmcp":
        server = import_module("fastmcp").FastMCP("harbour")
    elif MODERN:
        server = import_module("mcp.server.mcpserver").MCPServer("harbour")
    else:
        server = import_module("mcp.server.fastmcp").FastMCP("harbour")
    for each in (tide, chart, radio, pilot, wait):
        server.tool()(each)

    @server.prompt()
    def log(day: str) -> str:
        """The log of a day."""
        return f"calm on {day}"

    @server.resource("harbour://plan")
    def plan() -> str:
        """The plan of the harbour."""
        return "berth 7"

    return server


async def pilot(question: str) -> str:
    """Asks a model."""
    import openai

    async with openai.AsyncOpenAI() as client:
        answer = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": question}]
        )
    return answer.choices[0].message.content or ""


async def wait(seconds: float) -> str:
    """Waits."""
    await asyncio.sleep(seconds)
    return "waited"


def serve(library: str, place: str) -> None:
    """Serves over stdio, or over HTTP on the port ``place``."""
    server = build(library)
    if place == "stdio":
        server.run(transport="stdio", **({"show_banner": False} if library == "fastmcp" else {}))
        return
    import uvicorn

    application = server.http_app(path="/mcp") if library == "fastmcp" else server.streamable_http_app()
    uvicorn.run(application, port=int(place), log_level="error")


@asynccontextmanager
async def aboard(place: str, library: str) -> AsyncIterator[Any]:
    """A client session with the server of ``library`` over stdio, or with what serves on the port ``place``."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client import streamable_http
    from mcp.client.stdio import stdio_client

    async with AsyncExitStack() as stack:
        if place == "stdio":
            arguments = ["-m", __spec__.name, "serve", library, place]
            parameters = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
            read, write = await stack.enter_async_context(stdio_client(parameters))
        else:
            connect: Any = streamable_http.streamable_http_client if MODERN else streamable_http.streamablehttp_client
            read, write, *_ = await stack.enter_async_context(connect(f"http://127.0.0.1:{place}/mcp"))
        session = await stack.enter_async_context(ClientSession(read, write))
        await session.initialize()
        yield session


@asynccontextmanager
async def fastmcp_aboard(place: str, library: str) -> AsyncIterator[Any]:
    """The same with fastmcp's client."""
    client = import_module("fastmcp").Client
    transports = import_module("fastmcp.client.transports")
    if place == "stdio":
        arguments = ["-m", __spec__.name, "serve", library, place]
        transport = transports.StdioTransport(sys.executable, arguments, env=dict(os.environ))
    else:
        transport = transports.StreamableHttpTransport(f"http://127.0.0.1:{place}/mcp")
    async with client(transport) as session:
        yield session


async def sail(library: str, place: str, of: str) -> None:
    """Asks the harbour for everything, in the run of an agent."""
    import seatrace

    async with (aboard if library == "mcp" else fastmcp_aboard)(place, of) as session:
        with seatrace.session(conversation="c1", tenant="acme", propagate=True), seatrace.agent("captain"):
            await session.list_tools()
            await asyncio.gather(
                session.call_tool("tide", {"port": "Oban"}), session.call_tool("chart", {"port": "Oban"})
            )
            with suppress(Exception):  # fastmcp's client raises, mcp's does not
                await session.call_tool("radio", {"channel": 3})
            with seatrace.tool("pilot"):
                await session.call_tool("pilot", {"question": "Where?"})
            await session.get_prompt("log", {"day": "Monday"})
            await session.read_resource("harbour://plan")


if __name__ == "__main__":
    import seatrace

    what, library, *rest = sys.argv[1:]
    seatrace.instrument(service_name=what)
    if what == "serve":
        serve(library, *rest)
    else:
        asyncio.run(sail(library, *rest))
