"""A worker process for ``test_jobs_sqlite.py``: ``python -m tests.runtime.killed_worker jobs.db``.

Jobs whose payload says so kill it, at their first attempt and once their bill is known to the file.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from contextlib import closing

from seatrace.runtime import Attempt, Queue, Worker


async def work(attempt: Attempt) -> int:
    attempt.add_cost(0.01)
    if attempt.payload["kills"] and attempt.number == 1:
        while not billed(attempt):
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return int(attempt.payload["number"])


def billed(attempt: Attempt) -> bool:
    with closing(sqlite3.connect(sys.argv[1])) as db:
        found = db.execute("SELECT 1 FROM bills WHERE id = ? AND fence = ?", (attempt.id, attempt.fence)).fetchone()
    return found is not None


if __name__ == "__main__":
    Worker(Queue("agents", f"sqlite:///{sys.argv[1]}"), work, concurrency=8, lease=4.0).run_sync(until_empty=True)
