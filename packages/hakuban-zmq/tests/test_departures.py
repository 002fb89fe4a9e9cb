from __future__ import annotations

from dataclasses import dataclass

from hakuban_zmq._departures import Departures


@dataclass
class Peer:
    name: bytes


ALICE, BOB = Peer(b"alice"), Peer(b"bob")


def test_a_peer_that_has_left_is_waited_for_as_long_as_its_turn_has_something_of_it() -> None:
    departures: Departures[Peer] = Departures()
    assert not departures
    departures.add(ALICE)
    for _ in range(3):
        assert departures.heard(b"loud") == []
        assert departures.heard(b"alice") == []
    assert departures.heard(b"loud") == []
    assert departures.heard(b"loud") == [ALICE]
    assert not departures
    assert departures.heard(b"loud") == []


def test_who_leaves_in_the_middle_of_a_turn_is_given_the_next_one() -> None:
    departures: Departures[Peer] = Departures()
    departures.add(ALICE)
    assert departures.heard(b"loud") == []
    departures.add(BOB)
    assert departures.heard(b"loud") == [ALICE]
    assert departures.heard(b"bob") == []
    assert departures.heard(b"loud") == []
    assert departures.heard(b"loud") == [BOB]
    assert not departures


def test_where_there_are_no_messages_all_may_go() -> None:
    departures: Departures[Peer] = Departures()
    departures.add(ALICE)
    departures.add(BOB)
    assert departures.take() == [ALICE, BOB]
    assert not departures
    assert departures.take() == []
