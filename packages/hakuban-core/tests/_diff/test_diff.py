"""A diff makes the new data of the old, in few bytes and few steps."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hakuban._diff import diff, diffing, patch
from support.edits import edited
from support.tracing import CallCounter

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "fixtures" / "diff-vectors.json.gz").read_bytes())
)
KIB, MIB = 1 << 10, 1 << 20


def checked(old: bytes, new: bytes) -> bytes:
    """A diff that makes the new data, and is hardly longer than they are."""
    made = diff(old, new)
    assert patch(old, made, len(new)) == new
    assert len(made) <= len(new) + len(new) // 255 + 64
    return made


def noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


def table(size: int, seed: int = 1) -> list[dict[str, Any]]:
    """Rows that resemble each other, of about `size` bytes as JSON; their numbers differ in length."""
    random = Random(seed)
    return [row(random, number) for number in range(size // 80)]


def row(random: Random, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"item-{random.randrange(100_000)}",
        "value": random.randrange(10**8),
        "state": random.choice(("on", "off", "unknown")),
        "tags": ["a1", "b2"],
    }


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def test_vectors_of_the_crate_take_as_little_here() -> None:
    theirs = ours = 0
    for vector in VECTORS:
        old, new = bytes.fromhex(vector["old_hex"]), bytes.fromhex(vector["new_hex"])
        theirs += len(vector["diff_hex"]) // 2
        ours += len(checked(old, new))
    assert ours <= 1.25 * theirs


# Round trips. Sizes are bounded by `checked`.

pieces = st.one_of(
    st.binary(max_size=400),
    st.lists(st.sampled_from(b"ab"), max_size=100).map(bytes),
    st.sampled_from([b"\xff", b"\xff\x7f", b"\0", b"abc", b'{"id":1,"v":']).flatmap(
        lambda unit: st.integers(0, 300).map(lambda times: unit * times)
    ),
    st.just(bytes(range(256))),
)
data = st.lists(pieces, max_size=5).map(b"".join)


@given(old=st.binary(), new=st.binary())
def test_any_bytes_are_made_of_any_others(old: bytes, new: bytes) -> None:
    checked(old, new)


@given(parts=st.lists(data, min_size=1, max_size=4), order=st.lists(st.integers(0, 3), max_size=8))
def test_data_are_made_of_copies_of_each_other(parts: list[bytes], order: list[int]) -> None:
    checked(b"".join(parts), b"".join(parts[k % len(parts)] for k in order))


@settings(deadline=None)  # of ten generations the last may have tens of kilobytes
@given(first=data, random=st.randoms(use_true_random=False))
def test_ten_generations_of_edits_are_followed(first: bytes, random: Random) -> None:
    old = first
    for _ in range(10):
        new = edited(old, random)
        checked(old, new)
        old = new


@pytest.mark.parametrize("seed", range(20))
def test_edits_of_a_large_table_are_followed(seed: int) -> None:
    random, old = Random(seed), compact(table(20 * KIB, seed))
    for _ in range(10):
        new = edited(old, random)
        checked(old, new)
        old = new


@pytest.mark.parametrize(
    "new",
    [
        b"",
        b"\xff",
        b"\xff" * 512,
        bytes(range(256)) * 5,
        b"".join(bytes((k,)) * 512 for k in range(256)),
        b"".join(bytes((k, 0xFF)) for k in range(256)) * 3,
        b"\xff\x7f\x00" * 100,
        bytes(255 - k % 256 for k in range(3000)),
        noise(100_000),
        noise(100_000).replace(b"\1", b"\xff").replace(b"\2", b"\xff"),
        bytes(Random(1).choices((0xFF, 0xFE), k=10_000)),
    ],
    ids=lambda new: f"{len(new)} {new[:4].hex()}",
)
@pytest.mark.parametrize("old", [b"", b"\xff" * 100, bytes(range(256)), noise(5_000)], ids=len)
def test_escape_bytes_of_all_kinds_cost_one_in_255(old: bytes, new: bytes) -> None:
    checked(old, new)


# Sizes, for what users do to their data.


def test_what_has_not_changed_is_one_reference() -> None:
    assert checked(b"abcd", b"abcd") == b"\xff\x80\x04"
    assert len(checked(noise(MIB), noise(MIB))) == 6
    assert checked(b"", b"") == checked(b"abc", b"") == b""


@pytest.mark.parametrize("size", [100, 300, 1000, 2000])
def test_a_changed_field_of_a_small_object_takes_two_references(size: int) -> None:
    thing = {"seq": 1, "value": 21.5, "note": "the quick brown fox " * (size // 20), "unit": "C"}
    assert len(checked(compact(thing), compact({**thing, "value": 121.25}))) <= 6 + 10
    assert len(checked(compact(thing), compact({**thing, "seq": 2, "unit": "F"}))) <= 3 * 5 + 2


@pytest.mark.parametrize("edits", [1, 10, 100])
@pytest.mark.parametrize("lengths", [(8,), (3, 7, 9, 13)], ids=["same length", "other length"])
@pytest.mark.parametrize("document", [compact(table(MIB)), noise(MIB)], ids=["rows", "noise"])
def test_scattered_edits_take_64_bytes_each(
    document: bytes, lengths: tuple[int, ...], edits: int
) -> None:
    random = Random(edits)
    parts, done = [], 0
    for place in sorted(random.sample(range(0, len(document) - 16, 16), edits)):
        digits = random.choice(lengths)
        parts += [document[done:place], b"%0*d" % (digits, random.randrange(10**digits))]
        done = place + 8
    new = b"".join((*parts, document[done:]))
    assert len(checked(document, new)) <= 64 * edits + 64


@pytest.mark.parametrize("size", [1, 20, 1000, 100_000])
@pytest.mark.parametrize("document", [compact(table(MIB)), noise(MIB, 2)], ids=["rows", "noise"])
def test_an_insertion_costs_itself_and_a_removal_nothing(document: bytes, size: int) -> None:
    place = len(document) // 3
    longer = document[:place] + noise(size) + document[place:]
    assert len(checked(document, longer)) <= size + size // 255 + 64
    assert len(checked(longer, document)) <= 64


@pytest.mark.parametrize("size", [8 * KIB, 64 * KIB, MIB])
def test_rows_that_come_and_go_are_not_taken_for_changed_ones(size: int) -> None:
    rows = table(size)
    old, random = compact(rows), Random(2)
    fewer = [item for item in rows if item["id"] % (len(rows) // 10)]
    assert len(checked(old, compact(fewer))) <= 11 * 64
    assert len(checked(old, compact([*rows[1:], row(random, len(rows))]))) <= 2 * 64
    assert len(checked(old, compact([*rows[:9], row(random, 0), *rows[9:40], *rows[41:]]))) <= 256


@pytest.mark.parametrize("size", [8 * KIB, 64 * KIB])
def test_a_table_with_a_value_changed_in_each_row_takes_a_quarter(size: int) -> None:
    rows, random = table(size), Random(2)
    old, new = compact(rows), compact([{**r, "value": random.randrange(10**8)} for r in rows])
    assert len(checked(old, new)) < len(new) / 4


@pytest.mark.parametrize("size", [8 * KIB, 64 * KIB, MIB])
@pytest.mark.parametrize("kind", ["rows", "noise"])
def test_moved_data_are_found(kind: str, size: int) -> None:
    old = compact(table(size)) if kind == "rows" else noise(size)
    half = len(old) // 2
    assert len(checked(old, old[half:] + old[:half])) < max(2048, size // 50)


def test_moved_blocks_among_new_data_are_found() -> None:
    old = noise(100_000)
    blocks = [old[k : k + 1000] for k in range(0, len(old), 1000)]
    Random(1).shuffle(blocks)
    mixed = b"".join(block + noise(50, k) for k, block in enumerate(blocks))
    assert len(checked(old, mixed)) < 100 * (50 + 80)


# First states: nothing to refer to but themselves.


@pytest.mark.parametrize(
    ("new", "most"),
    [
        (bytes(15 * MIB), 8),
        (b"\xff" * 15 * MIB, 10),
        (noise(1000) * (15 * MIB // 1000), 1100),
        (b"0123456789abcdef" * 1000, 30),
        (compact(table(10 * KIB)), 5 * KIB),
        (compact(table(MIB)), MIB // 2),
        (compact([{"id": k, "on": True, "name": "device"} for k in range(1000)]), 12_000),
    ],
    ids=["zeros", "escapes", "blocks", "periods", "few rows", "many rows", "nearly equal rows"],
)
def test_a_first_state_that_repeats_itself_is_small(new: bytes, most: int) -> None:
    assert len(checked(b"", new)) <= most


@pytest.mark.parametrize("size", [20_000, MIB])
def test_data_after_noise_are_looked_at_again(size: int) -> None:
    rows = compact(table(100 * KIB))
    made = len(checked(b"", noise(size) + rows)) - len(checked(b"", noise(size)))
    assert made < 0.8 * len(rows)


@pytest.mark.parametrize(
    "kind", [pytest.param("rows", marks=pytest.mark.thorough), "noise", "words"]
)
def test_memory_is_in_proportion_to_the_data(kind: str) -> None:
    random = Random(1)
    words = [random.randbytes(random.randrange(2, 9)) for _ in range(2000)]
    new = {
        "rows": compact(table(MIB)),
        "noise": noise(MIB),
        "words": b" ".join(random.choices(words, k=MIB // 6)),
    }[kind]
    tracemalloc.start()
    try:
        diff(b"", new)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(new)
    finally:
        tracemalloc.stop()


# Steps are calls of functions: unlike time, they are the same everywhere.


def calls(old: bytes, new: bytes) -> int:
    counter = CallCounter()
    with counter.counted():
        diff(old, new)
    return counter.count


def speckled(data: bytes, every: int, seed: int) -> bytes:
    changed = bytearray(data)
    changed[::every] = noise(len(changed[::every]), seed)
    return bytes(changed)


def shuffled(data: bytes, size: int) -> bytes:
    blocks = [data[k : k + size] for k in range(0, len(data), size)]
    Random(1).shuffle(blocks)
    return b"".join(blocks)


HARD: dict[str, Callable[[int], tuple[bytes, bytes]]] = {
    "ab to ba": lambda n: (b"ab" * n, b"ba" * n),
    "zeros to speckled zeros": lambda n: (bytes(n), speckled(bytes(n), 97, 1)),
    "speckles moved": lambda n: (speckled(bytes(n), 21, 1), speckled(bytes(n), 23, 2)),
    "speckled periods": lambda n: (b"", speckled(noise(100) * (n // 100), 33, 1)),
    "every other byte": lambda n: (noise(n), speckled(noise(n), 2, 2)),
    "every 8th byte": lambda n: (noise(n), speckled(noise(n), 8, 2)),
    "every 80th byte": lambda n: (noise(n), speckled(noise(n), 80, 2)),
    "a byte after each 16": lambda n: (noise(n), noise(n).replace(b"\0", b"\0!")),
    "two letters": lambda n: (b"", bytes(Random(1).choices(b"ab", k=n))),
    "small blocks shuffled": lambda n: (noise(n), shuffled(noise(n), 32)),
    "large blocks shuffled": lambda n: (noise(n), shuffled(noise(n), 500)),
    "nearly equal blocks": lambda n: (b"a" * n, (b"a" * 15 + b"b") * (n // 16)),
    "noise": lambda n: (noise(n), noise(n, 2)),
    "rows": lambda n: (b"", compact(table(n))),
    "other rows": lambda n: (compact(table(n)), compact(table(n, 2))),
    "rows shuffled": lambda n: (compact(table(n)), compact(Random(1).sample(table(n), n // 80))),
}


@pytest.mark.parametrize("hard", HARD)
def test_twice_the_data_take_at_most_two_and_a_half_times_the_steps(hard: str) -> None:
    once, twice = (calls(*HARD[hard](n)) for n in (100_000, 200_000))
    assert twice <= 2.5 * once + 100


@pytest.mark.parametrize(
    ("old", "new", "most"),
    [
        (b"", noise(20_000), 300),
        (noise(20_000), noise(20_000, 2), 1_100),
        (b"", noise(MIB), 2_000),
        (noise(MIB), noise(MIB, 2), 18_000),
    ],
    ids=["20 kB, first state", "20 kB, another", "1 MiB, first state", "1 MiB, another"],
)
def test_noise_is_passed_over_in_few_steps(old: bytes, new: bytes, most: int) -> None:
    assert calls(old, new) < most


@pytest.mark.parametrize("hard", HARD)
def test_others_have_a_turn_after_a_bounded_number_of_steps(hard: str) -> None:
    old, new = HARD[hard](500_000)
    turns, longest, made = diffing(old, new), 0, None
    while made is None:
        counter = CallCounter()
        with counter.counted():
            try:
                next(turns)
            except StopIteration as end:
                made = end.value
        longest = max(longest, counter.count)
    assert made == diff(old, new)
    assert patch(old, made, len(new)) == new
    assert longest < 25_000


def test_a_short_change_is_found_without_a_step() -> None:
    for old, new in ((b"", b""), (b"same", b"same"), (b"a long one", b"a lonely one")):
        turns = diffing(old, new)
        with pytest.raises(StopIteration) as end:
            next(turns)
        assert end.value.value == diff(old, new)


def test_a_changed_field_takes_few_steps() -> None:
    small = compact({"seq": 1, "value": 21.5, "note": "the quick brown fox " * 90})
    large = compact(table(MIB))
    assert calls(small, small.replace(b"21.5", b"121.25")) < 80
    assert calls(large, large.replace(b'"id":6000,', b'"id":-1,')) < 300
