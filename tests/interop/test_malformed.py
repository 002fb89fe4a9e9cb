"""Everything malformed that the crate's router was tried with, sent to ours while others are at work.

A peer that breaks the protocol is out within a second, with a code that says why, and whoever stood by produces what it
produced. What the crate's router takes, ours takes too.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from support.malformed import CASES, IGNORED, STRICTER, Outcome, Scene, close_code, stays
from support.processes import RouterProcess
from support.raw_node import RawNode, control, expose, observe, set_name
from support.raw_ws import BINARY, CONTINUATION, RawWebSocket, frame, tcp
from support.watching import happens, holds, until
from support.witness import OBJECT, Gap, Witness

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.timeout(180), pytest.mark.promise("no-crash", "isolation")]

MIB = 1024 * 1024
AT_ONCE = 8


@pytest.fixture(scope="module")
def router() -> Iterator[RouterProcess]:
    with RouterProcess() as router:
        yield router
        assert router.process.poll() is None
        assert not [line for line in router.err.seen if "Traceback" in line]


@pytest.fixture(scope="module")
def witness(router: RouterProcess) -> Iterator[Witness]:
    with Witness(router.url) as witness:
        yield witness


def resident(router: RouterProcess) -> float:
    """Give the memory of a router, in MB."""
    size: int = psutil.Process(router.pid).memory_info().rss
    return size / 1e6


# ---- the recorded cases ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Round:
    """All cases once, several at a time.

    :ivar gap: the longest time, in seconds, for which the witness saw nothing.
    :ivar memory: of the router afterwards, in MB.
    """

    outcomes: dict[str, Outcome]
    gap: Gap
    memory: float


def play(router: RouterProcess, witness: Witness) -> Round:
    witness.ask()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        outcomes = threads.map(lambda name: Scene(name, router.url).run(), CASES)
        found = dict(zip(CASES, outcomes, strict=True))
    return Round(found, witness.ask(), resident(router))


@pytest.fixture(scope="module")
def rounds(router: RouterProcess, witness: Witness) -> list[Round]:
    """A round to warm up, and one to measure; what each case did is checked in both."""
    return [play(router, witness) for _ in range(2)]


def test_as_many_cases_end_the_link_as_end_or_kill_the_router_of_the_crate() -> None:
    ending = [name for name in CASES if not stays(name)]
    assert len(CASES) == 122
    assert len(ending) == 83 + len(STRICTER) - len(IGNORED)


@pytest.mark.parametrize("name", [name for name in CASES if not stays(name)])
def test_who_breaks_the_protocol_is_out_and_the_standby_takes_over(
    name: str, rounds: list[Round]
) -> None:
    for outcome in (round.outcomes[name] for round in rounds):
        assert not outcome.problem
        assert (outcome.close and outcome.close.code) == close_code(name)
        assert outcome.closed < 1
        if outcome.standby is not None:
            assert outcome.observed is not None
            assert outcome.observed < 1
        if outcome.close is not None:
            assert "\n" not in outcome.close.reason


@pytest.mark.parametrize("name", [name for name in CASES if stays(name)])
def test_what_does_no_harm_is_accepted(name: str, rounds: list[Round]) -> None:
    for outcome in (round.outcomes[name] for round in rounds):
        assert not outcome.problem
        assert outcome.lives


def test_the_session_of_a_violator_ends_before_its_close_is_sent(rounds: list[Round]) -> None:
    """A node of the crate that is closed at once comes back at once: it waits for its Close, its objects do not."""
    waited = [
        (outcome.standby, outcome.closed)
        for name, outcome in rounds[1].outcomes.items()
        if close_code(name) in (1002, 1007) and outcome.standby is not None
    ]
    assert len(waited) > 60
    assert all(closed > 0.4 for _, closed in waited)
    assert sorted(standby for standby, _ in waited)[len(waited) // 2] < 0.2


def test_others_notice_nothing(rounds: list[Round], record_property: Any) -> None:
    warm_up, measured = rounds
    grown = measured.memory - warm_up.memory
    record_property(
        "figure",
        f"{len(CASES)} cases twice, {AT_ONCE} at a time: gap of the witness"
        f" {warm_up.gap} and {measured.gap},"
        f" memory {warm_up.memory:.0f} MB and {grown:+.1f} MB",
    )
    assert max(warm_up.gap.of_router, measured.gap.of_router) < 0.5
    assert grown < 20


# ---- what no recording holds ----------------------------------------------------------------------------------------


def test_a_message_over_16_mib_is_too_big(router: RouterProcess, witness: Witness) -> None:
    witness.ask()
    with RawNode(router.url) as node:
        node.send(bytes(16 * MIB + 1))
        close = until(lambda: node.close, "it is closed")
        assert close is not None
        assert close.code == 1009
    assert witness.ask().of_router < 0.5


def test_fragments_are_too_big_together(router: RouterProcess) -> None:
    with RawNode(router.url) as node:
        node.write(frame(bytes(4 * MIB), first=BINARY))
        for _ in range(4):
            node.write(frame(bytes(4 * MIB), first=CONTINUATION))
        close = until(lambda: node.close, "it is closed")
        assert close is not None
        assert close.code == 1009


@pytest.mark.thorough
@pytest.mark.timeout(150)
def test_16_mib_of_tiny_legal_actions_hold_up_nobody_else(
    router: RouterProcess, witness: Witness, record_property: Any
) -> None:
    action = set_name("")
    message = control(*[action] * ((16 * MIB - 16) // len(action)))
    before = resident(router)
    witness.ask()
    with RawNode(router.url) as node:
        node.send(message)
        start = time.monotonic()
        node.tell(observe(OBJECT))
        grown_at_work = 0.0
        # handled in order: the stream comes after all the actions
        while not happens(lambda: OBJECT in node.streams, 1):
            grown_at_work = max(grown_at_work, resident(router) - before)
            assert time.monotonic() < start + 120
        took = time.monotonic() - start
        grown = resident(router) - before
        assert node.close is None
    gap = witness.ask()
    record_property(
        "figure",
        f"{(16 * MIB) // len(action):,} actions in {took:.0f} s: gap {gap},"
        f" memory {grown:+.1f} MB, {grown_at_work:+.1f} MB at work",
    )
    assert gap.of_router < 0.5
    # until it is handled, the message and what it was put together from (four times its size were seen, but a decoder
    # that makes a list of the actions takes 450 MB); afterwards none of it
    assert grown_at_work < 100
    assert grown < 20


@pytest.mark.thorough
def test_100_000_contracts_of_one_link_vanish_without_a_gap(
    router: RouterProcess, witness: Witness, record_property: Any
) -> None:
    witness.ask()
    with RawNode(router.url) as node:
        for start in range(0, 99_990, 1_111):
            made = range(start, start + 1_111)
            node.tell(*((observe, expose)[item % 2](f'"mass {item}"') for item in made))
        node.tell(observe(OBJECT))
        node.wait_stream(OBJECT, timeout=60)
        announced = witness.ask()
        with RawNode(router.url) as watcher, RawNode(router.url) as standby:
            watcher.tell(observe('"mass 99987"'))
            node.wait_sink('"mass 99987"')
            standby.tell(expose('"mass 99987"'))
            standby.ping()
            witness.ask()
            node.cut()
            standby.wait_sink('"mass 99987"')
            holds(lambda: watcher.ended is None, "the watcher is connected", seconds=3)
    vanished = witness.ask()
    record_property("figure", f"gap {announced} while announced, {vanished} after")
    assert announced.of_router < 0.5
    assert vanished.of_router < 0.1


# ---- what is no WebSocket -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00\x01\x02garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["garbage", "GET", "POST"],
)
def test_a_connection_that_does_not_upgrade_is_ended(
    router: RouterProcess, request_: bytes
) -> None:
    with tcp(router.url) as connection:
        connection.sendall(request_)
        connection.settimeout(5)
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
        assert not answer or answer.startswith(b"HTTP/1.1")
        assert not answer.startswith(b"HTTP/1.1 101")


def test_any_path_foreign_protocols_and_extensions_are_taken_and_not_echoed(
    router: RouterProcess,
) -> None:
    headers = "Sec-WebSocket-Protocol: foo\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
    with RawWebSocket(router.url, headers=headers, path="/any?x=1") as connection:
        response = connection.response.lower()
        assert "sec-websocket-protocol" not in response
        assert "sec-websocket-extensions" not in response
        connection.ping()
