"""An MCP server on stdio with one tool, ``sonar``, which fails in the protocol's own way."""

from __future__ import annotations

import json
import sys
from typing import Any

SONAR = {"name": "sonar", "description": "Listens.", "inputSchema": {"type": "object", "properties": {}}}


def answer(method: str, params: Any) -> Any:
    if method == "initialize":
        version = params["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
    if method == "tools/list":
        return {"tools": [SONAR]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": "no echo"}], "isError": True}
    return {}


for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        told = {"jsonrpc": "2.0", "id": asked["id"], "result": answer(asked["method"], asked.get("params"))}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
