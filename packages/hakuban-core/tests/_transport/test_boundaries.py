"""The edges of what transports share: streams that do not close, limits and their neighbours, and what errors say."""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from hakuban._transport import handlers as _handlers
from hakuban._transport.options import LinkOptions
from hakuban._transport.urls import split_url
from hakuban.transport import (
    Heartbeats,
    Identity,
    InsecureListenerError,
    InvalidURLError,
    KeepAlive,
    ReadAhead,
    ReassemblyLimit,
    TransportOptions,
    Verdict,
    check_exposure,
    get_logger,
    host_and_port,
    run_handler,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hakuban.transport import PeerViolationError


# ---- handlers and their streams -------------------------------------------------------------------------------------


class Stream:
    """A stream of somebody else's, which closes in steps.

    :ivar closed: the code and reason that it was closed with, once it is.
    """

    def __init__(self, error: Exception | None = None, *, closes: bool = True) -> None:
        self._error = error
        self._closes = closes
        self.closed: tuple[int, str] | None = None

    async def send(self, _messages: Sequence[bytes], /) -> None: ...

    async def receive(self) -> Sequence[bytes]:
        raise anyio.EndOfStream

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await anyio.lowlevel.checkpoint()
        if not self._closes:
            await anyio.sleep_forever()
        if self._error is not None:
            raise self._error
        self.closed = (code, reason)


async def returns(_stream: object) -> None:
    await anyio.lowlevel.checkpoint()


async def fails(_stream: object) -> None:
    raise ValueError("of its own")


LOGGER = get_logger("hakuban.test")


async def test_a_stream_is_closed_to_the_end_although_its_listener_is_cancelled() -> None:
    stream = Stream()
    with anyio.CancelScope() as scope:

        async def leave(_stream: object) -> None:
            scope.cancel()
            await anyio.sleep_forever()

        await run_handler(leave, stream, LOGGER, "somebody")
    assert stream.closed == (1001, "the listener is closed")


@pytest.mark.parametrize(("handler", "told"), [(returns, 1), (fails, 2)])
async def test_a_stream_that_cannot_be_closed_ends_nothing_else(
    handler: Any, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    await run_handler(handler, Stream(OSError("its own way")), LOGGER, "somebody")
    assert len(caplog.records) == told
    assert caplog.records[-1].getMessage().startswith("somebody: the link could not be closed")
    assert "its own way" in caplog.text


async def test_a_stream_that_never_closes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_handlers, "CLOSING", 0.01)
    with anyio.fail_after(10):
        await run_handler(returns, Stream(closes=False), LOGGER, "somebody")


# ---- heartbeats -----------------------------------------------------------------------------------------------------


async def test_links_are_checked_in_their_order_fifty_in_a_turn_of_the_loop() -> None:
    heartbeats, turns = Heartbeats(), 0
    checked: list[tuple[int, int]] = []

    class Link:
        def __init__(self, number: int) -> None:
            self.number = number

        def check(self, _now: float, /) -> float | None:
            checked.append((self.number, turns))
            return None

    links = [Link(number) for number in range(120)]
    for link in links:
        heartbeats.watch(link, 0.0)
    async with anyio.create_task_group() as group:
        group.start_soon(heartbeats.run)
        with anyio.fail_after(10):
            while len(checked) < len(links):
                await anyio.lowlevel.checkpoint()
                turns += 1
        group.cancel_scope.cancel()
    assert [number for number, _ in checked] == list(range(120))
    assert 2 <= len({turn for _, turn in checked}) <= 3, "trio runs tasks in any order"


# ---- keep-alive, reading and reassembly -----------------------------------------------------------------------------


def test_a_link_is_taken_for_a_connecting_one_between_nodes_of_ours() -> None:
    link = KeepAlive(TransportOptions(), 100.0)
    assert (link.due, link.timeout) == (102.0, 6.0)


def test_what_was_heard_after_the_timeout_begins_a_silence_that_has_a_look_of_its_own() -> None:
    link, heard = KeepAlive(TransportOptions(keep_alive=60.0, timeout=6.0), 0.0), 0.0
    for heard_next in (6.01, 12.03, 18.05):
        assert link.due == pytest.approx(heard + 6.0)
        assert link.check(link.due, heard, 0.0) is Verdict.WAIT
        heard = heard_next
        assert link.check(link.due, heard, 0.0) is Verdict.WAIT
    assert link.check(link.due, heard, 0.0) is Verdict.WAIT
    assert link.due == pytest.approx(heard + 6.05)
    assert link.check(link.due, heard, 0.0) is Verdict.END


def test_who_is_heard_in_between_is_made_allowance_for_however_often_the_loop_stands_still() -> (
    None
):
    link = KeepAlive(TransportOptions(keep_alive=2.0, timeout=6.0), 0.0)
    heard = 0.0
    for _ in range(30):
        now = link.due + 7.0
        assert link.check(now, heard, heard) is Verdict.SIGN
        assert link.check(link.due, heard, now) is Verdict.SIGN, "four seconds are left to answer"
        heard = link.due
        link.check(heard, heard, now)


def test_what_is_fifty_milliseconds_late_is_late_by_its_timer_and_what_is_more_stood_still() -> (
    None
):
    ends = []
    for late in (0.05, 0.0625):
        link = KeepAlive(TransportOptions(keep_alive=0.05, timeout=1.0), 0.0)
        link.check(link.due + late, 0.0, 0.0)
        while link.check(link.due, 0.0, 0.0) is not Verdict.END:
            pass
        ends.append(link.due)
    assert ends == pytest.approx([1.05, 1.05 + 0.0625])


def test_ten_standstills_are_made_allowance_for_then_the_loop_may_read_and_then_the_link_ends() -> (
    None
):
    link, checks = KeepAlive(TransportOptions(timeout=6.0), 0.0), 1
    while link.check(link.due + 100.0, 0.0, 0.0) is not Verdict.END:
        checks += 1
    assert checks == 10 + 1 + 1


def test_what_was_read_counts_also_where_handling_it_took_no_time() -> None:
    """As a clock shows it that is not exact enough."""
    once, split = ReadAhead(), ReadAhead()
    once.came(400_000)
    for _ in range(4):
        split.came(100_000)
        assert split.learn() == split.size == 1024 * 1024
    for ahead in (once, split):
        ahead.handled(0.1)
    assert split.learn() == once.learn()


class Link:
    ended = False

    def give_up(self, _violation: PeerViolationError, /) -> None:
        self.ended = True


def test_a_link_counts_from_64_kib_on() -> None:
    limit, link = ReassemblyLimit(1), Link()
    for size, counted in ((65_535, 0), (65_536, 65_536), (65_537, 65_537), (65_535, 0)):
        limit.hold(link, size)
        assert limit.held == counted
    assert not link.ended


# ---- who may listen where -------------------------------------------------------------------------------------------

HERE = ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "::1%lo"]
ANYWHERE = ["0.0.0.0", "192.168.1.7", "::", "fe80::1%eth0", "::ffff:10.0.0.1", "router", ""]


@pytest.mark.parametrize("address", HERE)
def test_whoever_listens_on_this_machine_alone_needs_no_guard(address: str) -> None:
    check_exposure("tcp://x", [address], TransportOptions())
    check_exposure("tcp://x", HERE, TransportOptions())


@pytest.mark.parametrize("address", ANYWHERE)
def test_whoever_can_be_reached_from_elsewhere_says_how_peers_are_kept_out(address: str) -> None:
    addresses = [*HERE, address]
    with pytest.raises(InsecureListenerError) as caught:
        check_exposure("tcp://x", addresses, TransportOptions(), remedy="lock the door")
    assert f"other machines can reach {address}, and" in caught.value.reason
    assert ": lock the door, install" in caught.value.reason
    check_exposure("tcp://x", addresses, TransportOptions(), protected=True)
    check_exposure("tcp://x", addresses, TransportOptions(insecure=True))
    check_exposure("tcp://x", addresses, TransportOptions(authorize=lambda _: Identity("ann")))


# ---- URLs and options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "missing", "example"),
    [
        ("acme+tcp://h", "host or port", "acme+tcp://{}:3001"),
        ("acme+tcp://:1", "host or port", "acme+tcp://{}:3001"),
        ("//h", "host or port", "tcp://{}:3001"),
    ],
)
def test_a_url_that_lacks_something_is_answered_with_one_that_does_not(
    url: str, missing: str, example: str
) -> None:
    for listening, host in ((True, "127.0.0.1"), (False, "router")):
        reason = f"{missing} is missing; write {example.format(host)}, for example"
        assert refusal_of(lambda: host_and_port(url, listening=listening)) == reason  # noqa: B023  # called at once
    reason = refusal_of(lambda: host_and_port("acme+tcp://:1", default_port=80))
    assert reason.startswith("the host is missing; write acme+tcp://")


def refusal_of(call: Callable[[], object]) -> str:
    with pytest.raises(InvalidURLError) as caught:
        call()
    return caught.value.reason


def test_port_0_is_a_free_one_to_listen_on_and_none_to_connect_to() -> None:
    assert host_and_port("tcp://h:0") == ("h", 0)
    assert host_and_port("tcp://h:1", listening=False) == ("h", 1)
    assert "port 0 is for listening only" in refusal_of(
        lambda: host_and_port("tcp://h:0", listening=False)
    )


@pytest.mark.parametrize(
    ("query", "item"),
    [
        ("timeout=3s", "timeout=3s"),
        ("token=x&load-limit=10-5s:20&a", "load-limit=10-5s:20"),
        ("name=Secret", "name=..."),
        ("insecure", "insecure"),
    ],
)
def test_an_option_in_the_query_is_told_where_it_belongs(query: str, item: str) -> None:
    key = item.partition("=")[0]
    reason = refusal_of(lambda: split_url(f"ws://h:1/p?{query}"))
    assert reason == f"{key!r} is an option of the link: write #{item} instead of ?{item}"


def test_what_only_looks_like_an_option_in_the_query_is_the_transports() -> None:
    url = "ws://h:1/p?time-out=3s&token=timeout&&keep_alive=1"
    assert split_url(url)[1] == url


def options_of(fragment: str = "", **arguments: Any) -> TransportOptions:
    return LinkOptions.parse(fragment).transport_options(arguments)


def test_the_largest_numbers_are_taken_and_no_larger_ones() -> None:
    most = 2**63 - 1
    assert options_of(f"timeout=1000000000,max-message={most}").timeout == 1e9
    assert options_of(f"keep-alive=1ms,max-message={most}").max_message == most
    for more in ("timeout=1000000001", "timeout=1000000000s1ms", f"max-message={most + 1}"):
        with pytest.raises(ValueError, match=r"more than 1e\+09 s|from 0 to 9223372036854775807"):
            options_of(more)


def test_what_is_wrong_with_a_text_is_said_as_exactly_as_it_can_be() -> None:
    with pytest.raises(ValueError, match=r"^timeout='soon': not a duration"):
        options_of(timeout="soon")
    for text in ("https://lab", b"https://lab"):
        with pytest.raises(
            TypeError, match=r"allow_origins is a list of origins: write \[b?'https"
        ):
            options_of(allow_origins=text)
    assert options_of(allow_origins=["https://lab"]).allow_origins == ("https://lab",)
    for without in ("name", "name=", "timeout="):
        with pytest.raises(ValueError, match=rf"^option '{without.strip('=')}' has no value$"):
            options_of(without)


def test_a_tls_context_is_one_also_where_nobody_has_imported_ssl(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert options_of(ssl=context).ssl is context
    for wrong in (True, "context", ssl, ssl.SSLContext):
        with pytest.raises(TypeError, match=r"is an ssl\.SSLContext, not"):
            options_of(ssl=wrong)
    monkeypatch.delitem(sys.modules, "ssl")
    with pytest.raises(TypeError, match=r"is an ssl\.SSLContext, not"):
        options_of(ssl="context")
