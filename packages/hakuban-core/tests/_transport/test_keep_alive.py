"""The rule of keep-alive on a clock of its own: who is asked for a sign, who is silent for too long, and who stood still."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hakuban.transport import KeepAlive, TransportOptions, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOUR = 3600.0
SLACK = 0.06  # seconds: a look after the timeout, and what floats lose
READ_AFTER_STANDSTILL = 0.5
MOST_STANDSTILLS = 10


def rule(
    keep_alive: float = 2.0,
    timeout: float | None = 6.0,
    *,
    ours: bool | None = True,
    listening: bool = False,
) -> KeepAlive:
    options = TransportOptions(keep_alive=keep_alive, timeout=timeout)
    return KeepAlive(options, 0.0, ours=ours, listening=listening)


def checks_of(link: KeepAlive, times: int, heard: float = 0.0) -> list[tuple[float, Verdict]]:
    """Check a silent link when that is due, and list when that was and what came out."""
    found: list[tuple[float, Verdict]] = []
    said = 0.0
    while len(found) < times and (not found or found[-1][1] is not Verdict.END):
        now = link.due
        found.append((round(now, 3), link.check(now, heard, said)))
        if found[-1][1] is Verdict.SIGN:
            said = now
    return found


# ---- a loop that runs -----------------------------------------------------------------------------------------------


def test_a_silent_peer_is_asked_after_each_keep_alive_and_dropped_after_the_timeout() -> None:
    assert checks_of(rule(), 10) == [
        (2.0, Verdict.SIGN),
        (4.0, Verdict.SIGN),
        (6.0, Verdict.SIGN),
        (6.05, Verdict.END),
    ]


def test_what_comes_in_the_look_after_the_timeout_saves_the_link() -> None:
    link = rule(keep_alive=60.0)
    assert link.check(6.0, 0.0, 0.0) is Verdict.WAIT
    assert link.due == 6.05
    assert link.check(6.05, 6.01, 0.0) is Verdict.WAIT
    assert link.due == pytest.approx(12.01)


@pytest.mark.parametrize("busy", ["in", "out"])
def test_a_link_that_is_busy_one_way_needs_signs_as_an_idle_one_does(busy: str) -> None:
    """Who only receives has to show that it is there; who only sends has to know whether anybody is."""
    link = rule(keep_alive=2.0, timeout=None)
    signs = []
    for tenth in range(1, 61):
        now = tenth / 10
        received, sent = (now, 0.0) if busy == "in" else (0.0, now)
        if link.check(now, received, sent) is Verdict.SIGN:
            signs.append(now)
    assert signs == [2.0, 4.0, 6.0]


def test_a_link_busy_both_ways_needs_no_sign() -> None:
    link = rule()
    for second in range(1, 20):
        assert link.check(float(second), second - 0.1, second - 0.2) is Verdict.WAIT


@pytest.mark.parametrize("idle", ["heard", "said"])
def test_one_way_idle_is_idle(idle: str) -> None:
    """A busy observer of the crate says nothing for minutes; and who only sends would not know whether it is heard."""
    link = rule()
    for now in (1.0, 1.9):
        assert link.check(now, *((0.0, now) if idle == "heard" else (now, 0.0))) is Verdict.WAIT
    assert link.due == 2.0
    assert link.check(2.0, *((0.0, 2.0) if idle == "heard" else (2.0, 0.0))) is Verdict.SIGN


def test_a_check_that_comes_early_does_no_harm() -> None:
    link = rule()
    for now in (0.0, 0.1, 1.999):
        assert link.check(now, 0.0, 0.0) is Verdict.WAIT
        assert link.due == 2.0


def test_the_listening_side_waits_a_moment_longer() -> None:
    """So an idle link has one ping, which the other side answers, and not two."""
    assert rule(listening=True).due == rule().due + 0.05


def test_who_is_silent_because_nobody_reads_is_spared_and_still_given_signs() -> None:
    link = rule(keep_alive=1.0, timeout=2.0)
    signs = 0
    while link.due < 20:
        now = link.due
        verdict = link.check(now, 0.0, now)
        if verdict is Verdict.END:
            verdict = link.spare(now, now)
        signs += verdict is Verdict.SIGN
    assert 18 <= signs <= 20


def test_the_default_timeout_depends_on_whose_the_peer_is_and_may_become_known_later() -> None:
    link = rule(timeout=None, ours=None)
    assert link.timeout == 20
    link.ours = True
    assert link.timeout == 6
    link.ours = False
    assert link.timeout == 20
    assert rule(timeout=1.5, ours=None).timeout == 1.5


@pytest.mark.parametrize("keep_alive", [1e-9, 0.0, -1.0, math.nan])
def test_no_keep_alive_makes_a_flood(keep_alive: float) -> None:
    signs = [
        now for now, verdict in checks_of(rule(keep_alive, 60.0), 100) if verdict is Verdict.SIGN
    ]
    assert len(signs) == 100
    assert min(b - a for a, b in itertools.pairwise(signs)) > 0.009


@pytest.mark.parametrize("seconds", [1e9, math.inf])
def test_a_link_without_any_limit_is_looked_at_each_hour(seconds: float) -> None:
    link = rule(seconds, seconds)
    assert checks_of(link, 3) == [(hour * HOUR, Verdict.WAIT) for hour in (1, 2, 3)]


# ---- a loop that stood still ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.1, 5.0, 7.0, HOUR])
def test_a_standstill_is_no_silence(seconds: float) -> None:
    link = rule()
    assert link.check(2.0 + seconds, 0.0, 0.0) is Verdict.SIGN
    rest = checks_of(link, 10)
    now, verdict = rest[-1]
    assert verdict is Verdict.END
    assert now == pytest.approx(6.05 + seconds), "four seconds are left to answer"


def test_a_link_that_stood_still_at_the_very_end_has_time_to_be_read() -> None:
    link = rule(keep_alive=60.0)
    assert link.check(6.0 + HOUR, 0.0, 0.0) is Verdict.SIGN
    assert link.check(link.due, 0.0, 0.0) is Verdict.WAIT
    assert link.due > 6.0 + HOUR + READ_AFTER_STANDSTILL
    assert link.check(link.due, 0.0, 0.0) is Verdict.END


def test_standstills_one_after_the_other_end_no_link_as_long_as_it_is_heard_in_between() -> None:
    link, now = rule(), 0.0
    for _ in range(100):
        now = link.due + 10.0
        assert link.check(now, now - 15.0, 0.0) is not Verdict.END
        link.check(now + 0.001, now + 0.001, now)  # the answer is read


def test_what_is_read_after_a_standstill_begins_a_new_silence() -> None:
    link = rule(keep_alive=60.0)
    link.check(100.0, 0.0, 0.0)
    assert link.check(link.due, 100.1, 100.0) is Verdict.WAIT
    assert link.due == pytest.approx(106.1)


def test_a_peer_that_is_gone_is_missed_also_where_each_check_comes_late() -> None:
    link, checks = rule(), 0
    while link.check(link.due + 3.0, 0.0, 0.0) is not Verdict.END:
        checks += 1
        assert checks < 2 * MOST_STANDSTILLS


# ---- whatever happens -----------------------------------------------------------------------------------------------


def running(standstills: list[tuple[float, float]]) -> Callable[[float], float]:
    """Make a function that gives the time at which a loop does what is due at another time.

    :param standstills: for how long it runs, and then stands still.
    """
    spans, start = [], 0.0
    for runs, stands in standstills:
        spans.append((start + runs, start + runs + stands))
        start += runs + stands

    def runs_at(time: float) -> float:
        for begin, end in spans:
            if begin < time < end:
                return end
        return time

    return runs_at


STANDSTILLS = st.lists(
    st.tuples(st.floats(0.001, 20), st.one_of(st.floats(0.001, 20), st.floats(0.001, 2 * HOUR))),
    max_size=30,
)
KEEP_ALIVES = st.sampled_from([0.01, 0.1, 2.0, 60.0])
TIMEOUTS = st.sampled_from([0.2, 1.0, 6.0, 120.0])


def signs_and_end(
    link: KeepAlive,
    runs_at: Callable[[float], float],
    heard: Callable[[float], float],
    until: float,
) -> Iterator[tuple[float, Verdict]]:
    """Check a link when it is due, or when its loop runs again; a check goes before what is read in the same turn."""
    said = now = 0.0
    while now < until:
        now = runs_at(link.due)
        verdict = link.check(now, heard(now), said)
        if verdict is Verdict.SIGN:
            said = now
        yield now, verdict
        if verdict is Verdict.END:
            return


@settings(deadline=None)  # a busy machine is no fault
@given(STANDSTILLS, KEEP_ALIVES, TIMEOUTS, st.data())
def test_who_speaks_within_the_timeout_is_never_ended_whatever_stands_still(
    standstills: list[tuple[float, float]], keep_alive: float, timeout: float, data: st.DataObject
) -> None:
    runs_at = running(standstills)
    gaps = data.draw(st.lists(st.floats(0.5 * timeout, timeout), min_size=1, max_size=20))
    read = [0.0, *(runs_at(sum(gaps[:n])) for n in range(1, len(gaps) + 1))]

    def heard(now: float) -> float:
        return max(time for time in read if time < now or time == 0)

    end = sum(gaps)
    for now, verdict in signs_and_end(rule(keep_alive, timeout), runs_at, heard, end):
        assert verdict is not Verdict.END or now >= end


@settings(deadline=None)  # a busy machine is no fault
@given(STANDSTILLS, KEEP_ALIVES, TIMEOUTS)
def test_who_is_silent_is_ended_within_the_timeout_and_a_grace_of_running_time(
    standstills: list[tuple[float, float]], keep_alive: float, timeout: float
) -> None:
    stood = sum(seconds for _, seconds in standstills)
    most = timeout + READ_AFTER_STANDSTILL * MOST_STANDSTILLS + SLACK
    checks = list(
        signs_and_end(rule(keep_alive, timeout), running(standstills), lambda _: 0.0, math.inf)
    )
    end, verdict = checks[-1]
    assert verdict is Verdict.END
    assert timeout <= end <= most + stood + 0.05 * MOST_STANDSTILLS


@settings(deadline=None)  # a busy machine is no fault
@given(STANDSTILLS, st.floats(0, 3.8))
def test_who_only_answers_is_never_ended_whatever_stands_still(
    standstills: list[tuple[float, float]], latency: float
) -> None:
    """As a node of the crate, which gives no sign of life of its own for a minute."""
    runs_at = running(standstills)
    answers = [0.0]

    def heard(now: float) -> float:
        return max(time for time in answers if time < now or time == 0)

    for now, verdict in signs_and_end(rule(), runs_at, heard, 500.0):
        assert verdict is not Verdict.END
        if verdict is Verdict.SIGN:
            answers.append(runs_at(now + latency))
