"""Boards are pushed into a Grafana, once; what goes wrong is said so that one knows what to do."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from seatrace.cli.app import app
from seatrace.errors import SeatraceError
from seatrace.kit import boards
from seatrace.kit.push import Grafana, GrafanaError
from seatrace.version import __version__

from .grafana import FakeGrafana, grafana


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGrafana]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("GRAFANA_TOKEN", raising=False)
    with grafana() as served:
        yield served


def push(url: str, *arguments: str, token: str | None = "editor") -> tuple[int, str, str]:
    given = ["--token", token] if token else []
    ended = CliRunner().invoke(app, ["dashboards", "push", "--url", url, *given, *arguments])
    return ended.exit_code, ended.stdout, " ".join(ended.stderr.split())


def outcomes(said: str) -> list[str]:
    return [line.split("  ")[0].strip() for line in said.splitlines()]


def test_boards_go_into_a_folder_that_is_made(fake: FakeGrafana) -> None:
    code, said, complaint = push(fake.url)
    assert (code, complaint, outcomes(said)) == (0, "", ["created"] * 9)
    assert fake.folders == {"folder0": "seatrace"}
    assert {uid: each["folder"] for uid, each in fake.boards.items()} == {
        each["uid"]: "folder0" for each in boards.documents()
    }
    assert f"{fake.url}/d/seatrace-overview" in said
    first = fake.saved[0]
    assert first["dashboard"] == {**boards.documents()[0], "id": None}
    assert (first["overwrite"], first["message"]) == (True, f"seatrace {__version__}")


def test_a_second_push_changes_nothing(fake: FakeGrafana) -> None:
    push(fake.url)
    code, said, _ = push(fake.url)
    assert (code, outcomes(said)) == (0, ["unchanged"] * 9)
    assert len(fake.saved) == 9
    assert list(fake.folders.values()) == ["seatrace"]


def test_what_somebody_changed_is_put_right(fake: FakeGrafana) -> None:
    push(fake.url)
    fake.boards["seatrace-cost"]["dashboard"]["panels"][1]["title"] = "Mine"
    fake.boards["seatrace-tokens"]["dashboard"]["panels"].pop()
    code, said, _ = push(fake.url)
    assert code == 0
    assert outcomes(said) == ["unchanged", "updated", "unchanged", "updated", *["unchanged"] * 5]
    assert [each["dashboard"]["uid"] for each in fake.saved[9:]] == ["seatrace-cost", "seatrace-tokens"]
    assert fake.boards["seatrace-cost"]["dashboard"]["version"] == 2
    assert outcomes(push(fake.url)[1]) == ["unchanged"] * 9


def test_another_build_and_another_folder_update_the_same_boards(fake: FakeGrafana) -> None:
    push(fake.url)
    assert set(outcomes(push(fake.url, "--traces", "jaeger")[1])) == {"updated"}
    assert set(outcomes(push(fake.url, "--traces", "jaeger", "--folder", "Language models")[1])) == {"updated"}
    assert len(fake.boards) == 9
    assert {each["folder"] for each in fake.boards.values()} == {"folder1"}


def test_a_dry_run_says_what_it_would_do_and_only_reads(fake: FakeGrafana) -> None:
    assert set(outcomes(push(fake.url, "--dry-run")[1])) == {"would be created"}
    assert (fake.folders, fake.boards) == ({}, {})
    push(fake.url)
    del fake.boards["seatrace-cost"]
    fake.asked.clear()
    said = push(fake.url, "--dry-run", token="viewer")[1]
    assert outcomes(said) == ["unchanged", "would be created", *["unchanged"] * 7]
    assert {method for method, _ in fake.asked} == {"GET"}


def test_the_token_may_come_from_the_environment(fake: FakeGrafana, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFANA_TOKEN", "editor\n")
    assert push(fake.url, token=None)[0] == 0


def test_a_sub_path_belongs_to_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with grafana(root="/grafana") as served:
        assert push(served.url + "/")[0] == 0
        code, _, complaint = push(served.url.removesuffix("/grafana"))
    assert code == 1
    assert "has no Grafana API (404)" in complaint
    assert "sub-path" in complaint


def test_a_wrong_token_and_a_missing_one_are_told_apart(fake: FakeGrafana) -> None:
    code, _, complaint = push(fake.url, token="expired")
    assert (code, "does not know the token (401: Invalid API key)" in complaint) == (1, True)
    assert "expired?" in complaint
    code, _, complaint = push(fake.url, token=None)
    assert (code, "wants a token: make one" in complaint) == (1, True)


def test_a_token_without_the_right_hears_which_it_needs(fake: FakeGrafana) -> None:
    code, _, complaint = push(fake.url, token="viewer")
    assert code == 1
    assert "the token may not make the folder 'seatrace' (403: You'll need additional permissions" in complaint
    assert "dashboards:write" in complaint


def test_a_conflict_tells_what_grafana_says(fake: FakeGrafana) -> None:
    fake.instead = (412, {"status": "name-exists", "message": "A dashboard with the same name already exists"})
    code, said, complaint = push(fake.url)
    assert (code, said) == (1, "")
    assert "would not save 'seatrace / Overview' in the folder 'seatrace'" in complaint
    assert "(412: A dashboard with the same name already exists)" in complaint


def test_a_push_that_lacks_the_overwrite_would_conflict(fake: FakeGrafana) -> None:
    """What the fake holds against us is what Grafana would: our boards have no version of theirs."""
    push(fake.url)
    body = {**fake.saved[0], "overwrite": False}
    assert fake.answer("POST", "/api/dashboards/db", "editor", body)[0] == 412
    fake.boards["seatrace-overview"]["dashboard"]["title"] = "Changed"
    assert push(fake.url)[0] == 0


@pytest.mark.parametrize("status", [400, 500, 503])
def test_any_other_failure_is_told_with_its_status(fake: FakeGrafana, status: int) -> None:
    fake.instead = (status, {"message": "Cannot save provisioned dashboard"})
    code, _, complaint = push(fake.url)
    assert code == 1
    assert f"could not save 'seatrace / Overview' in the folder 'seatrace' ({status}: Cannot save prov" in complaint


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed_with_the_token(fake: FakeGrafana, status: int) -> None:
    fake.instead = (status, {})
    code, _, complaint = push(fake.url)
    assert code == 1
    assert "sends on to https://grafana.example.com/: give the address that it leads to" in complaint


def test_a_login_page_is_no_grafana(fake: FakeGrafana) -> None:
    fake.instead = b"<html>please log in</html>"
    code, _, complaint = push(fake.url)
    assert (code, "not as a Grafana does" in complaint) == (1, True)


def test_nobody_there_is_said_plainly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code, _, complaint = push(url)
    assert code == 1
    assert complaint.startswith(f"seatrace: cannot reach {url}: ")


def test_one_who_does_not_answer_is_not_waited_for_without_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(GrafanaError, match=r"did not answer within 0\.05 s"):
            list(Grafana(url, timeout=0.05).push(boards.documents(), folder="seatrace"))


def test_tls_that_is_none_is_said_to_be_so(fake: FakeGrafana) -> None:
    code, _, complaint = push(fake.url.replace("http:", "https:"))
    assert (code, "cannot trust https://127.0.0.1" in complaint) == (1, True)


@pytest.mark.parametrize("url", ["grafana.example.com", "ftp://grafana.example.com", "", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(GrafanaError, match="expected the address of a Grafana"):
        Grafana(url)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(GrafanaError, match="has a password in it") as refused:
        Grafana("https://admin:hunter2@grafana.example.com")
    assert "hunter2" not in str(refused.value)
    assert isinstance(refused.value, SeatraceError)


def test_a_token_does_not_show() -> None:
    assert "secret" not in repr(Grafana("https://grafana.example.com", "secret"))


def test_a_token_over_plain_http_to_elsewhere_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    _, _, complaint = push("http://grafana.invalid")
    assert "the token goes to grafana.invalid unencrypted" in complaint
