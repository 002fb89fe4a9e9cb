"""Messages to the service manager, over real sockets."""

from __future__ import annotations

import socket
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from hakuban_router._sd_notify import notify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        if sys.platform != "linux":
            pytest.skip("abstract names are Linux'")
        address = f"@hakuban{address}"
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0"))
        listening.settimeout(10)
        yield listening


def test_the_manager_is_told(manager: socket.socket) -> None:
    notify("READY=1")
    notify("STOPPING=1")
    assert manager.recv(100) == b"READY=1"
    assert manager.recv(100) == b"STOPPING=1"


def test_without_a_manager_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    assert not caplog.records


def test_a_manager_that_has_gone_is_one_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")
    assert "READY=1" in caplog.text
    assert len(caplog.records) == 1


def test_a_manager_that_does_not_read_is_one_line_in_the_log_and_nobody_waits(
    manager: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    def notify_until_it_is_full() -> None:
        while not caplog.records:
            notify("READY=1")

    teller = threading.Thread(target=notify_until_it_is_full, daemon=True)
    teller.start()
    teller.join(10)
    assert not teller.is_alive()
    assert "READY=1" in caplog.text
    assert manager.recv(100) == b"READY=1"
