from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from hakuban._exceptions import PeerViolationError, WireError
from hakuban._limits import Limits
from hakuban._session_events import ItemIgnored
from hakuban._wire import encoding
from hakuban._wire.reader import Reader
from hakuban._wire.varint import unsigned
from support.wire import finished

if TYPE_CHECKING:
    from collections.abc import Callable


def reader(data: bytes, limits: Limits | None = None) -> Reader:
    return Reader(data, limits or Limits())


@pytest.mark.parametrize("encoded", ["05", "fb0500", "fc05000000", "fd0500000000000000"])
def test_an_integer_may_be_longer_than_needed(encoded: str) -> None:
    assert reader(bytes.fromhex(encoded)).unsigned() == 5


def test_an_integer_may_be_longer_than_needed_up_to_the_width_of_its_field() -> None:
    assert reader(bytes.fromhex("fc05000000")).u32() == 5
    with pytest.raises(WireError, match="0xfd"):
        reader(bytes.fromhex("fd0500000000000000")).u32()


@pytest.mark.parametrize("marker", ["fe", "ff"])
def test_markers_of_wider_integers_are_refused(marker: str) -> None:
    with pytest.raises(WireError, match=f"0x{marker}"):
        reader(bytes.fromhex(marker) + bytes(16)).unsigned()


@pytest.mark.parametrize("encoded", ["", "fb", "fb00", "fc000000", "fd00000000000000"])
def test_a_message_that_ends_in_an_integer_does_not_decode(encoded: str) -> None:
    with pytest.raises(WireError, match="ends early"):
        reader(bytes.fromhex(encoded)).unsigned()


@pytest.mark.parametrize("length", [5, 2**20, 2**30, 2**40, 2**62, 2**64 - 1])
@pytest.mark.parametrize(
    "read",
    [
        Reader.blob,
        Reader.text,
        Reader.name,
        Reader.load_limit,
        lambda reader: finished(reader.object_texts()),
        Reader.tag_text,
        Reader.patch,
    ],
)
def test_a_length_beyond_the_end_of_the_message_does_not_decode(
    read: Callable[[Reader], object], length: int
) -> None:
    with pytest.raises(WireError, match="announced"):
        read(reader(unsigned(length) + b"1234"))


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (Reader.unsigned, "fb01"),
        (Reader.load_limit, "01000000"),
        (Reader.patch, "01fc010203"),
        (Reader.patch, "00"),
        (Reader.patch, "0000"),
    ],
)
def test_a_value_that_is_cut_off_does_not_decode(
    read: Callable[[Reader], object], data: str
) -> None:
    with pytest.raises(WireError, match="ends early"):
        read(reader(bytes.fromhex(data)))


def test_a_string_that_is_not_utf_8_does_not_decode() -> None:
    with pytest.raises(WireError, match="UTF-8"):
        reader(b"\x02\xc3\x28").text()


def test_an_option_is_there_or_not_there() -> None:
    with pytest.raises(WireError, match="option has the tag 2"):
        reader(bytes.fromhex("00 02 00 00 00")).patch()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("030101", "unknown event 3"),
        ("000201", "unknown side 2"),
        ("000100", "number 0"),
    ],
)
def test_an_event_has_a_known_tag_a_known_side_and_a_number(data: str, message: str) -> None:
    with pytest.raises(WireError, match=message):
        reader(bytes.fromhex(data)).event()


SMALL = Limits(max_version=2, max_format=2, max_tags=2, max_name=2, max_load_points=2)


def patch(version: int, format: int) -> bytes:
    body = encoding.patch_body(tuple(range(version)), ("f",) * format, b"data")
    return body + encoding.age(7)


def points(count: int) -> bytes:
    return unsigned(count) + (struct.pack("<f", 1.5) + b"\x05") * count


def names(count: int) -> bytes:
    return encoding.texts(["1"] * count) + encoding.text("2")


@pytest.mark.parametrize(
    ("read", "make"),
    [
        pytest.param(Reader.name, lambda n: encoding.text("n" * n), id="name"),
        pytest.param(Reader.load_limit, points, id="load points"),
    ],
)
def test_what_is_said_is_limited_and_more_is_too_much(
    read: Callable[[Reader], object], make: Callable[[int], bytes]
) -> None:
    assert read(reader(make(2), SMALL))
    with pytest.raises(PeerViolationError, match="limit 2") as refused:
        read(reader(make(3), SMALL))
    assert refused.value.code == 1009


@pytest.mark.parametrize(
    ("data", "over", "format"),
    [
        (patch(3, 1), "a version has 3 integers (limit 2)", ("f",)),
        (patch(3, 0), "a version has 3 integers (limit 2)", ()),
        (patch(1, 3), "a format has 3 names (limit 2)", None),
        (patch(3, 3), "a version has 3 integers (limit 2)", None),
    ],
)
def test_a_patch_with_too_much_is_read_in_steps_without_that(
    data: bytes, over: str, format: tuple[str, ...] | None
) -> None:
    following = reader(data + b"\x2a", SMALL)
    assert following.patch() is None
    skimmed = finished(following.skim_patch())
    assert (skimmed.over, skimmed.format, skimmed.difference, skimmed.age) == (
        over,
        format,
        b"data",
        7,
    )
    assert bool(skimmed.format_over) is (format is None)
    assert following.unsigned() == 42
    assert reader(patch(2, 2), SMALL).patch() is not None


def test_what_is_passed_over_leaves_others_a_turn_now_and_then() -> None:
    steps = reader(patch(100_000, 1)).skim_patch()
    assert sum(1 for _ in steps) == 100


def test_a_descriptor_of_too_many_tags_is_passed_over_and_what_follows_is_read() -> None:
    following = reader(names(3) + b"\x2a", SMALL)
    ignored = finished(following.object_texts())
    assert isinstance(ignored, ItemIgnored)
    assert ignored.reason == "a descriptor has 3 tags (limit 2)"
    assert "1" in ignored.descriptor
    assert following.unsigned() == 42
    assert finished(reader(names(2), SMALL).object_texts()) == ["1", "1", "2"]


def test_a_patch_is_read_with_its_format_or_without() -> None:
    body = encoding.patch_body((0, -5), ("a", "b"), b"diff")
    assert reader(body + b"\x03").patch() == ((0, -5), ("a", "b"), b"diff", body, 3, "", "")
    body = encoding.patch_body((), None, b"")
    assert reader(body + b"\x00").patch() == ((), None, b"", body, 0, "", "")
    body = encoding.patch_body((), (), b"")
    assert reader(body + b"\x00").patch() == ((), (), b"", body, 0, "", "")


@pytest.mark.parametrize(
    ("tags", "json"), [(["123456", "12345"], "12"), (["1"], "1" * 13), ([], "1" * 13)]
)
def test_a_descriptor_of_too_many_bytes_is_skipped_and_what_follows_is_read(
    tags: list[str], json: str
) -> None:
    following = reader(
        encoding.texts(tags) + encoding.text(json) + b"\x2a", Limits(max_descriptor=12)
    )
    assert isinstance(finished(following.object_texts()), ItemIgnored)
    assert following.unsigned() == 42


def test_a_descriptor_of_just_as_many_bytes_as_allowed_is_read() -> None:
    limits = Limits(max_descriptor=12)
    data = encoding.texts(["123456", "1234"]) + encoding.text("12")
    assert finished(reader(data, limits).object_texts()) == ["123456", "1234", "12"]
    assert reader(encoding.text("1" * 12), limits).tag_text() == ["1" * 12]
    ignored = reader(encoding.text("1" * 13), limits).tag_text()
    assert isinstance(ignored, ItemIgnored)
    assert ignored == ItemIgnored("a descriptor has 13 bytes (limit 12)", "1" * 13)
