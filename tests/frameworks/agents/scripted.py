"""A model of the program's own, which calls no client: it says what it was told to, in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agents import Model, ModelResponse
from agents.usage import Usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseUsage,
)
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails


def says(text: str) -> Any:
    part = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[part])


def calls(name: str, arguments: str = "{}") -> Any:
    return ResponseFunctionToolCall(type="function_call", call_id=f"call {name}", name=name, arguments=arguments)


class Scripted(Model):
    """Each answer costs 7 and 3 tokens; ``unknown``: it does not know what it costs."""

    def __init__(self, *answers: Any, unknown: bool = False) -> None:
        self.model = "parrot"
        self.answers = list(answers)
        self.unknown = unknown

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        usage = Usage() if self.unknown else Usage(requests=1, input_tokens=7, output_tokens=3, total_tokens=10)
        return ModelResponse(output=self._next(), usage=usage, response_id="r1")

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        inner = InputTokensDetails.model_construct(cached_tokens=0)
        outer = OutputTokensDetails(reasoning_tokens=0)
        usage = ResponseUsage(
            input_tokens=7, input_tokens_details=inner, output_tokens=3, output_tokens_details=outer, total_tokens=10
        )
        response = Response.model_construct(
            id="r1", model="parrot", output=self._next(), usage=None if self.unknown else usage, status="completed"
        )
        yield ResponseCompletedEvent.model_construct(type="response.completed", response=response, sequence_number=0)

    def _next(self) -> list[Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [says(answer) if isinstance(answer, str) else answer]
