"""Runs sessions of noxfile.py, as many at once as there are cores, and prints what each said when it has ended.

    python scripts/sessions.py newest oldest otel      # all sessions of these names
    python scripts/sessions.py frameworks -k langchain # those whose name has the word, too

Exit code 1 if one of them failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

NOX = (sys.executable, "-m", "nox")


def sessions(names: list[str]) -> list[str]:
    """What `nox --list` calls them, e.g. ``oldest(library='openai')``."""
    listed = subprocess.run(
        [*NOX, "--list", "--json", "--sessions", *names], capture_output=True, text=True, check=True
    )
    return [each["session"] for each in json.loads(listed.stdout)]


def run(session: str) -> tuple[int, str, float]:
    """Runs one: exit code, output, seconds."""
    started = time.monotonic()
    done = subprocess.run(
        [*NOX, "--sessions", session], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout, time.monotonic() - started


def main() -> int:
    """Runs them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", help="names of sessions")
    parser.add_argument("-k", default="", metavar="WORD", help="only those with this word in their name")
    chosen = parser.parse_args()
    wanted = [each for each in sessions(chosen.names) if chosen.k in each]
    if not wanted:
        raise SystemExit(f"no session of {', '.join(chosen.names)} has {chosen.k!r} in its name")
    failed = []
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        running = {workers.submit(run, each): each for each in wanted}
        for number, done in enumerate(as_completed(running), 1):
            code, output, seconds = done.result()
            print(output, end="", flush=True)
            print(
                f"[{number}/{len(wanted)}] {running[done]}: {'failed' if code else 'passed'}, {seconds:.0f} s\n",
                flush=True,
            )
            if code:
                failed.append(running[done])
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
