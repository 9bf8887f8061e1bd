"""What a model selector looks at: what models can do, and what a request needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ._contents import Media, contents, plain
from ._forms import form_of
from .tokens import Counter, TokenEstimate

Ability = Literal["tools", "vision", "json", "audio"]


@dataclass(frozen=True, slots=True)
class ModelOption:
    """A model that may be chosen."""

    model: str
    provider: str | None = None
    """``gen_ai.provider.name``; ``None`` leaves the price to the model's name."""
    context: int | None = None
    """Tokens that its context holds, input and output together; ``None``: not checked."""
    abilities: frozenset[Ability] | None = None
    """What it can; ``None``: not checked."""

    def lacks(self, request: RouteRequest) -> str | None:
        """Why it cannot serve ``request``: ``"capability"``, ``"context"``, or ``None``: it can."""
        if self.abilities is not None and not request.needs <= self.abilities:
            return "capability"
        if self.context is not None and request.tokens(self).high + request.output_tokens > self.context:
            return "context"
        return None


class RouteRequest:
    """A request as rules and scorers see it. Built from the arguments of a client library's call: ``messages``,
    ``input`` or ``contents``, ``system``, ``tools``, ``response_format`` …"""

    def __init__(self, arguments: Mapping[str, Any], output_tokens: int) -> None:
        self.arguments = arguments
        found = arguments.get("messages") or arguments.get("input") or arguments.get("contents") or ()
        self.messages: Sequence[Any] = [{"role": "user", "content": found}] if isinstance(found, str) else list(found)
        """The messages, in the provider's form."""
        self.tools: Sequence[Any] = list(arguments.get("tools") or ())
        limits = (arguments.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
        self.output_tokens: int = next((each for each in limits if isinstance(each, int)), output_tokens)
        """What the answer may have at most, or is thought to have."""
        self._estimates: dict[tuple[str, str | None], TokenEstimate] = {}

    @cached_property
    def text(self) -> str:
        """What the user said last."""
        if not self.messages:
            return ""
        form = form_of(self.messages, None, None)
        said = next((each for each in map(plain, reversed(self.messages)) if form.role(each) == "user"), None)
        return "" if said is None else " ".join(part for part in contents(said) if isinstance(part, str))

    @cached_property
    def needs(self) -> frozenset[Ability]:
        """What a model must be able to do."""
        found: set[Ability] = set()
        if self.tools:
            found.add("tools")
        form = (
            self.arguments.get("response_format") or self.arguments.get("text") or self.arguments.get("output_config")
        )
        if form is not None and "json" in str(plain(form)):
            found.add("json")
        for message in self.messages:
            found.update("audio" if part.audio else "vision" for part in contents(message) if isinstance(part, Media))
        return frozenset(found)

    def tokens(self, option: ModelOption) -> TokenEstimate:
        """The input tokens that ``option`` would count."""
        place = (option.model, option.provider)
        if place not in self._estimates:
            counter = Counter(option.model, option.provider)
            total = counter.count(self.messages)
            if self.tools:
                total += counter.count_tools(self.tools)
            for beside in ("system", "instructions"):
                if self.arguments.get(beside):
                    total += counter.count(self.arguments[beside])
            self._estimates[place] = counter.estimate(total)
        return self._estimates[place]


def options_of(tiers: Mapping[str, Sequence[ModelOption | str]]) -> dict[str, tuple[ModelOption, ...]]:
    """Tiers with names made into options."""
    return {
        tier: tuple(each if isinstance(each, ModelOption) else ModelOption(each) for each in options)
        for tier, options in tiers.items()
    }
