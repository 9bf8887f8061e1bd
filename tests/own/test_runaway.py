"""Agents that run in circles or take too much."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import seatrace
from contract.wire import as_json
from model import COMPLETION, ask, client, failure
from seatrace.core import pipeline
from seatrace.testing import Captured, capture

REASONS = {"repeat", "alternation", "errors", "steps", "cost"}
CALL_COST = 4.5e-06
"""USD of one answer of :func:`model.client`."""


@contextmanager
def circling(**settings: Any) -> Iterator[Captured]:
    with capture(loop_repeats=3, **settings) as captured:
        yield captured


def loops(captured: Captured, agent: str = "pilot") -> dict[str, float]:
    """How many runs were seen, by reason; every reason of an agent that ran is there."""
    points = [
        point for point in captured.points("seatrace.agent.loops") if point.attributes["gen_ai.agent.name"] == agent
    ]
    found = {point.attributes["seatrace.loop.reason"]: point.value for point in points}
    assert found.keys() == REASONS
    return {reason: value for reason, value in found.items() if value}


def events(captured: Captured) -> list[Any]:
    return [each for each in captured.events if each.event_name == "seatrace.agent.loop"]


@seatrace.tool
def tide(place: str, day: int = 0) -> str:
    return f"{place}: 14:20"


@seatrace.tool
def wind(place: str) -> str:
    return "west"


@seatrace.tool
def broken(place: str) -> str:
    raise RuntimeError(place)


def _failing(place: str) -> None:
    with pytest.raises(RuntimeError):
        broken(place)


@seatrace.agent("pilot")
def pilot(*steps: Any) -> None:
    for step in steps:
        step()


# --- what is a loop -------------------------------------------------------------------------------------------------


def test_an_agent_that_runs_well_counts_zero_for_every_reason() -> None:
    with circling() as captured:
        pilot(lambda: tide("inner"), lambda: tide("outer"), lambda: wind("inner"))
        assert loops(captured) == {}
        assert events(captured) == []
        assert all("seatrace.loop.reason" not in (span.attributes or {}) for span in captured.spans)


def test_the_same_call_again_and_again_is_told_once_a_run() -> None:
    with circling() as captured:
        for _ in range(2):
            pilot(*[lambda: tide("inner", day=1)] * 7)
        assert loops(captured) == {"repeat": 2}
        runs = [span for span in captured.spans if span.name == "invoke_agent pilot"]
        assert [span.attributes["seatrace.loop.reason"] for span in runs if span.attributes] == ["repeat"] * 2
        told = events(captured)
        assert [dict(each.attributes) for each in told] == [
            {
                "gen_ai.agent.name": "pilot",
                "seatrace.loop.reason": "repeat",
                "seatrace.run.steps": 0,
                "gen_ai.tool.name": "tide",
            }
        ] * 2
        assert [each.span_id for each in told] == [span.context.span_id for span in runs]
        assert {each.severity_number.value for each in told} == {13}


def test_other_arguments_other_tools_and_other_runs_are_no_loop() -> None:
    with circling() as captured:
        pilot(*[lambda day=day: tide("inner", day=day) for day in (-1, -2, 0, 1, True, 1.0)])
        pilot(lambda: tide("inner"), lambda: tide("inner"), lambda: wind("inner"), lambda: tide("inner"))
        for _ in range(5):
            pilot(lambda: tide("inner"))
        for _ in range(5):
            tide("inner")
        assert loops(captured) == {}


def test_two_calls_in_turn_are_a_loop() -> None:
    with circling() as captured:
        pilot(*[lambda: tide("inner"), lambda: wind("inner")] * 3)
        assert loops(captured) == {"alternation": 1}
    with circling() as captured:
        pilot(*[lambda: tide("inner"), lambda: wind("inner")] * 2, lambda: tide("outer"), lambda: wind("inner"))
        assert loops(captured) == {}


def test_failures_in_a_row_are_a_loop_whatever_they_called() -> None:
    with circling() as captured:
        pilot(*[lambda place=place: _failing(place) for place in "abcd"])
        assert loops(captured) == {"errors": 1}
    with circling() as captured:
        pilot(lambda: _failing("a"), lambda: _failing("b"), lambda: tide("c"), lambda: _failing("d"))
        assert loops(captured) == {}


def test_a_model_that_fails_again_and_again_is_a_loop() -> None:
    def refused() -> None:
        with pytest.raises(Exception, match="no"):
            ask(client(failure(400)))

    with circling() as captured:
        pilot(*[refused] * 3)
        assert loops(captured) == {"errors": 1}


def test_one_run_may_be_seen_for_several_reasons() -> None:
    with circling(max_steps=1) as captured:
        pilot(*[lambda: ask(client())] * 2, *[lambda: _failing("a")] * 3)
        assert loops(captured) == {"steps": 1, "errors": 1, "repeat": 1}
        assert len(events(captured)) == 3
        assert (captured.spans[-1].attributes or {})["seatrace.loop.reason"] == "steps"


def test_watched_tools_methods_blocks_and_coroutines() -> None:
    class Ship:
        @seatrace.tool
        def turn(self, degrees: int) -> None: ...

    @seatrace.tool
    async def sail(to: list[str]) -> None: ...

    class Pilot:
        name = "pilot"

        def __init__(self) -> None:
            self.tools = {"look": lambda where: where}

        def run(self) -> None:
            for _ in range(3):
                self.tools["look"]({"where": ["sea"]})

    def unnamed() -> None:
        with seatrace.tool("compass"):  # says nothing of its arguments
            pass

    one, other = Ship(), Ship()
    with circling() as captured:
        seatrace.watch(Pilot()).run()
        pilot(*[lambda: one.turn(5), lambda: other.turn(degrees=5), lambda: one.turn(5)])
        pilot(*[lambda: asyncio.run(sail(["home"]))] * 3)
        pilot(*[unnamed] * 5)
        assert loops(captured) == {"repeat": 3}


def test_tools_that_only_the_model_tells_of_are_seen_where_content_is() -> None:
    def wants(place: str) -> Any:
        call = {"id": "c", "type": "function", "function": {"name": "tide", "arguments": f'{{"place": "{place}"}}'}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return as_json({**COMPLETION, "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]})

    with circling(capture_content=True) as captured:
        pilot(*[lambda: ask(client(wants("inner")))] * 3)
        assert loops(captured) == {"repeat": 1}
    with circling(capture_content=True) as captured:
        pilot(*[lambda: ask(client(wants("inner"))), lambda: tide(place="inner")] * 2)
        assert loops(captured) == {}  # each of them counts once
    with circling() as captured:
        pilot(*[lambda: ask(client(wants("inner")))] * 3)
        assert loops(captured) == {}


def test_nobody_looks_where_that_is_switched_off() -> None:
    with capture(loop_repeats=0) as captured:
        pilot(*[lambda: tide("inner")] * 20, *[lambda: _failing("a")] * 20)
        assert loops(captured) == {}


# --- limits ---------------------------------------------------------------------------------------------------------


def test_steps_and_cost_above_the_settings_are_seen() -> None:
    with circling(max_steps=3, max_run_cost=2.5 * CALL_COST) as captured:
        pilot(*[lambda: ask(client())] * 2)
        assert loops(captured) == {}
        pilot(*[lambda: ask(client())] * 3)
        assert loops(captured) == {"cost": 1}
        pilot(*[lambda: ask(client())] * 4)
        assert loops(captured) == {"cost": 2, "steps": 1}
        cost = next(each for each in events(captured) if each.attributes["seatrace.loop.reason"] == "cost")
        assert cost.attributes["seatrace.run.cost"] == pytest.approx(3 * CALL_COST)


def test_an_agent_may_have_limits_of_its_own() -> None:
    @seatrace.agent("navigator", max_steps=1, max_cost=1.0)
    def navigator() -> None:
        for _ in range(2):
            ask(client())

    with circling(max_steps=100, max_run_cost=CALL_COST / 2) as captured:
        navigator()
        pilot(lambda: ask(client()))
        assert loops(captured, "navigator") == {"steps": 1}
        assert loops(captured) == {"cost": 1}


def test_sub_agents_cost_counts_into_the_run_around_them_and_their_steps_do_not() -> None:
    @seatrace.agent("mate")
    def mate() -> None:
        ask(client())
        ask(client())

    with circling(max_steps=2, max_run_cost=3.5 * CALL_COST) as captured:
        pilot(mate, mate)
        assert loops(captured, "mate") == {}
        assert loops(captured) == {"cost": 1}


# --- what happens then ----------------------------------------------------------------------------------------------


def test_raise_stops_the_run_in_place_of_its_next_call() -> None:
    done: list[int] = []
    with circling(on_runaway="raise") as captured:
        with pytest.raises(seatrace.RunawayAgent) as caught:
            pilot(*[lambda: done.append(1), lambda: tide("inner")] * 6)
        assert len(done) == 4
        runaway = caught.value.runaway
        assert (runaway.agent, runaway.reason, runaway.tool, runaway.steps, runaway.cost) == (
            "pilot",
            "repeat",
            "tide",
            0,
            None,
        )
        run = captured.spans[-1]
        assert (run.attributes or {})["error.type"] == "RunawayAgent"
        assert len([span for span in captured.spans if span.name == "execute_tool tide"]) == 3
        assert isinstance(caught.value, seatrace.SeatraceError)
        assert isinstance(caught.value, pipeline.Refused)
        assert "pilot" in str(caught.value)
        pilot(lambda: tide("inner"))  # the next run is another one


def test_no_step_above_the_limit_is_made() -> None:
    with circling(max_steps=2, on_runaway="raise") as captured:
        with pytest.raises(seatrace.RunawayAgent, match="more steps than max_steps"):
            pilot(*[lambda: ask(client())] * 5)
        pilot(*[lambda: ask(client())] * 2)
        assert loops(captured) == {"steps": 1}
        assert len([call for call in captured.calls if call.kind == "inference"]) == 4


async def test_a_stopped_run_stops_its_sub_agents_and_tasks() -> None:
    @seatrace.agent("mate", max_cost=1.0)
    async def mate() -> None:
        await asyncio.gather(*[asyncio.to_thread(lambda: ask(client())) for _ in range(3)])
        tide("inner")

    @seatrace.agent("captain", max_cost=CALL_COST)
    async def captain() -> None:
        await mate()

    with circling(on_runaway="raise") as captured:
        with pytest.raises(seatrace.RunawayAgent, match="'captain'"):
            await captain()
        assert [call.name for call in captured.calls if call.kind == "tool"] == []
        assert loops(captured, "mate") == {}
        assert loops(captured, "captain") == {"cost": 1}


def test_a_function_is_told_and_may_stop_the_run() -> None:
    told: list[seatrace.Runaway] = []

    def seen(runaway: seatrace.Runaway) -> bool:
        told.append(runaway)
        return runaway.reason == "errors"

    with circling(on_runaway=seen):
        pilot(*[lambda: tide("inner")] * 6)
        with pytest.raises(seatrace.RunawayAgent):
            pilot(*[lambda: _failing("a")] * 2, lambda: _failing("b"), lambda: tide("inner"))
    assert [runaway.reason for runaway in told] == ["repeat", "errors"]


def test_a_function_that_fails_stops_nothing() -> None:
    def fails(runaway: seatrace.Runaway) -> None:
        raise RuntimeError("no")

    with capture(strict=False, loop_repeats=3, on_runaway=fails) as captured:
        pilot(*[lambda: tide("inner")] * 5)
        assert captured.total("seatrace.faults", seatrace_stage="notify a listener") >= 1


def test_nothing_is_refused_after_uninstrument() -> None:
    before = pipeline.gates
    with circling(on_runaway="raise"):
        assert len(pipeline.gates) == len(before) + 1
    assert pipeline.gates == before


def test_the_error_travels() -> None:
    error = seatrace.RunawayAgent(seatrace.Runaway("pilot", "cost", 7, 1.25, None))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.runaway, str(copy)) == (error.runaway, str(error))


def test_tools_of_one_run_in_many_threads_are_told_once() -> None:
    import contextvars

    with circling() as captured:

        def together() -> None:
            threads = [threading.Thread(target=contextvars.copy_context().run, args=(tide, "inner")) for _ in range(24)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        pilot(together)
        assert loops(captured) == {"repeat": 1}


def test_nothing_of_the_arguments_is_kept_or_told() -> None:
    secret = "the combination is 7-12-31"
    with circling() as captured:
        pilot(*[lambda: tide(secret)] * 4)
        shown = repr([dict(each.attributes) for each in captured.events]) + repr(
            [span.attributes for span in captured.spans]
        )
        [run] = [call.run for call in captured.calls if call.kind == "agent"]
        kept = repr(list(run.watch._recent))
    assert secret not in shown + kept
    assert "combination" not in kept


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("loop_repeats", 1),
        ("loop_repeats", -1),
        ("loop_repeats", "many"),
        ("max_steps", 0),
        ("max_run_cost", 0),
        ("max_run_cost", "nan"),
        ("max_run_cost", float("inf")),
        ("on_runaway", "stop"),
        ("on_runaway", 7),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(seatrace.ConfigError, match=setting):
        seatrace.instrument(exporter="none", **{setting: value})


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {
        "SEATRACE_LOOP_REPEATS": "2",
        "SEATRACE_MAX_STEPS": "1",
        "SEATRACE_MAX_RUN_COST": "0.5",
        "SEATRACE_ON_RUNAWAY": "raise",
    }.items():
        monkeypatch.setenv(variable, value)
    with capture(), pytest.raises(seatrace.RunawayAgent):
        pilot(*[lambda: tide("inner")] * 3)
