"""Anomalies: the trial of three synthetic weeks, and what one is told when."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from model import ask, client, failure
from seatrace.core import guard
from seatrace.core.record import Call, Cost, Usage
from seatrace.runtime.anomaly import Anomaly, AnomalyDetector
from seatrace.testing import Captured, capture

BUCKET = 300.0
DAY = 288
"""Buckets of a day."""


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def usual(bucket: int, rng: random.Random) -> float:
    """USD of five minutes: by day four times as much as by night, and never quite the same."""
    season = 1.0 + 0.6 * math.sin(2 * math.pi * (bucket % DAY) / DAY - math.pi / 2)
    return 0.3 * season * rng.lognormvariate(0, 0.25)


def detected(series: list[float], **options: Any) -> list[tuple[int, Anomaly]]:
    clock, found = Clock(), []
    detector = AnomalyDetector(["cost"], clock=clock, min_abs={"cost": 0.1}, **options)
    for bucket, value in enumerate(series):
        for part in range(25):
            clock.now = bucket * BUCKET + part * BUCKET / 25
            anomaly = detector.add("cost", value / 25)
            if anomaly is not None:
                found.append((bucket, anomaly))
    detector.close()
    return found


def test_ordinary_weeks_are_quiet() -> None:
    found, days = 0, 0
    for seed in range(4):
        rng = random.Random(seed)
        found += len(detected([usual(bucket, rng) for bucket in range(21 * DAY)]))
        days += 21
    assert found / days <= 0.1, "a false word in more than ten days"


NOON, NIGHT = 10 * DAY + DAY // 2, 12 * DAY + 36


@pytest.mark.parametrize(
    ("begin", "length", "change", "is_found"),
    [
        pytest.param(NOON, 3, lambda value: value * 6, True, id="spike of six times"),
        pytest.param(NIGHT, 3, lambda value: value * 6, True, id="spike of six times by night"),
        pytest.param(NOON + 60, 12, lambda value: value + 3, True, id="runaway loop of three dollars"),
        pytest.param(NOON, 48, lambda value: value * 2, False, id="twice as much for four hours"),
        pytest.param(NOON, 24, lambda value: 0.0, False, id="fall to nothing"),
    ],
)
def test_bursts_are_found_in_their_first_bucket_and_the_rest_is_for_alert_rules(
    begin: int, length: int, change: Any, is_found: bool
) -> None:
    rng = random.Random(8)
    series = [usual(bucket, rng) for bucket in range(21 * DAY)]
    for bucket in range(begin, begin + length):
        series[bucket] = change(series[bucket])
    found = [bucket for bucket, _ in detected(series) if begin <= bucket < begin + length]
    assert found == ([begin] if is_found else [])


def test_a_burst_is_told_while_its_bucket_fills() -> None:
    clock = Clock()
    detector = AnomalyDetector(["tokens"], clock=clock)
    for bucket in range(20):
        clock.now = bucket * BUCKET
        for _ in range(30):
            detector.add("tokens", 100 + bucket % 3)
    clock.now = 20 * BUCKET
    told = [number for number in range(1, 200) if detector.add("tokens", 1000.0) is not None]
    assert told == [20], "as soon as there are calls enough to judge by"
    detector.close()


def test_after_a_word_it_is_quiet_for_a_while() -> None:
    clock = Clock()
    detector = AnomalyDetector(["tokens"], clock=clock, cooldown=2 * BUCKET, window=20 * BUCKET)
    for bucket in range(20):
        clock.now = bucket * BUCKET
        detector.add("tokens", 5000, calls=30)
    told = []
    for bucket in range(20, 24):
        clock.now = bucket * BUCKET
        if detector.add("tokens", 5000 * 50.0 ** (bucket - 19), calls=30):
            told.append(bucket)
    assert told[:1] == [20]
    assert 21 not in told
    detector.close()


def test_it_can_wait_for_a_second_bucket() -> None:
    def told(strange: tuple[int, ...]) -> list[int]:
        clock = Clock()
        detector = AnomalyDetector(["tokens"], clock=clock, consecutive=2)
        found = []
        for bucket in range(30):
            clock.now = bucket * BUCKET
            value = 10.0 ** (5 + bucket - 24) * 5000 if bucket in strange else 5000.0
            if detector.add("tokens", value, calls=30):
                found.append(bucket)
        detector.close()
        return found

    assert told((25,)) == []
    assert told((25, 27)) == []
    assert told((25, 26)) == [26]


@pytest.mark.parametrize(
    ("history", "calls", "value"),
    [(11, 30, 1e9), (20, 19, 1e9), (20, 30, 999.0)],
    ids=["too little past", "too few calls", "too small to matter"],
)
def test_what_cannot_be_judged_is_not(history: int, calls: int, value: float) -> None:
    clock = Clock()
    detector = AnomalyDetector(["tokens"], clock=clock)
    for bucket in range(history):
        clock.now = bucket * BUCKET
        detector.add("tokens", 5.0, calls=30)
    clock.now = history * BUCKET
    assert detector.add("tokens", value, calls=calls) is None
    detector.close()


def test_a_pause_is_no_collapse_and_a_clock_that_goes_back_none_either() -> None:
    clock = Clock()
    detector = AnomalyDetector(["tokens"], clock=clock)
    for bucket in range(20):
        clock.now = bucket * BUCKET
        detector.add("tokens", 5000.0, calls=30)
    clock.now = 60 * BUCKET
    assert detector.add("tokens", 5000.0, calls=30) is None
    clock.now = 1.0
    assert detector.add("tokens", 10.0, calls=1) is None
    clock.now = 1e9
    assert detector.add("tokens", 1e9, calls=30) is None, "no past in the window"
    detector.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_what_is_no_amount_is_left_out(value: float) -> None:
    detector = AnomalyDetector(["cost"])
    assert detector.add("cost", value) is None
    assert detector._tracks["cost"].calls == 0
    detector.close()


# --- observed calls -------------------------------------------------------------------------------------------------


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as got:
        yield got


def test_failing_calls_are_noticed_and_told(captured: Captured) -> None:
    clock, heard = Clock(), []
    detector = AnomalyDetector(["errors"], clock=clock, min_count=5, on_anomaly=heard.append)
    of, broken = client(), client(failure())
    for bucket in range(13):
        clock.now = bucket * BUCKET
        for _ in range(6):
            ask(of)
    for _ in range(8):
        with pytest.raises(openai.BadRequestError):
            ask(broken)
    detector.close()
    [anomaly] = heard
    assert (anomaly.series, anomaly.value, anomaly.usual) == ("errors", 3.0, pytest.approx(0, abs=1e-9))
    assert anomaly.score > 4
    [event] = [each for each in captured.events if each.event_name == "seatrace.anomaly"]
    assert dict(event.attributes) == {
        "seatrace.anomaly.series": "errors",
        "seatrace.anomaly.value": 3.0,
        "seatrace.anomaly.usual": anomaly.usual,
        "seatrace.anomaly.score": anomaly.score,
        "seatrace.anomaly.calls": anomaly.calls,
    }
    assert captured.total("seatrace.anomalies", seatrace_anomaly_series="errors") == 1


def test_each_series_reads_its_own_figure() -> None:
    clock = Clock()
    detector = AnomalyDetector(clock=clock)
    for failed in (False, True):
        call = Call("inference", "chat", started_clock=1, ended_clock=2_000_000_001)
        call.usage, call.cost = Usage(input_tokens=7, output_tokens=3), Cost(0.5)
        call.error_type = "timeout" if failed else None
        detector._listen(call)
    detector._listen(Call("tool", "execute_tool"))
    detector.close()
    assert {name: (track.total, track.calls) for name, track in detector._tracks.items()} == {
        "cost": (1.0, 2),
        "errors": (1.0, 2),
        "latency": (2.0, 1),
        "tokens": (20.0, 2),
    }


def test_counters_begin_at_zero(captured: Captured) -> None:
    detector = AnomalyDetector()
    assert {point.attributes["seatrace.anomaly.series"] for point in captured.points("seatrace.anomalies")} == {
        "cost",
        "errors",
        "latency",
        "tokens",
    }
    detector.close()


def test_a_listener_that_fails_does_not_reach_the_program() -> None:
    def broken(anomaly: Anomaly) -> None:
        raise ZeroDivisionError

    clock = Clock()
    detector = AnomalyDetector(["tokens"], clock=clock, on_anomaly=broken)
    before = guard.faults["notify a listener"]
    for bucket in range(13):
        clock.now = bucket * BUCKET
        detector.add("tokens", 5000.0 if bucket < 12 else 1e9, calls=30)
    assert guard.faults["notify a listener"] == before + 1
    detector.close()


def test_memory_stays_bounded() -> None:
    clock = Clock()
    detector = AnomalyDetector(["tokens"], clock=clock)
    for bucket in range(5000):
        clock.now = bucket * BUCKET
        detector.add("tokens", 5.0)
    assert len(detector._tracks["tokens"].history) <= 73
    detector.close()


@pytest.mark.parametrize(
    "options",
    [
        {"series": ["planets"]},
        {"series": []},
        {"bucket": 0},
        {"window": math.nan},
        {"window": 600},
        {"k": 0},
        {"k": math.nan},
        {"min_count": 0},
        {"consecutive": 0},
        {"min_abs": {"cost": 0}},
        {"min_abs": {"planets": 1}},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        AnomalyDetector(**options)
