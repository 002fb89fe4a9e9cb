from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from itertools import count
from typing import TYPE_CHECKING

import pytest

from hakuban.testing import check_transport
from hakuban.transport import Transport
from hakuban_zmq import ZeroMQTransport
from support.zeromq import linked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("scheme", ["zmq+tcp", "zmq+ipc", "zmq+inproc"])
def test_the_schemes_are_found_by_their_entry_points(scheme: str) -> None:
    (entry,) = entry_points(group="hakuban.transports", name=scheme)
    plugin = entry.load()
    assert isinstance(plugin.hakuban_transport(scheme), Transport)
    assert plugin.hakuban_transport("tcp") is None


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_zmq_tcp_keeps_the_contract_of_transports() -> None:
    await check_transport(ZeroMQTransport(), "zmq+tcp://127.0.0.1:0")


@pytest.mark.thorough
@pytest.mark.timeout(180)
async def test_zmq_ipc_keeps_the_contract_of_transports(tmp_path: Path) -> None:
    number = count()
    await check_transport(ZeroMQTransport(), lambda: f"zmq+ipc://{tmp_path}/{next(number)}")


@pytest.mark.thorough
@pytest.mark.timeout(180)
async def test_zmq_inproc_keeps_the_contract_of_transports() -> None:
    number = count()
    await check_transport(
        ZeroMQTransport(), lambda: f"zmq+inproc://contract.{next(number)}", process=False
    )


@pytest.mark.parametrize("most", [1, 1_000_000_000])
async def test_a_window_and_a_high_water_mark_may_be_as_small_or_large_as_is_said(
    most: int,
) -> None:
    transport = ZeroMQTransport(window=most, high_water_mark=most)
    async with linked(transport=transport) as (one, two):
        for message in (b"one", b"another"):
            await one.send([message])
            assert list(await two.receive()) == [message]


@pytest.mark.parametrize("name", ["window", "high_water_mark"])
@pytest.mark.parametrize("number", [0, 1_000_000_001])
def test_a_window_or_a_high_water_mark_beyond_that_is_an_error(name: str, number: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is a number from 1 to 1,000,000,000"):
        ZeroMQTransport(**{name: number})  # type: ignore[arg-type] # both are numbers


def test_a_libzmq_with_known_holes_is_not_used() -> None:
    code = "import zmq; zmq.zmq_version_info = lambda: (4, 3, 1); import hakuban_zmq"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: hakuban-zmq needs libzmq 4.3.2" in done.stderr
    assert "pip install --upgrade pyzmq" in done.stderr


def test_the_first_libzmq_without_them_is_used() -> None:
    code = "import zmq; zmq.zmq_version_info = lambda: (4, 3, 2); import hakuban_zmq"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_brings_in_no_event_loop() -> None:
    code = (
        "import hakuban_zmq, sys; print(*sorted({'asyncio', 'trio', 'uvloop'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
