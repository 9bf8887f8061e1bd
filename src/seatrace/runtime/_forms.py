"""Conversations in the forms of the providers: whose message it is, which results answer which calls, where text is.

A conversation is read as turns: a user's message (the head) and the model's groups behind it. A group is what cannot
be parted: a model's message with all results of its tool calls, of OpenAI's responses also the reasoning before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ._contents import as_json, plain

FormName = Literal["openai_chat", "openai_responses", "anthropic", "gemini"]
Role = Literal["system", "user", "model", "result"]
Message = Mapping[str, Any]
Rewrite = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Form:
    """How one provider's messages are read. Functions take a message as plain JSON."""

    name: FormName
    role: Callable[[Message], Role]
    calls: Callable[[Message], list[str]]
    """Ids (Gemini: names) of the tools that a model's message calls."""
    results: Callable[[Message], list[str]]
    """Ids of the calls that a message answers."""
    rewrite_results: Callable[[Message, Rewrite], Message]
    """The message with the text of its tool results rewritten."""
    rewrite_text: Callable[[Message, Rewrite], Message]
    """The message with its own text rewritten."""
    without_results: Callable[[Message], Message | None] = lambda message: None
    """What is left without results that answer nothing; ``None``: nothing."""
    runs: bool = False
    """The model's side may be several messages in a row, which belong together."""
    user_first: bool = False
    """A conversation must begin with a user's message."""
    calls_first: bool = False
    """A message with calls must not stand behind another one of the model's."""


@dataclass(slots=True, eq=False)
class Turn:
    """A user's message and what the model did then; places in the conversation."""

    head: int | None
    groups: list[list[int]] = field(default_factory=list)


@dataclass(slots=True)
class Conversation:
    """A conversation in parts that can be left out."""

    form: Form
    messages: list[Any]
    """As given, but for those that had to be mended."""
    plain: list[Message]
    system: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    """Messages that a provider would refuse: calls without results, results without calls."""
    mended: list[int] = field(default_factory=list)


def read(messages: Sequence[Any], form: Form) -> Conversation:
    """Parts of ``messages``."""
    talk = Conversation(form, list(messages), [plain(each) for each in messages])
    at = 0
    while at < len(messages):
        at = _read_one(talk, at)
    if form.user_first:
        while talk.turns and talk.turns[0].head is None:
            talk.broken.extend(place for group in talk.turns.pop(0).groups for place in group)
    if form.calls_first:
        for turn in talk.turns:
            _drop_words_before_calls(talk, turn)
    return talk


def _drop_words_before_calls(talk: Conversation, turn: Turn) -> None:
    calling = [at for at, group in enumerate(turn.groups) if len(group) > 1]
    for at in reversed(range(max(calling, default=0))):
        if at not in calling:
            talk.broken.extend(turn.groups.pop(at))


def _read_one(talk: Conversation, at: int) -> int:
    """Reads from place ``at``; returns the next place."""
    form, seen = talk.form, talk.plain
    role = form.role(seen[at])
    if role == "system":
        talk.system.append(at)
        return at + 1
    if role == "user":
        talk.turns.append(Turn(at))
        return at + 1
    if role == "result":
        _mend(talk, at)
        return at + 1
    end = at + 1
    while form.runs and end < len(seen) and form.role(seen[end]) == "model":
        end += 1
    leads_nowhere = any(
        _is_thought(seen[each]) and (each + 1 == end or _is_thought(seen[each + 1])) for each in range(at, end)
    )
    called = Counter(name for each in seen[at:end] for name in form.calls(each))
    answered: Counter[str] = Counter()
    while called and end < len(seen) and form.role(seen[end]) == "result":
        results = Counter(form.results(seen[end]))
        if results - (called - answered):
            break
        answered += results
        end += 1
    if answered != called or leads_nowhere:
        talk.broken.extend(range(at, end))
    elif talk.turns:
        talk.turns[-1].groups.append(list(range(at, end)))
    else:
        talk.turns.append(Turn(None, [list(range(at, end))]))
    return end


def _mend(talk: Conversation, at: int) -> None:
    left = talk.form.without_results(talk.plain[at])
    if left is None:
        talk.broken.append(at)
        return
    talk.messages[at] = talk.plain[at] = left
    talk.mended.append(at)
    talk.turns.append(Turn(at))


# --- OpenAI chat ------------------------------------------------------------------------------------------------------


def _chat_role(message: Message) -> Role:
    role = message.get("role")
    if role in ("system", "developer"):
        return "system"
    if role in ("tool", "function"):
        return "result"
    return "model" if role == "assistant" else "user"


def _chat_calls(message: Message) -> list[str]:
    calls = [str(plain(each).get("id")) for each in message.get("tool_calls") or ()]
    older = message.get("function_call")
    return calls if older is None else [*calls, f"function {plain(older).get('name')}"]


def _chat_results(message: Message) -> list[str]:
    name = message.get("tool_call_id") if message.get("role") == "tool" else f"function {message.get('name')}"
    return [str(name)]


def _rewrite_content(message: Message, rewrite: Rewrite) -> Message:
    """Text in ``content``: a string, or the longest of its text parts."""
    return {**message, "content": _rewritten(message.get("content"), rewrite)}


def _rewrite_all_content(message: Message, rewrite: Rewrite) -> Message:
    return {**message, "content": rewrite(_joined(message.get("content")))}


def _rewritten(content: Any, rewrite: Rewrite) -> Any:
    if isinstance(content, str):
        return rewrite(content)
    parts = [plain(each) for each in content or ()]
    texts = [at for at, each in enumerate(parts) if isinstance(each, Mapping) and isinstance(each.get("text"), str)]
    if not texts:
        return content
    longest = max(texts, key=lambda at: len(parts[at]["text"]))
    return [
        {**each, "text": rewrite(each["text"])} if at == longest else original
        for at, (each, original) in enumerate(zip(parts, content, strict=True))
    ]


def _joined(content: Any) -> str:
    """All text of a result: media is not kept in a shortened one."""
    if isinstance(content, str):
        return content
    parts = [plain(each) for each in content or ()] if isinstance(content, (list, tuple)) else [content]
    texts = [each.get("text") if isinstance(each, Mapping) and "text" in each else each for each in parts]
    return "\n".join(each if isinstance(each, str) else as_json(each) for each in texts if _is_short(each))


def _is_short(part: Any) -> bool:
    return isinstance(part, str) or not isinstance(part, Mapping) or part.get("type") not in _MEDIA


_MEDIA = ("image", "image_url", "input_image", "document", "input_file", "input_audio")

CHAT = Form("openai_chat", _chat_role, _chat_calls, _chat_results, _rewrite_all_content, _rewrite_content)


# --- OpenAI responses -------------------------------------------------------------------------------------------------


def _item_role(item: Message) -> Role:
    kind = str(item.get("type") or "message")
    if kind.endswith("_output") or kind == "mcp_approval_response":
        return "result"
    if kind != "message":
        return "model"
    role = item.get("role")
    return "system" if role in ("system", "developer") else "model" if role == "assistant" else "user"


def _item_calls(item: Message) -> list[str]:
    if item.get("type") == "mcp_approval_request":
        return [str(item.get("id"))]
    return [str(item["call_id"])] if item.get("call_id") is not None else []


def _item_results(item: Message) -> list[str]:
    return [str(item.get("approval_request_id") or item.get("call_id"))]


def _is_thought(item: Message) -> bool:
    """OpenAI refuses reasoning without the item that it led to."""
    return item.get("type") == "reasoning"


def _rewrite_output(item: Message, rewrite: Rewrite) -> Message:
    return {**item, "output": rewrite(_joined(item["output"]))} if item.get("type") in _TEXT_OUTPUTS else item


_TEXT_OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")

RESPONSES = Form(
    "openai_responses", _item_role, _item_calls, _item_results, _rewrite_output, _rewrite_content, runs=True
)


# --- Anthropic --------------------------------------------------------------------------------------------------------


def _blocks(message: Message, kind: str) -> Iterator[Message]:
    content = message.get("content")
    if isinstance(content, (list, tuple)):
        for each in content:
            block = plain(each)
            if isinstance(block, Mapping) and block.get("type") == kind:
                yield block


def _turn_role(message: Message) -> Role:
    if message.get("role") == "assistant":
        return "model"
    if message.get("role") == "system":
        return "system"
    return "result" if any(True for _ in _blocks(message, "tool_result")) else "user"


def _uses(message: Message) -> list[str]:
    return [str(each.get("id")) for each in _blocks(message, "tool_use")]


def _answers(message: Message) -> list[str]:
    return [str(each.get("tool_use_id")) for each in _blocks(message, "tool_result")]


def _rewrite_blocks(message: Message, rewrite: Rewrite) -> Message:
    content = message.get("content")
    if not isinstance(content, (list, tuple)):
        return message
    return {**message, "content": [_rewrite_block(each, rewrite) for each in content]}


def _rewrite_block(original: Any, rewrite: Rewrite) -> Any:
    block = plain(original)
    if block.get("type") != "tool_result" or not block.get("content"):
        return original
    return {**block, "content": rewrite(_joined(block["content"]))}


def _without_tool_results(message: Message) -> Message | None:
    left = [each for each in message["content"] if plain(each).get("type") != "tool_result"]
    return {**message, "content": left} if left else None


ANTHROPIC = Form(
    "anthropic",
    _turn_role,
    _uses,
    _answers,
    _rewrite_blocks,
    _rewrite_content,
    without_results=_without_tool_results,
    user_first=True,
)


# --- Gemini -----------------------------------------------------------------------------------------------------------


def _part(part: Any, snake: str, camel: str) -> Any:
    found = plain(part)
    return found.get(snake) or found.get(camel) if isinstance(found, Mapping) else None


def _call(part: Any) -> Any:
    return _part(part, "function_call", "functionCall")


def _response(part: Any) -> Any:
    return _part(part, "function_response", "functionResponse")


def _parts(message: Message) -> list[Any]:
    return list(message.get("parts") or ())


def _contents_role(message: Message) -> Role:
    if message.get("role") == "model":
        return "model"
    return "result" if any(_response(each) for each in _parts(message)) else "user"


def _named(found: Any) -> str:
    function = plain(found)
    return str(function.get("name"))  # ids are optional, also on one side alone


def _rewrite_responses(message: Message, rewrite: Rewrite) -> Message:
    parts = []
    for each in _parts(message):
        response = _response(each)
        if response is None:
            parts.append(each)
            continue
        function = plain(response)
        text = rewrite(as_json(function.get("response")))
        key = "function_response" if "function_response" in plain(each) else "functionResponse"
        parts.append({**plain(each), key: {**function, "response": {"result": text}}})
    return {**message, "parts": parts}


def _rewrite_parts(message: Message, rewrite: Rewrite) -> Message:
    return {**message, "parts": _rewritten(_parts(message), rewrite)}


def _without_responses(message: Message) -> Message | None:
    left = [each for each in _parts(message) if not _response(each)]
    return {**message, "parts": left} if left else None


GEMINI = Form(
    "gemini",
    _contents_role,
    lambda message: [_named(call) for each in _parts(message) if (call := _call(each))],
    lambda message: [_named(answer) for each in _parts(message) if (answer := _response(each))],
    _rewrite_responses,
    _rewrite_parts,
    without_results=_without_responses,
    user_first=True,
    calls_first=True,
)

FORMS: dict[str, Form] = {each.name: each for each in (CHAT, RESPONSES, ANTHROPIC, GEMINI)}

_ANTHROPIC_BLOCKS = {"tool_use", "tool_result", "thinking", "redacted_thinking"}
_RESPONSES_PARTS = {"input_text", "output_text", "input_image", "input_file"}


def form_of(messages: Sequence[Any], model: str | None, provider: str | None) -> Form:
    """The form of ``messages``; plain ones are Anthropic's where model or provider are."""
    for each in map(plain, messages):
        if "parts" in each:
            return GEMINI
        if each.get("type") not in (None, "message"):
            return RESPONSES
        if each.get("role") in ("tool", "function", "developer") or each.get("tool_calls"):
            return CHAT
        content = each.get("content")
        kinds = {plain(part).get("type") for part in content} if isinstance(content, (list, tuple)) else set()
        if kinds & _ANTHROPIC_BLOCKS:
            return ANTHROPIC
        if kinds & _RESPONSES_PARTS:
            return RESPONSES
    claude = "claude" in (model or "").lower() or provider == "anthropic"
    return ANTHROPIC if claude and not any(plain(each).get("role") == "system" for each in messages) else CHAT
