"""The same questions again and again: paid for once, a hundred at once included, and a tool that is asked once.

    OPENAI_API_KEY=... python examples/response_cache.py

On Redis instead of memory: ResponseCache("redis://localhost:6379/0"), with pip install 'seatrace[redis]'.
"""

import asyncio

import openai

import seatrace
from seatrace.runtime import ResponseCache, cached_tool, tool_cache

seatrace.instrument(service_name="response-cache")

cache = ResponseCache("memory://?max_entries=1000&max_bytes=64MB", name="answers", ttl=3600, stale_if_error=600)


@cached_tool(60, read_only=True)
@seatrace.tool
def water_level(harbour: str) -> str:
    """The level at the gauge."""
    print(f"  (the gauge at {harbour} is read)")
    return "5.1 m"


async def main() -> None:
    client = cache.instrument_client(openai.AsyncOpenAI())
    question = {"role": "user", "content": f"The water at Hamburg stands at {water_level('Hamburg')}. Is that much?"}

    async def ask() -> str:
        reply = await client.chat.completions.create(model="gpt-4o-mini", messages=[question], temperature=0)
        return reply.choices[0].message.content or ""

    with seatrace.session(tenant="acme"):
        answers = await asyncio.gather(*(ask() for _ in range(100)))
        print(f"{len(answers)} answers, {len(set(answers))} of them different: {answers[0]}")

        for _ in range(2):  # the second time out of the cache, chunk by chunk
            chunks = await client.chat.completions.create(
                model="gpt-4o-mini", messages=[question], temperature=0, stream=True
            )
            print("".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices]))

    with seatrace.session(tenant="umbrella"):
        await ask()  # another tenant: a call of its own
    await client.close()


asyncio.run(main())
water_level("Hamburg")

stats = cache.stats()
print(f"calls: {stats.misses}, hits: {stats.hits}, shared a call: {stats.coalesced}; {stats.hit_rate:.0%} not paid for")
print(f"saved: {stats.saved_cost:.6f} USD, {stats.saved_tokens} tokens")
print(f"hits of the tool: {tool_cache(water_level).stats().hits}")
