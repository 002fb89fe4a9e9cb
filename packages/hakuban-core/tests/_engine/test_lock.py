"""One thread at a time in a node, whatever interrupts it; and those who wait are woken once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from hakuban import LocalNode, NodeBrokenError
from hakuban._core.machine import Machine
from hakuban._engine.lock import NodeLock
from hakuban._engine.parking import Parking
from support.interrupter import Interrupter

if TYPE_CHECKING:
    from collections.abc import Callable

SOON = 10.0


class Someone:
    """Somebody who waits."""

    def __init__(self, woken: list[Someone]) -> None:
        self._woken = woken

    def wake(self) -> None:
        self._woken.append(self)


def is_wanted(lock: NodeLock) -> bool:
    return lock.wanted


def nothing() -> None:
    pass


def inside(lock: NodeLock, go_on: threading.Event, entered: threading.Event) -> None:
    def stay() -> None:
        entered.set()
        assert go_on.wait(SOON)

    lock.run(stay)


def test_one_thread_is_inside_and_the_others_wait_for_it() -> None:
    lock, entered, go_on, second = NodeLock(), threading.Event(), threading.Event(), []
    assert not is_wanted(lock)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(inside, lock, go_on, entered)
        assert entered.wait(SOON)
        assert not lock.try_run(lambda: second.append("did not wait"))
        waiting = pool.submit(lock.run, lambda: second.append("waited"))
        while len(lock._threads) < 2:
            assert not waiting.done()
        assert is_wanted(lock)
        assert not second
        go_on.set()
        first.result(SOON)
        waiting.result(SOON)
    assert second == ["waited"]
    assert not is_wanted(lock)


def test_who_is_alone_inside_is_not_waited_for() -> None:
    lock, wanted = NodeLock(), []
    lock.run(lambda: wanted.append(lock.wanted))
    assert wanted == [False]


def run(lock: NodeLock) -> None:
    lock.run(nothing)


def try_run(lock: NodeLock) -> None:
    lock.try_run(nothing)


@pytest.mark.parametrize("opcodes", [False, True])
@pytest.mark.parametrize("enter", [run, try_run])
def test_who_is_interrupted_anywhere_leaves_the_lock(
    enter: Callable[[NodeLock], None], opcodes: bool
) -> None:
    enter(NodeLock())  # where nobody interrupts it
    at, struck = 0, True
    with ThreadPoolExecutor(1) as others:
        while struck:
            lock = NodeLock()
            interrupter = Interrupter(at, opcodes=opcodes)
            interrupter.run(lambda lock=lock: enter(lock))  # type: ignore[misc]  # a default binds it
            assert not lock.inside, interrupter.place
            assert not lock.wanted, interrupter.place
            assert others.submit(lock.try_run, nothing).result(SOON), interrupter.place
            struck, at = interrupter.struck, at + 1
    assert at > 8


# ---- those who wait --------------------------------------------------------------------------------------------------


def test_each_is_woken_once_and_the_next_one_by_the_next_call() -> None:
    woken: list[Someone] = []
    parking = Parking(lambda wake: wake())
    first, second = Someone(woken), Someone(woken)
    for someone in (first, second):
        parking.add("door", someone)
    parking.wake_some(3)
    assert woken == [first]
    parking.wake_some(3)
    assert woken == [first, second]
    parking.wake_some(3)
    assert woken == [first, second]
    assert not parking.places


def test_at_the_end_everybody_is_woken() -> None:
    woken: list[Someone] = []
    parking = Parking(lambda wake: wake())
    everybody = [Someone(woken) for _ in range(4)]
    for number, someone in enumerate(everybody):
        parking.add(number // 2, someone)
    parking.wake_all()
    assert woken == everybody
    assert not parking.places


def test_who_waits_on_a_node_that_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> object:
        raise ZeroDivisionError

    node = LocalNode()
    with node.object("it").observe() as seen, node.object("other").expose() as contract:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(seen.wait_state_sync)
            while not node._engine._parking.places:
                assert not waiting.done()
            monkeypatch.setattr(Machine, "set_kept", fail)
            with pytest.raises(ZeroDivisionError):
                contract.set_object_data(1)
            with pytest.raises(NodeBrokenError):
                waiting.result(SOON)
