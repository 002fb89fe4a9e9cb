"""What can never work is refused where `connect` or `listen` is called, before anything is entered."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

import hakuban
import hakuban.sync
from hakuban.transport import TransportOptions
from hakuban_zmq import KeyFileError, ZeroMQTransport, write_keys
from hakuban_zmq._urls import LONGEST_PATH

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"
LONG = "x" * LONGEST_PATH

NEVER = {
    "zmq+tcp://127.0.0.1": "port is missing",
    "zmq+tcp://127.0.0.1:": "port is missing",
    "zmq+tcp://127.0.0.1:x": "the port is no number",
    "zmq+tcp://127.0.0.1:99999": "the port is no number from 1 to 65535",
    "zmq+tcp://127.0.0.1:-1": "the port is no number",
    "zmq+tcp://127.0.0.1:1:2": "the port is no number",
    "zmq+tcp://": "host or port is missing",
    "zmq+tcp://:3001": "host or port is missing",
    "zmq+tcp://*:3001": "0.0.0.0 listens on all",
    "zmq+tcp://a..b:3001": "neither a name nor an address",
    f"zmq+tcp://{'a' * 64}:3001": "neither a name nor an address",
    "zmq+tcp://[::1:3001": "IPv6 addresses stand in brackets",
    "zmq+tcp://[1:2]:3001": "the host is n",
    "zmq+tcp://h\N{LATIN SMALL LETTER U WITH DIAERESIS}tte:3001": "beyond ASCII",
    f"zmq+tcp://me:{SECRET}@127.0.0.1:1": "keys are files",
    f"zmq+tcp://me:{SECRET}/x@127.0.0.1:1": "port is no number",
    f"zmq+ipc://me:{SECRET}@/run/x": "keys are files",
    f"zmq+inproc://{SECRET}@x": "keys are files",
    "zmq+tcp://127.0.0.1:1/lab": "no path",
    f"zmq+tcp://127.0.0.1:1?token={SECRET}": "no query",
    "zmq+ipc://relative/path": "absolute path",
    "zmq+ipc://": "absolute path",
    "zmq+ipc:///run/": "absolute path",
    "zmq+ipc:///run/h\N{LATIN SMALL LETTER U WITH DIAERESIS}tte": "beyond ASCII",
    f"zmq+ipc:///{LONG}": f"{LONGEST_PATH + 1} bytes",
    f"zmq+ipc://@{LONG}": f"{LONGEST_PATH + 1} bytes",
    "zmq+inproc://": "a name without slashes is missing",
    "zmq+inproc://a/b": "a name without slashes is missing",
}


@pytest.mark.parametrize("url", NEVER)
async def test_a_url_that_can_never_work_is_refused_at_the_call(url: str) -> None:
    with hakuban.LocalNode() as node:
        for call in (
            lambda: node.connect(url),
            lambda: node.connect(url, wait=False),
            lambda: node.listen(url),
            lambda: hakuban.sync.connect(node, url),
            lambda: hakuban.sync.listen(node, url),
        ):
            with pytest.raises(hakuban.InvalidURLError, match=NEVER[url]) as caught:
                call()
            assert SECRET not in str(caught.value)
            assert SECRET not in repr(vars(caught.value))
    gc.collect()  # nothing was made that would warn of it


async def test_port_0_is_for_listening_only() -> None:
    with hakuban.LocalNode() as node:
        with pytest.raises(hakuban.InvalidURLError, match="port 0 is for listening only"):
            node.connect("zmq+tcp://127.0.0.1:0", wait=False)
        async with node.listen("zmq+tcp://127.0.0.1:0") as listener:
            assert not listener.url.endswith(":0")


async def test_the_longest_path_and_an_address_of_each_kind_are_taken(tmp_path: Path) -> None:
    longest = f"{tmp_path}/".ljust(LONGEST_PATH, "x")
    with hakuban.LocalNode() as here, hakuban.LocalNode() as there:
        for url in (f"zmq+ipc://{longest}", "zmq+tcp://localhost:0/", "ZMQ+TCP://[::1]:0"):
            async with here.listen(url) as listener, there.connect(listener.url) as connection:
                assert connection.up


async def test_the_transport_itself_says_the_same_as_its_check() -> None:
    transport = ZeroMQTransport()
    for url in NEVER:
        with pytest.raises(hakuban.InvalidURLError):
            async with transport.connect(url, TransportOptions()):
                pass


# ---- certificates ---------------------------------------------------------------------------------------------------


async def test_a_certificate_without_the_one_it_needs_is_refused_at_the_call(
    tmp_path: Path,
) -> None:
    public, secret = write_keys(tmp_path, "one")
    url = "zmq+tcp://127.0.0.1:3001"
    with hakuban.LocalNode() as node:
        with pytest.raises(KeyFileError, match="needs an own certificate too") as caught:
            node.connect(url, wait=False, transport=ZeroMQTransport(server_key_file=public))
        assert caught.value.path == str(public)
        with pytest.raises(KeyFileError, match="keeps nobody out"):
            node.listen(url, transport=ZeroMQTransport(client_keys=tmp_path))

    # the own one alone is for listening, and what is in a file is looked at when it is used
    for fine in (
        ZeroMQTransport(secret_key_file=secret),
        ZeroMQTransport(secret_key_file=tmp_path / "no", server_key_file=public),
    ):
        fine.check(url, TransportOptions(), listening=False)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"insecure": "no"}, "True or False"),
        ({"insecure": 1}, "True or False"),
        ({"secret_key_file": 5}, "PathLike"),
        ({"client_keys": ["a"]}, "PathLike"),
        ({"window": 0}, "from 1 to"),
        ({"window": "1"}, "integer"),
        ({"high_water_mark": 2**31}, "from 1 to"),
        ({"high_water_mark": 1.5}, "integer"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_where_it_is_given(
    arguments: dict[str, Any], hint: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=hint):
        ZeroMQTransport(**arguments)
