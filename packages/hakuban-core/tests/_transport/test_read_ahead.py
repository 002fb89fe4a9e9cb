"""How much is read before what was read is handled: a story of one stream, in times that the test makes up."""

from __future__ import annotations

import pytest

from hakuban.transport import ReadAhead

KIB = 1024
MOST = 1024 * KIB


class Reader:
    """Reads as much as it may of a flood, and handles it."""

    def __init__(self, most: int = MOST) -> None:
        self.ahead = ReadAhead(most)
        self.now = 100.0
        self.sizes: list[int] = []

    def read(self, *, bytes_per_second: float, pause: float = 0.0) -> None:
        size = self.ahead.learn()
        self.sizes.append(size)
        self.handle(size, size / bytes_per_second + pause)

    def handle(self, size: int, seconds: float) -> None:
        self.ahead.came(size)
        self.now += seconds
        self.ahead.handled(seconds)


def test_while_handling_is_quick_all_is_read_that_there_is() -> None:
    reader = Reader()
    for _ in range(20):
        reader.read(bytes_per_second=400e6)
    assert reader.sizes == [MOST] * 20


@pytest.mark.parametrize("rate", [500e3, 2e6, 10e6])
def test_while_handling_is_slow_50_ms_of_it_are_read(rate: float) -> None:
    reader = Reader()
    for _ in range(30):
        reader.read(bytes_per_second=rate)
    assert max(reader.sizes[-10:]) < 2 * 0.05 * rate
    assert min(reader.sizes[-10:]) > 0.05 * rate / 2


def test_a_process_that_is_stopped_now_and_then_reads_little_all_the_time() -> None:
    """Held to 5 % of a core, as a quota does it: 5 ms of work, 95 ms of nothing."""
    reader, worked = Reader(), 0.0
    for _ in range(300):
        stops_before = int(worked / 0.005)
        worked += reader.ahead.learn() / 8e6
        reader.read(bytes_per_second=8e6, pause=0.095 * (int(worked / 0.005) - stops_before))
    assert max(reader.sizes[-100:]) < 64 * KIB


def test_however_slow_it_is_a_read_brings_a_few_states() -> None:
    reader = Reader()
    for _ in range(50):
        reader.read(bytes_per_second=1e3)
    assert reader.sizes[-1] == 16 * KIB


def test_when_time_has_come_back_all_is_read_again_soon() -> None:
    reader = Reader()
    for _ in range(50):
        reader.read(bytes_per_second=100e3)
    before = reader.now
    while reader.ahead.learn() < MOST:
        reader.read(bytes_per_second=400e6)
    assert reader.now - before < 0.25
    assert len(reader.sizes) < 50 + 30


def test_one_pause_of_a_quick_reader_changes_little() -> None:
    reader = Reader()
    for number in range(20):
        reader.read(bytes_per_second=400e6, pause=0.06 if number == 10 else 0)
    assert min(reader.sizes) > MOST / 2


def test_small_messages_that_come_alone_do_not_say_how_many_could_be_handled() -> None:
    reader = Reader()
    for number in range(1_000):
        reader.handle(20, 0.06 if number == 500 else 0.0005)
        assert reader.ahead.learn() > MOST / 4


def test_all_messages_of_a_read_count_together() -> None:
    ahead = ReadAhead()
    ahead.came(200 * KIB)
    for _ in range(3):
        ahead.handled(0.1)
    one_by_one = ahead.learn()
    ahead = ReadAhead()
    ahead.came(200 * KIB)
    ahead.handled(0.3)
    assert one_by_one == pytest.approx(ahead.learn(), abs=1)


def test_waiting_for_what_does_not_come_is_not_handling() -> None:
    ahead = ReadAhead()
    for _ in range(10):  # nothing comes for ten seconds, which nobody counts
        ahead.came(100)
        ahead.handled(0.0001)
        assert ahead.learn() == MOST


def test_a_window_that_is_small_anyway_stays_within_its_bounds() -> None:
    reader = Reader(most=1)
    for rate in (1e3, 400e6):
        for _ in range(20):
            reader.read(bytes_per_second=rate)
    assert set(reader.sizes) == {1}
