from __future__ import annotations

import ssl
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
import trustme

import hakuban_ws
from hakuban.testing import check_transport
from hakuban.transport import Transport, TransportOptions
from support.websocket import CarriedContext


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_the_entry_points_lead_to_the_transport(scheme: str) -> None:
    (entry,) = entry_points(group="hakuban.transports", name=scheme)
    plugin = entry.load()
    assert isinstance(plugin.hakuban_transport(scheme), Transport)
    assert plugin.hakuban_transport("tcp") is None


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_ws_keeps_the_contract_of_transports() -> None:
    await check_transport(hakuban_ws.WebSocketTransport(), "ws://127.0.0.1:0")


@pytest.mark.thorough  # the same as over ws, but for the bytes below
@pytest.mark.timeout(180)
async def test_wss_keeps_the_contract_of_transports() -> None:
    authority = trustme.CA()
    connecting = CarriedContext.make(authority, ssl.PROTOCOL_TLS_CLIENT)
    listening = CarriedContext.make(authority, ssl.PROTOCOL_TLS_SERVER)
    await check_transport(
        hakuban_ws.WebSocketTransport(),
        "wss://127.0.0.1:0",
        options=TransportOptions(ssl=connecting, compression=True),
        serve_options=TransportOptions(ssl=listening, compression=True),
    )


def test_importing_brings_in_no_event_loop() -> None:
    code = (
        "import hakuban_ws, sys; print(*sorted({'asyncio', 'trio', 'uvloop'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
