"""Write new data as references to the old data and to themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .compare import SHORTEST_RUN, common_prefix, common_suffix, equal_runs
from .search import BLOCK, OldSearch

if TYPE_CHECKING:
    from collections.abc import Generator

    from .search import Alignment
    from .writer import DiffWriter


_NARROW = 64  # bytes compared at once, at first and where much agrees
_WIDE = 512
_GOOD_RUN = 64  # a run of this length is no accident
_GAP = 24  # so many bytes that differ at the end of a window: what follows has moved

# Bytes that must be left for it to pay ...
_LEFT_TO_DOUBT = 1024  # to ask whether there is a better alignment
_LEFT_TO_SCAN = 24  # to look for repetitions
_LEFT_TO_ALIGN = 12  # to go on at all

_KEY = 8  # bytes by which repetitions are found; a reference to less saves next to nothing
_PROBES = 32
_REMEMBERED = 1 << 13
_LOOK_BACK = 256

_MUCH_EFFORT = 768
_MOST_EFFORT = 1024
_COST_OF_WINDOW, _COST_OF_RUN = 6, 2
_COST_OF_BRIDGE = 40
_COST_OF_ALIGNMENT = 24
_COST_OF_REPETITION = 20

_TURN = 2500  # units of effort, before others may have a turn
_COST_OF_STEP = 20  # at most, of what a step does besides


class Matcher:
    """Goes through the new data once, from one alignment to the next.

    An alignment is a place in the old data, or earlier in the new, with which the new data agree
    but for some bytes here and there. It is followed (`_follow`) until it ends; then another one is
    looked for in the old data (`OldSearch`), and at last in the new data (`_scan`).

    Effort is the time that was spent beyond what it saved, in units of 0.2 µs, which a byte saved
    is worth. The more of it, the fewer bytes are looked at: data in which nothing repeats are soon
    passed over.
    """

    __slots__ = ("_effort", "_end", "_new", "_old", "_recent", "_search", "_work", "_writer")

    def __init__(self, old: bytes, new: bytes, end: int, writer: DiffWriter) -> None:
        self._old = old
        self._new = new
        self._end = end
        self._writer = writer
        self._search = OldSearch(old, new, end, writer)
        self._recent: dict[bytes, int] = {}  # where keys of the new data were seen last
        self._effort = 0
        self._work = 0  # since others had a turn

    def run(self, i: int, j: int) -> Generator[None, None, None]:
        """Write `new[j:end]`, in steps, supposing that it agrees with `old[i:]`."""
        found: Alignment | None = self._old, i, j
        while found:
            source, i, j = yield from self._follow(*found)
            found = yield from self._realign(source, i, j)

    def _spend(self, units: int) -> None:
        effort = self._effort + units
        self._effort = 0 if effort < 0 else min(effort, _MOST_EFFORT)

    def _follow(self, source: bytes, i: int, j: int) -> Generator[None, None, Alignment]:
        """Write what agrees in place, and return where that ends."""
        width = _NARROW
        while (limit := min(len(source) - i, self._end - j)) >= SHORTEST_RUN:
            width = min(width, limit)
            runs = equal_runs(source, i, self._new, j, width)
            if not runs:
                break
            self._work += _COST_OF_STEP + _COST_OF_RUN * len(runs)
            if self._work > _TURN:
                self._work = 0
                yield
            first, last = runs[-1]
            if last == width:
                last += common_prefix(source, i + width, self._new, j + width, limit - width)
                runs[-1] = first, last
            good = last - first >= _GOOD_RUN
            if not good and (better := (yield from self._doubt(source, i, j, runs))):
                source, i, j = better
                width = _NARROW
                continue
            self._copy(source, i, j, runs)
            if width - last >= max(_GAP, width // 4):
                return source, i + last, j + last
            step = max(last, width - SHORTEST_RUN + 1)  # a run may begin at the end of the window
            i += step
            j += step
            width = _NARROW if good else min(2 * width, _WIDE)
        return source, i, j

    def _copy(self, source: bytes, i: int, j: int, runs: list[tuple[int, int]]) -> None:
        before = self._writer.saved
        self._writer.copy_runs(i, j, runs, old=source is self._old)
        self._spend(_COST_OF_WINDOW + _COST_OF_RUN * len(runs) - (self._writer.saved - before))

    def _doubt(
        self, source: bytes, i: int, j: int, runs: list[tuple[int, int]]
    ) -> Generator[None, None, Alignment | None]:
        """Return another alignment, if these runs look like accidents and it saves more."""
        search = self._search
        if not search.due(j, _LEFT_TO_DOUBT):
            return None
        if 8 * sum(last - first for first, last in runs) >= 7 * runs[-1][1]:
            return None
        if source is self._old:
            search.resume = i
        better = yield from search.far(source, i, j)
        if better:
            self._copy(source, i, j, [run for run in runs if j + run[1] <= better[2]])
        return better

    def _realign(self, source: bytes, i: int, j: int) -> Generator[None, None, Alignment | None]:
        """Return where to go on after an alignment has ended; None leaves the rest literal."""
        left, search = self._end - j, self._search
        if left < _LEFT_TO_ALIGN:
            return None
        found = None
        if source is self._old:
            search.resume = i
            if self._effort < _MUCH_EFFORT:
                self._spend(_COST_OF_BRIDGE)
                self._work += 2 * _COST_OF_BRIDGE
                found = search.near(i, j)
        if not found and search.due(j):
            found = yield from search.far(b"", 0, j)
        if not found and left >= _LEFT_TO_SCAN:
            found = yield from self._scan(j)
        return found

    def _scan(self, j: int) -> Generator[None, None, Alignment | None]:
        """Write repetitions in the new data until one, or a place in the old data, goes on."""
        if not self._recent:
            back = max(0, j - min(_LOOK_BACK, 4 * (self._end - j)))
            self._recent = {self._new[at : at + _KEY]: at for at in range(back, j)}
        while j <= self._end - _KEY:
            self._work += _PROBES + _COST_OF_STEP
            if self._work > _TURN:
                self._work = 0
                yield
            step = 1 | self._effort * self._effort >> 12
            known = self._probe(j, step)
            if not known:
                j += _PROBES * step
                found = yield from self._search.far(b"", 0, j)
            elif known[0] is self._old:
                self._spend(_COST_OF_ALIGNMENT)
                return self._search.extend_back(*known[1:])
            else:
                self._spend((known[2] - j) // step // 2)
                start, j, goes_on = self._repeat(*known[1:])
                if goes_on:
                    return self._new, start, j
                found = yield from self._search.far(self._new, start, j)
            if found:
                return found
        return None

    def _probe(self, j: int, step: int) -> Alignment | None:
        """Return the first of the next places at which known bytes start; get to know the others."""
        new, recent, blocks = self._new, self._recent, self._search.blocks
        if len(recent) > _REMEMBERED:
            recent.clear()
        for at in range(j + step - 1, min(j + _PROBES * step, self._end - _KEY + 1), step):
            if blocks and (block := new[at : at + BLOCK]) in blocks:
                return self._old, blocks[block], at
            key = new[at : at + _KEY]
            if key in recent:
                start = recent[key]
                recent[key] = at
                return new, start, at
            recent[key] = at
        self._spend(_PROBES)
        return None

    def _repeat(self, start: int, at: int) -> tuple[int, int, bool]:
        """Write that the new data repeat themselves; return where that ends, and whether it goes on."""
        new, writer = self._new, self._writer
        length = common_suffix(new, start, new, at, min(start, at - writer.done))
        start -= length
        at -= length
        length += _KEY
        length += common_prefix(new, start + length, new, at + length, self._end - at - length)
        before = writer.saved
        writer.copy(start, at, length, old=False)
        self._spend(_COST_OF_REPETITION - (writer.saved - before))
        start += length
        at += length
        goes_on = (  # after a field of up to 8 or 16 bytes
            length >= _GOOD_RUN
            or new[at + 8 : at + 14] == new[start + 8 : start + 14]
            or new[at + 16 : at + 22] == new[start + 16 : start + 22]
        )
        return start, at, goes_on
