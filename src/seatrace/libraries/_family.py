"""Methods that each class of a family has of its own: those of a framework's models, the program's among them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from seatrace.core.patch import Patches


def family(kind: type) -> list[type]:
    """The class and all that are made of it by now."""
    children: list[type] = type.__subclasses__(kind)
    return [kind, *(each for child in children for each in family(child))]


def replace_each(kinds: Iterable[type], names: Iterable[str], make: Any, patches: Patches) -> None:
    """Replaces the methods ``names`` where a class has them in its own namespace, once."""
    for kind in kinds:
        for name in names:
            method = vars(kind).get(name)
            if callable(method) and not hasattr(method, "_seatrace"):
                patches.replace(kind, name, make)
                vars(kind)[name]._seatrace = True
