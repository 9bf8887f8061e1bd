"""Measurements wait until somebody collects them, which nobody can tell from their being made at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, View

import seatrace
from seatrace.core import pipeline
from seatrace.emit import _waiting, metrics
from seatrace.emit._waiting import LIMIT


@seatrace.tool
def work() -> None:
    """Ends at once."""


def counted(reader: InMemoryMetricReader) -> int:
    data: Any = reader.get_metrics_data()
    if data is None:
        return 0
    return sum(
        point.count
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "gen_ai.execute_tool.duration"
        for point in metric.data.data_points
    )


@pytest.fixture(autouse=True)
def off() -> Iterator[None]:
    yield
    seatrace.uninstrument()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def made(reader: InMemoryMetricReader) -> metrics.Metrics:
    """Where calls are measured that ``reader`` collects."""
    return instrument(MeterProvider([reader], shutdown_on_exit=False))


def instrument(provider: Any, **settings: Any) -> metrics.Metrics:
    seatrace.instrument(meter_provider=provider, exporter="none", **settings)
    line: Any = pipeline.current
    made: metrics.Metrics = line.emitter._metrics
    return made


def test_calls_are_recorded_when_a_reader_collects(reader: InMemoryMetricReader, made: metrics.Metrics) -> None:
    work()
    assert len(made._waiting) == 1
    assert (counted(reader), len(made._waiting)) == (1, 0)
    work()
    assert counted(reader) == 2


def test_every_reader_sees_them_at_its_next_collection() -> None:
    readers = InMemoryMetricReader(), InMemoryMetricReader({Histogram: AggregationTemporality.DELTA})
    instrument(MeterProvider(readers, shutdown_on_exit=False))
    work()
    assert [counted(each) for each in readers] == [1, 1]
    work()
    assert [counted(each) for each in readers] == [2, 1]
    assert [counted(each) for each in readers] == [2, 0]


def test_only_so_many_wait(reader: InMemoryMetricReader, made: metrics.Metrics) -> None:
    for _ in range(1000):
        work()
        assert len(made._waiting) < LIMIT
    assert counted(reader) == 1000


def test_a_second_instrument_with_the_same_provider() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    for _ in range(3):
        instrument(provider)
        work()
        seatrace.uninstrument()
    assert counted(reader) == 3


def test_a_view_may_drop_the_counter_whose_callback_this_is() -> None:
    reader = InMemoryMetricReader()
    views = [View(instrument_name="seatrace.faults", aggregation=DropAggregation())]
    instrument(MeterProvider([reader], views=views, shutdown_on_exit=False))
    work()
    assert counted(reader) == 1


def test_the_last_collection_has_them() -> None:
    seen: list[Any] = []

    class Reader(InMemoryMetricReader):
        def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
            seen.append(counted(self))
            super().shutdown(timeout_millis, **kwargs)

    provider = MeterProvider([Reader()], shutdown_on_exit=False)
    instrument(provider)
    work()
    seatrace.uninstrument()
    provider.shutdown()
    assert seen == [1]


def test_with_another_kind_of_meter_nothing_waits() -> None:
    made = instrument(NoOpMeterProvider())
    work()
    assert not made._waiting


def test_calls_with_content_do_not_wait() -> None:
    reader = InMemoryMetricReader()
    made = instrument(MeterProvider([reader], shutdown_on_exit=False), capture_content=True)
    work()
    assert not made._waiting
    assert counted(reader) == 1


def test_one_that_fails_takes_no_other_along(reader: InMemoryMetricReader, made: metrics.Metrics) -> None:
    work()
    made._waiting._calls.appendleft((None, None, False))  # type: ignore[arg-type]
    assert counted(reader) == 1


def test_who_collects_waits_until_another_thread_has_measured(
    monkeypatch: pytest.MonkeyPatch, reader: InMemoryMetricReader, made: metrics.Metrics
) -> None:
    measuring, go_on, record = threading.Event(), threading.Event(), made._waiting._record

    def slowly(*waited: Any) -> None:
        measuring.set()
        assert go_on.wait(30)
        record(*waited)

    monkeypatch.setattr(made._waiting, "_record", slowly)
    work()
    other = threading.Thread(target=made._waiting.catch_up)
    other.start()
    assert measuring.wait(30)
    threading.Timer(0.05, go_on.set).start()
    assert counted(reader) == 1
    other.join()


def test_nobody_else_waits_meanwhile(reader: InMemoryMetricReader, made: metrics.Metrics) -> None:
    with _waiting._measuring:
        caller = threading.Thread(target=lambda: [work() for _ in range(LIMIT + 1)])
        caller.start()
        caller.join(30)
        assert not caller.is_alive()
        assert len(made._waiting) == LIMIT + 1
    assert counted(reader) == LIMIT + 1


def test_a_signal_in_the_middle_measures_the_rest(
    monkeypatch: pytest.MonkeyPatch, reader: InMemoryMetricReader, made: metrics.Metrics
) -> None:
    record, seen = made._waiting._record, []

    def interrupted(*waited: Any) -> None:
        record(*waited)
        if not seen:
            seen.append(None)
            seen.append(counted(reader))  # what a handler does that flushes

    monkeypatch.setattr(made._waiting, "_record", interrupted)
    for _ in range(3):
        work()
    made._waiting.catch_up()
    assert seen == [None, 3]
    assert counted(reader) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_measures_nothing_of_its_parents_and_can_measure(
    monkeypatch: pytest.MonkeyPatch, reader: InMemoryMetricReader, made: metrics.Metrics
) -> None:
    record, children = made._waiting._record, []

    def forking(*waited: Any) -> None:
        record(*waited)
        if not children:
            children.append(os.fork())
            if not children[0]:
                _waiting.catch_up()
                work()
                os._exit(counted(reader))

    monkeypatch.setattr(made._waiting, "_record", forking)
    work()
    work()
    made._waiting.catch_up()
    assert counted(reader) == 2
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 1
