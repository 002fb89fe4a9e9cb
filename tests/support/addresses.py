"""What this machine's addresses are, and what names lead to."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 loopback")


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Give every name these addresses, whatever the machine's resolver says."""
    resolve_in_turn(monkeypatch, hosts)


def resolve_in_turn(monkeypatch: pytest.MonkeyPatch, *answers: Sequence[str]) -> None:
    """Give every name these addresses, others at each question; the last ones stay."""
    left = list(answers)

    def getaddrinfo(_host: str, port: int, *_: object, **__: object) -> Sequence[object]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0))
            if ":" in host
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host in (left.pop(0) if len(left) > 1 else left[0])
        ]

    async def of_a_loop(_: object, host: str, port: int, **__: object) -> Sequence[object]:
        return getaddrinfo(host, port)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    if find_spec("uvloop"):  # has a resolver of its own
        monkeypatch.setattr("uvloop.Loop.getaddrinfo", of_a_loop)
