"""What leaves the process: without secrets, and within limits."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatrace.core.record import Content
from seatrace.process.redact import cleaner
from seatrace.process.secrets import REDACTED, redact

A20, A32, A40, A48 = "Ab3dEf6hIj9kLm2nOp5q", "0123456789abcdef0123456789abcdef", "aB3" * 13 + "z", "Zz9Yy8Xx7Ww6" * 4


@pytest.mark.parametrize(
    "secret",
    [
        f"sk-{A48}",
        f"sk-proj-{A48}_{A20}-{A20}",
        f"sk-svcacct-{A48}",
        f"sk-ant-api03-{A48}-{A20}AA",
        f"sk-ant-admin01-{A48}",
        f"sk-or-v1-{A32}{A32}",
        f"sk-lf-{A32}",
        f"csk-{A48}",
        f"xai-{A48}",
        f"gsk_{A48}",
        f"hf_{A32}",
        f"pplx-{A48}",
        f"r8_{A32}",
        f"tvly-dev-{A32}",
        f"fw_{A20}{A20}",
        f"nvapi-{A48}",
        f"pcsk_{A48}",
        f"lsv2_pt_{A32}_0123456789",
        f"AIza{A32}abc",
        f"ya29.{A48}",
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        f"ABSK{A48}=",
        f"dapi{A32}",
        f"ghp_{A32}abcd",
        f"github_pat_{A32}_{A32}",
        f"glpat-{A20}",
        "xox" + "b-123456789012-123456789012-abcdefABCDEF",
        "xapp-1-A012-123456789-abcdef",
        f"npm_{A32}abcd",
        f"pypi-AgEIcHlwaS5vcmc{A48}",
        f"SG.{A20}.{A40}",
        "123456789:AAF" + "x" * 32,
        "sk_live_" + A32,
        "rk_test_" + A32,
        f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{A40}",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA",
    ],
)
def test_keys_of_known_forms_go(secret: str) -> None:
    for before, after in (("", ""), ("key is ", "."), ('{"text": "', '"}'), ("(", ")"), ("\n", "\n")):
        cleaned = redact(before + secret + after)
        assert secret not in cleaned
        assert A20[:12] not in cleaned.replace(before, "")
        assert cleaned.startswith(before)
        assert REDACTED in cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer [redacted]"),
        ("authorization: Basic dXNlcjpwYXNzd29yZA==", "authorization: Basic [redacted]"),
        ("x-api-key: 0123456789", "x-api-key: [redacted]"),
        ("api_key='0123456789'", "api_key='[redacted]'"),
        ('{"apiKey": "0123456789", "a": 1}', '{"apiKey": "[redacted]", "a": 1}'),
        ('"{\\"password\\": \\"hunter2222\\"}"', '"{\\"password\\": \\"[redacted]\\"}"'),
        ("AZURE_OPENAI_API_KEY=0123456789abcdef", "AZURE_OPENAI_API_KEY=[redacted]"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = [redacted]"),
        ("client_secret=abcdefgh&x=1", "client_secret=[redacted]&x=1"),
        ("https://host/v1?key=abcdefghijk&x=1", "https://host/v1?key=[redacted]&x=1"),
        ("https://a.blob/x?sv=1&sig=abc%2Bdef%3D", "https://a.blob/x?sv=1&sig=[redacted]"),
        ("postgresql://user:s3cret@db:5432/x", "postgresql://user:[redacted]@db:5432/x"),
        ("redis://:s3cret@cache", "redis://:[redacted]@cache"),
        ("refresh_token: 1//0abcdefgh", "refresh_token: [redacted]"),
        ("PGPASSWORD=opensesame psql", "PGPASSWORD=[redacted] psql"),
        ("password: opensesame, user: me", "password: [redacted], user: me"),
    ],
)
def test_values_of_telling_names_go(text: str, cleaned: str) -> None:
    assert redact(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over the lazy dog.",
        "max_tokens: 4096, prompt_tokens=123456, total_tokens: 1234567",
        "The key to success is a token of good will; the secret is patience.",
        "He asked for a basic understanding of bearer instruments.",
        "risk-assessment-of-the-whole-portfolio task-management-for-beginners",
        "def key(token): return token.key",
        "See https://example.com/path?page=12&key=v1",
        "user@example.com wrote at 12:30:45",
        "call_1234567890abcdefghijklmnop chatcmpl-0123456789abcdef resp_68af msg_01AbCdEf",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "550e8400-e29b-41d4-a716-446655440000",
        "keyboard = 'qwertz-layout'; primary_key: identifier; foreign key: customer_id",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_redacting_twice_changes_nothing() -> None:
    once = redact(f"password=opensesame sk-{A48} Bearer {A48} https://u:pw@h/?key=abcdefghi")
    assert redact(once) == once


@given(st.text(max_size=400))
def test_redact_takes_any_text(text: str) -> None:
    redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "bearer " * 3000,
        "password" * 3000,
        "api_key: " * 3000,
        "://" + "a" * 20_000,
        "a-" * 10_000 + "key",
        "a_" * 10_000 + "secret=",
        "-----BEGIN PRIVATE KEY-----" * 800,
        "eyJ" * 7000,
        "sk-" * 7000,
        "?key=" * 4000,
        "key" + " " * 20_000,
        "\\" * 20_000 + '"secret":',
    ],
)
def test_no_text_takes_long(text: str) -> None:
    before = time.process_time()
    redact(text)
    assert time.process_time() - before < 0.5


# --- content --------------------------------------------------------------------------------------------------------


def clean(value: Any, *, redacting: bool = True, max_text: int = 100, max_parts: int = 10) -> Any:
    clean_content, _ = cleaner(redacting=redacting, max_text=max_text, max_parts=max_parts)
    return clean_content(Content(tool_arguments=value)).tool_arguments


def test_values_under_telling_names_go_whatever_they_look_like() -> None:
    given = {
        "api_key": "x",
        "password": "pw",
        "headers": {"Authorization": "abc", "X-Api-Key": "k", "cookie": "c"},
        "db_password": "p",
        "client_secret": "s",
        "max_tokens": 5,
        "token_count": "7",
        "key": "the key of a mapping",
        "password_hint": "the dog",
        "secret": None,
    }
    assert clean(given) == {
        "api_key": REDACTED,
        "password": REDACTED,
        "headers": {"Authorization": REDACTED, "X-Api-Key": REDACTED, "cookie": REDACTED},
        "db_password": REDACTED,
        "client_secret": REDACTED,
        "max_tokens": 5,
        "token_count": "7",
        "key": "the key of a mapping",
        "password_hint": "the dog",
        "secret": None,
    }
    assert clean({"api_key": f"sk-{A48}"}, redacting=False) == {"api_key": f"sk-{A48}"}


def test_a_secret_at_the_cut_is_not_cut_in_two() -> None:
    for at in range(70, 101):
        assert "sk-" not in clean("x" * at + f" sk-{A48} " + "y" * 100_000).replace("[", "")


def test_texts_and_lists_are_limited_and_say_so() -> None:
    assert clean("x" * 101) == "x" * 100 + "… [1 characters cut]"
    assert clean("x" * 5_000_000) == "x" * 100 + "… [4999900 characters cut]"
    assert clean(list(range(25))) == list(range(15, 25))
    assert len(clean({str(key): key for key in range(25)})) == 10
    assert clean(b"x" * 1000) == "[1000 bytes]"


def test_what_is_no_json_becomes_json() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError

    @dataclass
    class Point:
        x: int
        api_key: str

    class Model:
        def model_dump(self, mode: str) -> dict[str, Any]:
            return {"mode": mode}

    given = [{1}, (1, 2), Broken(), Point(1, "secret"), Model(), float("nan"), {1: 2}, object]
    cleaned = clean(given)
    assert cleaned[:7] == [
        [1],
        [1, 2],
        "[Broken without repr: ValueError]",
        {"x": 1, "api_key": REDACTED},
        {"mode": "json"},
        "nan",
        {"1": 2},
    ]
    json.dumps(cleaned, allow_nan=False)


def test_circles_and_breadth_are_bounded() -> None:
    circle: list[Any] = []
    circle.extend([circle] * 200)
    before = time.process_time()
    cleaned = clean(circle, max_parts=200)
    assert time.process_time() - before < 2
    assert len(json.dumps(cleaned)) < 10_000_000


def test_the_newest_messages_are_kept_where_there_is_too_much() -> None:
    messages = [
        {"role": "user", "parts": [{"type": "text", "content": f"{number}" + "x" * 20_000}]} for number in range(256)
    ]
    clean_content, _ = cleaner(redacting=True, max_text=20_010, max_parts=256)
    kept = clean_content(Content(input_messages=messages)).input_messages
    assert kept is not None
    assert kept[-1]["parts"][0]["content"].startswith("255xxx")
    assert kept[0]["parts"][0]["content"].endswith("characters cut]")
    assert len(json.dumps(kept)) < 2_200_000
