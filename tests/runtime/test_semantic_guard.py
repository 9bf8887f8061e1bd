"""The guard over the words, on pairs of its own and on public ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatrace.runtime import SemanticCache, lexical_guard

from . import minilm


@pytest.mark.parametrize(
    ("known", "asked", "reason"),
    [
        ("Is there a train at 7am?", "Is there a train at 7pm?", "number"),
        ("Convert 5 to 7", "Convert 7 to 5", "number"),
        ("Meet me on Monday", "Meet me on Friday", "number"),
        ("Meet me in March", "Meet me in May", "number"),
        ("It takes 3 days", "It takes 3 weeks", "number"),
        ("It costs £20", "It costs $20", "number"),
        ("It costs 1,000", "It costs 100", "number"),
        ("two tickets", "three tickets", "number"),
        ("Version 3.10", "Version 3.1", "number"),
        ("Should I go?", "Shouldn't I go?", "negation"),
        ("Is it safe?", "Is it unsafe?", "negation"),
        ("Is the form valid?", "Is the form invalid?", "negation"),
        ("How do I lock it?", "How do I unlock it?", "negation"),
        ("Tea with milk", "Tea with no milk", "negation"),
        ("How do I enable alerts?", "How do I disable alerts?", "antonym"),
        ("Is the shop open?", "Is the shop closed?", "antonym"),
        ("Flights arriving before noon", "Flights arriving after noon", "antonym"),
        ("The dose for adults", "The dose for children", "scope"),
        ("The last bus", "The next bus", "scope"),
        ("What happened today?", "What happened yesterday?", "scope"),
        ("The weekly fee", "The annual fee", "scope"),
        ("All orders", "Orders", "scope"),
        ("Change my address", "Change their address", "scope"),
        ("From Paris to Rome", "From Rome to Paris", "entity"),
        ("the weather in Oslo", "the weather in Bergen", "entity"),
        ("Move files from the old disk to the tape", "Move files from the tape to the old disk", "entity"),
        ("Does it run on Windows?", "Does it run on Linux?", "entity"),
    ],
)
def test_what_changes_the_answer_is_seen_either_way_round(known: str, asked: str, reason: str) -> None:
    assert lexical_guard(known, asked) == reason
    assert lexical_guard(asked, known) == reason


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        ("How do I reset my password?", "How can I reset my password"),
        ("How do I reset my password?", "Hi there, how do I reset my password? Thanks"),
        ("I can't log in", "I cannot log in"),
        ("When does it open on Monday?", "on monday, when does it open"),
        ("What does it cost per year?", "What's the price per year?"),
        ("Which one is best?", "Which is best?"),
        ("A trip of 2 hours", "A trip of two hrs"),
        ("It costs £20", "It costs 20 pounds"),
        ("Cancel a booking", "Cancel my booking"),
        ("Is it raining in Trondheim?", "Is it raining in Trondheiim?"),
        ("It’s late", "It's late"),
    ],
)
def test_other_words_alone_are_no_objection(known: str, asked: str) -> None:
    assert lexical_guard(known, asked) is None
    assert lexical_guard(asked, known) is None


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_can_be_compared(known: str, asked: str) -> None:
    assert lexical_guard(known, known) is None
    assert (lexical_guard(known, asked) is None) == (lexical_guard(asked, known) is None)


def test_public_pairs_are_served_and_held_back_as_promised() -> None:
    """The gate: at the default at least 35 % of the pairs with one answer served, at most 10 % of the traps."""
    pytest.importorskip("fow_cache", reason="fow-cache needs Python >= 3.11")
    cache = SemanticCache(minilm.load(), embedder="all-MiniLM-L6-v2")
    found = cache.calibrate_sync("fow")
    assert (found.same, found.different) == (300, 300)
    [default] = [row for row in found.rows if row.threshold == cache._threshold]
    assert default.served >= 0.35, str(found)
    assert default.wrong <= 0.10, str(found)
