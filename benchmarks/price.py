"""Microseconds of CPU to price one call, beside ``genai_prices.calc_price``, in one interleaved run.

    python -m benchmarks.price [--check] [--repeats 30]

Each repeat prices the same calls with both, in turn; the figure is the best of all repeats, which is what the code
costs on a machine that does nothing else. Loading the bundled prices is timed once, in a fresh process.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections.abc import Callable
from time import process_time_ns

import genai_prices

from seatrace.core.record import Call, Usage
from seatrace.process.price import PriceBook

MODELS = [
    ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
    ("openai", "gpt-5.6-sol", "gpt-5.6-sol"),
    ("anthropic", "claude-opus-5-5", "claude-opus-5-5"),
    ("anthropic", "claude-haiku-5-5-20261001", "claude-haiku-5-5"),
    ("google", "gemini-2.5-pro", "gemini-2.5-pro"),
    ("deepseek", "deepseek-v4-pro", "deepseek-v4-pro"),
    ("openrouter", "openai/gpt-6-sol", "openai/gpt-6-sol"),
]
CALLS = 700
REACH = 5.0
"""Microseconds of CPU that a price may cost."""
LOAD = """
from time import process_time_ns as clock
started = clock()
from seatrace.process.price import PriceBook
imported = clock()
PriceBook().basis
print((imported - started) / 1e6, (clock() - imported) / 1e6)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 above the reach")
    parser.add_argument("--repeats", type=int, default=30)
    chosen = parser.parse_args()
    repeats = chosen.repeats

    calls = list(make_calls(random.Random(1)))
    usages = [
        genai_prices.Usage(
            input_tokens=call.usage.input_tokens,
            output_tokens=call.usage.output_tokens,
            cache_read_tokens=call.usage.cache_read,
            cache_write_tokens=call.usage.cache_write,
        )
        for call in calls
        if call.usage is not None
    ]
    book = PriceBook()

    def ours() -> None:
        price = book.price
        for call in calls:
            price(call)

    def theirs() -> None:
        for call, usage in zip(calls, usages, strict=True):
            genai_prices.calc_price(usage, call.response_model or "", provider_id=call.provider)

    best = {ours: float("inf"), theirs: float("inf")}
    for each in best:
        each()  # warm up
    for _ in range(repeats):
        for each, known in best.items():
            best[each] = min(known, time_once(each) / CALLS)

    load = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True).stdout.split()
    print(f"import {float(load[0]):.1f} ms, load the bundled prices {float(load[1]):.1f} ms (once, CPU)")
    above = best[ours] > REACH
    sign = "✗" if above else "✓"
    print(f"PriceBook.price          {best[ours]:7.2f} µs a call (CPU, best of {repeats}; reach ≤ {REACH:g} {sign})")
    print(f"genai_prices.calc_price  {best[theirs]:7.2f} µs a call")
    print(f"ratio                    {best[ours] / best[theirs]:7.3f}")
    return 1 if chosen.check and above else 0


def make_calls(rng: random.Random) -> list[Call]:
    """Calls as the shapes fill them: plain, with cache reads, with cache writes."""
    calls = []
    for index in range(CALLS):
        provider, response_model, request_model = MODELS[index % len(MODELS)]
        read, write = rng.choice([(None, None), (rng.randrange(50_000), None), (rng.randrange(9_000), 2_000)])
        call = Call("inference", "chat", provider=provider, request_model=request_model)
        call.response_model = response_model
        call.usage = Usage(
            input_tokens=rng.randrange(300_000) + (read or 0) + (write or 0),
            output_tokens=rng.randrange(4_000),
            cache_read=read,
            cache_write=write,
        )
        calls.append(call)
    return calls


def time_once(work: Callable[[], None]) -> float:
    """Microseconds of this process's CPU time."""
    started = process_time_ns()
    work()
    return (process_time_ns() - started) / 1e3


if __name__ == "__main__":
    sys.exit(main())
