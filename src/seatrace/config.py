"""The settings: one frozen :class:`Config`, filled from keywords, then ``SEATRACE_*``, then ``OTEL_*`` variables."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from math import inf
from typing import Any, Literal, cast

from .errors import ConfigError

Exporter = Literal["otlp", "console", "none"]
Protocol = Literal["http/protobuf", "grpc"]
CaptureContent = Literal["NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT"]
Semconv = Literal["latest", "legacy", "both"]

PROTOCOLS = ("http/protobuf", "grpc")

_Parse = Callable[[str, Any], Any]
"""``parse(setting, value)``: the value a keyword or a variable gave, as the field's type; raises ConfigError."""


def _fail(setting: str, expected: str, came: Any) -> ConfigError:
    return ConfigError(f"{setting}: expected {expected}, got {came!r}")


def _flag(setting: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else value
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise _fail(setting, "true or false", value)


def _word(*allowed: str) -> _Parse:
    def parse(setting: str, value: Any) -> str:
        for word in allowed:
            if isinstance(value, str) and value.strip().lower() == word.lower():
                return word
        raise _fail(setting, "one of " + ", ".join(allowed), value)

    return parse


def _capture(setting: str, value: Any) -> str:
    if isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in ("true", "false")):
        return "SPAN_AND_EVENT" if _flag(setting, value) else "NO_CONTENT"
    return cast(str, _word("NO_CONTENT", "SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT")(setting, value))


def _text(setting: str, value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise _fail(setting, "a text that is not empty", value)


def _url(setting: str, value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if text.startswith(("http://", "https://")):
        return text
    raise _fail(setting, "a URL that starts with http:// or https://", value)


def _positive(setting: str, value: Any) -> int:
    try:
        number = int(value)
        if number > 0 and number == float(value) and not isinstance(value, bool):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise _fail(setting, "a whole number above 0", value)


def _repeats(setting: str, value: Any) -> int:
    try:
        if int(value) == 0 and float(value) == 0 and not isinstance(value, bool):
            return 0
        number = _positive(setting, value)
        if number > 1:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise _fail(setting, "a whole number above 1, or 0 for off", value)


def _amount(setting: str, value: Any) -> float:
    try:
        number = float(value)
        if 0 < number < inf and not isinstance(value, bool):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise _fail(setting, "an amount of USD above 0", value)


def _action(setting: str, value: Any) -> Any:
    word = value.strip().lower() if isinstance(value, str) else value
    if word in ("report", "raise") or callable(value):
        return word
    raise _fail(setting, "report, raise, or a function of what was seen", value)


def _words(value: Any) -> list[str] | None:
    """The texts in a list, or in a text between commas; ``None`` for anything else."""
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, (list, tuple, set)) or not all(isinstance(each, str) for each in found):
        return None
    return [each.strip() for each in found if each.strip()]


def _names(setting: str, value: Any) -> tuple[str, ...]:
    words = _words(value)
    if words is None:
        raise _fail(setting, "names, as a list or separated by commas", value)
    return tuple(words)


def _pairs(setting: str, value: Any) -> Mapping[str, str]:
    if isinstance(value, Mapping):
        return {str(key): str(item) for key, item in value.items()}
    words = _words(value)
    pairs = [each.split("=", 1) for each in words or ()]
    if words is None or any(len(pair) != 2 or not pair[0].strip() for pair in pairs):
        raise _fail(setting, "key=value pairs separated by commas", value)
    return {key.strip(): item.strip() for key, item in pairs}


def _headers(setting: str, value: Any) -> Mapping[str, str]:
    try:
        return _pairs(setting, value)
    except ConfigError:
        raise ConfigError(f"{setting}: expected key=value pairs separated by commas (not shown: secrets)") from None


def _prices(setting: str, value: Any) -> Any:
    if isinstance(value, (str, os.PathLike, Mapping)):
        return value
    raise _fail(setting, "the path of a TOML file, or a mapping of model names to prices", value)


def _hook(setting: str, value: Any) -> Any:
    if callable(value):
        return value
    raise _fail(setting, "a function of (call, content) that returns content or None", value)


def _setting(
    parse: _Parse, doc: str, *env: str, default: Any = None, default_factory: Any = MISSING, secret: bool = False
) -> Any:
    metadata = {"parse": parse, "doc": doc, "env": env}
    if default_factory is not MISSING:
        return field(default_factory=default_factory, metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of ``seatrace.instrument()``, validated. A keyword wins over a variable; of several variables the
    first that is set wins. Unknown keywords and malformed values raise :class:`~seatrace.errors.ConfigError`."""

    enabled: bool = _setting(
        _flag, "Observe at all. `OTEL_SDK_DISABLED=true` switches off, too.", "SEATRACE_ENABLED", default=True
    )
    service_name: str | None = _setting(
        _text,
        "`service.name` of the resource that seatrace sets up. Without it the SDK's rule holds.",
        "SEATRACE_SERVICE_NAME",
        "OTEL_SERVICE_NAME",
    )
    resource_attributes: Mapping[str, str] = _setting(
        _pairs,
        "Further resource attributes, beside `OTEL_RESOURCE_ATTRIBUTES`.",
        "SEATRACE_RESOURCE_ATTRIBUTES",
        default_factory=dict,
    )
    exporter: Exporter | None = _setting(
        _word("otlp", "console", "none"),
        "Where the telemetry goes that seatrace sets providers up for. `None`: `OTEL_TRACES_EXPORTER`, "
        "`OTEL_METRICS_EXPORTER` and `OTEL_LOGS_EXPORTER` decide for each signal, `otlp` where they say nothing.",
        "SEATRACE_EXPORTER",
    )
    protocol: Protocol | None = _setting(
        _word(*PROTOCOLS),
        "OTLP over HTTP or gRPC. `None`: `OTEL_EXPORTER_OTLP_PROTOCOL` and its variants for each signal, else "
        "`http/protobuf`.",
        "SEATRACE_PROTOCOL",
    )
    endpoint: str | None = _setting(
        _url,
        "The collector's base URL. `None`: `OTEL_EXPORTER_OTLP_ENDPOINT` and its variants for each signal, "
        "else the exporter's default on localhost.",
        "SEATRACE_ENDPOINT",
    )
    headers: Mapping[str, str] | None = _setting(
        _headers,
        "Headers for the collector, e.g. authorization. `None`: `OTEL_EXPORTER_OTLP_HEADERS`. Never logged.",
        "SEATRACE_HEADERS",
        secret=True,
    )
    semconv: Semconv = _setting(
        _word("latest", "legacy", "both"),
        "Generation of the GenAI conventions: v0.1.0, the names before it, or both.",
        "SEATRACE_SEMCONV",
        default="latest",
    )
    capture_content: CaptureContent = _setting(
        _capture,
        "Record prompts, answers, tool arguments and results: `NO_CONTENT`, `SPAN_ONLY`, `EVENT_ONLY` or "
        "`SPAN_AND_EVENT`; true means the last.",
        "SEATRACE_CAPTURE_CONTENT",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        default="NO_CONTENT",
    )
    events: bool = _setting(
        _flag,
        "Emit the details event of each inference and the exception events.",
        "SEATRACE_EVENTS",
        "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT",
        default=True,
    )
    redact: bool = _setting(_flag, "Replace secrets in content and in error messages.", "SEATRACE_REDACT", default=True)
    max_text_length: int = _setting(
        _positive, "Characters recorded of each text.", "SEATRACE_MAX_TEXT_LENGTH", default=16_384
    )
    max_items: int = _setting(
        _positive, "Messages (the newest) and parts recorded of each call.", "SEATRACE_MAX_ITEMS", default=256
    )
    content_hook: Any = _setting(
        _hook,
        "A function `(call, content) -> content or None` that sees content before anything is recorded, in every "
        "capture mode.",
    )
    libraries: tuple[str, ...] | None = _setting(
        _names, "Observe only these libraries. `None`: all of the registry.", "SEATRACE_LIBRARIES"
    )
    disabled_libraries: tuple[str, ...] = _setting(
        _names, "Do not observe these libraries.", "SEATRACE_DISABLED_LIBRARIES", default=()
    )
    providers: Mapping[str, str] = _setting(
        _pairs,
        "Provider names for hosts of your own, e.g. `localhost:8000=vllm`; a host with or without port.",
        "SEATRACE_PROVIDERS",
        default_factory=dict,
    )
    prices: Any = _setting(
        _prices,
        "Your own prices, USD per million tokens: the path of a TOML file, or a mapping by keyword. "
        "They win over the bundled ones.",
        "SEATRACE_PRICES",
    )
    loop_repeats: int = _setting(
        _repeats,
        "An agent's run goes in circles where it makes the same tool call, two in turn, or failing calls this many "
        "times in a row. `0`: nobody looks.",
        "SEATRACE_LOOP_REPEATS",
        default=5,
    )
    max_steps: int | None = _setting(
        _positive,
        "Model calls that an agent's run may make itself; `@seatrace.agent(max_steps=...)` wins.",
        "SEATRACE_MAX_STEPS",
    )
    max_run_cost: float | None = _setting(
        _amount,
        "USD that an agent's run may cost, sub-agents included; `@seatrace.agent(max_cost=...)` wins.",
        "SEATRACE_MAX_RUN_COST",
    )
    on_runaway: Any = _setting(
        _action,
        "What happens with a run that goes in circles or takes too much: `report` (metric, event and span attribute), "
        "`raise` (`RunawayAgent` in place of its next call, too), or a function of `seatrace.Runaway` that says with "
        "something true that the run is to be stopped.",
        "SEATRACE_ON_RUNAWAY",
        default="report",
    )


def read_toml(what: str, path: str) -> dict[str, object]:
    """The content of a TOML file; ``what`` it is for names it in errors.

    Raises:
        ConfigError: There is no such file, or it is no TOML.
    """
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        with open(path, "rb") as file:
            return cast("dict[str, object]", tomllib.load(file))
    except OSError as error:
        raise ConfigError(f"{what} {path}: expected a readable file, got {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{what} {path}: expected TOML, got {error}") from error


def _otel_disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def load(settings: Mapping[str, Any]) -> Config:
    """A :class:`Config` of keywords ``settings`` (``None`` means: not given) and the environment.

    Raises:
        ConfigError: A keyword is unknown, or a value is malformed; the message names the keyword or the variable.
    """
    known = {each.name: each for each in fields(Config)}
    for name in settings:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Known are: {', '.join(sorted(known))}."
            raise ConfigError(f"instrument() got an unknown setting {name!r}.{hint}")
    values: dict[str, Any] = {}
    for name, each in known.items():
        parse: _Parse = each.metadata["parse"]
        given = settings.get(name)
        if given is not None:
            values[name] = parse(name, given)
            continue
        for variable in each.metadata["env"]:
            if os.environ.get(variable, "").strip():
                values[name] = parse(variable, os.environ[variable])
                break
    if "enabled" not in values and _otel_disabled():
        values["enabled"] = False
    return Config(**values)
