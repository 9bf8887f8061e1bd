"""One choke point for all client libraries that Stainless generates.

``SyncAPIClient.request`` and ``AsyncAPIClient.request`` carry create, parse, the stream helpers, raw and streaming
responses, beta resources and the cloud variants, with retries inside one call. They are replaced by plain functions on
the class; clients, resources and their methods stay untouched.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from seatrace.core import context
from seatrace.core.observe import Observation, observed
from seatrace.core.patch import Patches
from seatrace.core.pipeline import Pipeline
from seatrace.core.record import Call
from seatrace.core.shape import Shape, error_word
from seatrace.core.stream import ObservedAsyncIterator, ObservedIterator, read_response, tap_response, watch_close

from ._attempts import failed_for_good, follow_attempts
from ._native import QuietTracer
from .providers import provider_of

custom_providers: Mapping[str, str] = {}
"""The setting ``providers``."""

_ENDPOINTS_LIMIT = 256


class Stainless:
    """Observes one Stainless-generated library: its name, its default provider, its endpoints by path, and the
    providers of those of its client classes that are made for a cloud, by their names (each has an ``Async`` twin)."""

    def __init__(
        self, package: str, provider: str, endpoints: Mapping[str, Shape], clouds: Mapping[str, str] = {}
    ) -> None:
        streaming = sys.modules[f"{package}._streaming"]
        self._package = package
        self._provider = provider
        self._endpoints = endpoints
        self._clouds = clouds
        self._streams = (streaming.Stream, streaming.AsyncStream)
        self._model = sys.modules[f"{package}._models"].BaseModel
        self._servers: dict[int, tuple[Any, str, int | None, str]] = {}

    def patch(self, module: Any, patches: Patches) -> None:
        """Replaces the choke points of the loaded ``package._base_client``."""
        make = observed(self._begin, self._returned)
        patches.replace_below(module.SyncAPIClient, "request", make)
        patches.replace_below(module.AsyncAPIClient, "request", make)
        follow_attempts(module, patches)

    def _begin(self, line: Pipeline, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Observation | None:
        options: Any = args[1] if len(args) > 1 else kwargs.get("options")
        if getattr(options, "method", "").lower() != "post":
            return None
        shape = self.shape(options.url)
        if shape is None:
            return None
        call = Call(shape.kind, shape.operation, self._package)
        _, call.server_address, call.server_port, call.provider = self.server(client)
        body = options.json_data
        if not isinstance(body, Mapping):
            body = {}
        extra = getattr(options, "extra_json", None)
        if extra:
            body = {**body, **extra}
        shape.request(call, body)
        call.request = body
        if call.request_model is None:
            call.request_model = _deployment(client, options.url)
        if line.wants_content:
            call.content = shape.request_content(body)
        line.begin(call)
        observation = Observation(call, shape, line, error_type)
        if callable(options.post_parser):
            options.post_parser = _before_parsing(observation, options.post_parser)
        return observation

    def shape(self, url: str) -> Shape | None:
        """The shape of an endpoint; ``None`` for one that is not observed."""
        shape = self._endpoints.get(url)
        if shape is not None:
            return shape
        path = url.split("?", 1)[0].rstrip("/")
        for suffix, shape in self._endpoints.items():
            if path.endswith(suffix):
                return shape
        return None

    def server(self, client: Any) -> tuple[Any, str, int | None, str]:
        """A client's base url, its host and port, and whose they are."""
        url = client.base_url
        known = self._servers.get(id(url))
        if known is None or known[0] is not url:
            host = url.host
            port = url.port or (80 if url.scheme == "http" else 443)
            cloud = self._cloud(type(client))
            name = provider_of(host, port, url.path, custom_providers, cloud=cloud, default=self._provider)
            known = (url, host, port, name)
            if len(self._servers) >= _ENDPOINTS_LIMIT:
                self._servers.clear()
            self._servers[id(url)] = known
        return known

    def _cloud(self, client: type) -> str | None:
        for kind in client.__mro__:
            if kind.__module__.startswith(f"{self._package}.") and (
                found := self._clouds.get(kind.__name__.removeprefix("Async"))
            ):
                return found
        return None

    def _returned(self, observation: Observation, result: Any) -> None:
        if self._model in type(result).__mro__:  # asking a model for what it has not costs an exception inside pydantic
            observation.returned(result)
            return
        if isinstance(result, self._streams):
            _watch_stream(observation, result)
            return
        response = getattr(result, "http_response", None)
        if response is None and hasattr(result, "iter_raw"):
            response = getattr(result, "response", result)  # binary content, or the httpx response that was asked for
        if response is None:
            observation.returned(result)
        elif not response.is_stream_consumed and not response.is_closed:
            tap_response(response, observation)
        else:
            read_response(response, observation)


def _before_parsing(observation: Observation, parse: Any) -> Any:
    """``.parse()`` may refuse an answer that was paid for (cut off, not valid): its usage counts all the same."""

    def post_parser(response: Any) -> Any:
        observation.unparsed = response
        return parse(response)

    return post_parser


def _watch_stream(observation: Observation, stream: Any) -> None:
    observation.watch_stream()
    iterator = stream._iterator
    if hasattr(iterator, "__anext__"):
        stream._iterator = ObservedAsyncIterator(iterator, observation)
    else:
        stream._iterator = ObservedIterator(iterator, observation)
    try:
        watch_close(stream.response.stream, observation.closed)
    except (
        AttributeError,
        TypeError,
    ):  # an own transport's byte stream with slots: the stream's end is noticed without it
        pass


_DEPLOYMENT = re.compile(r"/deployments/([^/]+)")


def _deployment(client: Any, url: str) -> str | None:
    """Azure puts the model into the path."""
    found = _DEPLOYMENT.search(url) or _DEPLOYMENT.search(client.base_url.path)
    return found[1] if found else None


def error_type(call: Call, error: BaseException) -> str:
    """The provider's own error code or type, else the HTTP status, else the exception's name: always few values."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status >= 400:
        call.status_code = status
        failed_for_good(call, error)
    # The library's own exceptions carry code and type themselves, or the body that they were made of, or part of it.
    word = error_word(error) or error_word(error.body) or _word_sent(error) if hasattr(error, "body") else None
    return word or (str(call.status_code) if call.status_code else type(error).__qualname__)


def _word_sent(error: BaseException) -> str | None:
    try:
        return error_word(error.response.json())  # type: ignore[attr-defined]
    except Exception:  # no response, no JSON, or not read by the library: then by nobody
        return None


def quiet_native(module: Any, patches: Patches) -> None:
    """Lets a library's own tracing rest while we observe the same call: one span a call.

    anthropic 2.x makes a span of its own inside ``request`` (``_tracer`` of the base client, ``None`` where tracing is
    off). Its options and the spans of its tool runner stay as the user set them.
    """
    owner = next((each for each in vars(module).values() if isinstance(vars_of(each).get("_tracer"), property)), None)
    if owner is None:
        return

    def make(original: property) -> property:
        def tracer(client: Any) -> Any:
            own = original.fget(client)  # type: ignore[misc]
            return own if own is None or context.observing() is None else QuietTracer(own, lambda name, given: True)

        return property(tracer, doc=original.__doc__)

    patches.replace(owner, "_tracer", make)


def vars_of(value: Any) -> Mapping[str, Any]:
    """The namespace of a class, nothing for other values."""
    return vars(value) if isinstance(value, type) else {}
