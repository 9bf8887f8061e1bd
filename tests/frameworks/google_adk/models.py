"""Models for ADK's agents: one that asks the fake provider through the openai client, one that is in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from frameworks import crew
from seatrace.demo.fake_model import Ask, Piece, Tool, count_tokens


class Afar(BaseLlm):
    """Goes out through the openai client, which is observed itself."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        asked: dict[str, Any] = {"model": llm_request.model, "messages": list(_messages(llm_request))}
        if tools := [{"type": "function", "function": each} for each in _tools(llm_request)]:
            asked["tools"] = tools
        async with AsyncOpenAI(http_client=DefaultAsyncHttpxClient(verify=False)) as client:  # quick to make
            if not stream:
                answer = await client.chat.completions.create(**asked)
                yield _answer(answer.choices[0].message.content, answer.choices[0].message.tool_calls, answer.usage)
                return
            text, calls, usage = "", {}, None
            chunks = await client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
            async for chunk in chunks:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    for call in choice.delta.tool_calls or ():
                        known = calls.setdefault(call.index, call)
                        if known is not call:
                            known.function.arguments += call.function.arguments
                    if choice.delta.content:
                        text += choice.delta.content
                        said = types.Content(role="model", parts=[types.Part(text=choice.delta.content)])
                        yield LlmResponse(content=said, partial=True)
            yield _answer(text, list(calls.values()), usage)


class AtHand(BaseLlm):
    """Answers without anybody's client."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        pieces = [Piece(json.dumps(each)) for each in _messages(llm_request)]
        said = " ".join(part.function_call.name + "(" for part in _parts(llm_request) if part.function_call)
        tools = [Tool(each["name"], each["parameters"]) for each in _tools(llm_request)]
        reply = crew.captain(Ask(llm_request.model or "", [*pieces, Piece(said)], tools))
        if stream:
            for word in reply.text.split(" ") if reply.text else ():
                yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=word)]), partial=True)
        calls = [
            types.Part(function_call=types.FunctionCall(name=call.name, args=json.loads(call.arguments)))
            for call in reply.tool_calls
        ]
        yield LlmResponse(
            content=types.Content(role="model", parts=calls or [types.Part(text=reply.text)]),
            finish_reason=types.FinishReason.STOP,
            model_version="almanac-2",
            usage_metadata=types.GenerateContentResponseUsageMetadata(
                prompt_token_count=sum(count_tokens(piece.text) for piece in pieces),
                cached_content_token_count=1,
                candidates_token_count=reply.output_tokens,
                thoughts_token_count=2,
            ),
        )


def _answer(text: str | None, calls: Any, usage: Any) -> LlmResponse:
    parts = [
        types.Part(
            function_call=types.FunctionCall(
                id=call.id, name=call.function.name, args=json.loads(call.function.arguments)
            )
        )
        for call in calls or ()
    ]
    return LlmResponse(
        content=types.Content(role="model", parts=parts or [types.Part(text=text)]),
        finish_reason=types.FinishReason.STOP,
        usage_metadata=types.GenerateContentResponseUsageMetadata(
            prompt_token_count=usage.prompt_tokens, candidates_token_count=usage.completion_tokens
        ),
    )


def _parts(request: LlmRequest) -> Iterator[types.Part]:
    for content in request.contents:
        yield from content.parts or ()


def _messages(request: LlmRequest) -> Iterator[dict[str, Any]]:
    yield {"role": "system", "content": str(request.config.system_instruction or "")}
    for content in request.contents:
        for part in content.parts or ():
            if part.text:
                yield {"role": "assistant" if content.role == "model" else "user", "content": part.text}
            elif call := part.function_call:
                function = {"name": call.name, "arguments": json.dumps(call.args)}
                yield {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": function}]}
            elif answer := part.function_response:
                yield {"role": "tool", "tool_call_id": answer.id, "content": json.dumps(answer.response)}


def _tools(request: LlmRequest) -> Iterator[dict[str, Any]]:
    for tool in request.config.tools or ():
        for each in getattr(tool, "function_declarations", None) or ():
            schema = each.parameters_json_schema
            if schema is None and each.parameters is not None:
                schema = _lowered(each.parameters.model_dump(mode="json", exclude_none=True))
            empty = {"type": "object", "properties": {}}
            yield {"name": each.name, "description": each.description or "", "parameters": schema or empty}


def _lowered(schema: Any) -> Any:
    """Gemini writes the types of a JSON schema in capitals."""
    if not isinstance(schema, dict):
        return schema
    return {name: value.lower() if name == "type" else _lowered(value) for name, value in schema.items()}
