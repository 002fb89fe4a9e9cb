"""The age of a state is true, whatever was lost: it counts from when whoever vouched for the state was last alive."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
from typing_extensions import override

from support.ages import (
    ROOT,
    RUST,
    SCHEMES,
    Timing,
    frozen,
    idle_trees,
    killed,
    leaving,
    pulled,
    reset,
)
from support.wires import Relays, Wires, cables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from support.ages import Loss
    from support.leaves import Reading

    Judge = Callable[[Sequence["Outcome"]], None]

FAST: Final = Timing(keep_alive=0.5, timeout=1.5)
QUICK: Final = Timing(keep_alive=0.3, timeout=0.9)
DEFAULTS: Final = Timing(keep_alive=2.0, timeout=6.0, said=False)

DOCUMENT: Final = ROOT / "docs/freshness.md"

BUSY: Final = (
    0.25  # seconds by which a busy machine may be late with a sign of life, or with hearing one
)
AT_ONCE: Final = 1.0  # seconds, nearly all of them for a busy machine

TABLE: Final = (
    "ages after a loss: seconds until it was seen, age shown then (errors of all readers)"
)


@dataclass(frozen=True)
class Case:
    """A kind of loss.

    :ivar wires: what lies between the processes.
    :ivar silent: whether it is noticed by silence alone.
    :ivar above: whether the router between notices it, and tells those below.
    """

    inflict: Loss
    wires: Callable[[], AbstractContextManager[Wires]] = Wires
    silent: bool = False
    above: bool = False


CASES: Final = {
    "exposer-frozen": Case(frozen("exposer"), silent=True, above=True),
    "router-frozen": Case(frozen("router"), silent=True),
    "both-frozen": Case(frozen("exposer", "router"), silent=True),
    "exposer-cable-pulled": Case(pulled("exposer"), cables, silent=True, above=True),
    "observer-cable-pulled": Case(pulled("observer"), cables, silent=True),
    "exposer-reset": Case(reset("exposer"), Relays, above=True),
    "observer-reset": Case(reset("observer"), Relays),
    "exposer-killed": Case(killed("exposer"), above=True),
    "router-killed": Case(killed("router")),
    "exposer-leaves": Case(leaving("exposer"), above=True),
    "router-leaves": Case(leaving("router")),
}


@dataclass(frozen=True)
class Outcome:
    """What the observers of one tree said after a loss.

    :ivar before: monotonic time before the loss.
    :ivar after: the time at which whoever was lost did not live any more.
    :ivar stale: what they said then, oldest first.
    """

    kind: str
    case: Case
    timing: Timing
    before: float
    after: float
    stale: list[Reading]

    def error(self, said: Reading) -> float:
        """Seconds by which an age is too large (positive) or too small."""
        if said.since > self.after:
            return self.after - said.since
        return max(0.0, self.before - said.since)

    def most_too_small(self) -> float:
        if not self.case.silent:  # the end of a connection comes a moment later
            return self.timing.keep_alive
        # the crate's router says that what it lost was current until it noticed
        theirs = self.kind == RUST and self.case.above
        return BUSY + (self.timing.timeout if theirs else 0.0)

    def untrue(self) -> list[str]:
        """Say which ages are further from the truth than the keep-alive."""
        most_too_large = self.timing.keep_alive + BUSY
        return [
            f"{self.kind}, {said.reader}: {said.at - self.before:.2f} s after the loss the age was {said.age:.2f}"
            for said in self.stale
            if not -self.most_too_small() <= self.error(said) <= most_too_large
        ]

    def late(self) -> list[str]:
        """Say who saw the loss too late."""
        most = self.timing.timeout * self.case.silent + AT_ONCE
        return [
            f"{self.kind}, {said.reader}: seen {said.at - self.before:.2f} s after the loss"
            for said in self.stale
            if said.at - self.before > most
        ]

    @override
    def __str__(self) -> str:
        errors = [self.error(said) for said in self.stale]
        first = next(said for said in self.stale if said.reader == "near object")
        figures = f"{first.at - self.before:.2f}, {first.age:.2f}"
        return f"{figures} ({min(errors):+.2f} to {max(errors):+.2f})"


def is_lost(said: Reading) -> bool:
    """Tell whether an object is stale, and has ended too if nobody but the exposer made it exist."""
    return not said.synchronized and (said.ended or "object" in said.reader)


def lose(
    case: Case,
    kinds: Sequence[str],
    timing: Timing,
    folder: Path,
    *,
    latecomers: bool = False,
) -> list[Outcome]:
    """Have trees lose something, all at the same time.

    :param latecomers: whether not those count who saw it, but those who come after that.
    """
    with case.wires() as wires, idle_trees(kinds, wires, timing, folder) as trees:
        before = time.monotonic()
        case.inflict(trees, wires)
        after = time.monotonic()
        observer = trees.observer
        observer.read(trees.readers, is_lost, timing.timeout + 10)
        if latecomers:
            observer = trees.observe()
            by_name = {(kind, reader) for kind, reader in trees.readers if "object" in reader}
            observer.read(by_name, is_lost, 20)
        stale = [said for said in observer.readings if not said.synchronized and said.at > before]
    return [
        Outcome(kind, case, timing, before, after, [said for said in stale if said.kind == kind])
        for kind in kinds
    ]


@pytest.fixture
def judge(request: pytest.FixtureRequest, record_property: Any) -> Judge:
    """Put outcomes into the table that is printed at the end; then no age may be untrue."""
    name = request.node.name.removeprefix("test_an_age_is_true_")
    row = re.sub(r"^after\[(.*)\]$", r"\1", name).replace("_", " ")

    def say(outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            record_property("cell", [TABLE, row, outcome.kind, str(outcome)])
        untrue = [text for outcome in outcomes for text in outcome.untrue()]
        assert not untrue, "\n".join(untrue)

    return say


@pytest.mark.thorough
@pytest.mark.promise("stale-visible")
@pytest.mark.usefixtures("needs_rust")
@pytest.mark.parametrize("loss", CASES)
def test_an_age_is_true_after(loss: str, tmp_path: Path, judge: Judge) -> None:
    outcomes = lose(CASES[loss], list(SCHEMES), FAST, tmp_path)
    judge(outcomes)
    assert [text for outcome in outcomes for text in outcome.late()] == []


@pytest.mark.thorough
@pytest.mark.promise("stale-visible")
def test_an_age_is_true_with_the_default_keep_alive(tmp_path: Path, judge: Judge) -> None:
    judge(lose(CASES["exposer-frozen"], ["ws", "zmq"], DEFAULTS, tmp_path))


@pytest.mark.thorough
@pytest.mark.promise("stale-visible")
@pytest.mark.parametrize("loss", ["exposer-frozen", "exposer-leaves"])
def test_an_age_is_true_for_who_comes_later(loss: str, tmp_path: Path, judge: Judge) -> None:
    ours = [kind for kind in SCHEMES if kind != RUST]  # whose router tells latecomers nothing
    judge(lose(CASES[loss], ours, FAST, tmp_path, latecomers=True))


@pytest.mark.long
@pytest.mark.promise("stale-visible")
def test_an_age_is_true_although_the_exposer_says_nothing(tmp_path: Path, judge: Judge) -> None:
    judge(lose(CASES["exposer-frozen"], ["ws"], QUICK, tmp_path))


def test_the_document_has_a_row_for_each_loss_and_says_when_it_is_seen() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert [loss for loss, _ in rows] == list(CASES)
    for loss, seen in rows:
        assert seen.startswith("within the time-out" if CASES[loss].silent else "at once"), loss
