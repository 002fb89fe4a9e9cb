"""Which version wins, and how fresh what is held is."""

from __future__ import annotations

import pytest

from hakuban._contents import Content, Version, View
from hakuban._core.freshness import Held, Source, bumped

INT64_MAX = 2**63 - 1


def content(*version: int, data: bytes = b"data") -> Content:
    return Content(data, ("JSON",), version)


def shown(held: Held) -> tuple[Version, float | None]:
    assert held.view is not None
    return held.view.content.version, held.view.since


@pytest.mark.parametrize(
    ("version", "following"),
    [
        ((), (0,)),
        ((5,), (6,)),
        ((0, 7, 8), (0, 7, 9)),
        ((3, INT64_MAX), (3, INT64_MAX, 0)),
        ((-1,), (0,)),
        ((INT64_MAX,) * 999, (*(INT64_MAX,) * 999, 0)),
        # as many integers as peers accept: carried
        ((7, *(INT64_MAX,) * 999), (8,)),
        ((7, 8, *(INT64_MAX,) * 998), (7, 9)),
        ((*(INT64_MAX,) * 999, 7), (*(INT64_MAX,) * 999, 8)),
    ],
    ids=lambda version: f"{version[:2]}{len(version)}",
)
def test_a_version_is_bumped_by_as_little_as_can_be(version: Version, following: Version) -> None:
    assert bumped(version) == following
    assert bumped(version) > version


def test_behind_the_largest_of_all_versions_there_is_none() -> None:
    assert bumped((INT64_MAX,) * 1_000) == ()


@pytest.mark.parametrize(
    ("held_version", "offered", "wins"),
    [
        ((5,), (6,), True),
        ((5,), (5, 0), True),
        ((5,), (5, -1), True),
        ((), (0,), True),
        ((5,), (5,), False),
        ((5, 0), (5,), False),
        ((5,), (4, 9, 9), False),
        ((5,), (), False),
        ((2,), (-3,), False),
    ],
)
def test_the_greater_version_wins_and_a_prefix_is_smaller(
    held_version: Version, offered: Version, *, wins: bool
) -> None:
    held, source = Held(), Source(None)
    held.publish(source, content(*held_version), None, bases=False)
    newer = held.publish(source, content(*offered, data=b"offered"), None, bases=False)
    assert newer is wins
    assert held.view is not None
    assert held.view.content.data == (b"offered" if wins else b"data")


def test_an_empty_version_is_taken_when_nothing_is_held() -> None:
    held = Held()
    assert held.publish(Source(None), content(), None, bases=False)
    assert shown(held) == ((), None)


def test_the_same_version_again_says_only_how_fresh_it_is() -> None:
    held, source = Held(), Source(None)
    held.publish(source, content(5), None, bases=False)
    view = held.view
    held.publish(source, content(5, data=b"other"), None, bases=False)
    assert held.view is view
    held.publish(source, content(5, data=b"other"), 3.0, bases=False)
    assert shown(held) == ((5,), 3.0)
    assert held.view is not None
    assert held.view.content.data == b"data"


def test_a_lower_version_says_nothing_at_all() -> None:
    held, first, second = Held(), Source(None), Source(None)
    held.publish(first, content(5), 1.0, bases=False)
    view = held.view
    held.publish(second, content(4), None, bases=False)
    held.set_synchronized(second, None)
    assert held.view is view
    assert shown(held) == ((5,), 1.0)


def test_a_state_is_current_while_one_source_says_so() -> None:
    held, first, second = Held(), Source(None), Source(None)
    held.publish(first, content(1), None, bases=False)
    held.publish(second, content(2), 3.0, bases=False)
    assert shown(held) == ((2,), None)
    held.lose(first, 9.0)
    assert shown(held) == ((2,), 9.0)
    held.set_synchronized(second, None)
    assert shown(held) == ((2,), None)


def test_of_several_ages_the_youngest_counts() -> None:
    held, source = Held(), Source(None)
    held.publish(source, content(1), 5.0, bases=False)
    held.set_synchronized(source, 3.0)
    assert shown(held) == ((1,), 5.0)
    held.set_synchronized(source, 6.0)
    assert shown(held) == ((1,), 6.0)
    held.publish(source, content(2), 4.0, bases=False)
    assert shown(held) == ((2,), 6.0)


def test_an_age_after_being_current_counts_as_it_is() -> None:
    held, source = Held(), Source(None)
    held.publish(source, content(1), None, bases=False)
    held.set_synchronized(source, 3.0)
    assert shown(held) == ((1,), 3.0)


def test_the_loss_of_the_last_voucher_makes_the_state_current_until_then() -> None:
    held, source = Held(), Source(None)
    held.publish(source, content(1), None, bases=False)
    held.lose(source, 7.0)
    assert shown(held) == ((1,), 7.0)
    held.lose(source, 8.0)
    assert shown(held) == ((1,), 7.0)


def test_the_loss_of_a_source_that_did_not_vouch_changes_no_age() -> None:
    held, source = Held(), Source(None)
    held.publish(source, content(1), 2.0, bases=False)
    view = held.view
    held.lose(source, 9.0)
    assert held.view is view


def test_who_vouched_for_an_older_state_can_take_that_back_and_not_renew_it() -> None:
    held, old, new = Held(), Source(None), Source(None)
    held.publish(old, content(1), None, bases=False)
    held.publish(new, content(2), 3.0, bases=False)
    held.set_synchronized(old, 4.0)
    assert shown(held) == ((2,), 4.0)
    held.set_synchronized(old, None)
    assert shown(held) == ((2,), 4.0)


def test_freshness_before_any_state_means_nothing() -> None:
    held, source = Held(), Source(None)
    held.set_synchronized(source, None)
    held.lose(source, 1.0)
    assert held.view is None
    assert held.synced == ()


def test_what_is_dropped_is_forgotten_but_for_the_greatest_version_seen() -> None:
    held, source = Held(), Source(3)
    held.publish(source, content(5), 1.0, bases=False)
    held.drop()
    assert (held.view, held.origin, held.seen) == (None, None, (5,))
    held.publish(source, content(1), 9.0, bases=False)
    assert shown(held) == ((1,), 9.0)
    assert held.seen == (5,)


def test_the_origin_is_the_link_that_vouched_last() -> None:
    held, elsewhere = Held(), Held()
    elsewhere.publish(Source(3), content(5), 1.0, bases=False)
    assert elsewhere.origin == 3
    held.publish(Source(3), content(5), 1.0, bases=False)
    held.publish(Source(None), content(5), None, bases=False)
    assert held.origin is None


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([10, 10, 10], 2),
        ([10] * 9, 4),
        ([50_000, 50_000, 50_000, 10], 1),
        ([50_000, 50_000, 50_000, 100_000], 3),
        ([10_000_000, 10], 1),
    ],
)
def test_few_old_contents_are_kept_for_slow_links(sizes: list[int], kept: int) -> None:
    held, source = Held(), Source(None)
    for number, size in enumerate(sizes):
        held.publish(source, content(number, data=b"x" * size), None, bases=True)
    assert len(held._bases) == kept


def test_without_readers_no_old_content_is_kept() -> None:
    held, source = Held(), Source(None)
    for number in range(3):
        held.publish(source, content(number), None, bases=False)
    assert held._bases == []


@pytest.mark.parametrize(
    ("since", "age"),
    [
        (None, 0),
        (10.0, 1),
        (10.0 - 1e-9, 1),
        (8.5, 1_500_000),
        (11.0, 1),
        (float("-inf"), 10**19),
        (-2e13, 10**19),
    ],
)
def test_an_age_is_in_microseconds_and_saturates(since: float | None, age: int) -> None:
    assert View(content(1), since).age(10.0) == age
