"""The harbour's MCP server: made with whichever high-level API the installed mcp has, or with fastmcp. Run as a module
it serves over stdio, observed, and exports its spans where the environment says."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any

from frameworks.crew import chart, radio, tide

MODERN = version("mcp").startswith("2.")
ENDPOINT = "/mcp"


def build(kind: str) -> Any:
    """The server, by ``mcp`` or ``fastmcp``."""
    if kind == "fastmcp":
        server = import_module("fastmcp").FastMCP("harbour")
    elif MODERN:
        server = import_module("mcp.server.mcpserver").MCPServer("harbour")
    else:
        server = import_module("mcp.server.fastmcp").FastMCP("harbour")
    server.tool()(tide)
    server.tool()(chart)
    server.tool()(radio)

    @server.tool()  # type: ignore[untyped-decorator]
    async def pilot(question: str) -> str:
        """Asks a model."""
        import openai

        async with openai.AsyncOpenAI() as client:
            answer = await client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": question}]
            )
        return answer.choices[0].message.content or ""

    @server.tool()  # type: ignore[untyped-decorator]
    async def wait(seconds: float) -> str:
        """Waits."""
        await asyncio.sleep(seconds)
        return "waited"

    @server.prompt()  # type: ignore[untyped-decorator]
    def log(day: str) -> str:
        """The log of a day."""
        return f"calm on {day}"

    @server.resource("harbour://plan")  # type: ignore[untyped-decorator]
    def plan() -> str:
        """The plan of the harbour."""
        return "berth 7"

    return server


def application(server: Any) -> Any:
    """The server as an ASGI application."""
    if hasattr(server, "http_app"):
        return server.http_app(path=ENDPOINT)
    return server.streamable_http_app()


if __name__ == "__main__":
    import seatrace

    seatrace.instrument(service_name="harbour")
    served = build(sys.argv[1])
    if sys.argv[1] == "fastmcp":
        served.run(transport="stdio", show_banner=False)
    else:
        served.run(transport="stdio")
