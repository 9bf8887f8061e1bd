"""Boards into a Grafana, over its HTTP API (folders, ``dashboards/uid``, ``dashboards/db``; Grafana 10 to 13).

With the standard library's client alone: nothing that seatrace may observe is imported here.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from seatrace.errors import SeatraceError
from seatrace.version import __version__

_Json = dict[str, Any]

Outcome = Literal["created", "updated", "unchanged"]

_LARGEST: Final = 32 * 1024 * 1024
"""Bytes of an answer that are read."""


class GrafanaError(SeatraceError):
    """Grafana could not be reached, or did not do what it was asked to. The message says what to change."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a board, or, in a dry run, what would."""

    uid: str
    title: str
    outcome: Outcome
    url: str


@dataclass(frozen=True, slots=True)
class Grafana:
    """A Grafana, and the right to change it."""

    url: str
    """As in the browser, with its sub-path if it has one: ``https://grafana.example.com``."""
    token: str | None = field(default=None, repr=False)
    """Of a service account with the role Editor. None for a Grafana that lets everybody in."""
    timeout: float = 10.0
    """Seconds that one request may take."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise GrafanaError(
                f"expected the address of a Grafana such as https://grafana.example.com, got {self.url!r}"
            )
        if parts.username or parts.password:
            raise GrafanaError("the address has a password in it: make a service account and give its token")

    def push(self, boards: Sequence[Mapping[str, Any]], *, folder: str, dry_run: bool = False) -> Iterator[Pushed]:
        """Puts boards into a folder, which is made where it is not there. One by one: what was yielded is done.

        A board is known by its uid, wherever it is; one that Grafana has as it should be is left alone, so that its
        versions stay meaningful.

        Args:
            boards: Documents of :func:`seatrace.kit.boards.documents`.
            folder: The folder's title.
            dry_run: Only asks Grafana, changes nothing.

        Raises:
            GrafanaError: At the first board that cannot be pushed.
        """
        place = self._folder(folder, make=not dry_run)
        for board in boards:
            yield self._board(board, place, folder, dry_run)

    def _board(self, board: Mapping[str, Any], place: str | None, folder: str, dry_run: bool) -> Pushed:
        uid, title = str(board["uid"]), str(board["title"])
        there = self._ask("GET", f"/api/dashboards/uid/{quote(uid, safe='')}", may_lack=True)
        url = f"{self.url.rstrip('/')}/d/{uid}"
        if there is not None:
            same_place = place is not None and there.get("meta", {}).get("folderUid") == place
            if same_place and _covers(there.get("dashboard", {}), board):
                return Pushed(uid, title, "unchanged", url)
        if not dry_run:
            self._ask(
                "POST",
                "/api/dashboards/db",
                {
                    "dashboard": {**board, "id": None},
                    "folderUid": place,
                    "overwrite": True,
                    "message": f"seatrace {__version__}",
                },
                doing=f"save {title!r} in the folder {folder!r}",
            )
        return Pushed(uid, title, "created" if there is None else "updated", url)

    def _folder(self, title: str, *, make: bool) -> str | None:
        found = self._ask("GET", "/api/folders?limit=1000", doing="list the folders")
        for each in found or ():
            if each.get("title") == title:
                return str(each["uid"])
        if not make:
            return None
        made = self._ask("POST", "/api/folders", {"title": title}, doing=f"make the folder {title!r}")
        return str(made["uid"])

    def _ask(
        self, method: str, path: str, body: _Json | None = None, *, may_lack: bool = False, doing: str = "ask"
    ) -> Any:
        request = Request(self.url.rstrip("/") + path, method=method)
        request.add_header("Accept", "application/json")
        request.add_header("User-Agent", f"seatrace/{__version__}")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with _opener().open(request, timeout=self.timeout) as answer:
                text = answer.read(_LARGEST)
        except HTTPError as error:
            with error:
                said = _said(error)
            if error.code == 404 and may_lack and said is not None:
                return None
            raise GrafanaError(self._complaint(error, said, doing)) from None
        except (URLError, OSError, HTTPException) as error:
            raise GrafanaError(self._unreachable(error)) from error
        try:
            return json.loads(text)
        except ValueError:
            raise GrafanaError(
                f"{self.url} answered, but not as a Grafana does: expected JSON from {path}. Is it the address of "
                "Grafana itself, and not of a login page in front of it?"
            ) from None

    def _complaint(self, error: HTTPError, said: str | None, doing: str) -> str:
        told = f": {said}" if said else ""
        if error.code in (301, 302, 303, 307, 308):
            return f"{self.url} sends on to {error.headers.get('Location')}: give the address that it leads to"
        if error.code == 401:
            if not self.token:
                return f"{self.url} wants a token: make one under Administration > Service accounts, role Editor"
            return f"{self.url} does not know the token (401{told}): is it of this Grafana, and not expired?"
        if error.code == 403:
            return (
                f"the token may not {doing} (403{told}): its service account needs the role Editor, or the permissions "
                "folders:read, folders:create, dashboards:read, dashboards:create and dashboards:write"
            )
        if error.code == 404:
            return f"{self.url} has no Grafana API (404{told}): is its sub-path missing, as in https://host/grafana?"
        if error.code == 412:
            return f"Grafana would not {doing}, since another board stands in its way (412{told})"
        return f"Grafana could not {doing} ({error.code}{told})"

    def _unreachable(self, error: Exception) -> str:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLError):
            return f"cannot trust {self.url}: {reason}. A certificate of your own goes into SSL_CERT_FILE"
        if isinstance(reason, TimeoutError):
            return f"{self.url} did not answer within {self.timeout:g} s"
        return f"cannot reach {self.url}: {reason}"


class _NoRedirects(HTTPRedirectHandler):
    """A redirected POST would become a GET, and the token would go to whoever was named."""

    def redirect_request(self, *arguments: Any) -> None:
        """Does not follow."""


def _opener() -> OpenerDirector:
    return build_opener(_NoRedirects)


def _said(error: HTTPError) -> str | None:
    """What Grafana says about it; None where it was not Grafana that answered."""
    try:
        found = json.loads(error.read(_LARGEST))
        return str(found["message"]) if isinstance(found, dict) and "message" in found else None
    except (ValueError, OSError, HTTPException):
        return None


def _covers(there: Any, wanted: Any) -> bool:
    """Whether all of ``wanted`` is in what Grafana has; it adds ids, versions and defaults of its own."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(
            key in there and _covers(there[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(map(_covers, there, wanted))
    return bool(there == wanted)
