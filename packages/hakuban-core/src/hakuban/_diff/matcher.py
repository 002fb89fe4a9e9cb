"""Find what new data have in common with the old, and with themselves."""

from __future__ import annotations

from .compare import SHORTEST_RUN, common_prefix, common_suffix, equal_runs
from .references import DiffWriter
from .search import OldSearch

__all__ = ["Matcher"]

_KEY = 8
_GOOD = 64
_WIDEST = 512


class Matcher:
    __slots__ = ("_effort", "_end", "_new", "_old", "_recent", "_search", "_writer")

    def __init__(self, old: bytes, new: bytes, writer: DiffWriter, end) -> None:
        self._old = old
        self._new = new
        self._writer = writer
        self._end = end
        self._search = OldSearch(old, new, end, writer)
        self._recent: dict[bytes, int] = {}
        self._effort = 0

    def run(self, i: int, j: int) -> None:
        found = self._old, i, j
        while found:
            source, i, j = self._follow(*found)
            found = self._realign(source, i, j)

    def _realign(self, source, i, j):
        if self._end - j < 2 * SHORTEST_RUN:
            return None
        s = self._search
        place = None
        if source is self._old:
            s.resume = i
            if self._effort < 768:
                place = s.near(i, j)
                self._effort += 40
        if place is None and s.due(j):
            place = s.far(j, b'', 0)
        if place: return (self._old, *place)
        if self._end - j < 24: return None
        return self._scan(j)

    def _follow(self, source, i, j):
        new, end = self._new, self._end
        writer, search = self._writer, self._search
        width = _GOOD
        while (limit := min(len(source) - i, end - j)) >= SHORTEST_RUN:
            if width > limit: width = limit
            runs = equal_runs(source, i, new, j, width)
            if not runs:
                break
            start, stop = runs[-1]
            if stop == width:
                stop += common_prefix(source, i + width, new, j + width, limit - width)
                runs[-1] = start, stop
            good = stop - start >= _GOOD
            old = source is self._old
            if not good and search.due(j, 1024):
                covered = sum(b - a for a, b in runs)
                if covered * 8 < stop * 7:
                    if old: search.resume = i
                    place = search.far(j, source, i)
                    if place:
                        writer.copy_runs(i, j, [(a, b) for a, b in runs if j + b <= place[1]], old=old)
                        source, i, j = self._old, *place
                        width = _GOOD
                        continue
            saved = writer.copy_runs(i, j, runs, old=old)
            self._effort = max(0, self._effort + 6 + 2 * len(runs) - saved)
            step = stop if stop >= width or width - stop >= max(24, width >> 2) else max(stop, width - SHORTEST_RUN + 1)
            i += step
            j += step
            if width - stop >= max(24, width >> 2): break
            width = _GOOD if good else min(2 * width, _WIDEST)
        return source, i, j

    def _scan(self, j):
        new, recent, end = self._new, self._recent, self._end
        writer, search = self._writer, self._search
        if not recent:
            recent.update({new[p : p + _KEY]: p for p in range(max(0, j - min(256, 4 * (end - j))), j)})
        while j <= end - _KEY:
            step = 1 | self._effort * self._effort >> 12
            blocks = search.blocks
            for at in range(j, min(j + 32 * step, end - _KEY + 1), step):
                key = new[at : at + _KEY]
                if key in recent:
                    break
                if key in blocks:
                    self._effort += 24
                    return (self._old, *search.back(blocks[key], at))
                recent[key] = at
            else:
                self._effort = min(1024, self._effort + 32)
                j = at + step
                if len(recent) > 65536: recent.clear()
                if search.due(j):
                    place = search.far(j, b'', 0)
                    if place: return (self._old, *place)
                continue
            s = recent[key]
            recent[key] = at
            first = j
            n = _KEY
            if s and at > writer.done and new[s-1] == new[at-1]:
                n = common_suffix(new, s, new, at, min(s, at - writer.done))
                s -= n; at -= n; n += _KEY
            n += common_prefix(new, s + n, new, at + n, end - at - n)
            saved = writer.copy(s, at, n, old=False)
            self._effort = max(0, self._effort + 10 + (at - first) // step // 2 - saved)
            s += n
            j = at + n
            if n >= _GOOD or new[j + 8 : j + 14] == new[s + 8 : s + 14] or new[j+16:j+22] == new[s+16:s+22]:
                return new, s, j
            if search.due(j):
                place = search.far(j, new, s)
                if place: return (self._old, *place)
        return None
