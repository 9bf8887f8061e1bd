"""The fake provider, driven with the real client libraries."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from seatrace.demo.provider import Arrival, FakeProvider, Fault, PortTakenError

HELLO: Any = [{"role": "user", "content": "How high is the tide?"}]
LONG = "Answer as a harbour pilot would. " * 200
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Brest"]}}, "required": ["city"]}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
CLAUDE_TOOLS: Any = [{"name": "weather", "input_schema": PARAMETERS}]
GPT = "gpt-5-mini"
CLAUDE = "claude-sonnet-5"


@contextlib.contextmanager
def gpt(provider: FakeProvider, **options: Any) -> Iterator[openai.OpenAI]:
    transport = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="none", http_client=transport, **options) as client:
        yield client


@contextlib.contextmanager
def claude(provider: FakeProvider, **options: Any) -> Iterator[anthropic.Anthropic]:
    transport = anthropic.DefaultHttpxClient(trust_env=False)
    with anthropic.Anthropic(base_url=provider.url, api_key="none", http_client=transport, **options) as client:
        yield client


def test_a_chat_answer_carries_the_usage_that_was_served() -> None:
    with FakeProvider() as provider, gpt(provider) as client:
        answer = client.chat.completions.create(model=GPT, messages=HELLO)
    assert answer.model == "gpt-5-mini-2025-08-07"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content
    (served,) = provider.served
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert (served.input_tokens, served.output_tokens) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert served.reasoning_tokens == answer.usage.completion_tokens_details.reasoning_tokens
    assert served.completed


def test_a_streamed_chat_says_the_same_as_a_plain_one() -> None:
    with FakeProvider() as provider, gpt(provider) as client:
        plain = client.chat.completions.create(model=GPT, messages=HELLO)
        with client.chat.completions.create(
            model=GPT, messages=HELLO, stream=True, stream_options={"include_usage": True}
        ) as stream:
            chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == plain.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage == plain.usage


def test_a_stream_without_include_usage_carries_none() -> None:
    with FakeProvider() as provider, gpt(provider) as client:
        chunks = list(client.chat.completions.create(model=GPT, messages=HELLO, stream=True))
    assert [chunk.usage for chunk in chunks if chunk.usage] == []


def test_a_tool_loop_ends_in_an_answer() -> None:
    messages: Any = list(HELLO)
    with FakeProvider() as provider, gpt(provider) as client:
        for _round in range(3):
            message = client.chat.completions.create(model=GPT, messages=messages, tools=TOOLS).choices[0].message
            if not message.tool_calls:
                break
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls:
                assert call.type == "function"
                assert json.loads(call.function.arguments) == {"city": "Brest"}
                messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    assert message.content
    assert len(messages) > len(HELLO)


def test_streamed_tool_calls_are_put_together_by_the_client() -> None:
    with FakeProvider() as provider, gpt(provider) as client:
        with client.chat.completions.stream(model=GPT, messages=HELLO, tools=TOOLS) as stream:
            choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Brest"}


def test_a_schema_is_followed() -> None:
    schema = {"type": "object", "properties": {"high": {"type": "boolean"}}, "required": ["high"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "tide", "schema": schema, "strict": True}}
    with FakeProvider() as provider, gpt(provider) as client:
        answer = client.chat.completions.create(model=GPT, messages=HELLO, response_format=form)
    assert set(json.loads(answer.choices[0].message.content or "")) == {"high"}


def test_responses_plain_and_streamed() -> None:
    with FakeProvider() as provider, gpt(provider) as client:
        plain = client.responses.create(model="gpt-5.4", input="How high is the tide?")
        with client.responses.stream(model="gpt-5.4", input="How high is the tide?") as stream:
            streamed = stream.get_final_response()
    assert plain.model == "gpt-5.4-2026-03-05"
    assert plain.output_text
    assert (streamed.output_text, streamed.usage, streamed.status) == (plain.output_text, plain.usage, "completed")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_responses_call_tools(stream: bool) -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}]
    request: Any = {"model": "gpt-5.4", "input": "How high is the tide?", "tools": tools}
    with FakeProvider() as provider, gpt(provider) as client:
        if stream:
            with client.responses.stream(**request) as events:
                response = events.get_final_response()
        else:
            response = client.responses.create(**request)
    calls = [item for item in response.output if item.type == "function_call"]
    assert [json.loads(call.arguments) for call in calls] == [{"city": "Brest"}]


def test_a_response_that_is_cut_short_says_so() -> None:
    with FakeProvider() as provider, gpt(provider) as client:
        response = client.responses.create(model="gpt-5.4", input="How high is the tide?", max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("packed", ["base64", "float"])
def test_embeddings(packed: Any) -> None:
    with FakeProvider() as provider, gpt(provider) as client:
        answer = client.embeddings.create(
            model="text-embedding-3-small", input=["ebb", "flood"], dimensions=8, encoding_format=packed
        )
    assert [item.index for item in answer.data] == [0, 1]
    vector = answer.data[0].embedding
    if packed == "float":
        assert len(vector) == 8
    assert answer.usage.prompt_tokens == provider.served[0].input_tokens == 3


def test_a_message_plain_and_streamed() -> None:
    with FakeProvider() as provider, claude(provider) as client:
        plain = client.messages.create(model=CLAUDE, max_tokens=900, messages=HELLO)
        with client.messages.stream(model=CLAUDE, max_tokens=900, messages=HELLO) as stream:
            text = "".join(stream.text_stream)
            streamed = stream.get_final_message()
    assert plain.content[0].type == "text"
    assert text == plain.content[0].text
    assert streamed.usage.output_tokens == plain.usage.output_tokens == provider.served[0].output_tokens
    assert streamed.stop_reason == "end_turn"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_messages_call_tools(stream: bool) -> None:
    request: Any = {"model": CLAUDE, "max_tokens": 900, "messages": HELLO, "tools": CLAUDE_TOOLS}
    with FakeProvider() as provider, claude(provider) as client:
        if stream:
            with client.messages.stream(**request) as events:
                message = events.get_final_message()
        else:
            message = client.messages.create(**request)
    assert message.stop_reason == "tool_use"
    assert [block.input for block in message.content if block.type == "tool_use"] == [{"city": "Brest"}]


def test_token_counting_agrees_with_the_bill() -> None:
    with FakeProvider() as provider, claude(provider) as client:
        counted = client.messages.count_tokens(model=CLAUDE, messages=HELLO, system="Be brief.")
        message = client.messages.create(model=CLAUDE, max_tokens=900, messages=HELLO, system="Be brief.")
    assert counted.input_tokens == message.usage.input_tokens


@pytest.mark.parametrize(("lifetime", "kept_1h"), [("5m", False), ("1h", True)])
def test_a_marked_prefix_is_written_once_and_then_read(lifetime: Any, kept_1h: bool) -> None:
    system: Any = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": lifetime}}]
    with FakeProvider() as provider, claude(provider) as client:
        first, second = (
            client.messages.create(
                model=CLAUDE, max_tokens=900, system=system, messages=[{"role": "user", "content": question}]
            ).usage
            for question in ("How high is the tide?", "And tomorrow?")
        )
    length = math.ceil(len("system: " + LONG) / 4)
    assert (first.cache_creation_input_tokens, first.cache_read_input_tokens) == (length, 0)
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, length)
    assert first.cache_creation is not None
    assert first.cache_creation.ephemeral_1h_input_tokens == (length if kept_1h else 0)
    served = provider.served[1]
    assert served.input_tokens == second.input_tokens + length


def test_a_long_prompt_is_read_from_the_cache_in_whole_blocks() -> None:
    messages: Any = [{"role": "system", "content": LONG}, *HELLO]
    with FakeProvider() as provider, gpt(provider) as client:
        for _ in range(2):
            client.chat.completions.create(model=GPT, messages=messages)
        client.chat.completions.create(model="gpt-4o", messages=messages)
    first, second, other_model = provider.served
    assert (first.cache_read, other_model.cache_read) == (0, 0)
    assert second.cache_read == 1536
    assert second.input_tokens is not None
    assert second.cache_read <= second.input_tokens


def test_the_clients_retry_what_the_schedule_breaks() -> None:
    schedule = {1: Fault(429, retry_after=0.01), 2: Fault(500, retry_after=0.01), 4: Fault(529, retry_after=0.01)}
    with FakeProvider(schedule=schedule) as provider, gpt(provider) as client, claude(provider) as other:
        client.chat.completions.create(model=GPT, messages=HELLO)
        other.messages.create(model=CLAUDE, max_tokens=900, messages=HELLO)
    assert [served.status for served in provider.served] == [429, 500, 200, 529, 200]


@pytest.mark.parametrize(
    ("status", "ours", "theirs"),
    [
        (400, openai.BadRequestError, anthropic.BadRequestError),
        (404, openai.NotFoundError, anthropic.NotFoundError),
        (429, openai.RateLimitError, anthropic.RateLimitError),
        (500, openai.InternalServerError, anthropic.InternalServerError),
    ],
)
def test_errors_are_the_clients_own(status: int, ours: type[Exception], theirs: type[Exception]) -> None:
    schedule = {1: Fault(status), 2: Fault(status)}
    with FakeProvider(schedule=schedule) as provider:
        with gpt(provider, max_retries=0) as client, pytest.raises(ours) as error:
            client.chat.completions.create(model=GPT, messages=HELLO)
        with claude(provider, max_retries=0) as other, pytest.raises(theirs):
            other.messages.create(model=CLAUDE, max_tokens=900, messages=HELLO)
    assert isinstance(error.value, openai.APIStatusError)
    assert error.value.request_id
    assert error.value.request_id.startswith("req_")


def test_an_unknown_model_is_refused() -> None:
    with FakeProvider() as provider, gpt(provider) as client, claude(provider) as other:
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.responses.create(model="retired", input="?")
        with pytest.raises(anthropic.NotFoundError, match="model: retired"):
            other.messages.create(model="retired", max_tokens=9, messages=HELLO)


def test_a_failure_in_mid_stream_reaches_the_client() -> None:
    schedule = {number: Fault(529, after_chunks=3) for number in (1, 2, 3)}
    with FakeProvider(schedule=schedule) as provider, gpt(provider) as client, claude(provider) as other:
        with pytest.raises(openai.APIError):
            list(client.chat.completions.create(model=GPT, messages=HELLO, stream=True))
        events = list(client.responses.create(model="gpt-5.4", input="?", stream=True))
        assert events[-1].type == "error"  # the one endpoint whose client hands the error on as an event
        with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            list(other.messages.create(model=CLAUDE, max_tokens=900, messages=HELLO, stream=True))
    assert [(served.status, served.completed) for served in provider.served] == [(200, False)] * 3


def test_a_cut_stream_breaks_in_the_clients_hands() -> None:
    with FakeProvider(schedule={1: Fault(None, after_chunks=2)}) as provider, claude(provider) as client:
        stream = client.messages.create(model=CLAUDE, max_tokens=900, messages=HELLO, stream=True)
        with pytest.raises(Exception, match=r"closed|incomplete|peer"):
            list(stream)
    assert [served.completed for served in provider.served] == [False]


async def test_async_clients_are_served_side_by_side() -> None:
    with FakeProvider(latency=0.02) as provider:
        async with openai.AsyncOpenAI(
            base_url=f"{provider.url}/v1", api_key="none", http_client=openai.DefaultAsyncHttpxClient(trust_env=False)
        ) as client:
            stream = await client.chat.completions.create(model=GPT, messages=HELLO, stream=True)
            chunks = [chunk async for chunk in stream]
        async with anthropic.AsyncAnthropic(
            base_url=provider.url, api_key="none", http_client=anthropic.DefaultAsyncHttpxClient(trust_env=False)
        ) as other:
            async with other.messages.stream(model=CLAUDE, max_tokens=900, messages=HELLO) as events:
                message = await events.get_final_message()
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert message.stop_reason == "end_turn"


def test_equal_seeds_serve_equal_answers() -> None:
    def served(seed: int) -> list[Any]:
        with FakeProvider(seed=seed) as provider, gpt(provider) as client:
            for question in "abc":
                client.chat.completions.create(model=GPT, messages=[{"role": "user", "content": question}])
            return list(provider.served)

    assert served(7) == served(7)
    assert served(7) != served(8)


def test_a_schedule_may_be_a_function_of_the_arrival() -> None:
    arrivals: list[Arrival] = []
    with FakeProvider(schedule=lambda arrival: arrivals.append(arrival)) as provider, gpt(provider) as client:
        client.chat.completions.create(model=GPT, messages=HELLO)
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    path = "/v1/chat/completions"
    assert arrivals == [Arrival(1, GPT, 1, path), Arrival(2, "gpt-4o", 1, path)]


def test_a_taken_port_is_said_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"port {port} on 127\.0\.0\.1 is taken .* --port"):
            FakeProvider(port=port).start()


def test_closing_leaves_no_thread_and_no_listener() -> None:
    with FakeProvider() as provider:
        port = int(provider.url.rpartition(":")[2])
    assert "seatrace-fake-provider" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
