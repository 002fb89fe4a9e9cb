from __future__ import annotations

from typing import TYPE_CHECKING

from .compare import common_prefix, common_suffix, equal_runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from .references import DiffWriter
    Place = tuple[int, int]

_NEAR = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
_BLOCK = 8
_SAMPLE = 256


class OldSearch:
    __slots__ = ("_backoff", "_checked", "_saved", "_skip", "_skips", "_scans", "_end", "_failed", "_new", "_old", "_quiet", "_stride", "_writer", "blocks", "resume")

    def __init__(self, old: bytes, new: bytes, end: int, writer: DiffWriter) -> None:
        self._old, self._new, self._end, self._writer = old, new, end, writer
        self.blocks: dict[bytes, int] = {}
        self.resume = 0
        self._stride = 0
        self._quiet = 0
        self._backoff = 64
        self._failed = 0
        self._skip = self._skips = self._scans = 0
        self._checked = 0
        self._saved = 0

    def near(self, i: int, j: int) -> Place | None:
        if self._skips > 0:
            self._skips -= 1
            return None
        old, new, end = self._old, self._new, self._end
        fallback = None
        for delta in _NEAR:
            reach = delta + 64
            for s, at in (
                (i + delta, new.find(old[i + delta : i + delta + 8], j, j + reach)),
                (old.find(new[j + delta : j + delta + 8], i, i + reach), j + delta),
            ):
                if s >= 0 and at >= 0 and at + 12 <= end:
                    if old[s : s + 24] == new[at : at + 24]:
                        self._skip = 0
                        return self.back(s, at)
                    if fallback is None and old[s : s + 12] == new[at : at + 12]:
                        fallback = s, at
        if fallback:
            self._skip = 0
            return self.back(*fallback)
        self._skips = self._skip
        self._skip = min(16, 2 * self._skip + 1)
        return None

    def back(self, s: int, at: int) -> Place:
        limit = min(s, at - self._writer.done)
        if limit and self._old[s - 1] == self._new[at - 1]:
            k = common_suffix(self._old, s, self._new, at, limit)
            return s - k, at - k
        return s, at

    def worth(self, source: bytes, i: int, j: int) -> tuple[int, int]:
        width = min(_SAMPLE, len(source) - i, self._end - j)
        runs = equal_runs(source, i, self._new, j, width)
        return sum(b - a - 4 for a, b in runs), runs[-1][1] if runs else 0

    def due(self, j, least=256):
        return j >= self._quiet and self._end - j >= least and self._old

    def far(self, j: int, source: bytes, i: int) -> Place | None:
        least = max(16, self.worth(source, i, j)[0])
        rate = (self._writer.saved - self._saved) / max(1, j - self._checked)
        self._checked, self._saved = j, self._writer.saved
        for s, at in self._candidates(j):
            s, at = self.back(s, at)
            limit = min(len(self._old) - s, self._end - at)
            score = extent = common_prefix(self._old, s, self._new, at, limit)
            if score < _SAMPLE and score < limit:
                score, extent = self.worth(self._old, s, at)
            score -= at - j
            if score > least and score > rate * (extent + at - j):
                self._failed = 0
                if score >= 192: self._backoff = 64
                return s, at
        self._quiet = j + self._backoff
        self._backoff = min(self._backoff * 2, 4096 + (self._end >> 6))
        self._failed += 1
        return None

    def _candidates(self, j):
        if self.blocks:
            yield from self._indexed(j)
        i, old, new, end = self.resume, self._old, self._new, self._end
        radius = 4096
        if self._failed and self._scans < 2 and not self._stride:
            radius = 2 * (self._end - j)
            self._scans += 1
        elif self._failed and not self._stride:
            self._index(j)
            yield from self._indexed(j)
        for delta in (0, 16, 64, 256) if self._failed == 0 else (0, 64):
            if j + delta + 24 <= end:
                s = old.find(new[j + delta : j + delta + 24], max(0, i - radius), i + radius)
                if s >= 0: yield s, j + delta
            needle = old[i + delta : i + delta + 24]
            if len(needle) == 24:
                at = new.find(needle, j, min(end, j + radius))
                if at >= 0: yield i + delta, at
        if not self._stride and len(self._old) <= 8192:
            self._index(j)
            yield from self._indexed(j)

    def _indexed(self, j):
        blocks, new = self.blocks, self._new
        lag = None
        for at in range(j, min(j + 2 * self._stride, self._end - _BLOCK)):
            s = blocks.get(new[at : at + _BLOCK])
            if s is not None and s - at != lag:
                lag = s - at
                yield s, at

    def _index(self, j):
        old = self._old
        gap = 2 * (self._end - j)
        lo, hi = max(0, self.resume - gap), min(len(old), self.resume + gap)
        n = hi - lo
        self._stride = stride = 16 << max(0, (n.bit_length() - 12) // 3)
        starts = range(lo, hi - _BLOCK + 1, stride)
        keys = [old[p : p + _BLOCK] for p in starts]
        last = dict(zip(keys, starts))
        if len(last) < len(keys):
            first = dict(zip(reversed(keys), reversed(starts)))
            last = {k: p for k, p in last.items() if first[k] == p}
        self.blocks = last
