"""A conversation as cells that can be summarized: a user's message, or what the model did in one go with all results.

Each place between two cells has a key, the hash of all that was said before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from ._contents import as_json, contents
from ._forms import FORMS, Form, form_of, read
from .context import shortened
from .tokens import Counter, Tally, TokenEstimate

M = TypeVar("M")

_SAID = 1_000
"""Tokens of one message in a transcript."""
_TRANSCRIPT = 60_000
"""Tokens of a transcript."""


class Story(Generic[M]):
    """A conversation in cells."""

    def __init__(self, messages: Sequence[M], form: Form, counter: Counter, seed: str) -> None:
        self.form = form
        self._counter = counter
        talk = read(messages, form)
        self._messages: list[Any] = talk.messages
        self._plain = talk.plain
        self._system = talk.system
        self.cells: list[list[int]] = []
        self._heads: list[int | None] = []
        """For the place before each cell: the user's message that the model was working on there."""
        for turn in talk.turns:
            if turn.head is not None:
                self.cells.append([turn.head])
                self._heads.append(None)
            for group in turn.groups:
                self.cells.append(group)
                self._heads.append(turn.head)
        self._sizes = [counter.count([talk.plain[at] for at in cell]) for cell in self.cells]
        self._fixed = counter.count([talk.plain[at] for at in talk.system])
        self.keys = self._hashes(seed)

    def tokens_from(self, place: int) -> int:
        """Tokens (upper bound) of what stands behind ``place``."""
        return self._counter.estimate(self._from(place)).high

    def estimate(self, place: int, summary: Any) -> TokenEstimate:
        """Tokens with ``summary`` for what stands before ``place``."""
        beside = Tally() if summary is None else self._counter.count(summary)
        return self._counter.estimate(self._fixed + beside + self._from(place))

    def from_place(self, place: int, summary: Any) -> list[Any]:
        """The messages with ``summary`` for those before ``place``."""
        kept = [at for cell in self.cells[place:] for at in cell]
        head = self._head(place)
        told = [] if summary is None else [summary]
        if summary is None:
            places = sorted({*self._system, *kept, *([] if head is None else [head])})
            return [self._messages[at] for at in places]
        rest = kept if head is None else [head, *kept]
        return [self._messages[at] for at in self._system] + told + [self._messages[at] for at in rest]

    def places(self, start: int, end: int) -> list[int]:
        """The messages between two places."""
        return [at for cell in self.cells[start:end] for at in cell]

    def transcript(self, start: int, end: int, counter: Counter) -> str:
        """What was said between two places, as text for a model to read."""
        lines = []
        for at in self.places(start, end):
            role = {"model": "assistant", "result": "tool"}.get(self.form.role(self._plain[at]), "user")
            said = " ".join(part if isinstance(part, str) else f"[{part.kind}]" for part in contents(self._plain[at]))
            lines.append(f"{role}: {self.shortened(said, _SAID)}")
        text = "\n".join(lines).replace("</conversation>", "< /conversation>")
        return self.shortened(text, _TRANSCRIPT)

    def shortened(self, text: str, most: int) -> str:
        """``text`` without its middle, where it has more than ``most`` tokens."""
        counter = self._counter
        return shortened(text, most, lambda each: counter.estimate(counter.count(each)).high, "[{n} tokens omitted]")

    def form_message(self, text: str) -> Any:
        """A user's message in this form."""
        if self.form.name == "gemini":
            return {"role": "user", "parts": [{"text": text}]}
        return {"role": "user", "content": text}

    def _from(self, place: int) -> Tally:
        total = Tally()
        for size in self._sizes[place:]:
            total += size
        head = self._head(place)
        return total if head is None else total + self._counter.count(self._plain[head])

    def _head(self, place: int) -> int | None:
        return self._heads[place] if place < len(self._heads) else None

    def _hashes(self, seed: str) -> list[str]:
        digest = hashlib.sha256(f"{self.form.name}\n{seed}".encode())
        keys = [""]
        for cell in self.cells:
            for at in cell:
                digest.update(as_json(self._plain[at]).encode("utf-8", "surrogatepass"))
            keys.append(digest.copy().hexdigest())
        return keys


def story_of(messages: Sequence[M], counter: Counter, *, form: Any, model: str | None, seed: str) -> Story[M]:
    """``messages`` in cells."""
    return Story(messages, FORMS[form] if form is not None else form_of(messages, model, None), counter, seed)
