"""A call as measurements. Attribute sets repeat, so each is built and resolved once and kept as a :class:`Series`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import add
from threading import Lock
from typing import Any

from opentelemetry.metrics import Meter, Observation

from seatrace.core import guard, signals
from seatrace.core.record import Call, Exchange, Usage

from . import catalogue, semconv
from ._recorder import Moment
from ._series import Family, Room, Series, present
from ._waiting import Waiting
from .attributes import network_attributes
from .faults import count_faults

_SERIES_LIMIT = 2_000
"""Attribute sets kept resolved; the SDK's own cardinality limit is the same number."""

_VALUES_LIMIT = 500
"""Distinct agents, tools and tenants that become label values; later ones are ``_OTHER``."""

_OTHER = "_OTHER"

FINAL_KINDS = frozenset({"inference", "embeddings", "tool", "operation", "retrieval"})
"""Kinds of calls of which nothing changes after their end. An agent's run goes on counting what ends later."""


class Metrics:
    """Records ended calls into the instruments of the catalogue."""

    def __init__(self, meter: Meter, *, latest: bool, legacy: bool) -> None:
        wanted = {"seatrace"} | ({"latest"} if latest else set()) | ({"legacy"} if legacy else set())
        self._meter = meter
        self._lock = Lock()
        self._instruments = {
            metric.name: _instrument(meter, metric)
            for metric in catalogue.CALL_METRICS
            if metric.generation in wanted and metric.kind in ("counter", "histogram")
        }
        self._latest = latest
        self._legacy = legacy
        self._families: dict[tuple[Any, ...], Family] = {}
        self._series: dict[tuple[Any, ...], Series] = {}
        self._room = Room(_SERIES_LIMIT)
        self._values: dict[str, set[str]] = {}
        self._waiting = Waiting(self._record)
        self._may_wait = type(count_faults(meter)).__module__.startswith("opentelemetry.sdk.metrics")

    def record(self, call: Call, moment: Moment, *, beside: bool = False) -> None:
        """Everything that the catalogue has for a call of this kind. ``beside``: an official instrumentation observes
        the same call and records it under the names before v0.1.0.

        Most calls only leave themselves here, and are recorded before any metric is read (``emit/_waiting.py``).
        """
        if self._may_wait and call.kind in FINAL_KINDS and call.content is None:
            self._waiting.add(call, moment, beside)
        else:
            self._record(call, moment, beside)

    def _record(self, call: Call, moment: Moment, beside: bool) -> None:
        kind = call.kind
        if kind == "inference":
            self._inference(call, moment, legacy=self._legacy and not beside)
        elif kind == "embeddings":
            self._embeddings(call, moment, legacy=self._legacy and not beside)
        elif kind == "tool":
            self._tool(call, moment)
        elif kind in ("agent", "workflow"):
            self._agent(call, moment)
        elif call.exchange is not None:
            self._exchange(call, call.exchange, moment)
        elif kind in ("operation", "retrieval"):
            self._family(call).timed(call).add(catalogue.OPERATION_DURATION, call.duration, moment)

    def session(self, call: Call, seconds: float, moment: Moment) -> None:
        """A session of the Model Context Protocol that is over."""
        client = call.kind == "mcp_client"
        attributes = self._session_labels(call, call.exchange, client=client) if call.exchange is not None else {}
        metric = catalogue.MCP_CLIENT_SESSION_DURATION if client else catalogue.MCP_SERVER_SESSION_DURATION
        self._get((metric.name, *attributes.items()), lambda: attributes).add(metric, seconds, moment)

    def measure(self, metric: catalogue.Metric, value: float, attributes: Mapping[str, Any], moment: Moment) -> None:
        """One value of a pattern's counter or histogram."""
        if metric.name not in self._instruments:
            with self._lock:
                self._instruments.setdefault(metric.name, _instrument(self._meter, metric))
        key = tuple(attributes.items())
        self._get(key, lambda: self._labels(attributes)).add(metric, value, moment)

    def observe(self, metric: catalogue.Metric) -> None:
        """Makes the asynchronous instrument of ``metric``, once."""
        with self._lock:
            if metric.name in self._instruments:
                return
            create = (
                self._meter.create_observable_gauge
                if metric.kind == "gauge"
                else self._meter.create_observable_up_down_counter
            )
            self._instruments[metric.name] = create(
                metric.name, [partial(self._read, metric)], metric.unit, metric.description
            )

    def _read(self, metric: catalogue.Metric, options: Any) -> Iterable[Observation]:
        found: dict[tuple[tuple[str, Any], ...], float] = {}
        join = max if metric.kind == "gauge" else add
        for source in list(signals.sources):
            try:
                for each, value, attributes in source.readings():
                    if each is metric:
                        key = tuple(sorted(self._labels(attributes).items()))
                        found[key] = join(found[key], value) if key in found else value
            except Exception as error:
                guard.fault("measure", error)
        return [Observation(value, dict(key)) for key, value in found.items()]

    def _labels(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self._bounded(name, value) if isinstance(value, str) else value
            for name, value in attributes.items()
            if value is not None
        }

    def _inference(self, call: Call, moment: Moment, *, legacy: bool) -> None:
        family = self._family(call)
        if self._latest:
            family.timed(call).add(catalogue.INFERENCE_DURATION, call.duration, moment)
            first = call.time_to_first_chunk
            if first is not None:
                family.base.add(catalogue.TIME_TO_FIRST_CHUNK, first, moment)
                if call.gaps:
                    family.base.add_durations(catalogue.TIME_PER_OUTPUT_CHUNK, call.gaps, moment)
            if call.usage is not None:
                _tokens(family, call.usage, moment)
        if legacy:
            _inference_legacy(family, call, moment)
        self._cost(family, call, moment)

    def _embeddings(self, call: Call, moment: Moment, *, legacy: bool) -> None:
        family = self._family(call)
        count = call.usage.input_tokens if call.usage is not None else None
        if self._latest:
            family.timed(call).add(catalogue.EMBEDDINGS_DURATION, call.duration, moment)
            if count is not None:
                family.base.add(catalogue.EMBEDDINGS_INPUT_TOKENS, count, moment)
        if legacy:
            family.timed(call).add(catalogue.OPERATION_DURATION, call.duration, moment)
            _tokens_legacy(family, call, moment)
        self._cost(family, call, moment)

    def _tool(self, call: Call, moment: Moment) -> None:
        key = ("tool", call.name, call.tool_type, call.agent, call.error_type)
        series = self._get(
            key,
            lambda: present(
                {
                    semconv.TOOL_NAME: self._bounded("tool", call.name),
                    semconv.TOOL_TYPE: call.tool_type,
                    semconv.AGENT_NAME: self._bounded("agent", call.agent),
                    semconv.ERROR_TYPE: call.error_type,
                }
            ),
        )
        series.add(catalogue.TOOL_DURATION, call.duration, moment)

    def _exchange(self, call: Call, exchange: Exchange, moment: Moment) -> None:
        client = call.kind == "mcp_client"
        key = (
            call.kind,
            exchange.method,
            call.name,
            call.prompt_name,
            exchange.status,
            call.error_type,
            exchange.protocol_version,
            exchange.transport,
            call.server_address if client else None,
            call.server_port if client else None,
        )
        series = self._get(
            key,
            lambda: present(
                {
                    semconv.MCP_METHOD: self._bounded("method", exchange.method),
                    semconv.OPERATION_NAME: call.operation or None,
                    semconv.TOOL_NAME: self._bounded("tool", call.name),
                    semconv.PROMPT_NAME: self._bounded("prompt", call.prompt_name),
                    semconv.RPC_STATUS_CODE: self._bounded("status", _text(exchange.status)),
                    **self._session_labels(call, exchange, client=client),
                }
            ),
        )
        metric = catalogue.MCP_CLIENT_DURATION if client else catalogue.MCP_SERVER_DURATION
        series.add(metric, call.duration, moment)

    def _session_labels(self, call: Call, exchange: Exchange, *, client: bool) -> dict[str, Any]:
        return present(
            {
                semconv.MCP_PROTOCOL_VERSION: self._bounded("version", exchange.protocol_version),
                **network_attributes(exchange),
                semconv.ERROR_TYPE: self._bounded("error", call.error_type),
                semconv.SERVER_ADDRESS: call.server_address if client else None,
                semconv.SERVER_PORT: call.server_port if client else None,
            }
        )

    def _agent(self, call: Call, moment: Moment) -> None:
        name = self._bounded("agent", call.name)
        series = self._get(
            ("agent", call.operation, name, call.error_type),
            lambda: present(
                {
                    semconv.OPERATION_NAME: call.operation,
                    semconv.AGENT_NAME: name,
                    semconv.ERROR_TYPE: call.error_type,
                }
            ),
        )
        series.add(catalogue.AGENT_DURATION, call.duration, moment)
        if self._legacy and call.kind == "workflow":
            attributes = present({semconv.WORKFLOW_NAME_LEGACY: name, semconv.ERROR_TYPE: call.error_type})
            legacy = self._get(("workflow", name, call.error_type), lambda: attributes)
            legacy.add(catalogue.WORKFLOW_DURATION_LEGACY, call.duration, moment)
        run = call.run
        if run is None:
            return
        own = self._get(("calls", name), lambda: present({semconv.AGENT_NAME: name}))
        own.add(catalogue.AGENT_INFERENCE_CALLS, run.own_model_calls, moment)
        own.add(catalogue.AGENT_TOOL_CALLS, run.own_tool_calls, moment)
        tenant = self._bounded("tenant", call.scope.tenant if call.scope is not None else None)
        total = self._get(
            ("run", name, tenant, call.error_type),
            lambda: present({semconv.AGENT_NAME: name, semconv.TENANT: tenant, semconv.ERROR_TYPE: call.error_type}),
        )
        for spent_on, seconds in run.time(call.ended_clock).items():
            labels = {semconv.AGENT_NAME: name, semconv.TIME_SPENT_ON: spent_on}
            self.measure(catalogue.RUN_TIME, seconds, labels, moment)
        if run.own_saved_cost is not None:
            labels = {semconv.AGENT_NAME: name, semconv.TENANT: tenant}
            self.measure(catalogue.RUN_SAVED_COST, run.own_saved_cost, labels, moment)
        for metric, value in (
            (catalogue.RUN_COST, run.own_cost),
            (catalogue.RUN_INPUT_TOKENS, run.own_input_tokens),
            (catalogue.RUN_OUTPUT_TOKENS, run.own_output_tokens),
            (catalogue.RUN_STEPS, run.steps),
        ):
            if value is not None:
                total.add(metric, value, moment)

    def _cost(self, family: Family, call: Call, moment: Moment) -> None:
        cost, usage = call.cost, call.usage
        if cost is None and (usage is None or (usage.input_tokens is None and usage.output_tokens is None)):
            return
        agent = self._bounded("agent", call.agent)
        tenant = self._bounded("tenant", call.scope.tenant if call.scope is not None else None)
        series = family.cost(agent, tenant)
        if cost is not None:
            series.add(catalogue.COST, cost.total, moment)
        else:
            series.add(catalogue.UNPRICED, 1, moment)

    def _family(self, call: Call) -> Family:
        identity = (
            call.operation,
            call.provider,
            call.request_model,
            call.response_model,
            call.server_address,
            call.server_port,
        )
        family = self._families.get(identity)
        if family is None:
            attributes = present(dict(zip(catalogue.BASE, identity, strict=True)))
            family = Family(self._instruments, attributes, self._room)
            if self._room.take():
                self._families[identity] = family
        return family

    def _get(self, key: tuple[Any, ...], attributes: Callable[[], dict[str, Any]]) -> Series:
        series = self._series.get(key)
        if series is None:
            series = Series(self._instruments, attributes())
            if self._room.take():
                self._series[key] = series
        return series

    def _bounded(self, label: str, value: str | None) -> str | None:
        if value is None:
            return None
        known = self._values.setdefault(label, set())
        if value in known:
            return value
        if len(known) >= _VALUES_LIMIT:
            return _OTHER
        known.add(value)
        return value


def _tokens(family: Family, usage: Usage, moment: Moment) -> None:
    sent, said = usage.input_tokens, usage.output_tokens
    if sent is not None:
        family.base.add(catalogue.CALL_INPUT_TOKENS, sent, moment)
    if said is not None:
        family.base.add(catalogue.CALL_OUTPUT_TOKENS, said, moment)
    for modality, tokens in _modalities(sent, usage.audio_input, usage.image_input):
        family.plus(semconv.TOKEN_MODALITY, modality).add(catalogue.INPUT_TOKENS, tokens, moment)
    for modality, tokens in _modalities(said, usage.audio_output, usage.image_output):
        family.plus(semconv.TOKEN_MODALITY, modality).add(catalogue.OUTPUT_TOKENS, tokens, moment)
    if usage.cache_read or usage.cache_write or usage.reasoning:
        parts = family.plus(semconv.TOKEN_MODALITY, "unknown")
        if usage.cache_read:
            parts.add(catalogue.CACHE_READ_TOKENS, usage.cache_read, moment)
        if usage.cache_write:
            parts.add(catalogue.CACHE_WRITE_TOKENS, usage.cache_write, moment)
        if usage.reasoning:
            parts.add(catalogue.REASONING_TOKENS, usage.reasoning, moment)


def _inference_legacy(family: Family, call: Call, moment: Moment) -> None:
    family.timed(call).add(catalogue.OPERATION_DURATION, call.duration, moment)
    _tokens_legacy(family, call, moment)
    if call.time_to_first_chunk is not None:
        family.base.add(catalogue.TIME_TO_FIRST_CHUNK_LEGACY, call.time_to_first_chunk, moment)
        if call.gaps:
            family.base.add_durations(catalogue.TIME_PER_OUTPUT_CHUNK_LEGACY, call.gaps, moment)


def _tokens_legacy(family: Family, call: Call, moment: Moment) -> None:
    usage = call.usage or Usage()
    for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
        if count is not None:
            family.plus(semconv.TOKEN_TYPE_LEGACY, kind).add(catalogue.TOKEN_USAGE_LEGACY, count, moment)


def _instrument(meter: Meter, metric: catalogue.Metric) -> Any:
    if metric is catalogue.FAULTS:
        return None
    if metric.kind == "counter":
        return meter.create_counter(metric.name, metric.unit, metric.description)
    return meter.create_histogram(
        metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
    )


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _modalities(total: int | None, audio: int | None, image: int | None) -> Iterable[tuple[str, int]]:
    if total is None:
        return ()
    audio, image = audio or 0, image or 0
    if not audio and not image:
        return (("unknown", total),)
    rest = total - audio - image
    return [(name, count) for name, count in (("audio", audio), ("image", image), ("text", rest)) if count > 0]
