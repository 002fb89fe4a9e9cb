"""A leak checker: a test that opened a link or a listener of ours has to leave nothing behind, on any loop.

A plugin of the root's conftest.py. After such a test it looks at what loops had to end themselves (`loops`), at the tables of
nodes, listeners and modules (`tables`), at descriptors and threads (`system`), and at objects (`objects`, `circles`). The
collector is off from the first link on. Where something is left at first sight, it is waited for, for a while.

A test that leaves something on purpose says so: `@pytest.mark.leaks("thread", reason="...")`; the kinds are in `KINDS`.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from . import loops, objects, system, tables

if TYPE_CHECKING:
    from collections.abc import Generator

KINDS: Final = ("circle", "descriptor", "in a loop", "object", "table", "thread", "wake-up")
SETTLING = 3.0
"""Seconds for which what is left may need to go."""
PAUSE: Final = 0.005
COLLECTED: Final = 200
"""Tests after which the collector runs: each `gc.freeze` has it count anew, so that it would never look at what is old."""

Leak = tuple[str, str]
"""Kind, and what it is."""


class _Watch:
    """What there was before a test, and what is looked at after it."""

    def __init__(self) -> None:
        self.active = False
        self.linked = False
        self._tests = 0
        self._owners: list[tables.Owner] = []
        self._descriptors: dict[tuple[int, str], None] = {}
        self._threads: dict[int, str] = {}

    def begin(self) -> None:
        """Take note of what there is."""
        self.active, self.linked = True, False
        self._owners.clear()
        loops.left.clear()
        self._descriptors = system.descriptors()
        self._threads = system.threads()
        gc.freeze()

    def end(self) -> None:
        """Forget that."""
        self.active = self.linked = False
        self._owners.clear()
        gc.enable()
        gc.unfreeze()
        self._tests += 1
        if self._tests % COLLECTED == 0:
            gc.collect()

    def note_link(self, _: object = None) -> None:
        """A link, a listener or a part of one was made."""
        if self.active and not self.linked:
            self.linked = True
            gc.disable()

    def note_owner(self, owner: object) -> None:
        """Something was made that keeps tables."""
        if self.active:
            self._owners.append(tables.Owner(owner))

    def leaks(self) -> list[Leak]:
        """Return what is left."""
        found = [("in a loop", one) for one in loops.left]
        found += [("table", text) for owner in self._owners for text in owner.grown()]
        self._owners.clear()  # or they would be left
        if self._held():
            found += [("circle", text) for text in objects.collect()]
            deadline = time.monotonic() + SETTLING
            while (held := self._held()) and time.monotonic() < deadline:
                time.sleep(PAUSE)
            found += held
        return found

    def _held(self) -> list[Leak]:
        descriptors = [one for one in system.descriptors() if one not in self._descriptors]
        found = [("descriptor", system.describe_descriptor(one)) for one in descriptors]
        threads = system.threads()
        found += [("thread", threads[one]) for one in threads if one not in self._threads]
        found += [("table", text) for text in tables.in_modules()]
        if pending := objects.wakeups_of_ended_loops():
            found += [("wake-up", text) for text in pending]
        else:
            objects.forget_last_loop()
        if left := objects.ours():
            found += [("object", text) for text in objects.describe(left)]
        return found


_watch: Final = _Watch()
_passed: Final = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin to watch what is made."""
    config.addinivalue_line(
        "markers",
        f"leaks(*kinds, reason): the test leaves something behind on purpose, of {', '.join(KINDS)}",
    )
    tables.import_all()
    loops.watch()
    tables.watch(_watch.note_owner, _watch.note_link)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Look before everything else, fixtures too."""
    item.stash[_passed] = True
    _watch.begin()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
    """Look again when a fixture is made that outlives the test: these come first."""
    result = yield
    if fixturedef.scope != "function":
        _watch.begin()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Take note of a test that has not passed: its traceback keeps what it was about."""
    report = yield
    item.stash[_passed] &= report.passed
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Look after everything else, fixtures too."""
    try:
        yield
        if _watch.linked and item.stash[_passed]:
            _check(item)
    finally:
        _watch.end()


def _check(item: pytest.Item) -> None:
    if isinstance(item, pytest.Function):
        objects.forget_parameters(item)
    allowed = _allowed(item)
    found = [f"{kind}: {text}" for kind, text in _watch.leaks() if kind not in allowed]
    if found:
        pytest.fail("this test has left behind:\n  " + "\n  ".join(found), pytrace=False)


def _allowed(item: pytest.Item) -> set[str]:
    allowed: set[str] = set()
    for marker in item.iter_markers("leaks"):
        if not (marker.args and marker.kwargs.get("reason")) or not {*marker.args} <= {*KINDS}:
            pytest.fail('write leaks("kind", reason="why")', pytrace=False)
        allowed.update(marker.args)
    return allowed
