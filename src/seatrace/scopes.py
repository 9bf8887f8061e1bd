"""Saying on whose behalf calls are made, and that some are not to be observed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .core import context
from .core.context import Scope, suppress

__all__ = ["Scope", "session", "suppress"]


@contextmanager
def session(
    session: str | None = None,
    *,
    conversation: str | None = None,
    user: str | None = None,
    tenant: str | None = None,
    agent: str | None = None,
    attributes: Mapping[str, str | int | float | bool] | None = None,
    propagate: bool = False,
) -> Iterator[Scope]:
    """Every call inside belongs to this session, conversation, user and tenant.

    Args:
        session: ``session.id`` on spans.
        conversation: ``gen_ai.conversation.id`` on spans. An id of your own; seatrace never makes one up.
        user: ``user.id`` on spans.
        tenant: ``seatrace.tenant`` on spans and on the cost metrics.
        agent: ``gen_ai.agent.name``, where no ``@seatrace.agent`` says it.
        attributes: Further span attributes.
        propagate: Also put session, conversation, user and tenant into OpenTelemetry baggage, for the services that
            are called from here. Off by default: baggage goes out with *every* instrumented request, to the model
            provider as well. What comes in as baggage is always used.

    Nests: what is left out stays as it is outside. Holds for this thread or task and the tasks it starts. Ids of other
    types (numbers, UUIDs) are recorded as text.
    """
    named = {"session": session, "conversation": conversation, "user": user, "tenant": tenant, "agent": agent}
    scope = context.narrowed(
        **{field: str(value) for field, value in named.items() if value is not None},
        attributes={name: _plain(value) for name, value in (attributes or {}).items() if value is not None},
    )
    token = context.enter_scope(scope)
    carried = None
    if propagate:
        from .emit.emitter import attach_baggage

        carried = attach_baggage(scope)
    try:
        yield scope
    finally:
        _leave(token, carried)


def _plain(value: object) -> str | int | float | bool:
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def _leave(token: Any, carried: Any) -> None:
    try:
        context.leave_scope(token)
    except ValueError:
        return  # left in another context than entered, as a framework's dependencies are: nothing of ours is there
    if carried is not None:
        from .emit.emitter import detach_baggage

        detach_baggage(carried)
