"""Find where new data go on in the old data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .compare import common_prefix, common_suffix, equal_runs

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from .writer import DiffWriter

    Place = tuple[int, int]  # where bytes of the old data start, and the same of the new
    Alignment = tuple[bytes, int, int]  # data, and two places: there, and in the new data


BLOCK = 16

_NEAR_NEEDLE = 8
_NEAR_OFFSETS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
_NEAR_REACH = 64
_CERTAIN = 24  # equal bytes after which a place nearby is believed at once
_LIKELY = 12  # ... if there is none better

_FAR_NEEDLE = 24
_FAR_REACH = 4096
_FAR_LEAST = 256  # bytes that must be left
_FAR_SAVES = 16  # ... and that it must save
_SAMPLE = 256  # bytes by which a place is judged
_GOOD = 192
_SCANS = 2  # searches through everything, before an index is the cheaper one
_SMALL = 8192  # old data of which an index is cheap at once
_BACKOFF = 64
_CHUNK = 1 << 18  # bytes searched, and
_BLOCKS = 1 << 12  # blocks indexed, before others may have a turn


class OldSearch:
    """Looks for the place in the old data at which the new data go on.

    A change of some bytes is bridged by `near`. In data that resemble themselves, rows of a table
    for one, each row agrees with any other in part: `far` compares what a place elsewhere would
    save with what is saved where one is, first with `bytes.find`, later with an index of blocks.
    What finds nothing is tried ever less often, so that all of it together takes linear time.

    :ivar resume: where the old data were left last.
    :ivar blocks: where each block of the index starts in the old data; empty at first.
    """

    __slots__ = (
        "_backoff", "_checked", "_end", "_failed", "_new", "_old", "_pause", "_pauses", "_quiet", "_saved", "_scans",
        "_stride", "_writer", "blocks", "resume",
    )  # fmt: skip

    def __init__(self, old: bytes, new: bytes, end: int, writer: DiffWriter) -> None:
        self._old = old
        self._new = new
        self._end = end
        self._writer = writer
        self.resume = 0
        self.blocks: dict[bytes, int] = {}
        self._stride = 0  # of the index; 0 is none yet
        self._scans = 0
        self._pauses = 0  # calls of `near` to skip, and how many the next failure adds
        self._pause = 0
        self._quiet = 0  # byte of the new data before which `far` is not due
        self._backoff = _BACKOFF
        self._failed = 0
        self._checked = 0  # where `far` was called last, and what was saved by then
        self._saved = 0

    def near(self, i: int, j: int) -> Alignment | None:
        """Return where old and new data agree again after `old[i]` and `new[j]` differ."""
        if self._pauses:
            self._pauses -= 1
            return None
        old, new = self._old, self._new
        likely = None
        for offset in _NEAR_OFFSETS:
            x, y, reach = i + offset, j + offset, offset + _NEAR_REACH
            for start, at in (
                (x, new.find(old[x : x + _NEAR_NEEDLE], j, j + reach)),
                (old.find(new[y : y + _NEAR_NEEDLE], i, i + reach), y),
            ):
                if start < 0 or at < 0 or at + _LIKELY > self._end:
                    continue
                if old[start : start + _CERTAIN] == new[at : at + _CERTAIN]:
                    self._pause = 0
                    return self.extend_back(start, at)
                if not likely and old[start : start + _LIKELY] == new[at : at + _LIKELY]:
                    likely = start, at
        if likely:
            self._pause = 0
            return self.extend_back(*likely)
        self._pauses = self._pause
        self._pause = min(16, 2 * self._pause + 1)
        return None

    def extend_back(self, start: int, at: int) -> Alignment:
        """Return where the agreement begins that includes `old[start]` and `new[at]`."""
        limit = min(start, at - self._writer.done)
        length = common_suffix(self._old, start, self._new, at, limit)
        return self._old, start - length, at - length

    def due(self, j: int, least: int = _FAR_LEAST) -> bool:
        """Return whether it is time for `far`, if `least` bytes are left for it to improve."""
        return j >= self._quiet and self._end - j >= least and bool(self._old)

    def far(self, source: bytes, i: int, j: int) -> Generator[None, None, Alignment | None]:
        """Return a better alignment, from anywhere, than that of `source[i]` and `new[j]`."""
        if not self.due(j):
            return None
        old, new, end = self._old, self._new, self._end
        saved, _ = self.judge(source, i, j)
        rate = (self._writer.saved - self._saved) / max(1, j - self._checked)
        self._checked, self._saved = j, self._writer.saved
        tried = {i - j} if source is old else set()
        for place in self._candidates(j):
            if place is None:
                yield
                continue
            shift = place[0] - place[1]
            if shift in tried:
                continue
            tried.add(shift)
            found = _, start, at = self.extend_back(*place)
            gap = at - j
            limit = min(len(old) - start, end - at, _FAR_REACH + 2 * abs(gap))
            saves = extent = common_prefix(old, start, new, at, limit)
            if extent < _SAMPLE:
                saves, extent = self.judge(old, start, at)
            if saves - gap > max(_FAR_SAVES, saved, rate * (extent + gap)):
                self._failed = 0
                if saves - gap >= _GOOD:
                    self._backoff = _BACKOFF
                return found
        self._failed += 1
        self._quiet = j + self._backoff
        self._backoff = min(2 * self._backoff, _FAR_REACH + end // 64)
        return None

    def judge(self, source: bytes, i: int, j: int) -> tuple[int, int]:
        """Return about how many of the next bytes it saves to stay at `source[i]`, and of how many."""
        width = min(_SAMPLE, len(source) - i, self._end - j)
        runs = equal_runs(source, i, self._new, j, width)
        return sum(last - first - 4 for first, last in runs), runs[-1][1] if runs else 0

    def _candidates(self, j: int) -> Iterator[Place | None]:
        """Yield places to try; None where others may have a turn."""
        reach = _FAR_REACH
        if self._stride:
            yield from self._indexed(j)
        elif self._failed and self._scans < _SCANS:
            self._scans += 1
            reach = 2 * (self._end - j)
        elif self._failed:
            yield from self._index(j)
            yield from self._indexed(j)
        yield from self._found(j, reach)
        if not self._stride and len(self._old) <= _SMALL:
            yield from self._index(j)
            yield from self._indexed(j)

    def _found(self, j: int, reach: int) -> Iterator[Place | None]:
        i, old, new, end = self.resume, self._old, self._new, self._end
        for offset in (0, 64) if self._failed else (0, 16, 64, 256):
            x, y = i + offset, j + offset
            needle = new[y : min(y + _FAR_NEEDLE, end)]
            if len(needle) == _FAR_NEEDLE:
                start = yield from _find(old, needle, max(0, i - reach), min(len(old), i + reach))
                if start >= 0:
                    yield start, y
            needle = old[x : x + _FAR_NEEDLE]
            if len(needle) == _FAR_NEEDLE:
                at = yield from _find(new, needle, j, min(end, j + reach))
                if at >= 0:
                    yield x, at

    def _indexed(self, j: int) -> Iterator[Place]:
        blocks, new = self.blocks, self._new
        for at in range(j, min(j + 2 * self._stride, self._end - BLOCK)):
            start = blocks.get(new[at : at + BLOCK])
            if start is not None:
                yield start, at

    def _index(self, j: int) -> Iterator[None]:
        """Index the blocks, around the last place, that are found there once only."""
        old, reach = self._old, 2 * (self._end - j)
        first, last = max(0, self.resume - reach), min(len(old), self.resume + reach)
        self._stride = BLOCK << max(0, ((last - first).bit_length() - 12) // 3)
        starts = range(first, last - BLOCK + 1, self._stride)
        stretches = [starts[at : at + _BLOCKS] for at in range(0, len(starts), _BLOCKS)]
        lasts: dict[bytes, int] = {}
        for stretch in stretches:
            lasts.update(zip([old[at : at + BLOCK] for at in stretch], stretch, strict=True))
            if len(stretches) > 1:
                yield
        self.blocks = lasts
        if len(lasts) == len(starts):
            return
        firsts: dict[bytes, int] = {}
        for stretch in reversed(stretches):
            backwards = stretch[::-1]
            firsts.update(zip([old[at : at + BLOCK] for at in backwards], backwards, strict=True))
            if len(stretches) > 1:
                yield
        self.blocks = {}
        for stretch in stretches:
            keys = [old[at : at + BLOCK] for at in stretch]
            self.blocks.update(
                (key, at)
                for key, at in zip(keys, stretch, strict=True)
                if firsts[key] == at == lasts[key]
            )
            if len(stretches) > 1:
                yield


def _find(data: bytes, needle: bytes, start: int, end: int) -> Generator[None, None, int]:
    """Do the same as `bytes.find`, in steps."""
    while end - start > _CHUNK:
        found = data.find(needle, start, start + _CHUNK)
        if found >= 0:
            return found
        start += _CHUNK - len(needle) + 1
        yield
    return data.find(needle, start, end)
