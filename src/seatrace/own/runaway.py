"""Agents that run in circles or take too much: seen within their run, told once, and stopped where that is wanted.

Of a run are kept the digests of its last tool calls and how many calls failed in a row; no arguments, no content.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from seatrace.core import guard, signals
from seatrace.core.context import Run
from seatrace.core.pipeline import Refused
from seatrace.core.record import Call, Content
from seatrace.emit import semconv as names
from seatrace.emit.catalogue import LOOPS
from seatrace.errors import SeatraceError

from .digest import digest

Reason = Literal["repeat", "alternation", "errors", "steps", "cost"]
REASONS: Final[tuple[Reason, ...]] = ("repeat", "alternation", "errors", "steps", "cost")

_AGENTS_LIMIT = 500
_STAGE = "look for loops"


@dataclass(frozen=True, slots=True)
class Runaway:
    """What was seen of a run. ``reason``: ``repeat`` (the same tool with the same arguments, several times in a row),
    ``alternation`` (two such calls in turn), ``errors`` (failed calls in a row), ``steps`` or ``cost`` (more than the
    limit)."""

    agent: str | None
    reason: Reason
    steps: int
    """Model calls that the run made itself."""
    cost: float | None
    """USD so far, sub-agents included; ``None`` where no price is known."""
    tool: str | None
    """The tool that was called last, where it is about tools."""


class RunawayAgent(SeatraceError, Refused):
    """A call is not made, since its agent's run is a runaway: ``error.runaway`` says what was seen. Only where the
    setting ``on_runaway`` asks for it."""

    def __init__(self, runaway: Runaway) -> None:
        self.runaway = runaway
        cost = "unknown cost" if runaway.cost is None else f"{runaway.cost:.4f} USD"
        super().__init__(
            f"the run of agent {runaway.agent!r} is stopped by on_runaway: {_WORDS[runaway.reason]} "
            f"({runaway.steps} steps, {cost}). Catch seatrace.RunawayAgent around the agent, or raise the limit."
        )

    def __reduce__(self) -> Any:
        return type(self), (self.runaway,)


_WORDS: Final[dict[Reason, str]] = {
    "repeat": "it called the same tool with the same arguments again and again",
    "alternation": "it made the same two tool calls in turn, again and again",
    "errors": "its calls failed again and again",
    "steps": "it takes more steps than max_steps",
    "cost": "it costs more than its limit",
}

Action = Literal["report", "raise"] | Callable[[Runaway], object]
"""A function is told once a run and reason, in the run's thread; if it returns something true, the run is stopped."""


class Detector:
    """Makes the watches of all runs of one ``instrument()``."""

    def __init__(self, *, repeats: int, max_steps: int | None, max_cost: float | None, action: Action) -> None:
        self.repeats = repeats
        self.max_steps = max_steps
        self.max_cost = max_cost
        self._action = action
        self._agents: set[str | None] = set()

    def watch(self, call: Call) -> Watch:
        """The watch of the run that ``call`` begins. The counters of an agent that is new start at zero."""
        agent = call.name
        if agent not in self._agents and len(self._agents) < _AGENTS_LIMIT:
            self._agents.add(agent)
            for reason in REASONS:
                signals.measure(LOOPS, 0, _labels(agent, reason))
        return Watch(self, call)

    def stops(self, runaway: Runaway) -> bool:
        """Does what the settings say; whether the run is to be stopped."""
        if not callable(self._action):
            return self._action == "raise"
        try:
            return bool(self._action(runaway))
        except Exception as error:
            guard.fault("notify a listener", error)
            return False


class Watch:
    """One run (:class:`seatrace.core.context.RunWatch`)."""

    def __init__(self, detector: Detector, call: Call) -> None:
        self.stopped: Runaway | None = None
        self.max_steps = detector.max_steps if call.max_steps is None else call.max_steps
        self._max_cost = detector.max_cost if call.max_cost is None else call.max_cost
        self._detector = detector
        self._call = call
        self._run: Run = call.run
        self._lock = threading.Lock()
        self._recent: deque[int] = deque(maxlen=2 * detector.repeats)
        self._failed = 0
        self._executes = False
        """The run's tools are observed themselves; until one is, those count that its model asks for."""
        self._told: set[Reason] = set()

    def asked(self, call: Call, content: Content) -> None:
        """Takes the digest of a tool's arguments before the tool may change them."""
        if not self._detector.repeats or content.tool_arguments is None:
            return
        try:
            call.digest = digest([call.name, content.tool_arguments])
        except Exception as error:
            guard.fault(_STAGE, error)

    def ended(self, call: Call, *, own: bool) -> None:
        """Looks at the run after each of its calls."""
        try:
            with self._lock:
                found = self._look(call, own=own)
                found = [each for each in found if each not in self._told]
                self._told.update(found)
            for reason in found:
                self._tell(reason, call.name if call.runs_tool else None)
        except Exception as error:
            guard.fault(_STAGE, error)

    def exceeds_steps(self) -> None:
        """One more model call would be above the limit, and is not made."""
        with self._lock:
            known = "steps" in self._told
            self._told.add("steps")
        if not known:
            self._tell("steps", None)

    def _look(self, call: Call, *, own: bool) -> list[Reason]:
        found: list[Reason] = []
        run, repeats = self._run, self._detector.repeats
        if self._max_cost is not None and run.cost is not None and run.cost > self._max_cost:
            found.append("cost")
        if not own:
            return found
        if self.max_steps is not None and run.steps > self.max_steps:
            found.append("steps")
        if repeats:
            self._failed = self._failed + 1 if call.error_type is not None else 0
            if self._failed >= repeats:
                found.append("errors")
            for each in self._digests(call):
                self._recent.append(each)
                found.extend(_circles(list(self._recent), repeats))
        return found

    def _digests(self, call: Call) -> list[int]:
        if call.runs_tool:
            if not self._executes:
                self._executes = True
                self._recent.clear()
            return [] if call.digest is None else [call.digest]
        if self._executes or call.content is None:
            return []
        messages = call.content.output_messages or []
        asked = (part for message in messages for part in message["parts"] if part.get("type") == "tool_call")
        return [digest([part.get("name"), _plain(part.get("arguments"))]) for part in asked]

    def _tell(self, reason: Reason, tool: str | None) -> None:
        run, agent = self._run, self._call.name
        runaway = Runaway(agent, reason, run.steps, run.cost, tool)
        self._call.attributes.setdefault(names.LOOP_REASON, reason)
        signals.measure(LOOPS, 1, _labels(agent, reason))
        told = {**_labels(agent, reason), names.RUN_STEPS: run.steps, names.RUN_COST: run.cost, names.TOOL_NAME: tool}
        said = {name: value for name, value in told.items() if value is not None}
        signals.event(names.EVENT_LOOP, said, warning=True, of=self._call)
        if self._detector.stops(runaway) and self.stopped is None:
            self.stopped = runaway


def refuse(call: Call) -> None:
    """The gate (``core.pipeline.add_gate``): no call is made any more in a run that is stopped, nor by its
    sub-agents."""
    run = call.scope.run
    if run is None:
        return
    if call.kind == "inference" and isinstance(run.watch, Watch):
        limit = run.watch.max_steps
        if limit is not None and run.steps >= limit:
            run.watch.exceeds_steps()
    for each in (run, *run.around):
        if isinstance(each.watch, Watch) and each.watch.stopped is not None:
            raise RunawayAgent(each.watch.stopped)


def _circles(recent: list[int], repeats: int) -> list[Reason]:
    last = recent[-repeats:]
    if len(last) == repeats and len(set(last)) == 1:
        return ["repeat"]
    if len(recent) == 2 * repeats and recent[0] != recent[1] and recent[2:] == recent[:-2]:
        return ["alternation"]
    return []


def _labels(agent: str | None, reason: Reason) -> dict[str, Any]:
    return {names.AGENT_NAME: agent, names.LOOP_REASON: reason}


def _plain(arguments: Any) -> Any:
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments
