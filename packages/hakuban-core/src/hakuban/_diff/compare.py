"""How far two byte strings agree, by C loops over slices: never byte after byte in Python."""

from __future__ import annotations

import re

SHORTEST_RUN = 6
_RUN = re.compile(rb"\0\0\0\0\0\0+")  # not \0{6,}: only what starts literally is searched for fast

_SMALL = 64  # bytes whose first difference is found as the lowest bit of a number
_LARGE = 1 << 16


def common_prefix(a: bytes, i: int, b: bytes, j: int, limit: int) -> int:
    """Return how many bytes from `a[i]` and `b[j]` on agree, up to `limit`, which both must have."""
    start, step = i, _SMALL
    while a[i : i + step] == b[j : j + step]:
        i += step
        j += step
        if i - start >= limit:
            return limit
        if step < _LARGE:
            step *= 4
    while step > _SMALL:  # the first difference is in this step: halve it
        step >>= 1
        if a[i : i + step] == b[j : j + step]:
            i += step
            j += step
    difference = int.from_bytes(a[i : i + step], "little") ^ int.from_bytes(
        b[j : j + step], "little"
    )
    if not difference:
        return limit
    agreed = i - start + ((difference & -difference).bit_length() - 1) // 8
    return min(limit, agreed)


def common_suffix(a: bytes, i: int, b: bytes, j: int, limit: int) -> int:
    """Return how many bytes before `a[i]` and `b[j]` agree, up to `limit`, which both must have."""
    if not limit or a[i - 1] != b[j - 1]:
        return 0
    end, step = i, _SMALL
    while a[max(i - step, 0) : i] == b[max(j - step, 0) : j]:
        i -= step
        j -= step
        if end - i >= limit:
            return limit
        if step < _LARGE:
            step *= 4
    while step > _SMALL:
        step >>= 1
        if a[max(i - step, 0) : i] == b[max(j - step, 0) : j]:
            i -= step
            j -= step
    difference = int.from_bytes(a[max(i - step, 0) : i], "big") ^ int.from_bytes(
        b[max(j - step, 0) : j], "big"
    )
    if not difference:
        return limit
    agreed = end - i + ((difference & -difference).bit_length() - 1) // 8
    return min(limit, agreed)


def equal_runs(a: bytes, i: int, b: bytes, j: int, width: int) -> list[tuple[int, int]]:
    """Return where `a[i:i+width]` and `b[j:j+width]` agree in place for SHORTEST_RUN bytes or more.

    Each run begins and ends relative to `i` and `j`.
    """
    difference = int.from_bytes(a[i : i + width], "little") ^ int.from_bytes(
        b[j : j + width], "little"
    )
    return [run.span() for run in _RUN.finditer(difference.to_bytes(width, "little"))]
