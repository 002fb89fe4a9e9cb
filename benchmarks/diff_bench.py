"""Sizes and times of diffs: what users' objects cost, and how the worst inputs scale.

python benchmarks/diff_bench.py [--only TEXT] [--seconds S]
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import time
from typing import TYPE_CHECKING, Any

from hakuban._diff import diff, patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Case = tuple[str, bytes, bytes]

KIB, MIB = 1 << 10, 1 << 20


def row(chance: random.Random, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"item-{chance.randrange(100_000)}",
        "value": chance.randrange(10**8),
        "state": chance.choice(("on", "off", "unknown")),
        "tags": ["a1", "b2"],
    }


def table(size: int) -> list[dict[str, Any]]:
    """Rows whose numbers differ in length, about `size` bytes of JSON."""
    chance = random.Random(1)
    return [row(chance, number) for number in range(size // 80)]


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def fixed_table(size: int) -> bytes:
    """Rows of one length."""
    chance = random.Random(2)
    form = '{"id":%6d,"name":"item-%d","value":%8d,"state":"on","tags":["a1","b2"]}'
    lines = [
        form % (n, chance.randrange(10_000), chance.randrange(10**8)) for n in range(size // 83)
    ]
    return ("[" + ",".join(lines) + "]").encode()


def floats(size: int) -> bytes:
    """Points of which hardly anything but the keys repeats."""
    chance = random.Random(3)
    return compact(
        [
            {"t": 1_700_000_000 + n, "x": chance.gauss(0, 1), "y": chance.random()}
            for n in range(size // 62)
        ]
    )


def words(size: int) -> bytes:
    chance = random.Random(4)
    known = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(2000)]
    return " ".join(chance.choices(known, k=size // 6)).encode()


def noise(size: int, seed: int = 5) -> bytes:
    return random.Random(seed).randbytes(size)


def small(size: int, *, seq: int = 1, value: object = 21.5, place: str = "hall") -> bytes:
    """An object of a few fields and a text, about `size` bytes."""
    text = "the quick brown fox jumps over the lazy dog; " * 50
    return compact(
        {
            "seq": seq,
            "sensor": "t-17",
            "value": value,
            "log": text[: max(size - 72, 0)],
            "place": place,
            "unit": "C",
        }
    )


def edited(data: bytes, edits: int, *, grow: bool) -> bytes:
    """8 bytes replaced in that many places by 8, or by 3 to 13, digits."""
    chance = random.Random(edits)
    pieces: list[bytes] = []
    done = 0
    for place in sorted(chance.sample(range(0, len(data) - 16, 16), edits)):
        length = chance.choice((3, 7, 9, 13)) if grow else 8
        pieces += (data[done:place], b"%0*d" % (length, chance.randrange(10**length)))
        done = place + 8
    return b"".join((*pieces, data[done:]))


def small_cases() -> Iterator[Case]:
    for size in (100, 300, 1000, 2000):
        old = small(size)
        yield f"{size} B JSON, a field changed", old, small(size, seq=2)
        yield f"{size} B JSON, a field longer", old, small(size, value=121.25)
        yield f"{size} B JSON, two fields changed", old, small(size, seq=2, value=21.7)
        yield (
            f"{size} B JSON, three fields, one longer",
            old,
            small(size, seq=2, value=121.25, place="yard"),
        )
        yield f"{size} B JSON, first state", b"", old
        yield f"{size} B noise, another", noise(size), noise(size, 6)


def edit_cases() -> Iterator[Case]:
    for kind, data in (("JSON", compact(table(MIB))), ("noise", noise(MIB))):
        for edits in (1, 10, 100, 1000):
            yield f"1 MB {kind}, {edits} edits", data, edited(data, edits, grow=False)
            yield (
                f"1 MB {kind}, {edits} edits of other length",
                data,
                edited(data, edits, grow=True),
            )
        half = len(data) // 2
        for size in (100, 10_000, 100_000):
            yield f"1 MB {kind}, {size} B inserted", data, data[:half] + noise(size) + data[half:]
            yield (
                f"1 MB {kind}, {size} B removed, 10 edits",
                data,
                edited(data[:half] + data[half + size :], 10, grow=False),
            )
            yield (
                f"1 MB {kind}, {size} B inserted, 10 edits",
                data,
                edited(data[:half] + noise(size) + data[half:], 10, grow=False),
            )
    for size in (KIB, 64 * KIB):
        data = compact(table(size))
        for edits in (1, 10):
            yield f"{size >> 10} KiB JSON, {edits} edits", data, edited(data, edits, grow=False)
            yield (
                f"{size >> 10} KiB JSON, {edits} edits of other length",
                data,
                edited(data, edits, grow=True),
            )


def row_cases() -> Iterator[Case]:
    for size in (8 * KIB, 64 * KIB, MIB):
        items = table(size)
        old, chance = compact(items), random.Random(7)
        less = items[:99] + items[100:]
        name = f"{size >> 10} KiB of rows"
        yield (
            f"{name}, one removed, one added",
            old,
            compact([*less[:-50], row(chance, 0), *less[-50:]]),
        )
        yield (
            f"{name}, 10 removed",
            old,
            compact([r for r in items if r["id"] % (len(items) // 10)]),
        )
        yield f"{name}, one appended", old, compact([*items, row(chance, len(items))])
        yield (
            f"{name}, first removed, one appended",
            old,
            compact([*items[1:], row(chance, len(items))]),
        )
        yield (
            f"{name}, all values changed",
            old,
            compact([{**r, "value": chance.randrange(10**8)} for r in items]),
        )
        yield (
            f"{name}, all changed, one removed",
            old,
            compact([{**r, "value": chance.randrange(10**8)} for r in less]),
        )
        yield f"{name}, shuffled", old, compact(chance.sample(items, len(items)))
        yield f"{name}, two sorts", old, compact(sorted(items, key=lambda r: r["name"]))
        yield (
            f"{name}, halves swapped",
            old,
            compact(items[len(items) // 2 :] + items[: len(items) // 2]),
        )


def first_cases() -> Iterator[Case]:
    for size in (10 * KIB, MIB):
        name = f"{size >> 10} KiB, first state"
        yield f"{name}: rows", b"", compact(table(size))
        yield f"{name}: rows of one length", b"", fixed_table(size)
        yield f"{name}: floats", b"", floats(size)
        yield f"{name}: words", b"", words(size)
        yield f"{name}: noise", b"", noise(size)
        yield f"{name}: hex noise", b"", noise(size // 2).hex().encode()
        yield f"{name}: 4 letters", b"", bytes(random.Random(8).choices(b"acgt", k=size))
    yield "20 kB of noise, first state", b"", noise(20_000)
    yield "20 kB of noise, another", noise(20_000), noise(20_000, 6)
    yield "1 MiB of noise, another", noise(MIB), noise(MIB, 6)
    yield "1 MiB of rows, another table", compact(table(MIB)), fixed_table(MIB)
    yield "15 MiB of zeros", b"", bytes(15 * MIB)
    yield "15 MiB of one block", b"", noise(1000) * (15 * MIB // 1000)
    yield "15 MiB of noise", b"", noise(15 * MIB)


def de_bruijn(order: int) -> bytes:
    """Every word of that many of 4 letters once, in a row."""
    word, found = [0] * (4 * order), bytearray()

    def extend(t: int, p: int) -> None:
        if t > order:
            if order % p == 0:
                found.extend(word[1 : p + 1])
            return
        word[t] = word[t - p]
        extend(t + 1, p)
        for letter in range(word[t - p] + 1, 4):
            word[t] = letter
            extend(t + 1, t)

    extend(1, 1)
    return bytes(found)


BRUIJN = de_bruijn(9)


def speckled(data: bytes, every: int, seed: int = 9) -> bytes:
    """Each `every`th byte replaced by a random one."""
    speckles = bytearray(data)
    speckles[::every] = noise(len(speckles[::every]), seed)
    return bytes(speckles)


# Inputs of about 4 n bytes that are hard in one way or another; each is timed for n and 2 n.
HARD: dict[str, Callable[[int], tuple[bytes, bytes]]] = {
    "ab to ba": lambda n: (b"ab" * 2 * n, b"ba" * 2 * n),
    "ab to ba, with a start": lambda n: (b"x" + b"ab" * 2 * n, b"y" + b"ba" * 2 * n),
    "zeros to noisy zeros": lambda n: (bytes(4 * n), speckled(bytes(4 * n), 97)),
    "noisy zeros, first state": lambda n: (b"", speckled(bytes(4 * n), 12)),
    "noisy zeros to others": lambda n: (speckled(bytes(4 * n), 21), speckled(bytes(4 * n), 23)),
    "periods of 100 with noise": lambda n: (b"", speckled(noise(100) * (n // 25), 33)),
    "periods of 7 to 9": lambda n: (noise(7) * (n * 4 // 7), noise(9) * (n * 4 // 9)),
    "every other byte changed": lambda n: (noise(4 * n), speckled(noise(4 * n), 2)),
    "every 8th byte changed": lambda n: (noise(4 * n), speckled(noise(4 * n), 8)),
    "every 16th byte changed": lambda n: (noise(4 * n), speckled(noise(4 * n), 16)),
    "every 40th byte changed": lambda n: (noise(4 * n), speckled(noise(4 * n), 40)),
    "every 80th byte changed": lambda n: (noise(4 * n), speckled(noise(4 * n), 80)),
    "every byte inserted after 16": lambda n: (
        noise(4 * n),
        b"!".join(noise(4 * n)[k : k + 16] for k in range(0, 4 * n, 16)),
    ),
    "every byte inserted after 80": lambda n: (
        noise(4 * n),
        b"!".join(noise(4 * n)[k : k + 80] for k in range(0, 4 * n, 80)),
    ),
    "de Bruijn": lambda n: (b"", (BRUIJN * (n // 60_000 + 1))[: 4 * n]),
    "de Bruijn reversed": lambda n: (BRUIJN[: 4 * n], BRUIJN[: 4 * n][::-1]),
    "blocks shuffled": lambda n: shuffled(n, 32),
    "large blocks shuffled": lambda n: shuffled(n, 500),
    "nearly equal blocks": lambda n: (b"a" * 4 * n, (b"a" * 15 + b"b") * (n // 4)),
    "needle almost everywhere": lambda n: (
        (b"a" * 15 + b"b") * (n // 4),
        b"b" + (b"a" * 30 + b"c") * (n // 8),
    ),
    "all escapes": lambda n: (b"", (b"\xff" * 3 + b"\0") * n),
    "two letters": lambda n: (b"", bytes(random.Random(1).choices(b"ab", k=4 * n))),
}


def shuffled(n: int, size: int) -> tuple[bytes, bytes]:
    data = noise(4 * n)
    blocks = [data[k : k + size] for k in range(0, len(data), size)]
    return data, b"".join(random.Random(2).sample(blocks, len(blocks)))


def timed(call: Callable[[], bytes], seconds: float) -> float:
    """Return the median time of a call, in seconds."""
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < deadline and len(times) < 1000):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def compared(old: bytes, new: bytes, seconds: float) -> tuple[bytes, float, float]:
    """Return the diff, and the times that it and the patch take."""
    made = diff(old, new)
    assert patch(old, made, len(new)) == new
    took = timed(functools.partial(diff, old, new), seconds)
    return made, took, timed(functools.partial(patch, old, made, len(new)), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--seconds", type=float, default=0.2, help="for each figure (default 0.2)")
    options = parser.parse_args()

    print(f"{'case':50} {'new B':>9} {'diff B':>9} {'diff µs':>9} {'patch µs':>9}")
    for cases in (small_cases, edit_cases, row_cases, first_cases):
        for name, old, new in cases():
            if options.only in name:
                made, took, back = compared(old, new, options.seconds)
                times = f"{took * 1e6:9.1f} {back * 1e6:9.1f}"
                print(f"{name:50} {len(new):9} {len(made):9} {times}", flush=True)

    print(
        f"\n{'hard input':30} {'new B':>9} {'diff B':>9} {'diff ms':>9} {'2 n: ms':>9} {'ratio':>6}"
    )
    for name, make in HARD.items():
        if options.only in name:
            _, once, _ = compared(*make(MIB // 16), options.seconds)
            old, new = make(MIB // 8)
            made, twice, _ = compared(old, new, options.seconds)
            times = f"{once * 1e3:9.2f} {twice * 1e3:9.2f} {twice / once:6.2f}"
            print(f"{name:30} {len(new):9} {len(made):9} {times}", flush=True)


if __name__ == "__main__":
    main()
