"""A Python program started in this process the way ``python`` starts it, with seatrace observing it."""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn


@dataclass(frozen=True, slots=True)
class Program:
    """A script, a directory or archive with a ``__main__``, or with ``module`` a module's name."""

    name: str
    arguments: Sequence[str]
    module: bool = False

    def start(self) -> None:
        """Instrument this process and run the program as ``__main__``.

        Returns when it ends; raises what it raises, ``SystemExit`` above all.
        """
        _leave_own_frames_out_of_tracebacks()
        # What is not there is said before anything is switched on that would be flushed. A module's search may run its
        # package, which is to be observed.
        script = None if self.module else self._script()
        if script is None:
            self._look_for_module()
        _instrument()
        code, main = script or self._module()
        sys.argv = [str(main.__file__) if self.module else self.name, *self.arguments]
        # Never put back: threads and exit handlers of the program outlive its last line and want their __main__.
        sys.modules["__main__"] = main
        exec(code, main.__dict__)

    def _look_for_module(self) -> None:
        _search_first(os.getcwd())
        if importlib.util.find_spec(self.name.partition(".")[0]) is None:
            self._refuse_module()

    def _module(self) -> tuple[CodeType, ModuleType]:
        try:
            spec = importlib.util.find_spec(self.name)
            if spec is not None and spec.submodule_search_locations is not None:
                spec = importlib.util.find_spec(f"{self.name}.__main__")
        except ModuleNotFoundError as missing:
            if missing.name is None or not f"{self.name}.".startswith(f"{missing.name}."):
                raise
            spec = None
        if spec is None:
            self._refuse_module()
        return _code(spec), _main(spec, spec.origin)

    def _refuse_module(self) -> NoReturn:
        _refuse(f"there is no module {self.name!r} that could be run")

    def _script(self) -> tuple[CodeType, ModuleType]:
        if not os.path.exists(self.name):
            _refuse(f"there is no file {self.name!r}; to run a module: seatrace run -m {self.name}")
        importer = pkgutil.get_importer(self.name)
        if importer is not None and (spec := importer.find_spec("__main__", None)) is not None:
            _search_first(os.path.join(os.getcwd(), self.name))
            return _code(spec), _main(spec, spec.origin)
        file = os.path.join(os.getcwd(), self.name)
        try:
            with io.open_code(file) as source:
                code = compile(source.read(), file, "exec", dont_inherit=True)
        except (IsADirectoryError, PermissionError) as error:
            _refuse(f"{self.name!r} cannot be run: {error.strerror}")
        _search_first(str(Path(file).resolve().parent))
        main = _main(None, file)
        main.__loader__ = SourceFileLoader("__main__", file)
        return code, main


def _instrument() -> None:
    import seatrace
    from seatrace.errors import SeatraceError

    try:
        seatrace.instrument()
    except SeatraceError as error:
        _refuse(str(error))


def _search_first(path: str) -> None:
    """Put ``path`` where python puts a program's own directory; the seatrace command's stands there until now."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = path


def _main(spec: ModuleSpec | None, file: str | None) -> ModuleType:
    main = ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, __file__=file, __spec__=spec, __cached__=None, __package__=None)
    if spec is not None:
        main.__dict__.update(__loader__=spec.loader, __package__=spec.parent, __cached__=spec.cached)
    return main


def _code(spec: ModuleSpec) -> CodeType:
    code = getattr(spec.loader, "get_code", lambda name: None)(spec.name)
    if not isinstance(code, CodeType):
        _refuse(f"{spec.name!r} has no Python code to run")
    return code


def _leave_own_frames_out_of_tracebacks() -> None:
    earlier = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        theirs = traceback
        while theirs is not None and theirs.tb_frame.f_code is not Program.start.__code__:
            theirs = theirs.tb_next
        theirs = None if theirs is None else theirs.tb_next
        if theirs is None or theirs.tb_frame.f_code.co_filename == __file__:
            # Nothing of the program's ran yet: the fault is ours, or its source does not compile.
            theirs = None if isinstance(error, SyntaxError) else traceback
        earlier(kind, error.with_traceback(theirs), theirs)

    sys.excepthook = excepthook


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"seatrace: {message}\n")
    sys.exit(2)
