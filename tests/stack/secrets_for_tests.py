"""A certificate of one's own and tokens, as ``secure.yaml`` reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .programs import installed


def certificate(directory: Path) -> dict[str, str]:
    """Makes a certificate for loopback; the variables that name its files."""
    key, made = directory / "tls.key", directory / "tls.crt"
    made_by_itself = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(made)]
    subprocess.run([installed("openssl"), *made_by_itself.split(), *names, *files], check=True, capture_output=True)
    return {"SEATRACE_COLLECTOR_CERTIFICATE": str(made), "SEATRACE_COLLECTOR_KEY": str(key)}


def tokens(directory: Path, *found: str) -> dict[str, str]:
    """Writes a file of tokens; the variable that names it."""
    path = directory / "tokens"
    path.write_text("\n".join(found) + "\n")
    return {"SEATRACE_COLLECTOR_TOKENS": str(path)}
