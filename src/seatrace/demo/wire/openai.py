"""What all of OpenAI's endpoints share: headers, error bodies, dated model names, tools."""

from __future__ import annotations

from random import Random
from typing import Any, Literal

from seatrace.demo.fake_model import Ask, Tool
from seatrace.demo.prompt_cache import Hit, PromptCache

from . import Body, RequestError, Turn

_DATED = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "gpt-5.4": "gpt-5.4-2026-03-05",
    "gpt-5.5": "gpt-5.5-2026-04-23",
}
_KNOWN = ("gpt-", "o1", "o3", "o4", "text-embedding-")
_REQUESTS = 10_000
_TOKENS = 2_000_000


def dated(model: str) -> str:
    """The name under which ``model`` answers.

    Raises:
        RequestError: if OpenAI has no model of that kind.
    """
    if not model.startswith(_KNOWN):
        raise RequestError(404, f"The model `{model}` does not exist or you do not have access to it.")
    return _DATED.get(model, model)


def required(body: Body, name: str) -> Any:
    if body.get(name) in (None, ""):
        raise RequestError(400, f"Missing required parameter: '{name}'.")
    return body[name]


def offered(tools: Any) -> list[Tool]:
    """The function tools of a request in chat's nested or the responses' flat form."""
    functions = [tool.get("function", tool) for tool in tools or () if tool.get("type") == "function"]
    return [Tool(function["name"], function.get("parameters") or {}) for function in functions]


def tool_choice(choice: Any) -> Literal["auto", "none", "required"]:
    """A request's ``tool_choice``; naming a tool requires one."""
    if choice in (None, "auto"):
        return "auto"
    return "none" if choice == "none" else "required"


def hit(cache: PromptCache, ask: Ask) -> Hit:
    return cache.automatic(ask.model, ask.pieces)


def input_tokens(turn: Turn) -> int:
    """Each message costs three tokens more than its text."""
    return turn.ask.input_tokens + 3 * len(turn.ask.pieces)


def error(status: int, message: str | None, model: str) -> Body:
    kind, code, default = {
        400: ("invalid_request_error", "missing_required_parameter", "Bad request."),
        401: ("invalid_request_error", "invalid_api_key", "You didn't provide an API key."),
        404: ("invalid_request_error", "model_not_found", "Not found."),
        429: ("tokens", "rate_limit_exceeded", f"Rate limit reached for {model} on tokens per min (TPM)."),
    }.get(status, ("server_error", None, "The server had an error while processing your request. Sorry about that!"))
    return {"error": {"message": message or default, "type": kind, "param": None, "code": code}}


def headers(number: int, numbers: Random) -> dict[str, str]:
    return {
        "x-request-id": f"req_{numbers.getrandbits(128):032x}",
        "openai-processing-ms": str(numbers.randint(40, 900)),
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": str(_REQUESTS),
        "x-ratelimit-limit-tokens": str(_TOKENS),
        "x-ratelimit-remaining-requests": str(max(_REQUESTS - number, 0)),
        "x-ratelimit-remaining-tokens": str(max(_TOKENS - 700 * number, 0)),
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "20ms",
    }
