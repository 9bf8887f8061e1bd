"""What a batch cost and who pays: the calls made inside, split by weight among those who submitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from seatrace.core.context import EMPTY, Run, Scope
from seatrace.core.record import Call, Cost, Usage


@dataclass(frozen=True, slots=True)
class Share:
    """One submitter's part of a batch."""

    scope: Scope
    """Tenant, agent, user, session … of the submitter."""
    weight: float
    """Its part of the batch, 0 to 1."""
    cost: float | None
    """USD, ``None`` where no call inside has a known price (or seatrace is off)."""
    input_tokens: int | None
    output_tokens: int | None


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch that is over."""

    name: str
    size: int
    """Items, duplicates counted once."""
    weight: float
    reason: str
    """What closed it: size, weight, deadline, manual, close."""
    duration: float
    """Seconds of the function, retries of halves included."""
    failed: int
    """Items that got an error."""
    cost: float | None
    """USD of all observed calls inside."""
    shares: tuple[Share, ...]
    """One a submitter, in the order of submission. They add up to the whole."""


def common_scope(scopes: Sequence[Scope]) -> Scope:
    """What all of ``scopes`` agree on: a batch for one tenant runs as that tenant's, one for two runs as nobody's."""
    first = scopes[0]
    if all(scope is first for scope in scopes):
        return first
    shared = {
        field.name: getattr(first, field.name)
        for field in fields(Scope)
        if field.name != "attributes"
        and all(getattr(scope, field.name) == getattr(first, field.name) for scope in scopes)
    }
    attributes = {
        name: value
        for name, value in first.attributes.items()
        if all(name in scope.attributes and scope.attributes[name] == value for scope in scopes)
    }
    return Scope(**shared, attributes=attributes) if shared or attributes else EMPTY


def split(run: Run, submitters: Sequence[tuple[Scope, float]]) -> tuple[Share, ...]:
    """Splits what ``run`` has gathered among ``(scope, weight)``, and adds each share to its submitter's agent run."""
    whole = sum(weight for _, weight in submitters)
    equal = 1 / len(submitters)
    shares: list[Share] = []
    reached = 0.0
    for scope, weight in submitters:
        part = weight / whole if whole > 0 else equal
        before, reached = reached, reached + part
        share = Share(
            scope,
            part,
            None if run.cost is None else run.cost * part,
            _between(run.input_tokens, before, reached),
            _between(run.output_tokens, before, reached),
        )
        shares.append(share)
        if scope.run is not None and (run.input_tokens, run.cost) != (None, None):
            cost = None if share.cost is None else Cost(share.cost)
            usage = Usage(input_tokens=share.input_tokens, output_tokens=share.output_tokens)
            scope.run.add(Call("batch", "batch", usage=usage, cost=cost))
    return tuple(shares)


def _between(total: int | None, start: float, end: float) -> int | None:
    """The tokens from ``start`` to ``end`` (0 to 1): rounded so that neighbours add up."""
    return None if total is None else round(total * end) - round(total * start)
