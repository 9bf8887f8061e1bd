"""How a command says that it cannot do what was asked."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console


def complain(message: str, *, code: int = 2) -> NoReturn:
    """One red line on standard error, then the end with ``code``: 2 for a wrong question, 1 for what went wrong."""
    Console(stderr=True, soft_wrap=True).print(f"seatrace: {message}", style="red", markup=False)
    raise typer.Exit(code)
