"""Anthropic's stream helper, asynchronous, three at a time, each conversation under its own name.

ANTHROPIC_API_KEY=... python examples/anthropic_stream.py
"""

import asyncio

import anthropic

import seatrace

seatrace.instrument(service_name="anthropic-stream")

client = anthropic.AsyncAnthropic()


async def answer(number: int, question: str) -> None:
    with seatrace.session(conversation=f"c-{number}", user="u-17"):
        async with client.messages.stream(
            model="claude-haiku-4-5", max_tokens=200, messages=[{"role": "user", "content": question}]
        ) as stream:
            async for _text in stream.text_stream:
                pass
            message = await stream.get_final_message()
    print(f"{question} {message.usage.output_tokens} tokens, {message.stop_reason}")


def told(call: seatrace.Call) -> None:
    print(f"{call.conversation_id}: first chunk after {1000 * (call.time_to_first_chunk or 0):.0f} ms")


seatrace.on_call(told)


async def main() -> None:
    questions = ("What is a spring tide?", "What is a neap tide?", "What is slack water?")
    await asyncio.gather(*(answer(number, question) for number, question in enumerate(questions, start=1)))
    await client.close()


asyncio.run(main())
