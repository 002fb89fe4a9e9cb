"""What the other side may send: the window while it is handled soon, and of it what can be handled soon."""

from __future__ import annotations

import pytest

from hakuban.transport import PeerViolationError
from hakuban_zmq._frames import Window
from hakuban_zmq._receive_credit import ReceiveCredit

KIB = 1024
WINDOW = Window(256 * KIB, 512)


class Sender:
    """Sends chunks as far as it may, to a reader who takes all of them and handles them."""

    def __init__(self, window: Window = WINDOW) -> None:
        self.receive_credit = ReceiveCredit(window)
        self.credit, self.chunks = window.size, window.chunks
        self.on_its_way = 0

    def fill(self, size: int) -> int:
        """Send chunks until the credit is used up; give how many are on their way."""
        while self.credit > 0 and self.chunks > 0:
            self.receive_credit.spend(size)
            self.credit -= size
            self.chunks -= 1
            self.on_its_way += 1
        return self.on_its_way

    def arrive(self, size: int, seconds_each: float, *, unfinished: bool = False) -> None:
        """Let the reader take and handle all that is on its way."""
        read_ahead = self.receive_credit.read_ahead
        read_ahead.learn()
        for _ in range(self.on_its_way):
            grant = self.receive_credit.take(size, unfinished=unfinished)
            if grant is not None:
                self.credit += grant.size
                self.chunks += grant.chunks
        read_ahead.handled(self.on_its_way * seconds_each)
        self.on_its_way = 0

    def ahead(self, size: int, seconds_each: float) -> int:
        """Give the bytes that are on their way at once, after a while."""
        for _ in range(40):
            self.fill(size)
            self.arrive(size, seconds_each)
        return self.fill(size) * size


@pytest.mark.parametrize("size", [100, 1_300, 64 * KIB])
def test_who_handles_quickly_grants_the_whole_window(size: int) -> None:
    ahead = Sender().ahead(size, seconds_each=size / 100e6)
    assert ahead >= min(3 * WINDOW.size // 4, 3 * WINDOW.chunks // 4 * size)


@pytest.mark.parametrize("size", [100, 1_300])
def test_who_handles_slowly_grants_little(size: int) -> None:
    assert Sender().ahead(size, seconds_each=size / 80e3) < 32 * KIB


def test_a_large_chunk_may_come_on_the_least_credit_and_nothing_is_stuck() -> None:
    sender = Sender()
    assert sender.ahead(64 * KIB, seconds_each=1.0) == 64 * KIB
    assert sender.ahead(64 * KIB, seconds_each=1e-4) == WINDOW.size


def test_the_rest_of_a_message_that_has_begun_is_no_reading_ahead() -> None:
    sender = Sender()
    sender.ahead(1_300, seconds_each=1.0)
    for _ in range(5):
        sender.arrive(64 * KIB, 0.0, unfinished=True)
        sender.fill(64 * KIB)
    assert sender.on_its_way > 2


def test_more_than_was_granted_is_a_violation() -> None:
    sender = Sender(Window(1_000, 2))
    sender.fill(600)
    with pytest.raises(PeerViolationError, match="more than it was granted"):
        sender.receive_credit.spend(1)


@pytest.mark.parametrize("window", [Window(1, 1), Window(1, 512), Window(1 << 30, 1)])
def test_the_smallest_windows_let_something_through_whatever_handling_takes(
    window: Window,
) -> None:
    sender = Sender(window)
    for seconds in (1.0, 0.0):
        assert sender.ahead(1_000, seconds_each=seconds) > 0
