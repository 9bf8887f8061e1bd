"""Recorded exchanges of real providers, replayed through the real clients, with and without seatrace.

What telemetry must say of each exchange was computed from its raw bytes alone. The recordings are third-party data that
lies beside the repository; ``SEATRACE_TRAFFIC`` names another folder with ``data/`` and ``tools/replay/``.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_SHARED = Path(os.environ.get("SEATRACE_TRAFFIC", Path(__file__).parents[3] / "shared"))
_REPLAY = _SHARED / "tools" / "replay"
_EXCHANGES = _SHARED / "data" / "exchanges"

pytestmark = pytest.mark.skipif(not (_EXCHANGES / "open").is_dir(), reason="no recorded traffic beside the repository")

_PROVIDERS = {
    *("openai", "azure_openai", "azure_ai_inference", "bedrock_mantle", "anthropic"),
    *("cerebras", "crusoe", "deepseek", "heroku", "local", "openrouter", "perplexity", "portkey", "snowflake"),
    *("writer", "xai", "zai"),
}
"""OpenAI, Azure, the hosts that speak OpenAI's formats, and Anthropic. Gemini and Ollama only by their OpenAI face."""

_CALLS = ("sync", "async", "helper", "raw")
_FAULTS = ("close", "drop", "cut")
_MODES = (*_CALLS, *(f"{call}+{fault}" for call in ("sync", "async") for fault in _FAULTS))

_STRICT = (
    *("provider", "request_model", "response_model", "response_id", "finish_reasons"),
    *("input_tokens", "output_tokens", "cache_read", "cache_creation", "reasoning"),
    *("error_status", "error_type", "stream", "metric_input", "metric_output", "metric_duration"),
)

_EXPLAINED = {
    (
        "a929b51d1474fe",
        "helper",
        "error_status",
    ): "the SDK's accumulator fails on a chunk after the wire call succeeded",
    ("a929b51d1474fe", "helper", "error_type"): "the same",
    (
        "6de3d848c58a28",
        "helper",
        "error_status",
    ): "the SDK's accumulator refuses OpenRouter's annotations, the wire is good",
    ("6de3d848c58a28", "helper", "error_type"): "the same",
}
"""Everything that is not strictly right, by exchange, mode and field. A new entry needs a reason; a mended one goes."""


class Replayed(NamedTuple):
    record: dict[str, Any]
    expected: dict[str, Any]
    base: dict[str, Any]
    seen: dict[str, Any]
    verdict: dict[str, Any]


def _chosen() -> Iterator[str]:
    for path in sorted((_EXCHANGES / "open").glob("*/*/*.json.gz")):
        provider, api = path.parts[-3:-1]
        if provider in _PROVIDERS or api.startswith("openai_"):
            yield path.name.removesuffix(".json.gz")


def _start(peer: str, activate: str, out: Path) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    source = here.parents[1] / "src"
    options = {
        "--peer": peer,
        "--activate": activate,
        "--split": "open",
        "--modes": ",".join(_MODES),
        "--ids": ",".join(_chosen()),
        "--out": str(out),
    }
    return subprocess.Popen(
        [sys.executable, str(_REPLAY / "replay.py"), *(word for pair in options.items() for word in pair)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here, source, _REPLAY)))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _lines(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    with path.open() as file:
        rows = [json.loads(line) for line in file]
    return {(row["id"], row["mode"]): row for row in rows if "id" in row}


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> list[Replayed]:
    folder = tmp_path_factory.mktemp("replay")
    running = [
        _start("none", "activate:baseline", folder / "none.jsonl"),
        _start("seatrace", "activate:activate", folder / "seatrace.jsonl"),
    ]
    for process in running:
        output, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, output
        assert "Traceback" not in output, output
    sys.path.insert(0, str(_REPLAY))
    try:
        from expect import expect
        from score import judge
    finally:
        sys.path.remove(str(_REPLAY))
    base, seen = _lines(folder / "none.jsonl"), _lines(folder / "seatrace.jsonl")
    assert base.keys() == seen.keys()
    records = {}
    for path in (_EXCHANGES / "open").glob("*/*/*.json.gz"):
        records[path.name.removesuffix(".json.gz")] = json.loads(gzip.decompress(path.read_bytes()))
    rows = []
    for key, row in seen.items():
        record = records[key[0]]
        expected = expect(record)
        verdict, _ = judge(record, expected, row, base[key])
        rows.append(Replayed(record, expected, base[key], row, verdict))
    return rows


def _sent(row: Replayed) -> bool:
    """Whether a request went out at all: some helpers refuse what was asked before they send it."""
    return bool(row.base["call"].get("hits"))


def test_the_replay_covers_what_was_recorded(replayed: list[Replayed]) -> None:
    sent = [row for row in replayed if _sent(row)]
    modes = Counter(row.seen["mode"] for row in sent)
    assert len({row.seen["id"] for row in sent}) > 700
    assert len(sent) > 4000
    assert set(modes) == set(_MODES)
    assert min(modes.values()) > 100, modes


def test_no_call_is_broken_and_no_result_changed(replayed: list[Replayed]) -> None:
    broken = [
        (row.seen["id"], row.seen["mode"], row.verdict.get("_crash"), row.verdict.get("_changed"))
        for row in replayed
        if row.verdict.get("_crash") or row.verdict.get("_changed")
    ]
    assert broken == []


def test_every_call_has_exactly_one_inference_span(replayed: list[Replayed]) -> None:
    wrong = [
        (row.seen["id"], row.seen["mode"], [span["name"] for span in row.seen.get("spans", ())])
        for row in replayed
        if len(row.seen.get("spans", ())) != _sent(row)
    ]
    assert wrong == []


def test_fields_are_strictly_right(replayed: list[Replayed]) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    deviations: dict[tuple[str, str, str], tuple[Any, Any]] = {}
    for row in replayed:
        if not _sent(row):
            continue
        for name in _STRICT:
            verdict = row.verdict.get(name)
            if verdict is None or verdict == "-":
                continue
            counts[name][verdict] += 1
            if verdict != "right":
                deviations[row.seen["id"], row.seen["mode"], name] = (row.expected.get(name), row.seen.get("spans", ()))
    shares = {name: counts[name]["right"] / counts[name].total() for name in _STRICT}
    assert {name: share for name, share in shares.items() if share < 0.995} == {}
    assert {key: found for key, found in deviations.items() if key not in _EXPLAINED} == {}
    assert _EXPLAINED.keys() - deviations.keys() == set(), "explained, but right by now"


def test_the_error_of_a_refused_call_is_the_providers_word(replayed: list[Replayed]) -> None:
    """The scoring only asks whether there is one. A word is the code, else the type; without one it is the status."""
    refused = [row for row in replayed if row.expected["status"] >= 400 and row.seen.get("spans")]
    assert len(refused) > 100
    wrong = []
    for row in refused:
        body = json.loads(row.record["response"]["body_text"] or "{}")
        inner = body["error"] if isinstance(body.get("error"), dict) else body
        words = [str(inner.get(name)) for name in ("code", "type")]
        wanted = next((word for word in words if re.fullmatch(r"(?!None)[A-Za-z][\w.-]+", word)), None)
        said = row.seen["spans"][0]["attrs"].get("error.type")
        if said != (wanted or str(row.expected["status"])):
            wrong.append((row.seen["id"], row.seen["mode"], said, wanted))
    assert wrong == []


_TOKEN_COUNTERS = {
    "gen_ai.client.inference.usage.input_tokens": "gen_ai.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens": "gen_ai.usage.output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens": "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens": "gen_ai.usage.reasoning.output_tokens",
    "seatrace.cost": "gen_ai.usage.cost.amount",
}


def test_metrics_equal_the_spans(replayed: list[Replayed]) -> None:
    for row in replayed:
        totals: Counter[str] = Counter()
        durations = 0
        for point in row.seen.get("metrics", ()):
            totals[point["name"]] += point["sum"] or 0
            if point["name"].endswith(".duration"):
                durations += point["count"]
        where = (row.seen["id"], row.seen["mode"])
        assert durations == _sent(row), where
        attributes = row.seen["spans"][0]["attrs"] if row.seen.get("spans") else {}
        if attributes.get("gen_ai.operation.name") == "embeddings":
            assert totals["gen_ai.client.embeddings.operation.input_tokens"] == attributes.get(
                "gen_ai.usage.input_tokens", 0
            ), where
            continue
        for counter, attribute in _TOKEN_COUNTERS.items():
            assert totals[counter] == pytest.approx(attributes.get(attribute, 0)), (where, counter)
        assert totals["seatrace.faults"] == 0, where
