"""Who may listen where other machines get in. Whatever is bound here is bound for a moment."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from hakuban import LocalNode
from hakuban.sockets import bind_sockets
from hakuban.transport import ConnectionRequest, Identity, InsecureListenerError
from support.addresses import needs_ipv6, resolve_to
from support.ports import free_port

if TYPE_CHECKING:
    from support.websocket import Certificates

BEYOND = ["ws://0.0.0.0:0", pytest.param("ws://[::]:0", marks=needs_ipv6)]


async def listens(url: str, **options: Any) -> None:
    async with LocalNode().listen(url, **options) as listener:
        assert not listener.url.endswith(":0")


@pytest.mark.parametrize("url", BEYOND)
async def test_a_listener_that_strangers_can_reach_is_refused(url: str) -> None:
    with pytest.raises(
        InsecureListenerError, match=r"use wss:// with client certificates.*insecure=True"
    ):
        await listens(url)


@pytest.mark.parametrize("name", ["localhost", "everywhere"])
@pytest.mark.parametrize(
    "hosts",
    [
        ("0.0.0.0",),
        pytest.param(("::",), marks=needs_ipv6),
        pytest.param(("127.0.0.1", "::"), marks=needs_ipv6),
    ],
)
async def test_a_name_counts_by_what_it_leads_to(
    name: str, hosts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, *hosts)
    with pytest.raises(InsecureListenerError, match=f"can reach {re.escape(hosts[-1])}, and"):
        await listens(f"ws://{name}:{free_port()}")
    resolve_to(monkeypatch, "127.0.0.1")
    await listens(f"ws://{name}:0")


async def test_a_listener_that_is_refused_leaves_nothing_bound() -> None:
    port = free_port()
    with pytest.raises(InsecureListenerError):
        await listens(f"ws://0.0.0.0:{port}")
    for sock in await bind_sockets("127.0.0.1", port):
        sock.close()


async def test_encryption_alone_keeps_nobody_out(certificates: Certificates) -> None:
    asks = certificates.listening(demand=True)
    asks.verify_mode = ssl.CERT_OPTIONAL
    for context in (certificates.listening(), asks):
        with pytest.raises(InsecureListenerError, match="client certificates"):
            await listens("wss://0.0.0.0:0", ssl=context)


@pytest.mark.parametrize("url", BEYOND)
async def test_a_listener_that_knows_its_peers_or_says_that_it_does_not_care_is_fine(
    url: str, certificates: Certificates
) -> None:
    def authorize(_: ConnectionRequest) -> Identity:
        return Identity("somebody")

    await listens(url, insecure=True)
    await listens(f"{url}#insecure=true")
    await listens(url, authorize=authorize)
    await listens(url.replace("ws:", "wss:"), ssl=certificates.listening(demand=True))


@pytest.mark.parametrize(
    "url", ["ws://127.0.0.1:0", "ws://127.9.9.9:0", pytest.param("ws://[::1]:0", marks=needs_ipv6)]
)
async def test_this_machine_alone_is_fine(url: str) -> None:
    await listens(url)
