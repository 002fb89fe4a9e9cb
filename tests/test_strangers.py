"""What strangers can do to a router of 1,024 descriptors: nothing that others notice, and nothing that stays."""

from __future__ import annotations

import secrets
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import pytest
import zmq.auth

from hakuban_zmq import write_keys
from hakuban_zmq._frames import DATA, PING, SESSION, VERSION, Hello, Window, frame
from support.raw_wires import ZeroMQWire
from support.strangers import LIMIT, Besieged, crowd, wait_cut
from support.unending import PIECE, Unending, UnendingWebSocket, UnendingZeroMQ
from support.watching import until
from support.zmtp import GREETING, MORE, framed, ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Record = Callable[[str, object], None]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

MIB: Final = 1 << 20
CROWD: Final = 1_100
assert CROWD > LIMIT


@pytest.fixture(autouse=True)
def _many_descriptors() -> Iterator[None]:
    """Let this process have as many strangers as it wants."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


_LOOPS: Final = [
    "auto",
    pytest.param("asyncio", marks=pytest.mark.thorough),
    pytest.param("trio", marks=pytest.mark.thorough),
]
on_one_loop = pytest.mark.parametrize("router", ["auto"], indirect=True)


@pytest.fixture(params=_LOOPS)
def router(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Besieged]:
    binds = "ws://127.0.0.1:0", "zmq+tcp://127.0.0.1:0", f"zmq+ipc://{tmp_path}/socket"
    with Besieged(*binds, loop=request.param) as router:
        yield router


def hello() -> bytes:
    """Give what begins a link, behind the READY."""
    return framed(Hello(secrets.token_bytes(SESSION), VERSION, Window(1 << 30, 1 << 20)).encode())


# ---- who says nothing -----------------------------------------------------------------------------------------------


@pytest.mark.promise("isolation")
@pytest.mark.parametrize(
    ("router", "bind", "wanted"),
    [
        ("auto", "zmq+ipc", "zmq+ipc"),
        pytest.param("asyncio", "zmq+ipc", "zmq+ipc", marks=pytest.mark.thorough),
        pytest.param("trio", "zmq+ipc", "zmq+ipc", marks=pytest.mark.thorough),
        pytest.param("auto", "ws", "zmq+ipc", marks=pytest.mark.thorough),
        pytest.param("auto", "ws", "ws", marks=pytest.mark.thorough),
        pytest.param("trio", "ws", "ws", marks=pytest.mark.thorough),
        pytest.param("auto", "zmq+tcp", "zmq+tcp", marks=pytest.mark.thorough),
    ],
    indirect=["router"],
)
def test_more_silent_strangers_than_descriptors_keep_nobody_out(
    router: Besieged, bind: str, wanted: str, record_property: Record
) -> None:
    with router.unharmed("ws", "zmq+ipc", record=record_property):
        with crowd(router.urls[bind], [b""] * CROWD):
            router.wait_full()
            took = router.lets_in(wanted, 6)
    record_property("figure", f"let in after {took:.1f} s")


STAGES: Final = [GREETING[:20], GREETING, GREETING + ready()]


@pytest.mark.thorough
@on_one_loop
def test_strangers_who_stop_within_a_handshake_keep_nobody_out_and_are_cut(
    router: Besieged, record_property: Record
) -> None:
    with router.unharmed("ws", "zmq+tcp", record=record_property):
        with crowd(router.urls["zmq+tcp"], (STAGES * CROWD)[:CROWD]) as strangers:
            router.wait_full()
            took = router.lets_in("zmq+tcp", 6)
            wait_cut(strangers, CROWD, 13)
    record_property("figure", f"let in after {took:.1f} s")


# ---- who says what nobody should ------------------------------------------------------------------------------------


def test_claimed_routing_ids_are_nobodys(router: Besieged, record_property: Record) -> None:
    named = [
        GREETING + ready(properties={"Identity": b"\0" + number.to_bytes(4, "big")}) + hello()
        for number in range(300)
    ]
    unnamed = [GREETING + ready() + hello()] * 100
    with router.unharmed("ws", "zmq+tcp", record=record_property):
        with crowd(router.urls["zmq+tcp"], named) as claiming:
            for _ in range(10):
                with crowd(router.urls["zmq+tcp"], unnamed) as others:
                    for stranger in (*claiming, *others):
                        assert stranger.recv(1)  # it is served
            router.lets_in("zmq+tcp", 6)


def test_a_message_of_a_million_parts_ends_its_connection(
    router: Besieged, record_property: Record
) -> None:
    parts = bytes([MORE, 0]) * 1_000_000
    with router.unharmed("ws", "zmq+tcp", record=record_property) as attack:
        for begin in (GREETING, GREETING + ready(), GREETING + ready() + hello()):
            with crowd(router.urls["zmq+tcp"], [begin + parts]) as strangers:
                wait_cut(strangers, 1, 5)
    assert attack.peak < 20


def test_a_flood_of_hellos_ends_its_connection(router: Besieged, record_property: Record) -> None:
    flood = b"".join(hello() for _ in range(50_000))
    with router.unharmed("ws", "zmq+tcp", record=record_property) as attack:
        with crowd(router.urls["zmq+tcp"], [GREETING + ready() + flood]) as strangers:
            wait_cut(strangers, 1, 5)
    assert attack.peak < 20


def test_who_says_hello_and_leaves_leaves_nothing(
    router: Besieged, record_property: Record
) -> None:
    with router.unharmed("ws", "zmq+tcp", record=record_property):
        for _ in range(300):
            with ZeroMQWire(router.urls["zmq+tcp"]):
                pass


@pytest.mark.parametrize(
    "asks", ["for pongs", pytest.param("for resets", marks=pytest.mark.thorough)]
)
def test_who_asks_for_answers_and_reads_none_is_cut(
    router: Besieged, asks: str, record_property: Record
) -> None:
    with router.unharmed("ws", "zmq+tcp", record=record_property) as attack:
        with ZeroMQWire(router.urls["zmq+tcp"]) as stranger:
            of_nobody = frame(DATA, secrets.token_bytes(SESSION))
            question = frame(PING, stranger.other) if asks == "for pongs" else of_nobody
            with pytest.raises(ConnectionError):
                send_often(stranger, framed(question) * 10_000)
    assert attack.peak < 20


def send_often(stranger: ZeroMQWire, flood: bytes) -> None:
    for _ in range(300):
        stranger.socket.sendall(flood)


# ---- who says more and more -----------------------------------------------------------------------------------------


@pytest.mark.promise("no-crash")
@pytest.mark.parametrize(
    ("bind", "kind"),
    [
        pytest.param("ws", UnendingWebSocket, id="ws", marks=pytest.mark.thorough),
        pytest.param("zmq+tcp", UnendingZeroMQ, id="zmq"),
    ],
)
def test_messages_without_an_end_are_bounded_together(
    router: Besieged, bind: str, kind: Callable[[str], Unending], record_property: Record
) -> None:
    with router.unharmed("ws", "zmq+tcp", record=record_property) as attack:
        with ExitStack() as stack:
            links = [stack.enter_context(kind(router.urls[bind])) for _ in range(60)]
            for link in links:
                for _ in range(15 * MIB // PIECE):
                    link.pour()

            def codes() -> Counter[int | None]:
                return Counter(link.end_code() for link in links)

            # four of them fit into 64 MiB
            until(lambda: codes()[None] <= 4, "the others are ended")
            assert codes() == {None: 4, 1013: 56}
    assert attack.peak < 200


# ---- who has the wrong key ------------------------------------------------------------------------------------------


AT_ONCE: Final = 100


@pytest.mark.thorough
def test_strangers_with_keys_of_their_own_hold_up_no_friend(
    tmp_path: Path, record_property: Record
) -> None:
    server, secret = write_keys(tmp_path, "router")
    allowed = tmp_path / "allowed"
    _, friend = write_keys(allowed, "friend")
    for number in range(1_000):
        text = f'curve\n    public-key = "{zmq.curve_keypair()[0].decode()}"\n'
        (allowed / f"{number}.key").write_text(text)
    router_keys = {
        "HAKUBAN_ZMQ_SECRET_KEY_FILE": str(secret),
        "HAKUBAN_ZMQ_CLIENT_KEYS": str(allowed),
    }
    friends = {
        "HAKUBAN_ZMQ_SECRET_KEY_FILE": str(friend),
        "HAKUBAN_ZMQ_SERVER_KEY_FILE": str(server),
    }
    binds = "ws://127.0.0.1:0", "zmq+tcp://127.0.0.1:0"
    with Besieged(*binds, env=router_keys, friends=friends) as router:
        with router.unharmed("ws", "zmq+tcp", record=record_property):
            start = time.monotonic()
            for _ in range(4):
                be_refused(router.urls["zmq+tcp"], zmq.auth.load_certificate(server)[0])
            rate = 4 * AT_ONCE / (time.monotonic() - start)
    record_property("figure", f"{rate:.0f} strangers a second")


def be_refused(url: str, server: bytes) -> None:
    """Have some strangers come at the same time, and wait until each of them was told that its key is unknown."""
    with zmq.Context() as context, ExitStack() as stack:
        refusals = []
        for _ in range(AT_ONCE):
            stranger = stack.enter_context(context.socket(zmq.DEALER))
            stranger.linger = 0
            stranger.curve_serverkey = server
            stranger.curve_publickey, stranger.curve_secretkey = zmq.curve_keypair()
            refusal = stranger.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
            refusals.append(stack.enter_context(refusal))
            stranger.connect(url.removeprefix("zmq+"))
        for refusal in refusals:
            assert refusal.poll(5_000)
