"""CURVE's listening side against a client that breaks its rules: what was used before, changed, or is not in a box."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest
from nacl.bindings import (
    crypto_box_afternm,
    crypto_box_beforenm,
    crypto_box_keypair,
    crypto_scalarmult_base,
)

from hakuban.transport import PeerViolationError
from hakuban_zmq._curve_server import CurveBox, CurveHandshake, CurveServer
from hakuban_zmq._zmtp import COMMAND, MORE, OUR_METADATA, Frame, FrameReader, encode, read_command
from support.curvezmq import METADATA, CurveClient

if TYPE_CHECKING:
    from collections.abc import Callable

COOKIE = 96
SERVER = CurveServer(crypto_box_keypair()[1])
SECRET = secrets.token_bytes(32)


class Client(CurveClient):
    """One that makes the bodies of frames, and counts its nonces as it is told to."""

    def __init__(self) -> None:
        super().__init__(_no_connection, _no_connection, SERVER.public, SECRET)

    def count_on_from(self, nonce: int) -> None:
        self._said = nonce - 1

    def command(self, data: bytes) -> bytes:
        """Give what comes with a command of a frame."""
        return read_command(frame_of(data).body)[1]


def _no_connection(_: object) -> bytes:
    raise AssertionError("there is none")


def frame_of(data: bytes) -> Frame:
    reader = FrameReader(1 << 20)
    reader.feed(data)
    frame = reader.take()
    assert frame is not None
    return frame


def flipped(data: bytes, at: int) -> bytes:
    """Change one bit of a byte."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def greeted(client: Client) -> tuple[CurveHandshake, bytes]:
    """Go as far as WELCOME; give what the client says then."""
    handshake = CurveHandshake(SERVER)
    welcome = handshake.welcome(client.command(client.hello()))
    return handshake, welcome


def linked(client: Client) -> CurveBox:
    """Go through the handshake."""
    handshake, welcome = greeted(client)
    handshake.identify(client.command(client.initiate(welcome)))
    return handshake.ready(OUR_METADATA)[1]


# ---- the handshake --------------------------------------------------------------------------------------------------


def test_a_client_that_keeps_the_rules_is_known_by_its_key() -> None:
    client = Client()
    handshake, welcome = greeted(client)
    initiate = client.command(client.initiate(welcome))
    assert handshake.identify(initiate) == (crypto_scalarmult_base(SECRET), METADATA)


def test_a_hello_begins_with_a_nonce_above_zero() -> None:
    client = Client()
    client.count_on_from(0)
    with pytest.raises(PeerViolationError, match="used before"):
        greeted(client)


@pytest.mark.parametrize("nonce", [6, 7])
def test_an_initiate_with_a_nonce_that_the_hello_has_used_is_a_violation(nonce: int) -> None:
    client = Client()
    client.count_on_from(7)
    handshake, welcome = greeted(client)
    client.count_on_from(nonce)
    with pytest.raises(PeerViolationError, match="used before"):
        handshake.identify(client.command(client.initiate(welcome)))


@pytest.mark.parametrize("at", [0, COOKIE - 1])
def test_an_initiate_with_the_cookie_of_another_connection_is_a_violation(at: int) -> None:
    client = Client()
    handshake, welcome = greeted(client)
    initiate = client.command(client.initiate(welcome))
    with pytest.raises(PeerViolationError, match="another connection"):
        handshake.identify(flipped(initiate, at))


@pytest.mark.parametrize("size", [0, COOKIE - 1, COOKIE, COOKIE + 7])
def test_an_initiate_that_is_cut_before_its_box_is_a_violation(size: int) -> None:
    client = Client()
    handshake, welcome = greeted(client)
    initiate = client.command(client.initiate(welcome))
    with pytest.raises(PeerViolationError, match="another connection"):
        handshake.identify(initiate[:size])


@pytest.mark.parametrize("size", [COOKIE + 8, COOKIE + 9, COOKIE + 8 + 16])
def test_an_initiate_that_is_cut_within_its_box_is_told_that_the_box_is_broken(size: int) -> None:
    client = Client()
    handshake, welcome = greeted(client)
    initiate = client.command(client.initiate(welcome))
    with pytest.raises(PeerViolationError, match="cannot be opened"):
        handshake.identify(initiate[:size])


def test_a_command_whose_box_was_changed_is_a_violation() -> None:
    client = Client()
    with pytest.raises(PeerViolationError, match="changed on the way"):
        CurveHandshake(SERVER).welcome(flipped(client.command(client.hello()), -1))
    handshake, welcome = greeted(client)
    with pytest.raises(PeerViolationError, match="changed on the way"):
        handshake.identify(flipped(client.command(client.initiate(welcome)), -1))


# ---- messages -------------------------------------------------------------------------------------------------------


def test_messages_and_commands_come_out_of_their_boxes_as_they_went_in() -> None:
    client = Client()
    box = linked(client)
    for flags, body in ((0, b"message"), (COMMAND, b"\x04PING"), (MORE, b"part"), (0, b"")):
        said = client.message(body, {0: 0, MORE: 1, COMMAND: 2}[flags])
        assert box.open(frame_of(said)) == Frame(flags, body)


@pytest.mark.parametrize("nonce", [0, 1, 2, 3, 4])
def test_a_message_with_a_nonce_that_was_used_before_is_a_violation(nonce: int) -> None:
    client = Client()
    box = linked(client)  # with 1 and 2
    for body in (b"3", b"4"):
        assert box.open(frame_of(client.message(body))).body == body
    client.count_on_from(nonce)
    with pytest.raises(PeerViolationError, match="used before"):
        box.open(frame_of(client.message(b"again")))
    client.count_on_from(5)
    assert box.open(frame_of(client.message(b"5"))).body == b"5"


@pytest.mark.parametrize("nonce", [1, 2])
def test_the_first_message_uses_no_nonce_of_the_handshake(nonce: int) -> None:
    client = Client()
    box = linked(client)
    client.count_on_from(nonce)
    with pytest.raises(PeerViolationError, match="used before"):
        box.open(frame_of(client.message(b"x")))


def test_a_message_that_comes_again_is_a_violation() -> None:
    client = Client()
    box = linked(client)
    frame = frame_of(client.message(b"once"))
    assert box.open(frame).body == b"once"
    with pytest.raises(PeerViolationError, match="used before"):
        box.open(frame)


def test_nonces_may_be_left_out() -> None:
    client = Client()
    box = linked(client)
    for nonce in (10, 1 << 40, (1 << 64) - 1):
        client.count_on_from(nonce)
        assert box.open(frame_of(client.message(b"x"))).body == b"x"


@pytest.mark.parametrize("at", [8, 15, 16, 32, -1])
def test_a_message_that_was_changed_is_a_violation_and_uses_no_nonce(at: int) -> None:
    client = Client()
    box = linked(client)
    client.count_on_from(10)
    good = frame_of(client.message(b"body"))
    with pytest.raises(PeerViolationError, match="it was changed on the way"):
        box.open(Frame(0, flipped(good.body, at)))
    assert box.open(good).body == b"body"


OUTSIDE: dict[str, Callable[[bytes], Frame]] = {
    "another name": lambda good: Frame(0, flipped(good, 7)),
    "another length of the name": lambda good: Frame(0, flipped(good, 0)),
    "more to come": lambda good: Frame(MORE, good),
    "no name": lambda good: Frame(0, good[8:]),
    "in the clear": lambda _: Frame(0, b"in the clear, and long enough for a box"),
    "short and in the clear": lambda _: Frame(0, b"short"),
    "the name alone": lambda good: Frame(0, good[:8]),
    "nothing": lambda _: Frame(0, b""),
}


@pytest.mark.parametrize("how", OUTSIDE)
def test_what_is_in_no_box_is_a_violation_and_says_nothing(how: str) -> None:
    client = Client()
    box = linked(client)
    good = frame_of(client.message(b"the body of a message")).body
    with pytest.raises(PeerViolationError, match="outside"):
        box.open(OUTSIDE[how](good))
    assert box.open(Frame(0, good)).body == b"the body of a message"


def test_a_box_with_nothing_in_it_not_even_flags_is_a_violation() -> None:
    key = crypto_box_beforenm(*crypto_box_keypair())
    nonce = (1).to_bytes(8, "big")
    empty = b"\x07MESSAGE" + nonce + crypto_box_afternm(b"", b"CurveZMQMESSAGEC" + nonce, key)
    with pytest.raises(PeerViolationError, match="outside"):
        CurveBox(key, 0).open(frame_of(encode(empty)))


def test_two_messages_of_one_body_are_two_different_boxes() -> None:
    box = CurveBox(os.urandom(32), 0)
    assert box.seal(b"body") != box.seal(b"body")
