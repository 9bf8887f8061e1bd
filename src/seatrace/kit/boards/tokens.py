"""How many tokens, of what kind, and what conversations are made to fit."""

from __future__ import annotations

from seatrace.emit import catalogue as metric
from seatrace.emit import semconv as label
from seatrace.kit.conventions import Conventions
from seatrace.kit.promql import buckets, ratio, series

from .panels import Board, Row, graph, heatmap, line, percentiles, row, stat
from .view import AGENT, JOB, MODEL, PROVIDER, View


def tokens(names: Conventions) -> Board:
    """Tokens of calls, runs and conversations."""
    view = View(names, (JOB, PROVIDER, MODEL, AGENT))
    return Board(
        "seatrace-tokens",
        "Tokens",
        "How many tokens, of what kind, spent by whom, and what happens to long conversations?",
        view,
        (_all(view), _calls(view), _runs(view), _contexts(view)),
    )


def _all(view: View) -> Row:
    names = view.names
    sent, said = names.input_tokens, names.output_tokens
    latest = names.semconv == "latest"
    return row(
        "Tokens",
        stat("Input tokens", view.total(sent), "tokens", "Sent in the time shown; cached ones included."),
        stat("Output tokens", view.total(said), "tokens", "Answered in the time shown; reasoning included."),
        stat(
            "Output by input",
            ratio(view.total(said), view.total(sent)),
            "percentunit",
            "Tokens answered as a share of those sent. A few per cent: prompts are long, a prompt cache pays.",
        ),
        stat(
            "Input of a call",
            ratio(view.total(names.call_input.sums()), view.total(names.call_input.counts())),
            "tokens",
            "Input tokens of a model call on average in the time shown.",
        ),
        stat(
            "Read from prompt cache",
            ratio(view.total(series(metric.CACHE_READ_TOKENS)), view.total(sent)),
            "percentunit",
            "Share of input tokens that the provider read from its prompt cache, at a lower price.",
        )
        if latest
        else None,
        stat(
            "Spent on reasoning",
            ratio(view.total(series(metric.REASONING_TOKENS)), view.total(said)),
            "percentunit",
            "Share of output tokens that the model spent on reasoning, unseen by the reader.",
        )
        if latest
        else None,
        graph(
            "Input tokens by model",
            line(view.rate(sent, label.REQUEST_MODEL)),
            unit="tokens",
            description="Tokens per second.",
            stacked=True,
        ),
        graph(
            "Output tokens by model",
            line(view.rate(said, label.REQUEST_MODEL)),
            unit="tokens",
            description="Tokens per second.",
            stacked=True,
        ),
        graph(
            "Tokens by kind",
            line(view.rate(sent), "input"),
            line(view.rate(series(metric.CACHE_READ_TOKENS)), "of it read from prompt cache"),
            line(view.rate(series(metric.CACHE_WRITE_TOKENS)), "of it written to prompt cache"),
            line(view.rate(said), "output"),
            line(view.rate(series(metric.REASONING_TOKENS)), "of it reasoning"),
            unit="tokens",
            description="Tokens per second.",
        )
        if latest
        else graph(
            "Tokens by kind",
            line(view.rate(buckets(metric.TOKEN_USAGE_LEGACY).sums(), label.TOKEN_TYPE_LEGACY)),
            unit="tokens",
            description="Tokens per second.",
        ),
        graph(
            "Tokens by modality",
            line(view.rate(sent, label.TOKEN_MODALITY), "input"),
            line(view.rate(said, label.TOKEN_MODALITY), "output"),
            unit="tokens",
            description="Tokens per second of text, audio, image; unknown where the provider does not say.",
        )
        if latest
        else None,
    )


def _calls(view: View) -> Row:
    names = view.names
    return row(
        "Of a call",
        graph(
            "Input tokens of a call by model",
            *percentiles(view, names.call_input, label.REQUEST_MODEL),
            unit="tokens",
            description="A p95 that climbs is conversations that grow without end: see Conversations.",
        ),
        graph(
            "Output tokens of a call by model",
            *percentiles(view, names.call_output, label.REQUEST_MODEL),
            unit="tokens",
            description="Long answers cost most of the time and much of the money.",
        ),
        graph(
            "Input tokens of an embeddings call",
            *percentiles(view, names.embeddings_input, label.REQUEST_MODEL),
            unit="tokens",
            description="Small ones are better sent in batches.",
        ),
        heatmap(
            "Input tokens of calls",
            view,
            names.call_input,
            unit="tokens",
            description="The whole distribution.",
        ),
        heatmap(
            "Output tokens of calls",
            view,
            names.call_output,
            unit="tokens",
            description="The whole distribution.",
        ),
    )


def _runs(view: View) -> Row:
    return row(
        "Of a run",
        graph(
            "Input tokens of a run by agent",
            *percentiles(view, buckets(metric.RUN_INPUT_TOKENS), label.AGENT_NAME),
            unit="tokens",
            description="Of a run's own model calls, sub-agents' not.",
        ),
        graph(
            "Output tokens of a run by agent",
            *percentiles(view, buckets(metric.RUN_OUTPUT_TOKENS), label.AGENT_NAME),
            unit="tokens",
            description="Of a run's own model calls, sub-agents' not.",
        ),
    )


def _contexts(view: View) -> Row:
    return row(
        "Conversations",
        graph(
            "Tokens before and after fitting",
            *percentiles(view, buckets(metric.CONTEXT_TOKENS), label.CONTEXT_STAGE),
            unit="tokens",
            description="Estimated tokens of conversations before and after seatrace.runtime made them fit.",
        ),
        graph(
            "Messages by what became of them",
            line(view.rate(series(metric.CONTEXT_MESSAGES), label.CONTEXT_ACTION)),
            unit="ops",
            description="Messages per second: kept, dropped, truncated, summarized.",
            stacked=True,
        ),
        graph(
            "Summaries by result",
            line(view.rate(series(metric.CONTEXT_SUMMARIES), label.SUMMARY_RESULT)),
            unit="ops",
            description="Summaries per second: created (a model call), reused, failed (messages were dropped instead).",
            stacked=True,
        ),
        graph(
            "Cost of summaries by model",
            line(view.rate(series(metric.CONTEXT_SUMMARY_COST), label.REQUEST_MODEL) * 3600),
            unit="currencyUSD",
            description="Dollars per hour; part of the spend.",
        ),
        graph(
            "Estimated by counted tokens",
            *percentiles(view, buckets(metric.TOKEN_ESTIMATE_ERROR), label.REQUEST_MODEL, shares=(0.05, 0.5, 0.95)),
            unit="none",
            description="Estimated input tokens divided by those that the provider counted: 1 is exact, "
            "below 1 a conversation may not fit.",
        ),
    )
