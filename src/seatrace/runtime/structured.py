"""Answers of a given shape: :class:`StructuredOutput` asks for them, reads them, and has them put right.

A short answer in a schema costs less than prose that is parsed afterwards, and an answer that does not fit is asked for
again a bounded number of times, each try an observed call of its own.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast, overload

from seatrace.core.record import Call
from seatrace.core.shape import get
from seatrace.core.step import Step
from seatrace.emit import semconv
from seatrace.errors import ConfigError, SeatraceError

from ._options import check_count
from ._schemas import Schema, build, faults, schema_of, strict

__all__ = ["OutputInvalid", "StructuredOutput"]

T = TypeVar("T")

_FAULTS = 10
"""Faults that a model is told of."""
_AGAIN = "Answer again, with the corrected JSON alone."
_NAME = re.compile(r"[^A-Za-z0-9_-]")


class OutputInvalid(SeatraceError):
    """An answer is not what the schema says. ``text`` is the answer, ``faults`` says what is wrong with it."""

    def __init__(self, name: str, text: str, faults: Sequence[str]) -> None:
        super().__init__(f"StructuredOutput {name!r}: the answer does not fit: {'; '.join(faults)}")
        self.text = text
        self.faults = list(faults)


class StructuredOutput(Generic[T]):
    """Answers as ``shape``: a dataclass, a pydantic model, or a JSON schema (then answers are plain JSON).

    ``openai_chat()``, ``openai_responses()`` and ``anthropic()`` are arguments for the client library's call, ``parse``
    reads what comes back, ``ask`` does both and asks again where it does not fit.

    Args:
        shape: What an answer is.
        name: Of the schema; default the class's name, or the schema's title.
        repairs: How often ``ask`` asks again.

    Raises:
        ConfigError: ``shape`` is something else, or has a field of a type that JSON has not.
    """

    @overload
    def __init__(self, shape: type[T], *, name: str | None = None, repairs: int = 2) -> None: ...
    @overload
    def __init__(
        self: StructuredOutput[Any], shape: Mapping[str, Any], *, name: str | None = None, repairs: int = 2
    ) -> None: ...
    def __init__(self, shape: Any, *, name: str | None = None, repairs: int = 2) -> None:
        self._shape = shape
        self._repairs = check_count("repairs", repairs, least=0)
        self._is_class = isinstance(shape, type)
        if self._is_class and hasattr(shape, "model_json_schema"):
            self.schema: Schema = strict(shape.model_json_schema())
        elif self._is_class and dataclasses.is_dataclass(shape):
            self.schema = strict(schema_of(shape))
        elif isinstance(shape, Mapping):
            self.schema = dict(shape)
        else:
            raise ConfigError(f"shape: expected a dataclass, a pydantic model or a JSON schema, got {shape!r:.80}")
        label = name or (shape.__name__ if self._is_class else str(shape.get("title") or "answer"))
        self.name = _NAME.sub("_", label)[:64]

    def openai_chat(self) -> dict[str, Any]:
        """Arguments for ``chat.completions.create``."""
        described = {"name": self.name, "schema": self.schema, "strict": self._is_class}
        return {"response_format": {"type": "json_schema", "json_schema": described}}

    def openai_responses(self) -> dict[str, Any]:
        """Arguments for ``responses.create``."""
        form = {"type": "json_schema", "name": self.name, "schema": self.schema, "strict": self._is_class}
        return {"text": {"format": form}}

    def anthropic(self) -> dict[str, Any]:
        """Arguments for ``messages.create``."""
        return {"output_config": {"format": {"type": "json_schema", "schema": self.schema}}}

    def parse(self, answer: Any) -> T:
        """What ``answer`` says: a text, or a response of ``openai`` or ``anthropic``. A fence around it is no matter.

        Raises:
            OutputInvalid: It is not JSON, or not what the schema says.
        """
        text = text_of_answer(answer)
        try:
            value = json.loads(_unfenced(text), parse_constant=_no_constant)
        except ValueError as error:
            raise OutputInvalid(self.name, text, [f"not JSON ({error})"]) from None
        if hasattr(self._shape, "model_validate"):
            try:
                return cast(T, self._shape.model_validate(value))
            except ValueError as error:
                raise OutputInvalid(self.name, text, _pydantic_faults(error)) from error
        schema = schema_of(self._shape) if self._is_class else self.schema
        found = [fault for fault, _ in zip(faults(value, schema), range(_FAULTS), strict=False)]
        if found:
            raise OutputInvalid(self.name, text, found)
        try:
            return cast(T, build(self._shape, value)) if self._is_class else cast(T, value)
        except (TypeError, ValueError) as error:  # the class itself refuses it
            raise OutputInvalid(self.name, text, [str(error)]) from error

    async def ask(self, messages: Sequence[Any], call: Callable[[list[Any]], Awaitable[Any]]) -> T:
        """Awaits ``call(messages)`` and reads the answer; where that does not fit, tells the model why and asks again,
        ``repairs`` times at most. A span ``structured {name}`` has the calls below it.

        Raises:
            OutputInvalid: The last answer does not fit either.
            Exception: What ``call`` raised, as it is.
        """
        step = self._step()
        with step:
            tries = self._tries(messages, step)
            asked = next(tries)
            while isinstance(asked, _Ask):
                asked = tries.send(await call(asked.messages))
            return cast(T, asked)

    def ask_sync(self, messages: Sequence[Any], call: Callable[[list[Any]], Any]) -> T:
        """:meth:`ask` for functions that are not asynchronous."""
        step = self._step()
        with step:
            tries = self._tries(messages, step)
            asked = next(tries)
            while isinstance(asked, _Ask):
                asked = tries.send(call(asked.messages))
            return cast(T, asked)

    def _step(self) -> Step:
        return Step.begin(lambda: Call("internal", "structured", "seatrace", name=self.name))

    def _tries(self, messages: Sequence[Any], step: Step) -> Generator[Any, Any, None]:
        """What to ask; for each response that is sent, what to ask next, or the answer."""
        talk = list(messages)
        for number in range(1, self._repairs + 2):
            response = yield _Ask(talk)
            step.call.attributes[semconv.STRUCTURED_TRIES] = number
            try:
                answer = self.parse(response)
            except OutputInvalid as error:
                if number > self._repairs:
                    raise
                wrong = "\n".join(f"- {fault}" for fault in error.faults)
                talk = [
                    *messages,
                    {"role": "assistant", "content": error.text or "(nothing)"},
                    {"role": "user", "content": f"That does not fit the schema:\n{wrong}\n{_AGAIN}"},
                ]
            else:
                yield answer
                return


@dataclasses.dataclass(frozen=True, slots=True)
class _Ask:
    messages: list[Any]


def text_of_answer(answer: Any) -> str:
    """The text of a response of ``openai`` or ``anthropic``, of its JSON, or of a plain string."""
    if isinstance(answer, str):
        return answer
    if isinstance(direct := get(answer, "output_text"), str):
        return direct
    choices = get(answer, "choices")
    if choices:
        return str(get(get(choices[0], "message"), "content") or "")
    parts = get(answer, "content") or [
        part for item in get(answer, "output") or () for part in get(item, "content") or ()
    ]
    texts = [get(part, "text") for part in parts if get(part, "type") in ("text", "output_text")]
    return "".join(each for each in texts if isinstance(each, str))


def _unfenced(text: str) -> str:
    found = re.fullmatch(r"\s*```\w*\s*\n(.*?)\n?\s*```\s*", text, re.DOTALL)
    return found[1] if found else text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _pydantic_faults(error: Any) -> list[str]:
    try:
        found = error.errors()[:_FAULTS]
    except AttributeError:  # a validator's own ValueError
        return [str(error)]
    return [f"${''.join(f'.{each}' for each in fault['loc'])}: {fault['msg']}" for fault in found]
