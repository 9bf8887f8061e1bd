from __future__ import annotations

import random
import subprocess
import sys
import threading
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from seatrace.core.record import Call, Cost, Usage
from seatrace.errors import ConfigError, SeatraceError
from seatrace.process.price import ModelPrice, PriceBook

ROOT = Path(__file__).resolve().parent.parent.parent


def utc(*moment: int) -> datetime:
    return datetime(*moment, tzinfo=timezone.utc)  # type: ignore[arg-type]


NOW = utc(2026, 11, 20, 12)
BUNDLED = "genai-prices 0.2.3 (2026-11-22)"


def call(provider: str | None = "openai", model: str | None = "gpt-4o", /, **fields: Any) -> Call:
    fields.setdefault("usage", Usage(input_tokens=1_000, output_tokens=500))
    return Call("inference", "chat", provider=provider, request_model=model, **fields)


def total(cost: Cost | None) -> float | None:
    return None if cost is None else cost.total


# --- what providers' price pages say ------------------------------------------------------------------------------

CASES: list[tuple[str, str, Usage, dict[str, Any], float]] = [
    ("openai", "gpt-4o", Usage(1_000, 500), {}, 0.0075),
    ("openai", "gpt-4o", Usage(1_000, 500, cache_read=800), {}, 0.0065),
    ("openai", "gpt-4o-mini", Usage(12_000, 3_000), {"service_tier": "default"}, 0.0036),
    ("openai", "o3", Usage(1_000, 1_000), {"service_tier": "flex"}, 0.005),
    ("openai", "o3", Usage(1_000, 1_000), {"at": utc(2025, 5, 1)}, 0.05),
    ("openai", "o3", Usage(1_000, 1_000), {}, 0.01),
    ("openai", "gpt-5.6-sol", Usage(1_000, 2_500), {"at": utc(2026, 8, 1)}, 0.08),
    ("openai", "gpt-5.6-sol", Usage(272_000, 0), {}, 1.088),
    ("openai", "gpt-5.6-sol", Usage(272_001, 0), {}, 2.176008),
    ("openai", "gpt-5.6-sol", Usage(300_000, 1_000, cache_read=200_000), {}, 0.99),
    ("openai", "gpt-5.6-sol", Usage(1_000, 1_000), {"service_tier": "priority"}, 0.048),
    ("openai", "gpt-5.6-sol", Usage(1_000, 1_000), {"batch": True}, 0.012),
    ("openai", "gpt-realtime", Usage(1_000, 500, audio_input=800, audio_output=400), {}, 0.0536),
    ("openai", "gpt-realtime", Usage(1_000, 0, cache_read=600, audio_input=800, audio_cache_read=500), {}, 0.01024),
    ("openai", "text-embedding-3-small", Usage(1_000_000), {}, 0.02),
    ("openai", "ft:gpt-4o-2024-08-06:org", Usage(1_000, 1_000), {}, 0.01875),
    ("anthropic", "claude-opus-5-5", Usage(4_000, 500, cache_read=2_000, cache_write=1_000), {}, 0.0194),
    ("anthropic", "claude-opus-5-5", Usage(1_000, 0, cache_write=1_000, cache_write_1h=1_000), {}, 0.008),
    ("anthropic", "claude-opus-5-5", Usage(1_000, 0, cache_write=1_000, cache_write_1h=400), {}, 0.0062),
    ("anthropic", "claude-opus-5-5", Usage(0, 0, web_searches=3), {}, 0.03),
    ("anthropic", "claude-opus-5-5", Usage(1_000, 1_000), {"service_tier": "batch"}, 0.012),
    ("anthropic", "claude-opus-5-5", Usage(1_000, 1_000), {"service_tier": "standard"}, 0.024),
    ("anthropic", "claude-opus-5-5", Usage(1_000, 1_000), {"service_tier": "fast"}, 0.048),
    ("gcp.gemini", "gemini-2.5-pro", Usage(200_000, 1_000), {}, 0.26),
    ("gcp.gemini", "gemini-2.5-pro", Usage(250_000, 1_000), {}, 0.64),
    ("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", Usage(1_000, 1_000), {}, 0.0198),
    ("perplexity", "sonar", Usage(1_000, 1_000), {}, 0.014),
    ("openrouter", "deepseek/deepseek-r1:free", Usage(1_000, 1_000), {}, 0.0),
]


@pytest.mark.parametrize(("provider", "model", "usage", "how", "usd"), CASES)
def test_costs_what_the_price_page_says(
    provider: str, model: str, usage: Usage, how: dict[str, Any], usd: float
) -> None:
    cost = PriceBook().price_usage(provider, [model], usage, **{"at": NOW, **how})
    assert total(cost) == pytest.approx(usd, rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("at", "usd"),
    [
        (utc(2026, 8, 14, 2), 0.87),  # before there were peak hours
        (utc(2026, 11, 20, 0, 59), 1.98),
        (utc(2026, 11, 20, 2), 3.96),  # Friday
        (utc(2026, 11, 20, 5), 1.98),
        (utc(2026, 11, 20, 9, 59), 3.96),
        (utc(2026, 11, 22, 2), 1.98),  # Sunday
        (utc(2026, 8, 22, 2), 3.96),  # a Saturday before weekends were off-peak
        (datetime.fromisoformat("2026-11-20T10:00:00+08:00"), 3.96),
        (datetime(2026, 11, 20, 2), 3.96),  # naive times are UTC
    ],
)
def test_deepseek_charges_by_the_hour_on_weekdays(at: datetime, usd: float) -> None:
    assert total(PriceBook().price_usage("deepseek", ["deepseek-v4-pro"], Usage(0, 1_000_000), at=at)) == usd


def test_a_cost_names_its_parts_and_its_basis() -> None:
    assert PriceBook().price(call(), at=NOW) == Cost(
        total=pytest.approx(0.0075),
        input=pytest.approx(0.0025),
        output=pytest.approx(0.005),
        currency="USD",
        source="local",
        basis=BUNDLED,
    )
    assert PriceBook().basis == BUNDLED


# --- which model, which provider ----------------------------------------------------------------------------------


def test_the_response_model_is_priced_before_the_requested_one() -> None:
    book = PriceBook()
    assert total(book.price(call(response_model="gpt-4o-mini"), at=NOW)) == pytest.approx(0.00045)
    assert total(book.price(call(response_model="deployment-7"), at=NOW)) == pytest.approx(0.0075)
    assert total(book.price(call("openai", None, response_model="gpt-4o"), at=NOW)) == pytest.approx(0.0075)


def test_the_tier_of_the_response_goes_before_that_of_the_request() -> None:
    book, o3 = PriceBook(), ("openai", "o3")
    assert total(book.price(call(*o3, service_tier="flex"), at=NOW)) == pytest.approx(0.003)
    assert total(book.price(call(*o3, service_tier="flex", response_service_tier="default"), at=NOW)) == 0.006
    assert total(book.price(call(*o3, service_tier="auto"), at=NOW)) == 0.006


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"),
        ("azure.ai.openai", "gpt-4o-2024-08-06"),
        ("azure.ai.inference", "phi-4"),
        ("anthropic", "claude-opus-5-5"),
        ("aws.bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("gcp.vertex_ai", "gemini-2.5-pro"),
        ("gcp.vertex_ai", "claude-sonnet-4-5@20250929"),
        ("gcp.vertex_ai", "publishers/google/models/gemini-2.5-pro"),
        ("gcp.gemini", "models/gemini-2.5-flash"),
        ("gcp.gen_ai", "gemini-2.5-flash"),
        ("x_ai", "grok-4.6"),
        ("mistral_ai", "mistral-large-latest"),
        ("groq", "llama-3.3-70b-versatile"),
        ("deepseek", "deepseek-chat"),
        ("perplexity", "sonar-pro"),
        ("openrouter", "anthropic/claude-sonnet-4.5"),
        ("together_ai", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("moonshot_ai", "kimi-k3"),
        ("cohere", "command-r-plus-08-2024"),
        ("cerebras", "gpt-oss-120b"),
        ("z_ai", "glm-4.6"),
        ("voyage_ai", "voyage-3.5"),
    ],
)
def test_opentelemetry_provider_names_find_their_price(provider: str, model: str) -> None:
    cost = PriceBook().price(call(provider, model), at=NOW)
    assert cost is not None
    assert cost.total > 0


# --- unknown is not 0 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unknown",
    [
        call("openai", "no-such-model"),
        call("no-such-provider", "gpt-4o"),
        call("ollama", "llama3.2"),
        call("ibm.watsonx.ai", "granite-4"),
        call(None, "no-such-model"),
        call("openai", None),
        call(usage=None),
        call(usage=Usage()),
        call(usage=Usage(web_searches=2)),
        call("openai", "whisper-1"),  # priced by the hour of audio, which nobody reported
        call("cerebras", "qwen-3-coder-480b"),  # on the list, without any price
    ],
    ids=lambda each: f"{each.provider}-{each.request_model}",
)
def test_what_is_unknown_has_no_cost(unknown: Call) -> None:
    assert PriceBook().price(unknown, at=NOW) is None


def test_a_missing_direction_is_left_out_not_0() -> None:
    cost = PriceBook().price(call(usage=Usage(input_tokens=1_000)), at=NOW)
    assert cost is not None
    assert (cost.input, cost.output) == (pytest.approx(0.0025), None)
    cost = PriceBook().price(call(usage=Usage(output_tokens=500)), at=NOW)
    assert cost is not None
    assert (cost.input, cost.output) == (None, pytest.approx(0.005))


def test_a_deliberate_0_is_0() -> None:
    book = PriceBook()
    book.register("*", provider="ollama", input=0)
    cost = book.price(call("ollama", "llama3.2"), at=NOW)
    assert cost == Cost(0.0, 0.0, 0.0, basis="custom")


# --- amounts that the provider reports ----------------------------------------------------------------------------


def test_an_amount_in_the_response_goes_before_the_list() -> None:
    reported = Cost(0.125, source="provider", basis="response")
    assert PriceBook().price(call(reported_cost=0.125)) == reported
    assert PriceBook().price(call("nobody", "nothing", usage=None, reported_cost=0.125)) == reported
    assert total(PriceBook().price(call(reported_cost=0.0))) == 0.0


@pytest.mark.parametrize("nonsense", [-1.0, float("nan"), float("inf"), "0.1"])
def test_a_nonsensical_amount_is_passed_over(nonsense: Any) -> None:
    cost = PriceBook().price(call(reported_cost=nonsense), at=NOW)
    assert cost is not None
    assert cost.source == "local"


# --- usage that does not add up -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        (Usage(100, 0, cache_read=1_000), 0.0002),  # cached > input: the cached ones are billed
        (Usage(None, 0, cache_read=1_000), 0.0002),
        (Usage(1_000, 0, cache_write_1h=1_000), 0.008),  # a part without its whole
        (Usage(0, 10, reasoning=1_000), 0.02),
    ],
)
def test_a_part_larger_than_its_whole_is_billed_alone(usage: Usage, usd: float) -> None:
    assert total(PriceBook().price_usage("anthropic", ["claude-opus-5-5"], usage, at=NOW)) == pytest.approx(usd)


def test_no_usage_makes_the_book_raise() -> None:
    rng, book = random.Random(7), PriceBook()
    values: list[Any] = [None, 0, 1, -1, 10**6, 10**400, 1.5, float("nan"), float("inf"), -float("inf"), "7", [], {}]
    models = ["gpt-realtime", "gpt-5.6-sol", "gpt-image-1", "gpt-4o", "sonar-deep-research"]
    for _ in range(5_000):
        usage = Usage(**{name: rng.choice(values) for name in Usage.__slots__ if rng.random() < 0.3})  # type: ignore[attr-defined]
        cost = book.price(call(rng.choice(["openai", "perplexity"]), rng.choice(models), usage=usage), at=NOW)
        assert cost is None or 0 <= cost.total < float("inf")


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "12", 10**400])
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "cache_read", "audio_output"])
def test_a_count_that_is_no_count_has_no_cost(name: str, bad: Any) -> None:
    usage = Usage(input_tokens=1_000, output_tokens=500)
    setattr(usage, name, bad)
    assert PriceBook().price(call(usage=usage), at=NOW) is None


# --- prices of one's own ------------------------------------------------------------------------------------------


def test_own_prices_go_before_bundled_ones() -> None:
    book = PriceBook({"openai/gpt-4o": {"input": 1.0, "output": 2.0, "cache_read": 0.1}})
    usage = Usage(input_tokens=1_000, output_tokens=500, cache_read=400)
    cost = book.price(call(response_model="gpt-4o-2024-08-06", usage=usage))
    assert cost == Cost(pytest.approx(0.00164), pytest.approx(0.00064), pytest.approx(0.001), basis="custom")
    assert total(book.price(call("azure.ai.openai", "gpt-4o"), at=NOW)) == pytest.approx(0.0075)


@pytest.mark.parametrize(
    ("key", "provider", "model"),
    [
        ("acme/llm-1", "acme", "llm-1"),
        ("Acme/LLM-1", "acme", "LLM-1"),
        ("llm-1", "whoever", "llm-1"),
        ("llm-1", None, "llm-1"),
        ("acme/*", "acme", "anything/at:all"),
        ("llm-*", "acme", "llm-1"),
        ("meta-llama/llama-9", "together_ai", "meta-llama/Llama-9"),
        ("openrouter/acme/llm-1", "openrouter", "acme/llm-1"),
        ("azure.ai.openai/llm-1", "azure.ai.openai", "llm-1"),
        ("azure/llm-1", "azure.ai.openai", "llm-1"),
    ],
)
def test_own_prices_are_found_by_provider_and_model(key: str, provider: str | None, model: str) -> None:
    assert total(PriceBook({key: ModelPrice(input=1)}).price(call(provider, model))) == pytest.approx(0.001)


def test_the_most_specific_own_price_wins() -> None:
    book = PriceBook(
        {"*": {"input": 1}, "acme/*": {"input": 2}, "acme/big-*": {"input": 3}, "acme/big-1": {"input": 4}}
    )
    prices = [
        total(book.price(call(*each))) for each in [("x", "y"), ("acme", "y"), ("acme", "big-2"), ("acme", "big-1")]
    ]
    assert prices == pytest.approx([0.001, 0.002, 0.003, 0.004])


def test_kinds_without_a_price_are_billed_as_what_contains_them() -> None:
    usage = Usage(1_000, 1_000, cache_read=500, cache_write=100, cache_write_1h=50, reasoning=400, audio_input=200)
    assert total(PriceBook({"m": {"input": 1, "output": 2}}).price(call("p", "m", usage=usage))) == pytest.approx(0.003)


def test_requests_and_searches_are_priced_each() -> None:
    book = PriceBook({"m": {"input": 0, "per_request": 0.005, "per_web_search": 0.01}})
    assert total(book.price(call("p", "m", usage=Usage(1, 1, web_searches=2)))) == pytest.approx(0.025)


def test_a_price_registered_later_holds_from_then_on() -> None:
    book = PriceBook()
    assert book.price(call("acme", "llm-1")) is None
    book.register("llm-1", provider="acme", input=1.0, output=2.0)
    assert total(book.price(call("acme", "llm-1"))) == pytest.approx(0.002)
    book.register("llm-1", provider="acme", input=10.0, output=20.0)
    assert total(book.price(call("acme", "llm-1"))) == pytest.approx(0.02)


def test_own_prices_have_a_history() -> None:
    book = PriceBook()
    book.register("gpt-4o", provider="openai", input=1, output=2, valid_from=date(2026, 1, 1))
    book.register("gpt-4o", provider="openai", input=2, output=4, valid_from=date(2026, 7, 1))
    days = [utc(2025, 12, 31, 23, 59), utc(2026, 1, 1), utc(2026, 6, 30, 23), utc(2026, 7, 1)]
    costs = [book.price(call(), at=day) for day in days]
    assert [total(cost) for cost in costs] == pytest.approx([0.0075, 0.002, 0.002, 0.004])
    assert [cost and cost.basis for cost in costs] == [BUNDLED, "custom", "custom", "custom"]


def test_a_multiplier_applies_to_every_price_of_its_provider() -> None:
    book = PriceBook({"openai/mine": {"input": 1, "per_request": 1}})
    book.multiply("openai", 0.85)
    cost = book.price(call(), at=NOW)
    assert cost is not None
    assert cost.total == pytest.approx(0.0075 * 0.85)
    assert cost.basis == f"{BUNDLED} × 0.85"
    assert total(book.price(call("openai", "mine"))) == pytest.approx(1.001 * 0.85)
    assert total(book.price(call("anthropic", "claude-opus-5-5"), at=NOW)) == pytest.approx(0.014)
    assert total(book.price(call(reported_cost=1.0))) == 1.0


def test_a_file_holds_prices_and_multipliers(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(
        """
        [models."acme/llm-1"]
        input = 1.0
        output = 2

        [[models."acme/llm-2"]]
        input = 3.0
        valid_from = 2026-01-01

        [[models."acme/llm-2"]]
        input = 4.0
        valid_from = 2026-07-01

        [providers.acme]
        multiplier = 0.5
        """
    )
    book = PriceBook({"acme/llm-3": {"input": 5}}, path=file)
    assert total(book.price(call("acme", "llm-1"))) == pytest.approx(0.001)
    assert total(book.price(call("acme", "llm-2"), at=utc(2026, 2, 1))) == pytest.approx(0.0015)
    assert total(book.price(call("acme", "llm-2"), at=NOW)) == pytest.approx(0.002)
    assert total(book.price(call("acme", "llm-3"))) == pytest.approx(0.0025)
    assert total(PriceBook({"acme/llm-1": {"input": 5}}, path=str(file)).price(call("acme", "llm-1"))) == 0.0025


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([("m", 1)], "prices: expected a mapping"),
        ({"m": 1}, "prices['m']: expected a mapping of input, output, "),
        ({"m": "1"}, "prices['m']: expected a mapping"),
        ({7: {"input": 1}}, "prices: expected keys such as"),
        ({"m": {}}, "prices['m']: expected 'input'"),
        ({"m": {"output": 1}}, "prices['m']: expected 'input' (USD per million tokens), got only ['output']"),
        ({"m": {"input": "1"}}, "prices['m']: input: expected a finite number of at least 0, got '1'"),
        ({"m": {"input": True}}, "got True"),
        ({"m": {"input": None}}, "got None"),
        ({"m": {"input": -1}}, "got -1"),
        ({"m": {"input": 1, "cache_read": float("nan")}}, "prices['m']: cache_read: expected a finite number"),
        ({"m": {"input": 1, "cached": 1}}, "prices['m']: expected only input, output, "),
        ({"m": {"input": 1, "valid_from": "2026-01-01"}}, "valid_from: expected a date such as 2026-11-22"),
        ({"m": {"input": 1, "valid_from": datetime(2026, 1, 1)}}, "valid_from: expected a date"),
    ],
)
def test_malformed_prices_are_refused(overrides: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PriceBook(overrides)
    assert message in str(caught.value)
    assert isinstance(caught.value, SeatraceError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("models = 3", "models: expected a mapping"),
        ("[models.m]\ninput = 'x'", "models['m']: input: expected a finite number"),
        ("[model.m]\ninput = 1", "expected only [models.…] and [providers.…], got 'model'"),
        (
            "[providers.acme]\nmultiplier = -1",
            "providers.acme.multiplier: expected a finite number of at least 0, got -1",
        ),
        ("[providers.acme]\ndiscount = 1", "providers.acme: expected 'multiplier' alone, got {'discount': 1}"),
        ("providers = 1", "providers: expected tables"),
        ("[models", "expected TOML, got "),
        ("\xff", "expected TOML, got "),
        (None, "expected a readable file, got No such file"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "prices.toml"
    if content is not None:
        file.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError) as caught:
        PriceBook(path=file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


def test_register_and_multiply_refuse_what_is_no_amount() -> None:
    with pytest.raises(ConfigError, match="input: expected a finite number"):
        PriceBook().register("m", input=float("inf"))
    with pytest.raises(ConfigError, match="multiplier of 'acme': expected a finite number"):
        PriceBook().multiply("acme", float("nan"))


# --- a guest in somebody's process --------------------------------------------------------------------------------


def test_the_list_is_read_at_the_first_price_and_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\n"
        "from seatrace.process.price import PriceBook\n"
        "from seatrace.process._pricelist import bundled\n"
        "book = PriceBook({'m': {'input': 1}})\n"
        "assert bundled.cache_info().currsize == 0\n"
        "assert book.basis\n"
        "heavy = {'genai_prices', 'pydantic', 'httpx', 'opentelemetry', 'decimal', 'gzip'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_remembered_is_bounded() -> None:
    book = PriceBook()
    for number in range(3_000):
        book.price(call("nobody", f"model-{number}"))
    assert len(book._recent) + len(book._former) <= 1_024


def test_a_book_is_shared_between_threads() -> None:
    book = PriceBook({"acme/m": {"input": 1}})
    seen: set[float | None] = set()
    stop = threading.Event()

    def price() -> None:
        while not stop.is_set():
            seen.add(total(book.price(call("acme", "m"))))
            seen.add(total(book.price(call("acme", "m", response_model="other"))))

    threads = [threading.Thread(target=price) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(400):
        book.register("m", provider="acme", input=1 + number % 2)
    stop.set()
    for thread in threads:
        thread.join()
    assert seen <= {0.001, 0.002}
    assert total(book.price(call("acme", "m"))) == 0.002


def test_the_bundled_file_is_what_the_release_script_writes() -> None:
    installed = pytest.importorskip("genai_prices", reason="the source of the prices (Python >= 3.11)")
    if f" {installed.__version__} " not in BUNDLED:
        pytest.skip(f"installed is genai-prices {installed.__version__}, bundled {BUNDLED}")
    script = ROOT / "scripts" / "build_prices.py"
    result = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
