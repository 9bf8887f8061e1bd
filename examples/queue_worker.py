"""A queue in a SQLite file: jobs outlive the program that sent them, and a failed attempt is made again.

    python examples/queue_worker.py

Needs no service and no key. The trace: a span `send reports` for each job, and one `process reports` for each attempt
at it, linked to the sender's.
"""

import tempfile
from pathlib import Path

import seatrace
from seatrace.runtime import Attempt, Backoff, Queue, Worker

seatrace.instrument(service_name="reports", exporter="none")


def report(attempt: Attempt) -> dict:
    """Works on one job. Model calls in here are counted into it; what else costs money is added by hand."""
    attempt.add_cost(0.002)
    harbour = attempt.payload["harbour"]
    if harbour == "Brest" and attempt.number == 1:
        raise ConnectionError("the tide tables are away")
    return {"harbour": harbour, "attempts": attempt.number, "fence": attempt.fence}


with tempfile.TemporaryDirectory() as folder:
    # --- the program that has work to give away
    queue = Queue("reports", f"sqlite:///{Path(folder, 'jobs.db')}")
    jobs = []
    with seatrace.session(tenant="pilots"):
        for harbour in ("Hamburg", "Brest", "Porto"):
            jobs.append(
                queue.enqueue_sync(
                    "report", {"harbour": harbour}, idempotency_key=f"today/{harbour}", backoff=Backoff(base=0.1)
                )
            )
    # Sent twice, since an answer was lost: it is the same job.
    again = queue.enqueue_sync("report", {"harbour": "Porto"}, idempotency_key="today/Porto")
    print("the same job:", again.id == jobs[2].id)

    # --- the worker; elsewhere it is a program of its own that ends with `Worker(...).run_sync()`
    Worker(queue, {"report": report}, concurrency=4, max_cost_per_job=0.05).run_sync(until_empty=True)

    # --- whoever waits for the results
    for job in jobs:
        print(job.result_sync(timeout=10), f"cost {job.state_sync().cost:.3f} USD")
    queue.close_sync()
