"""What is served is what was measured: the same run, read by the SDK's own reader and through ``/metrics``."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

import seatrace
from model import ask as call_model
from model import client, failure, stream
from seatrace.core import signals
from seatrace.emit import catalogue
from seatrace.emit.prometheus import label_name, metric_name
from seatrace.testing import Captured, capture

from .scrape import PROMETHEUS_ASKS, ask, read, samples


def _expected(data: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What a scrape must show, written down a second time and in the plainest way."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def put(name: str, attributes: Mapping[str, Any], value: float, **more: str) -> None:
        labels = {label_name(key): str(of) for key, of in attributes.items() if of != ""}
        found[name, frozenset({**labels, **more, "otel_scope_name": scope.scope.name}.items())] = value

    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                form = type(metric.data).__name__
                counter = form == "Sum" and metric.data.is_monotonic
                name = metric_name(metric.name, metric.unit or "", counter=counter, gauge=form == "Gauge")
                for point in metric.data.data_points:
                    if form != "Histogram":
                        put(name, point.attributes, point.value)
                        continue
                    total = 0
                    for bound, count in zip([*point.explicit_bounds, "+Inf"], point.bucket_counts, strict=True):
                        total += count
                        le = bound if isinstance(bound, str) else repr(float(bound))
                        put(f"{name}_bucket", point.attributes, total, le=le)
                    put(f"{name}_count", point.attributes, point.count)
                    put(f"{name}_sum", point.attributes, point.sum)
    return found


class _Cache:
    def readings(self) -> Any:
        yield catalogue.CACHE_ENTRIES, 3, {"seatrace.cache.name": "answers", "seatrace.cache.kind": "exact"}
        yield catalogue.BUDGET_LIMIT, 12.5, {"seatrace.budget.name": "day"}

    def zeros(self) -> Any:
        yield catalogue.CACHE_REQUESTS, {"seatrace.cache.name": "answers", "seatrace.cache.result": "hit"}


def _work() -> None:
    @seatrace.tool
    def tide(place: str) -> str:
        return place

    @seatrace.agent("pilot")
    def pilot() -> None:
        call_model(client())
        for _ in call_model(client(stream()), stream=True):
            pass
        tide("inner harbour")

    with seatrace.session("s", tenant="north"):
        pilot()
    with pytest.raises(Exception, match="no"):
        call_model(client(failure(429, code="rate_limit_exceeded")))


def _without_target(found: dict[Any, float]) -> dict[Any, float]:
    return {key: value for key, value in found.items() if key[0] != "target_info"}


@pytest.mark.parametrize("semconv", ["latest", "both"])
@pytest.mark.parametrize("accept", [PROMETHEUS_ASKS, "text/plain"], ids=["openmetrics", "prometheus"])
def test_each_value_is_the_one_that_the_sdk_has(server: Any, accept: str, semconv: str) -> None:
    with capture(semconv=semconv) as captured:
        cache = _Cache()
        signals.register(cache)
        _work()
        expected = _expected(captured._reader.get_metrics_data())
        families = read(ask(server, accept=accept).text, strict=accept == PROMETHEUS_ASKS)
    served = _without_target(samples(families))
    assert {_go(key): value for key, value in expected.items()} == served
    assert sum(name == "gen_ai_client_inference_duration_seconds_count" for name, _ in served) == 2
    assert ("seatrace_budget_limit", 12.5) in {(name, value) for (name, _), value in served.items()}


def _go(key: tuple[str, frozenset[tuple[str, str]]]) -> tuple[str, frozenset[tuple[str, str]]]:
    """Bounds from a million on as Go writes them; these are the only ones in the catalogue."""
    go = {
        "1048576.0": "1.048576e+06",
        "4194304.0": "4.194304e+06",
        "16777216.0": "1.6777216e+07",
        "67108864.0": "6.7108864e+07",
    }
    return key[0], frozenset((name, go.get(value, value) if name == "le" else value) for name, value in key[1])


def test_types_units_and_descriptions_are_the_catalogue_s(server: Any) -> None:
    with capture():
        _work()
        families = {each.name: each for each in read(ask(server, accept=PROMETHEUS_ASKS).text, strict=True)}
    duration = families["gen_ai_client_inference_duration_seconds"]
    assert (duration.type, duration.unit, duration.documentation) == (
        "histogram",
        "seconds",
        catalogue.INFERENCE_DURATION.description,
    )
    cost = families["seatrace_cost_USD"]
    assert (cost.type, cost.unit) == ("counter", "USD")
    assert (families["target"].type, families["gen_ai_invoke_agent_tool_calls"].unit) == ("info", "")


def test_histograms_and_counters_have_the_trace_of_a_call_that_they_counted(server: Any) -> None:
    with capture() as captured:
        _work()
        spans = {f"{span.context.span_id:016x}": f"{span.context.trace_id:032x}" for span in captured.spans}
        text = ask(server, accept=PROMETHEUS_ASKS).text
    kinds = set()
    for family in read(text, strict=True):
        for sample in family.samples:
            if sample.exemplar is not None:
                kinds.add(sample.name.rpartition("_")[2])
                assert spans[sample.exemplar.labels["span_id"]] == sample.exemplar.labels["trace_id"]
                assert sample.exemplar.timestamp is not None
                if sample.name.endswith("_bucket"):
                    assert sample.exemplar.value <= float(sample.labels["le"])
    assert kinds == {"bucket", "total"}


def test_exemplars_stay_whoever_else_reads(server: Any) -> None:
    with capture():
        _work()
        ask(server, "/metrics.json")
        ask(server)
        first, second = (ask(server, accept=PROMETHEUS_ASKS).text for _ in range(2))
    assert " # {trace_id=" in first
    assert first == second


def test_the_plain_format_has_no_exemplars(server: Any) -> None:
    with capture():
        _work()
        assert " # {" not in ask(server, accept="text/plain").text


def test_nothing_that_was_measured_while_it_is_scraped_is_lost_or_counted_twice(server: Any) -> None:
    with capture() as captured:
        model, stop = client(), threading.Event()
        answers: list[str] = []

        def scrape() -> None:
            while not stop.is_set():
                answers.append(ask(server, accept=PROMETHEUS_ASKS).text)

        def work() -> None:
            for _ in range(25):
                call_model(model)

        scrapers = [threading.Thread(target=scrape) for _ in range(3)]
        workers = [threading.Thread(target=work) for _ in range(4)]
        for thread in (*scrapers, *workers):
            thread.start()
        for thread in workers:
            thread.join()
        stop.set()
        for thread in scrapers:
            thread.join()
        answers.append(ask(server, accept=PROMETHEUS_ASKS).text)
        assert captured.total("seatrace.cost") == pytest.approx(100 * 4.5e-06)
    counts = []
    for answer in answers:
        found = samples(read(answer, strict=True))
        counts.append(sum(of for (name, _), of in found.items() if name.endswith("inference_duration_seconds_count")))
    assert counts[-1] == 100
    assert all(count in range(101) for count in counts)


# --- a MeterProvider of one's own -----------------------------------------------------------------------------------


def _meter(**options: Any) -> tuple[Meter, Captured]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], exemplar_filter=AlwaysOnExemplarFilter(), shutdown_on_exit=False, **options)
    seatrace.uninstrument()
    seatrace.instrument(meter_provider=provider)
    return provider.get_meter("shop"), Captured(_reader=reader)


@pytest.fixture
def _off_again() -> Any:
    yield
    seatrace.uninstrument()


@pytest.mark.usefixtures("_off_again")
def test_instruments_of_the_program_are_served_too(server: Any) -> None:
    meter, captured = _meter()
    meter.create_counter("orders", "{order}").add(3, {"shop.kind": "web"})
    meter.create_up_down_counter("load", "1").add(-2)
    meter.create_gauge("share", "1").set(0.5)
    meter.create_histogram("size", "By", explicit_bucket_boundaries_advisory=[10, 100]).record(50)
    meter.create_observable_gauge("age", [lambda options: [Observation(7, {"a": "b"})]], "s")
    found = samples(read(ask(server, accept=PROMETHEUS_ASKS).text, strict=True))
    assert _without_target(found) == _expected(captured._reader.get_metrics_data())
    plain = {(name, dict(labels).get("le")): value for (name, labels), value in found.items()}
    assert plain["orders_total", None] == 3
    assert plain["load", None] == -2
    assert plain["share_ratio", None] == 0.5
    assert plain["size_bytes_bucket", "10.0"] == 0
    assert plain["size_bytes_bucket", "100.0"] == 1
    assert ("age_seconds", frozenset({("a", "b"), ("otel_scope_name", "shop")})) in found


@pytest.mark.usefixtures("_off_again")
@pytest.mark.parametrize("scale", [20, 2, 0, -3])
def test_an_exponential_histogram_is_served_with_buckets_of_powers_of_two(server: Any, scale: int) -> None:
    exponential = ExponentialBucketHistogramAggregation(max_size=160, max_scale=max(scale, -10))
    meter, _ = _meter(views=[View(instrument_name="size", aggregation=exponential)])
    values = [0, 0.3, 1, 1.5, 2, 3, 5, 8.5, 1000, 5e6]
    histogram = meter.create_histogram("size", "By")
    for value in values:
        histogram.record(value)
    for accept in (PROMETHEUS_ASKS, "text/plain"):
        families = read(ask(server, accept=accept).text, strict=accept == PROMETHEUS_ASKS)
        family = next(each for each in families if each.name == "size_bytes")
        buckets = {each.labels["le"]: each.value for each in family.samples if each.name == "size_bytes_bucket"}
        for bound, count in buckets.items():
            assert count == sum(value <= float(bound) for value in values), bound
        assert next(iter(buckets)) == "0.0"
        assert len(buckets) > 3
        rest = {each.name: each.value for each in family.samples if each.name != "size_bytes_bucket"}
        assert rest == {"size_bytes_count": len(values), "size_bytes_sum": pytest.approx(sum(values))}


@pytest.mark.usefixtures("_off_again")
def test_labels_that_become_one_are_joined(server: Any) -> None:
    meter, _ = _meter()
    meter.create_counter("orders").add(1, {"a.b": "dot", "a_b": "line", "a-b": "dash", "le": "1", "__name__": "x"})
    found = samples(read(ask(server, accept=PROMETHEUS_ASKS).text, strict=True))
    labels = next(dict(labels) for name, labels in found if name == "orders_total")
    assert labels == {"a_b": "dash;dot;line", "exported_le": "1", "key__name__": "x", "otel_scope_name": "shop"}


@pytest.mark.usefixtures("_off_again")
def test_series_that_become_one_are_added_up(server: Any) -> None:
    meter, _ = _meter()
    counter = meter.create_counter("orders")
    counter.add(1, {"kind": ""})
    counter.add(2)
    meter.create_counter("orders.total").add(4)
    for name in ("size", "size_"):
        meter.create_histogram(name, explicit_bucket_boundaries_advisory=[10]).record(5)
    found = samples(read(ask(server, accept=PROMETHEUS_ASKS).text, strict=True))
    values = {name: value for (name, labels), value in found.items() if dict(labels) == {"otel_scope_name": "shop"}}
    assert (values["orders_total"], values["size_count"], values["size_sum"]) == (7, 2, 10)


@pytest.mark.usefixtures("_off_again")
def test_names_that_clash_cost_only_the_later_one(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    meter, _ = _meter()
    meter.create_histogram("size", explicit_bucket_boundaries_advisory=[1]).record(1)
    meter.create_gauge("size.count").set(5)
    meter.create_up_down_counter("size_").add(9)
    meter.create_gauge("target_info").set(1)
    meter.create_counter("orders").add(1)
    for _ in range(2):
        families = read(ask(server, accept=PROMETHEUS_ASKS).text, strict=True)
        assert {"target": "info", "size": "histogram", "orders": "counter"}.items() <= {
            family.name: family.type for family in families
        }.items()
    said = [record.getMessage() for record in caplog.records if record.name == "seatrace"]
    assert [line.rpartition(": ")[2] for line in said] == [
        "size_count belongs to size",
        "it is a histogram and a gauge",
        "target_info belongs to target",
    ]


@pytest.mark.usefixtures("_off_again")
def test_an_instrument_whose_callback_fails_costs_only_itself(server: Any) -> None:
    def fails(options: Any) -> Any:
        raise RuntimeError("no")
        yield

    meter, _ = _meter()
    meter.create_observable_gauge("age", [fails])
    meter.create_counter("orders").add(1)
    assert "orders_total" in ask(server).text
