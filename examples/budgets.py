"""A tenant with little money, an agent that never stops, and a report of who spent what.

    OPENAI_API_KEY=... python examples/budgets.py

Telemetry goes to a collector on http://localhost:4318; without one, set SEATRACE_EXPORTER=none or =console.
"""

from concurrent.futures import ThreadPoolExecutor

import openai

import seatrace
from seatrace.runtime import Budget, BudgetExceeded, BudgetState, CostTracker

seatrace.instrument(service_name="budgets")


def warn(state: BudgetState) -> None:
    tenant, spent = state.scope["tenant"], state.used / state.limit
    print(f"{tenant}: {spent:.0%} of the {state.name} budget spent, {state.reserved / state.limit:.0%} reserved")


tracker = CostTracker()
Budget(0.001, scope="tenant", window="day", name="daily", on_threshold=warn).watch()
Budget(5, unit="calls", window="run", name="steps").watch()

client = openai.OpenAI()


def ask(words: str, **options: int) -> None:
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": words}], **options)


@seatrace.agent("tireless")
def tireless() -> None:
    while True:
        ask("And then?", max_tokens=50)


def question(number: int) -> bool:
    with seatrace.session(tenant="ferries"):
        try:
            ask(f"When does ship {number} enter?", max_tokens=200)
        except BudgetExceeded:
            return False
        return True


with seatrace.session(tenant="harbour"):
    try:
        tireless()
    except BudgetExceeded as error:
        print(f"stopped after {error.spent:g} steps")

with ThreadPoolExecutor(20) as pool:
    made = list(pool.map(question, range(40)))
print(f"{sum(made)} of {len(made)} questions were asked, 20 at a time")
print(tracker.report(("tenant", "agent")))
client.close()
