"""What caches do: the provider's prompt cache, and ours for responses, meanings and tools."""

from __future__ import annotations

from seatrace.emit import catalogue as metric
from seatrace.emit import semconv as label
from seatrace.kit.conventions import Conventions
from seatrace.kit.promql import Query, buckets, matches, or_zero, ratio, series, share, unequal

from .panels import Board, Row, column, graph, heatmap, line, percentiles, row, stat, table
from .view import CACHE, JOB, MODEL, PROVIDER, RANGE, RATE, View

_CACHE = (label.CACHE_NAME, label.CACHE_KIND)


def hit_ratio(view: View, *by: str, over: str = RATE) -> Query:
    """Share of lookups that needed no call of their own: fresh, stale but served, or waiting for another's call."""
    asked = series(metric.CACHE_REQUESTS, unequal(label.CACHE_RESULT, "bypass"))
    served = asked.narrowed(matches(label.CACHE_RESULT, "hit|stale|coalesced"))
    return share(view.rate(served, *by, over=over), view.rate(asked, *by, over=over))


def caches(names: Conventions) -> Board:
    """All caches."""
    latest = names.semconv == "latest"
    # Before v0.1.0 the conventions had no metric of the prompt cache, and nothing else here knows a provider.
    view = View(names, (JOB, PROVIDER, MODEL, CACHE) if latest else (JOB, MODEL, CACHE))
    rows = (_effect(view), _behaviour(view), _semantic(view))
    return Board(
        "seatrace-caches",
        "Caches",
        "What do caches save, and do they behave? The provider's prompt cache, and those of seatrace.runtime.",
        view,
        (_prompt_cache(view), *rows) if latest else rows,
    )


def _prompt_cache(view: View) -> Row:
    sent = view.names.input_tokens
    read, written = series(metric.CACHE_READ_TOKENS), series(metric.CACHE_WRITE_TOKENS)
    return row(
        "The provider's prompt cache",
        graph(
            "Read from prompt cache by model",
            line(
                share(view.rate(read, label.REQUEST_MODEL), view.rate(sent, label.REQUEST_MODEL)),
            ),
            unit="percentunit",
            description="Share of input tokens. Low with long prompts: put what never changes first.",
        ),
        graph(
            "Read and written tokens",
            line(view.rate(read), "read"),
            line(view.rate(written), "written"),
            unit="tokens",
            description="Tokens per second. Writing costs more than plain input: expect many times more reads.",
        ),
        graph(
            "Reads for each write",
            line(ratio(view.rate(read, label.REQUEST_MODEL), view.rate(written, label.REQUEST_MODEL))),
            unit="none",
            description="How often a token is read that was written once. Below about 1 a prompt cache costs more "
            "than it saves.",
        ),
    )


def _effect(view: View) -> Row:
    requests = series(metric.CACHE_REQUESTS)
    return row(
        "Effect of our caches",
        stat(
            "Hit ratio",
            hit_ratio(view, over=RANGE),
            "percentunit",
            "Share of lookups in the time shown that needed no call of their own.",
        ),
        stat("Lookups", view.rate(requests), "ops", "Lookups per second."),
        stat(
            "Saved",
            or_zero(view.total(series(metric.SAVED_COST, matches(label.SAVING_SOURCE, ".*cache.*")))),
            "currencyUSD",
            "What the calls would have cost in the time shown that caches answered.",
        ),
        stat("Entries", view.level(series(metric.CACHE_ENTRIES)), "short", "Entries in all caches of all processes."),
        graph(
            "Hit ratio by cache",
            line(hit_ratio(view, *_CACHE)),
            unit="percentunit",
            description="Share of lookups that needed no call of their own. A drop: a prompt or a version changed.",
        ),
        graph(
            "Lookups by result",
            line(view.rate(requests, label.CACHE_RESULT)),
            unit="ops",
            description="Lookups per second. Errors are a store that cannot be reached: calls go through without it.",
            stacked=True,
        ),
        graph(
            "p95 lookup by cache",
            line(view.quantile(0.95, buckets(metric.CACHE_LOOKUP_DURATION), *_CACHE)),
            unit="s",
            description="95 of 100 lookups take less; the call after a miss is not in it.",
        ),
        table(
            "All caches",
            {label.CACHE_NAME: "Cache", label.CACHE_KIND: "Kind"},
            column("Lookups", view.total(requests, *_CACHE), "short"),
            column("Hit ratio", hit_ratio(view, *_CACHE, over=RANGE), "percentunit"),
            column("Entries", view.level(series(metric.CACHE_ENTRIES), *_CACHE), "short"),
            column("Size", view.level(series(metric.CACHE_SIZE), *_CACHE), "bytes"),
            description="Of the time shown, most lookups first.",
        ),
    )


def _behaviour(view: View) -> Row:
    return row(
        "Behaviour of our caches",
        graph(
            "Evictions by reason",
            line(view.rate(series(metric.CACHE_EVICTIONS), label.CACHE_NAME, label.CACHE_EVICTION_REASON)),
            unit="ops",
            description="Entries per second that left. Many by size or lru: the cache is too small for its use.",
        ),
        graph(
            "Entries by cache",
            line(view.level(series(metric.CACHE_ENTRIES), *_CACHE)),
            unit="short",
            description="All processes added up.",
        ),
        graph(
            "Size by cache",
            line(view.level(series(metric.CACHE_SIZE), *_CACHE)),
            unit="bytes",
            description="Bytes of all entries, all processes added up.",
        ),
        graph(
            "Age of served entries",
            *percentiles(view, buckets(metric.CACHE_ENTRY_AGE), *_CACHE),
            unit="s",
            description="How old answers are. Far below the time to live: it could be shorter.",
        ),
    )


def _semantic(view: View) -> Row:
    name = label.CACHE_NAME
    return row(
        "Semantic caches",
        heatmap(
            "Similarity of the nearest entry",
            view,
            buckets(metric.CACHE_SIMILARITY),
            unit="none",
            description="Two clouds, same and different questions: the threshold belongs between them.",
        ),
        graph(
            "Similarity by result",
            *percentiles(view, buckets(metric.CACHE_SIMILARITY), label.CACHE_RESULT, shares=(0.05, 0.5)),
            unit="none",
            description="Of hits, the low end shows how near to the threshold answers are served.",
        ),
        graph(
            "Near entries not served",
            line(view.rate(series(metric.CACHE_REJECTIONS), name, label.CACHE_REJECTION_REASON)),
            unit="ops",
            description="Per second, by what the guard or the verifier found: other numbers, a negation, …",
        ),
        graph(
            "Judged hits",
            line(view.rate(series(metric.CACHE_VERDICTS), name, label.CACHE_VERDICT, label.CACHE_VERDICT_SOURCE)),
            unit="ops",
            description="Hits per second that were judged right or wrong, in shadow mode or by a report.",
        ),
        graph(
            "p95 of the verifier",
            line(view.quantile(0.95, buckets(metric.CACHE_VERIFY_DURATION), name)),
            unit="s",
            description="What a hit waits until the verifier has said yes.",
        ),
    )
