"""Thirty questions asked one by one become one call for their embeddings, and each tenant pays its share.

    OPENAI_API_KEY=... python examples/batching.py

Telemetry goes to a collector on http://localhost:4318; without one, set SEATRACE_EXPORTER=none or =console.
"""

import asyncio
from collections import Counter

import openai

import seatrace
from seatrace.runtime import Batcher, BatchReport, parallel

seatrace.instrument(service_name="batching")

client = openai.AsyncOpenAI()
bill: Counter[str] = Counter()


async def embed(texts: list[str]) -> list[list[float]]:
    answer = await client.embeddings.create(model="text-embedding-3-small", input=texts)
    return [each.embedding for each in answer.data]


def book(report: BatchReport) -> None:
    print(f"a batch of {report.size} questions, closed by {report.reason}")
    for share in report.shares:
        bill[share.scope.tenant or "nobody"] += share.input_tokens or 0


async def main() -> None:
    async with Batcher(embed, name="embed", max_wait=0.05, weight=len, on_batch=book) as batcher:

        async def ask(number: int) -> int:
            with seatrace.session(tenant="harbour" if number % 3 else "ferries"):
                return len(await batcher.submit(f"When does ship {number} enter?"))

        outcomes = await parallel([lambda number=number: ask(number) for number in range(30)], limit=None)
        print(f"{len(outcomes.values)} vectors of {outcomes.values[0]} numbers")
    for tenant, tokens in sorted(bill.items()):
        print(f"{tenant}: {tokens} tokens")
    await client.close()


asyncio.run(main())
