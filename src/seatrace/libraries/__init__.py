"""Observing the libraries of the registry as the program imports them, and what became of each."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Literal

from seatrace.core import guard
from seatrace.core.patch import Patches, after_import, forget

from .registry import REGISTRY as REGISTRY
from .registry import Library as Library

State = Literal["observed", "not imported", "not installed", "target missing", "switched off"]


@dataclass(frozen=True, slots=True)
class LibraryStatus:
    """What ``seatrace.status()`` says of one library."""

    name: str
    state: State
    version: str | None
    """The installed version."""
    detail: str = ""
    """With ``target missing``: what was looked for and not found. With ``observed``: what of it is not seen in this
    version."""

    def __str__(self) -> str:
        version = f" ({self.version})" if self.version else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.name}: {self.state}{version}{detail}"


_patches: dict[str, Patches] = {}
_missing: dict[str, str] = {}


def observe(names: Iterable[str], patched: Callable[[], None]) -> None:
    """Observes the libraries ``names``: at once those imported, the others when the program imports them; then calls
    ``patched()``."""
    for library in REGISTRY:
        if library.name in names and library.name not in _patches:
            _patches[library.name] = Patches()
            for target in (library.target, *library.further):
                after_import(target, _hook(library, target, patched))


def restore() -> None:
    """Undoes :func:`observe`: the same attribute objects stand where they stood."""
    for library in REGISTRY:
        patches = _patches.pop(library.name, None)
        if patches is not None:
            for target in (library.target, *library.further):
                forget(target)
            patches.undo()
    _missing.clear()


def status() -> list[LibraryStatus]:
    """One row a library of the registry, whether it is installed or not. Imports none of them."""
    return [_status(library) for library in REGISTRY]


def _hook(library: Library, target: str, patched: Callable[[], None]) -> Callable[[ModuleType], None]:
    def hook(module: ModuleType) -> None:
        patches = _patches.get(library.name)
        if patches is None or _is_anothers(library):
            return
        lost = len(patches.lost)
        try:
            _patch_of(library, target)(module, patches)
        except Exception as error:  # an AttributeError, as a rule; a library too new for us is the user's to have
            if target != library.target:
                patches.lost.append(f"{target} has no {error}")
                _warn(library, patches.lost[lost:])
                return
            patches.undo()
            _missing[library.name] = str(error)
            guard.logger.warning(
                "seatrace does not observe %s %s: %s is missing there. The program is not affected.",
                library.name,
                _version(library.distribution),
                error,
            )
        else:
            _warn(library, patches.lost[lost:])
            patched()

    return hook


def _patch_of(library: Library, target: str) -> Callable[[ModuleType, Patches], None]:
    """What observes the module ``target``: of the library's file here, its entry in ``PARTS``, or else ``patch``."""
    ours = importlib.import_module(f"{__name__}.{library.name.replace('.', '_')}")
    patch: Callable[[ModuleType, Patches], None] = getattr(ours, "PARTS", {}).get(target) or ours.patch
    return patch


def _warn(library: Library, lost: Iterable[str]) -> None:
    for each in lost:
        version = _version(library.distribution)
        guard.logger.warning("seatrace observes %s %s, but %s.", library.name, version, each)


def _is_anothers(library: Library) -> bool:
    """Whether a module of that name is the program's own: ``agents`` or ``strands`` may be."""
    return library.kind == "framework" and _version(library.distribution) is None


def _status(library: Library) -> LibraryStatus:
    version = _version(library.distribution)
    if _is_anothers(library):
        return LibraryStatus(library.name, "not installed", None)
    if version is None and library.name not in sys.modules and not installed(library.name):
        return LibraryStatus(library.name, "not installed", None)
    if library.name not in _patches:
        return LibraryStatus(library.name, "switched off", version)
    if library.name in _missing:
        return LibraryStatus(library.name, "target missing", version, _missing[library.name])
    if library.target not in sys.modules:
        return LibraryStatus(library.name, "not imported", version)
    if not _patches[library.name]:
        detail = "another import hook came first: import it earlier"
        return LibraryStatus(library.name, "target missing", version, detail)
    return LibraryStatus(library.name, "observed", version, "; ".join(_patches[library.name].lost))


def installed(name: str) -> bool:
    """Whether the package or module ``name`` can be imported; imports nothing, not even the packages around it."""
    top, *inner = name.split(".")
    spec = importlib.util.find_spec(top)
    for part in inner:
        if spec is None:
            return False
        top = f"{top}.{part}"
        spec = PathFinder.find_spec(top, spec.submodule_search_locations)
    return spec is not None


_versions: dict[str, str] = {}
"""Those found so far. Looking for one takes a millisecond of reading files; beside a thread that computes, each read
waits for the interpreter, and `instrument()` took seconds."""


def _version(distribution: str) -> str | None:
    if distribution not in _versions:
        try:
            _versions[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            return None
    return _versions[distribution]
