"""The metrics of the patterns of :mod:`seatrace.runtime`. An instrument is made when its pattern is first used."""

from __future__ import annotations

from typing import Final

from seatrace.emit import semconv as names

from .metric import (
    CALLS,
    FAST_SECONDS,
    RATIOS,
    SECONDS,
    SIMILARITIES,
    TOKENS,
    USD,
    WAIT_SECONDS,
    Metric,
    counter,
    gauge,
    histogram,
    updowncounter,
)

# --- measure() --------------------------------------------------------------------------------------------------------

MEASURED_DURATION: Final = histogram(
    "seatrace.operation.duration",
    "s",
    SECONDS,
    (names.MEASURED_NAME, names.ERROR_TYPE),
    "Time of an operation of the program's own under `measure()`.",
)
MEASURED_ACTIVE: Final = updowncounter(
    "seatrace.operation.active", "{operation}", (names.MEASURED_NAME,), "Operations under `measure()` that run now."
)

# --- caches -----------------------------------------------------------------------------------------------------------

_CACHE = (names.CACHE_NAME, names.CACHE_KIND)

CACHE_REQUESTS: Final = counter(
    "seatrace.cache.requests",
    "{request}",
    (*_CACHE, names.CACHE_RESULT),
    "Lookups in a cache by what became of them: hit, miss, stale, coalesced, bypass, error.",
)
CACHE_LOOKUP_DURATION: Final = histogram(
    "seatrace.cache.lookup.duration", "s", FAST_SECONDS, _CACHE, "Time of a lookup, without the call after a miss."
)
CACHE_ENTRY_AGE: Final = histogram(
    "seatrace.cache.entry.age", "s", WAIT_SECONDS, _CACHE, "Age of the entries that were served."
)
CACHE_ENTRIES: Final = updowncounter("seatrace.cache.entries", "{entry}", _CACHE, "Entries in a cache.")
CACHE_SIZE: Final = updowncounter("seatrace.cache.size", "By", _CACHE, "Bytes that the entries of a cache take.")
CACHE_EVICTIONS: Final = counter(
    "seatrace.cache.evictions",
    "{entry}",
    (*_CACHE, names.CACHE_EVICTION_REASON),
    "Entries that left a cache by reason: lru, size, ttl, invalidated.",
)
CACHE_SIMILARITY: Final = histogram(
    "seatrace.cache.similarity",
    "{similarity}",
    SIMILARITIES,
    (names.CACHE_NAME, names.CACHE_RESULT),
    "Cosine similarity of the nearest entry of a semantic cache.",
)
CACHE_REJECTIONS: Final = counter(
    "seatrace.cache.rejections",
    "{rejection}",
    (names.CACHE_NAME, names.CACHE_REJECTION_REASON),
    "Near entries that a semantic cache did not serve, by what the guard or the verifier found.",
)
CACHE_VERIFY_DURATION: Final = histogram(
    "seatrace.cache.verify.duration", "s", SECONDS, (names.CACHE_NAME,), "Time of a semantic cache's verifier."
)
CACHE_VERDICTS: Final = counter(
    "seatrace.cache.verdicts",
    "{hit}",
    (names.CACHE_NAME, names.CACHE_VERDICT, names.CACHE_VERDICT_SOURCE),
    "Hits that were judged right or wrong, in shadow mode or by a report.",
)

# --- savings ----------------------------------------------------------------------------------------------------------

_SAVED = (names.SAVING_SOURCE, names.REQUEST_MODEL, names.AGENT_NAME, names.TENANT)

SAVED_COST: Final = counter(
    "seatrace.saved.cost", "USD", _SAVED, "What calls would have cost that a pattern made cheaper or needless."
)
SAVED_TOKENS: Final = counter(
    "seatrace.saved.tokens", "{token}", _SAVED, "Input and output tokens that a pattern made needless."
)
SAVED_TIME: Final = counter("seatrace.saved.time", "s", _SAVED, "Time that a pattern's answers did not take.")

# --- batches ----------------------------------------------------------------------------------------------------------

_BATCH = (names.BATCH_NAME,)

BATCH_SIZE: Final = histogram("seatrace.batch.size", "{item}", CALLS, _BATCH, "Items of a batch.")
BATCH_WAIT: Final = histogram(
    "seatrace.batch.wait.duration", "s", FAST_SECONDS, _BATCH, "Time from an item's submission to its batch's start."
)
BATCH_DURATION: Final = histogram(
    "seatrace.batch.duration", "s", SECONDS, (*_BATCH, names.ERROR_TYPE), "Time of the call for a whole batch."
)
BATCH_PENDING: Final = updowncounter("seatrace.batch.pending", "{item}", _BATCH, "Items that wait for a batch.")
BATCH_FLUSHES: Final = counter(
    "seatrace.batch.flushes",
    "{batch}",
    (*_BATCH, names.FLUSH_REASON),
    "Batches by what closed them: size, weight, deadline, manual, close.",
)
BATCH_REJECTIONS: Final = counter(
    "seatrace.batch.rejections", "{item}", _BATCH, "Items that were refused, since too many were pending."
)

# --- parallel calls ---------------------------------------------------------------------------------------------------

_PARALLEL = (names.PARALLEL_NAME,)

PARALLEL_WIDTH: Final = histogram("seatrace.parallel.width", "{task}", CALLS, _PARALLEL, "Tasks given to `parallel()`.")
PARALLEL_TASKS: Final = counter(
    "seatrace.parallel.tasks",
    "{task}",
    (*_PARALLEL, names.PARALLEL_OUTCOME),
    "Tasks of `parallel()` by outcome: ok, error, timeout, cancelled.",
)
PARALLEL_DURATION: Final = histogram(
    "seatrace.parallel.duration", "s", SECONDS, _PARALLEL, "Time of one `parallel()` from first to last task."
)
PARALLEL_SPEEDUP: Final = histogram(
    "seatrace.parallel.speedup",
    "{ratio}",
    CALLS,
    _PARALLEL,
    "Time of the tasks added up, divided by the time that `parallel()` took.",
)

# --- streams ----------------------------------------------------------------------------------------------------------

_STREAM = (names.STREAM_NAME,)

STREAM_TIME_TO_FIRST_CHUNK: Final = histogram(
    "seatrace.stream.time_to_first_chunk", "s", SECONDS, _STREAM, "Time from a stream's start to its first chunk."
)
STREAM_DURATION: Final = histogram(
    "seatrace.stream.duration",
    "s",
    SECONDS,
    (*_STREAM, names.STREAM_OUTCOME),
    "Time of a stream by outcome: completed, abandoned, error.",
)
STREAM_CHUNKS: Final = counter(
    "seatrace.stream.chunks",
    "{chunk}",
    (*_STREAM, names.STREAM_DIRECTION),
    "Chunks that came in, and that went out of a buffer.",
)
STREAM_STALLS: Final = counter(
    "seatrace.stream.stalls", "{stall}", _STREAM, "Gaps between chunks that were longer than the stream's limit."
)
STREAM_FLUSHES: Final = counter(
    "seatrace.stream.flushes",
    "{flush}",
    (*_STREAM, names.FLUSH_REASON),
    "Flushes of a buffer by reason: size, deadline, boundary, passthrough, end, error.",
)

# --- contexts ---------------------------------------------------------------------------------------------------------

CONTEXT_TOKENS: Final = histogram(
    "seatrace.context.tokens",
    "{token}",
    TOKENS,
    (names.CONTEXT_STAGE,),
    "Estimated tokens of a conversation before and after it was made to fit.",
)
CONTEXT_MESSAGES: Final = counter(
    "seatrace.context.messages",
    "{message}",
    (names.CONTEXT_ACTION,),
    "Messages of conversations that were made to fit, by what became of them: kept, dropped, truncated, summarized.",
)
CONTEXT_SUMMARIES: Final = counter(
    "seatrace.context.summaries",
    "{summary}",
    (names.SUMMARY_RESULT,),
    "Summaries of conversations by result: created, reused, failed.",
)
CONTEXT_SUMMARY_COST: Final = counter(
    "seatrace.context.summary.cost", "USD", (names.REQUEST_MODEL,), "What making summaries cost; part of seatrace.cost."
)
TOKEN_ESTIMATE_ERROR: Final = histogram(
    "seatrace.token_estimate.error",
    "{ratio}",
    RATIOS,
    (names.PROVIDER_NAME, names.REQUEST_MODEL),
    "Estimated input tokens of a call, divided by those that the provider counted.",
)

# --- routing ----------------------------------------------------------------------------------------------------------

ROUTING_DECISIONS: Final = counter(
    "seatrace.routing.decisions",
    "{decision}",
    (names.ROUTING_NAME, names.ROUTING_TIER, names.REQUEST_MODEL, names.ROUTING_REASON),
    "Choices of a model by tier and reason.",
)
ROUTING_FALLBACKS: Final = counter(
    "seatrace.routing.fallbacks",
    "{fallback}",
    (names.ROUTING_NAME, names.ROUTING_FROM, names.ROUTING_TO, names.ERROR_TYPE),
    "Calls that went to another model since the one before failed.",
)

# --- budgets ----------------------------------------------------------------------------------------------------------

_BUDGET = (names.BUDGET_NAME, names.BUDGET_UNIT, names.BUDGET_WINDOW)

BUDGET_LIMIT: Final = gauge("seatrace.budget.limit", "{unit}", _BUDGET, "What a budget allows in its window.")
BUDGET_USED: Final = gauge(
    "seatrace.budget.used",
    "{unit}",
    (*_BUDGET, names.BUDGET_SCOPE),
    "What is used of a budget in the present window, settled calls only.",
)
BUDGET_RESERVED: Final = gauge(
    "seatrace.budget.reserved",
    "{unit}",
    (*_BUDGET, names.BUDGET_SCOPE),
    "What calls in progress have reserved of a budget.",
)
BUDGET_SPEND: Final = counter(
    "seatrace.budget.spend", "{unit}", _BUDGET, "What was used of a budget, all windows and scopes together."
)
BUDGET_REJECTIONS: Final = counter(
    "seatrace.budget.rejections", "{call}", _BUDGET, "Calls that were refused, since the budget would not hold."
)
BUDGET_CROSSINGS: Final = counter(
    "seatrace.budget.crossings",
    "{crossing}",
    (*_BUDGET, names.BUDGET_THRESHOLD),
    "Times that a threshold of a budget was passed.",
)
ANOMALIES: Final = counter(
    "seatrace.anomalies", "{anomaly}", (names.ANOMALY_SERIES,), "Buckets of a series that were far out of its usual."
)

# --- pools ------------------------------------------------------------------------------------------------------------

_POOL = (names.POOL_NAME,)

POOL_MEMBERS: Final = updowncounter(
    "seatrace.pool.members", "{member}", (*_POOL, names.POOL_STATE), "Members of a pool by state: idle, busy, ejected."
)
POOL_PENDING: Final = updowncounter(
    "seatrace.pool.pending", "{request}", _POOL, "Requests that wait for a member of a pool."
)
POOL_WAIT: Final = histogram(
    "seatrace.pool.wait.duration", "s", WAIT_SECONDS, _POOL, "Time that a request waited for a member."
)
POOL_USE: Final = histogram(
    "seatrace.pool.use.duration", "s", WAIT_SECONDS, (*_POOL, names.ERROR_TYPE), "Time that a member was in use."
)
POOL_REJECTIONS: Final = counter(
    "seatrace.pool.rejections",
    "{request}",
    (*_POOL, names.POOL_REJECTION_REASON),
    "Requests that got no member by reason: full, timeout, closed.",
)
POOL_EJECTIONS: Final = counter(
    "seatrace.pool.ejections", "{ejection}", _POOL, "Times that a failing member was taken out of a pool for a while."
)
POOL_PICKS: Final = counter("seatrace.pool.picks", "{pick}", (*_POOL, names.POOL_MEMBER), "Requests given to a member.")

# --- queues -----------------------------------------------------------------------------------------------------------

_QUEUE = (names.MESSAGING_SYSTEM, names.MESSAGING_DESTINATION)

QUEUE_SENT: Final = counter(
    "messaging.client.sent.messages", "{message}", (*_QUEUE, names.ERROR_TYPE), "Jobs sent to a queue."
)
QUEUE_PROCESS_DURATION: Final = histogram(
    "messaging.process.duration", "s", WAIT_SECONDS, (*_QUEUE, names.ERROR_TYPE), "Time of one attempt at a job."
)
QUEUE_WAIT: Final = histogram(
    "seatrace.queue.wait.duration", "s", WAIT_SECONDS, _QUEUE, "Time from when a job was due until a worker took it."
)
QUEUE_DEPTH: Final = updowncounter(
    "seatrace.queue.depth", "{job}", (*_QUEUE, names.QUEUE_STATE), "Jobs of a queue by state: waiting, delayed, active."
)
QUEUE_OLDEST_AGE: Final = gauge(
    "seatrace.queue.oldest.age", "s", _QUEUE, "Time that the oldest waiting job has been due."
)
QUEUE_JOBS: Final = counter(
    "seatrace.queue.jobs",
    "{job}",
    (*_QUEUE, names.JOB_OUTCOME),
    "Attempts at jobs by outcome: completed, retried, dead_letter, cancelled, lost.",
)
QUEUE_DUPLICATES: Final = counter(
    "seatrace.queue.duplicates", "{job}", _QUEUE, "Jobs that were not queued, since their idempotency key was known."
)
QUEUE_REDELIVERIES: Final = counter(
    "seatrace.queue.redeliveries", "{job}", _QUEUE, "Jobs given out again, since their worker's lease had run out."
)
JOB_COST: Final = histogram("seatrace.job.cost", "USD", USD, _QUEUE, "What one attempt at a job cost.")

PATTERN_METRICS: Final[tuple[Metric, ...]] = tuple(
    value for value in list(vars().values()) if isinstance(value, Metric)
)
