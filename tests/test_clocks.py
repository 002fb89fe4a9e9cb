"""Wall clocks that are wrong, and are set right: the next state is seen at once, and versions never go back."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest

from support.faketime import LIBRARY, Machine
from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from support.faketime import Event, Leaf
    from support.processes import RouterProcess

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian: apt install faketime)"),
    pytest.mark.promise("latest", "monotonic"),
]

AT_ONCE: Final = 1.0
HOUR: Final = 3600.0
DAY: Final = 24 * HOUR


def just_booted_in_1976() -> float:
    """Give how far a clock is ahead that begins with the year 1976 now: minus fifty years."""
    return datetime(1976, 1, 1, tzinfo=UTC).timestamp() - time.time()


class Lab:
    """Machines with clocks of their own, and observers on one whose clock is right, which miss nothing.

    :ivar delays: seconds from each state's being set to its being seen, by each observer.
    """

    def __init__(self, folder: Path, stack: ExitStack, scheme: str) -> None:
        self._folder = folder
        self._stack = stack
        self._scheme = scheme
        self.machines: list[Machine] = []
        self.delays: list[float] = []
        self._watching: dict[str, str] = {}  # names of observers, and what they observe
        self._observers = self.machine().leaf()

    def machine(self, ahead: float = 0.0) -> Machine:
        """Give a machine whose wall clock is some seconds ahead of the true time."""
        self.machines.append(Machine(self._folder, self._stack, ahead))
        return self.machines[-1]

    def router(self, machine: Machine, *options: str, url: str | None = None) -> RouterProcess:
        """Start a router, which can be started again at its URL."""
        return machine.router(*options, bind=url or f"{self._scheme}://127.0.0.1:{free_port()}")

    def watch(self, router: RouterProcess, key: str = "door", *, sees: str | None = None) -> None:
        """Have one more node observe an object; it sees a value if there is one."""
        who = f"observer {len(self._watching) + 1}"
        self._watching[who] = key
        self._observers.observe(who, key, router.url)
        if sees is not None:
            self._wait_until_sees(who, sees)

    def expose(
        self, machine: Machine, router: RouterProcess, value: str, key: str = "door"
    ) -> Leaf:
        """Start a program that produces an object; its first state is seen at once."""
        exposer = machine.leaf()
        self.is_seen(value, exposer.expose(key, value, router.url), key)
        return exposer

    def set(self, exposer: Leaf, *values: str, key: str = "door") -> None:
        """Have a program set states, each of which is seen at once before the next one."""
        for value in values:
            self.is_seen(value, exposer.set(key, value), key)

    def restart(self, router: RouterProcess, machine: Machine, value: str) -> RouterProcess:
        """Start a router again; all observers learn anew that a value is the current one."""
        before = time.monotonic()
        router.kill()
        again = self.router(machine, url=router.url)
        self.all_see(value, since=before)
        return again

    def all_see(self, value: str, *, since: float = 0.0) -> None:
        """Wait until all observers have seen that a value is the current one, since some time."""
        for who in self._watching:
            self._wait_until_sees(who, value, since)
        self.check_versions()

    def is_seen(self, value: str, since: float, key: str = "door") -> None:
        """Check that all observers of an object see a value at once."""
        for who, watched in self._watching.items():
            if watched == key:
                self.delays.append(self._wait_until_sees(who, value).at - since)
                assert self.delays[-1] <= AT_ONCE, f"{who} saw {value!r} late"
        self.check_versions()

    def ahead(self, value: str) -> float:
        """Give how far the version of a state that is seen now is ahead of the true time."""
        event = self._observers.wait_event("seen", value=value)
        _, seconds, _ = event.details["version"]
        return float(seconds - time.time())

    def check_versions(self) -> None:
        """Check that no observer has seen a version go back."""
        for who in self._watching:
            seen = [
                event for event in self._observers.events if event.matches("seen", {"who": who})
            ]
            versions = [event.details["version"] for event in seen]
            assert versions == sorted(versions), f"{who} saw a version go back"

    def print_all(self) -> None:
        """Print what all programs have said, for those who read why a test has failed."""
        for machine in self.machines:
            for program in machine.programs:
                said = [*program.err.seen, *program.out.seen]
                print(program.process.args, *said, sep="\n    ")

    def _wait_until_sees(self, who: str, value: str, since: float = 0.0) -> Event:
        details = {"who": who, "value": value, "synchronized": True}
        return self._observers.wait_event("seen", since=since, **details)


@pytest.fixture
def scheme() -> str:
    return "ws"


over_each_transport = pytest.mark.parametrize("scheme", ["ws", "zmq+tcp"])


def test_only_the_wall_clocks_of_a_machine_are_wrong(lab: Lab) -> None:
    machine = lab.machine(-HOUR)
    leaf = machine.leaf()
    for ahead in (-HOUR, just_booted_in_1976(), 0.0):
        machine.set_clock(ahead)
        assert leaf.wall_clock() == pytest.approx(time.time() + ahead, abs=10)


@pytest.fixture
def lab(tmp_path: Path, scheme: str, record_property: Any) -> Iterator[Lab]:
    with ExitStack() as stack:
        lab = Lab(tmp_path, stack, scheme)
        try:
            yield lab
        finally:
            lab.print_all()
        lab.check_versions()
    for program in (program for machine in lab.machines for program in machine.programs):
        assert not any("Traceback" in line for line in program.err.seen)
    record_property("figure", f"seen after {max(lab.delays, default=0.0):.3f} s at most")


# ---- exposers whose clocks are wrong --------------------------------------------------------------------------------


@over_each_transport
def test_an_exposer_an_hour_slow_is_set_right_and_starts_again(lab: Lab) -> None:
    router = lab.router(lab.machine())
    slow_by_an_hour(lab, router, [router])


def test_an_exposer_an_hour_slow_below_two_routers_is_set_right_and_starts_again(lab: Lab) -> None:
    root = lab.router(lab.machine())
    inner = lab.router(lab.machine(), "--connect", root.url)
    slow_by_an_hour(lab, inner, [root, inner])


def slow_by_an_hour(lab: Lab, router: RouterProcess, watched: list[RouterProcess]) -> None:
    def watch(**options: str) -> None:
        for place in watched:
            lab.watch(place, **options)

    watch()
    slow = lab.machine(-HOUR)
    exposer = lab.expose(slow, router, "1")
    lab.set(exposer, "2")
    watch(sees="2")
    slow.set_clock()
    lab.set(exposer, "3")
    exposer.kill()
    exposer = lab.expose(slow, router, "4")
    lab.set(exposer, "5")
    watch(sees="5")
    exposer.kill()
    lab.set(lab.expose(lab.machine(), router, "6"), "7")


def test_an_exposer_with_the_right_clock_follows_one_that_booted_in_1976(lab: Lab) -> None:
    router = lab.router(lab.machine())
    lab.watch(router)
    wrong = lab.machine(just_booted_in_1976())
    exposer = lab.expose(wrong, router, "1")
    lab.set(exposer, "2")
    lab.watch(router, sees="2")
    wrong.set_clock()
    lab.set(exposer, "3")
    exposer.kill()
    lab.set(lab.expose(lab.machine(), router, "4"), "5")
    lab.watch(router, sees="5")


def test_an_exposer_that_booted_in_1976_follows_one_with_the_right_clock(lab: Lab) -> None:
    router = lab.router(lab.machine())
    lab.watch(router)
    exposer = lab.expose(lab.machine(), router, "1")
    lab.set(exposer, "2")
    exposer.kill()
    wrong = lab.machine(just_booted_in_1976())
    exposer = lab.expose(wrong, router, "3")
    lab.set(exposer, "4")
    lab.watch(router, sees="4")
    wrong.set_clock()
    lab.set(exposer, "5")
    exposer.kill()
    lab.set(lab.expose(wrong, router, "6"), "7")
    lab.watch(router, sees="7")


# ---- routers whose clocks are wrong ---------------------------------------------------------------------------------


def test_the_next_exposer_is_seen_though_the_router_was_an_hour_fast_before(lab: Lab) -> None:
    router = lab.router(fast := lab.machine(HOUR))
    lab.watch(router)
    exposer = lab.expose(lab.machine(), router, "1")
    assert lab.ahead("1") == pytest.approx(HOUR, abs=60)
    fast.set_clock()
    lab.set(exposer, "2")
    exposer.kill()
    lab.set(lab.expose(lab.machine(), router, "3"), "4")
    lab.watch(router, sees="4")


def test_an_inner_router_that_was_an_hour_fast_hides_nobody_above_or_below_it(lab: Lab) -> None:
    root = lab.router(lab.machine())
    inner = lab.router(fast := lab.machine(HOUR), "--connect", root.url)
    lab.watch(root)
    lab.watch(inner)
    lab.expose(lab.machine(), inner, "1").kill()
    lab.expose(lab.machine(), root, "2").kill()
    fast.set_clock()
    lab.expose(lab.machine(), inner, "3").kill()
    lab.set(lab.expose(lab.machine(), root, "4"), "5")
    lab.watch(root, sees="5")
    lab.watch(inner, sees="5")


@over_each_transport
def test_a_router_that_was_an_hour_fast_starts_again_with_its_clock_right(lab: Lab) -> None:
    router = lab.router(fast := lab.machine(HOUR))
    lab.watch(router)
    exposer = lab.expose(lab.machine(), router, "1")
    fast.set_clock()
    lab.set(exposer, "2")
    router = lab.restart(router, fast, "2")
    lab.set(exposer, "3")
    lab.watch(router, sees="3")
    for first, second in (("4", "5"), ("6", "7")):
        exposer.kill()
        exposer = lab.expose(lab.machine(), router, first)
        lab.set(exposer, second)
        lab.watch(router, sees=second)


def test_a_router_boots_in_1976_above_living_leaves_and_is_set_right(lab: Lab) -> None:
    router = lab.router(machine := lab.machine())
    lab.watch(router)
    exposer = lab.expose(lab.machine(), router, "1")
    machine.set_clock(just_booted_in_1976())
    router = lab.restart(router, machine, "1")
    lab.set(exposer, "2")
    exposer.kill()
    exposer = lab.expose(lab.machine(), router, "3")
    lab.set(exposer, "4")
    lab.watch(router, sees="4")
    machine.set_clock()
    lab.set(exposer, "5")
    exposer.kill()
    lab.set(lab.expose(lab.machine(), router, "6"), "7")
    lab.watch(router, sees="7")


# ---- a clock jumps behind a state that was just set ------------------------------------------------------------------


def test_what_was_set_in_1976_is_seen_as_soon_as_the_root_knows_better(lab: Lab) -> None:
    router = lab.router(machine := lab.machine())
    lab.watch(router)
    lab.expose(lab.machine(), router, "1").kill()
    router.kill()
    machine.set_clock(just_booted_in_1976())
    router = lab.router(machine, url=router.url)
    exposer = machine.leaf()
    exposer.expose("door", "2", router.url)
    machine.set_clock()
    lab.all_see("2")
    lab.set(exposer, "3")


def test_what_was_set_in_1976_is_seen_as_soon_as_a_root_that_knows_better_is_there(
    lab: Lab,
) -> None:
    root = lab.router(machine := lab.machine())
    lab.watch(root)
    lab.expose(lab.machine(), root, "1").kill()
    root.kill()
    island = lab.machine(just_booted_in_1976())
    inner = lab.router(island, "--connect", root.url)
    lab.watch(inner)
    exposer = island.leaf()
    exposer.expose("door", "2", inner.url)
    lab.watch(inner, sees="2")
    root = lab.router(machine, url=root.url)
    lab.all_see("2")
    lab.set(exposer, "3")
    lab.watch(root, sees="3")


# ---- a clock that nobody believes -----------------------------------------------------------------------------------


def errors(router: RouterProcess) -> list[str]:
    return [line for line in router.err.seen if line.split(" ")[1:2] == ["ERROR"]]


def test_a_leaf_two_days_ahead_is_one_error_and_hides_no_other_object(lab: Lab) -> None:
    router = lab.router(lab.machine())
    lab.watch(router, "door")
    lab.watch(router, "window")
    honest = lab.expose(lab.machine(), router, "1", key="window")
    liar = lab.expose(lab.machine(2 * DAY), router, "lie 1")
    lab.set(honest, "2", "3", key="window")
    lab.set(liar, "lie 2")
    honest.kill()
    honest = lab.expose(lab.machine(), router, "4", key="window")
    lab.set(honest, "5", key="window")
    lab.watch(router, "window", sees="5")
    assert lab.ahead("5") < HOUR
    assert ["clock" in error for error in errors(router)] == [True]


def test_an_observer_two_days_ahead_is_one_error_and_is_not_followed(lab: Lab) -> None:
    router = lab.router(lab.machine())
    lab.watch(router)
    liar = lab.machine(2 * DAY).leaf()
    liar.observe("liar", "door", router.url)
    exposer = lab.expose(lab.machine(), router, "1")
    liar.wait_event("seen", value="1")
    lab.set(exposer, "2")
    exposer.kill()
    lab.set(lab.expose(lab.machine(), router, "3"), "4")
    assert lab.ahead("4") < HOUR
    assert ["clock" in error for error in errors(router)] == [True]


def test_who_takes_over_from_a_leaf_two_days_ahead_is_seen(lab: Lab) -> None:
    router = lab.router(lab.machine())
    lab.watch(router)
    liar = lab.expose(lab.machine(2 * DAY), router, "1")
    lab.set(liar, "2")
    liar.kill()
    lab.set(lab.expose(lab.machine(), router, "3"), "4")
    lab.watch(router, sees="4")


def test_who_takes_over_above_from_a_leaf_two_days_ahead_is_seen_below(lab: Lab) -> None:
    root = lab.router(lab.machine())
    inner = lab.router(lab.machine(), "--connect", root.url)
    lab.watch(inner)
    lab.expose(lab.machine(2 * DAY), inner, "1").kill()
    lab.set(lab.expose(lab.machine(), root, "2"), "3")
    lab.watch(inner, sees="3")


def test_observers_that_saw_a_leaf_two_days_ahead_see_the_next_one_below_a_router_that_did_not(
    lab: Lab,
) -> None:
    router = lab.router(machine := lab.machine())
    lab.watch(router)
    lab.expose(lab.machine(2 * DAY), router, "1").kill()
    router.kill()
    router = lab.router(machine, url=router.url)
    lab.set(lab.expose(lab.machine(), router, "2"), "3")
    lab.watch(router, sees="3")
