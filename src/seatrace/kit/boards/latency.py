"""How long calls take, what streams feel like, where the time goes."""

from __future__ import annotations

from seatrace.emit import catalogue as metric
from seatrace.emit import semconv as label
from seatrace.kit.conventions import Conventions
from seatrace.kit.promql import buckets, ratio, series, within

from .panels import Board, Row, column, graph, heatmap, line, percentiles, row, table
from .view import JOB, MODEL, PROVIDER, RANGE, View

_CALL = (label.REQUEST_MODEL,)
_OBJECTIVE = 10.24
"""Seconds; a bound of the buckets that is no whole number."""


def latency(names: Conventions) -> Board:
    """Durations of calls and streams."""
    view = View(names, (JOB, PROVIDER, MODEL))
    return Board(
        "seatrace-latency",
        "Latency & streaming",
        "How long do calls take, what do streams feel like, where does the time go?",
        view,
        (_calls(view), _streaming(view), _elsewhere(view), _streams(view)),
    )


def _calls(view: View) -> Row:
    calls = view.names.calls
    model = (label.PROVIDER_NAME, label.REQUEST_MODEL)
    soon = within(calls.metric, _OBJECTIVE, *calls.where)
    return row(
        "Model calls",
        graph(
            "Latency",
            *percentiles(view, calls, shares=(0.5, 0.95, 0.99), exemplar=True),
            unit="s",
            description="Time of model calls, retries and the whole stream included. The dots are single calls.",
            traces=_CALL,
        ),
        heatmap(
            "Latency, all of it",
            view,
            calls,
            unit="s",
            description="The whole distribution. Two bands are two kinds of calls: cached and not, short and long.",
            exemplar=True,
            traces=_CALL,
        ),
        graph(
            "p95 latency by model",
            line(view.quantile(0.95, calls, label.REQUEST_MODEL), exemplar=True),
            unit="s",
            description="95 of 100 calls take less.",
            traces=_CALL,
        ),
        graph(
            f"Calls within {_OBJECTIVE:g} s",
            line(ratio(view.rate(soon, *model), view.rate(calls.counts(), *model))),
            unit="percentunit",
            description="Share of calls that were done in time. A service level objective is a line on it.",
        ),
        graph(
            "p95 latency by server",
            line(view.quantile(0.95, calls, label.SERVER_ADDRESS, label.SERVER_PORT), exemplar=True),
            unit="s",
            description="95 of 100 calls to an endpoint take less: a slow region or gateway stands out.",
            traces=_CALL,
        ),
        graph(
            "Model that answered",
            line(view.rate(calls.counts(), label.REQUEST_MODEL, label.RESPONSE_MODEL)),
            unit="reqps",
            description="Calls per second by the model asked for and the one that answered: "
            "a new version behind an alias shows here, often with another latency.",
        ),
        table(
            "Models",
            {label.PROVIDER_NAME: "Provider", label.REQUEST_MODEL: "Model"},
            column("Calls", view.total(calls.counts(), *model), "short"),
            column("p50", view.quantile(0.5, calls, *model, over=RANGE), "s"),
            column("p95", view.quantile(0.95, calls, *model, over=RANGE), "s"),
            column("p99", view.quantile(0.99, calls, *model, over=RANGE), "s"),
            column("p95 first chunk", view.quantile(0.95, view.names.first_chunk, *model, over=RANGE), "s"),
            description="Of the time shown, most calls first.",
            traces=_CALL,
        ),
    )


def _streaming(view: View) -> Row:
    names = view.names
    return row(
        "Streaming",
        graph(
            "Time to first chunk",
            *percentiles(view, names.first_chunk, label.REQUEST_MODEL, exemplar=True),
            unit="s",
            description="What a user waits before text appears.",
            traces=_CALL,
        ),
        graph(
            "p95 time between chunks",
            line(view.quantile(0.95, names.output_chunk, label.REQUEST_MODEL), exemplar=True),
            unit="s",
            description="Above about 0.2 s a stream is felt to stutter.",
            traces=_CALL,
        ),
        graph(
            "Output tokens per second of a call",
            line(
                ratio(
                    view.rate(names.output_tokens, label.REQUEST_MODEL),
                    view.rate(names.calls.sums(), label.REQUEST_MODEL),
                )
            ),
            unit="tokens",
            description="How fast a model writes, the wait before its first token included.",
        ),
    )


def _elsewhere(view: View) -> Row:
    names = view.names
    return row(
        "Where the time goes",
        graph(
            "Seconds spent in each second",
            line(view.rate(names.calls.sums()), "model calls"),
            line(view.rate(buckets(metric.TOOL_DURATION).sums()), "tools"),
            line(view.rate(buckets(metric.RETRY_WAIT).sums()), "waits before retries"),
            line(view.rate(buckets(metric.POOL_WAIT).sums()), "waits for a pool"),
            line(view.rate(buckets(metric.QUEUE_WAIT).sums()), "waits in queues"),
            unit="short",
            description="How many are at it on average. What is highest is what to make faster first.",
        ),
        graph(
            "p95 duration of embeddings",
            line(view.quantile(0.95, names.embeddings, label.REQUEST_MODEL), exemplar=True),
            unit="s",
            description="95 of 100 embeddings calls take less.",
            traces=_CALL,
        ),
        graph(
            "p95 duration of other calls",
            line(view.quantile(0.95, names.others, label.OPERATION_NAME), exemplar=True),
            unit="s",
            description="Moderation, token counting, retrieval: 95 of 100 take less.",
            traces=(label.OPERATION_NAME,),
        ),
    )


def _streams(view: View) -> Row:
    name = label.STREAM_NAME
    stream = buckets(metric.STREAM_DURATION)
    return row(
        "Streams of seatrace.runtime",
        graph(
            "Time to first chunk by stream",
            *percentiles(view, buckets(metric.STREAM_TIME_TO_FIRST_CHUNK), name, exemplar=True),
            unit="s",
            description="From a stream's start to its first chunk, as the reader of the stream sees it.",
        ),
        graph(
            "p95 duration by stream",
            line(view.quantile(0.95, stream, name), exemplar=True),
            unit="s",
            description="95 of 100 streams take less.",
        ),
        graph(
            "Streams by outcome",
            line(view.rate(stream.counts(), label.STREAM_OUTCOME)),
            unit="ops",
            description="Streams that ended per second: completed, abandoned by the reader, failed.",
            stacked=True,
        ),
        graph(
            "Chunks in and out",
            line(view.rate(series(metric.STREAM_CHUNKS), name, label.STREAM_DIRECTION)),
            unit="ops",
            description="Chunks per second that came in, and that went out of a buffer.",
        ),
        graph(
            "Stalls",
            line(view.rate(series(metric.STREAM_STALLS), name) * 60),
            unit="opm",
            description="Gaps between chunks per minute that were longer than the stream's limit.",
        ),
        graph(
            "Flushes by reason",
            line(view.rate(series(metric.STREAM_FLUSHES), label.FLUSH_REASON)),
            unit="ops",
            description="Mostly deadline: chunks come slower than the buffer fills. Mostly size: the buffer is small.",
            stacked=True,
        ),
    )
