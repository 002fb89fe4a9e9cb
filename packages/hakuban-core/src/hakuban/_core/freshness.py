"""The held state of one object: which version wins, and since when it is not current (semantics: publishing, versions).

A *source* is whatever may publish states of an object: a local sink, or a channel from a peer. A state is synchronized
while at least one source vouches for it; otherwise it carries the time at which it was last known to be current.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._contents import View
from .._limits import MOST_INT64, MOST_VERSION_ITEMS

if TYPE_CHECKING:
    from .._contents import Content, Version

_KEPT_BASES = 4
_SMALL_BASES = 64 * 1024


def bumped(version: Version) -> Version:
    """Return the next version of the same counter: strictly larger, by as little as possible.

    There is none only after the largest of all versions: then an empty one.
    """
    if not version:
        return (0,)
    if version[-1] < MOST_INT64:
        return (*version[:-1], version[-1] + 1)
    if len(version) < MOST_VERSION_ITEMS:
        return (*version, 0)
    # longer than peers accept: carry, as a counter does
    while version and version[-1] == MOST_INT64:
        version = version[:-1]
    return (*version[:-1], version[-1] + 1) if version else ()


class Source:
    """A place from which states of one object come. `version` is the last one that was not ignored.

    `link_id` names the link over which they come; None for a local contract. `exceeds` is the version that the peer was
    last asked to exceed.
    """

    __slots__ = ("exceeds", "link_id", "version", "warned")

    def __init__(self, link_id: int | None) -> None:
        self.link_id: int | None = link_id
        self.version: Version | None = None
        self.exceeds: Version | None = None
        self.warned: bool = False


class Held:
    """The held state of one object.

    :ivar view: the state and its freshness, or None.
    :ivar seen: the largest version ever, for default versions; outlives the content.
    :ivar origin: the id of the link over which the content came or was last vouched for: it is never echoed there.
    :ivar ignored: how many published states were not newer.
    :ivar skipped: how many states were too large for the peer that they were meant for.
    :ivar synced: who vouches for the state.
    """

    __slots__ = ("_bases", "_last_at", "ignored", "origin", "seen", "skipped", "synced", "view")

    def __init__(self) -> None:
        self.view: View | None = None
        self.seen: Version = ()
        self.origin: int | None = None
        self.ignored: int = 0
        self.skipped: int = 0
        self.synced: tuple[Source, ...] = ()  # of one, as a rule: so it takes little room
        self._last_at: float | None = None
        # old contents that slow links may still have: patches refer to them
        self._bases: list[Content] = []

    def publish(
        self, source: Source, content: Content, since: float | None, *, bases: bool
    ) -> bool:
        """Take a state from a source if its version is newer; an equal one only states how fresh it is.

        :param since: None for current, else when it was last current.
        :param bases: whether somebody may want patches from the content that is replaced.
        :return: whether the version was newer than the held one.
        """
        held = self.view.content if self.view else None
        newer = held is None or content.version > held.version
        if held is None or newer:
            self.seen = max(self.seen, content.version)
            if held is not None and bases:
                self._keep_base(held, len(content.data))
            held = content
        elif content.version < held.version:
            return False
        source.version = content.version
        self.origin = source.link_id
        self._declare(source, since)
        self._look(held)
        return newer

    def set_synchronized(self, source: Source, since: float | None) -> None:
        """Receive from a source how fresh its last state is. If that is not the held one, it can only stop vouching."""
        view = self.view
        if view is None:
            return
        if source.version == view.content.version or (since is not None and source in self.synced):
            self._declare(source, since)
            self._look(view.content)

    def lose(self, source: Source, at: float) -> None:
        """A source has ended, and has vouched until a time. If it was the last, the state was current until then."""
        view = self.view
        if view is not None and source in self.synced:
            self._declare(source, at)
            self._look(view.content)

    def drop(self) -> None:
        """Forget the state, which nobody vouches for."""
        self.view = None
        self.origin = None
        self._last_at = None
        self._bases.clear()

    def _declare(self, source: Source, since: float | None) -> None:
        if since is None:
            if source not in self.synced:
                self.synced += (source,)
            self._last_at = None
            return
        self.synced = tuple([other for other in self.synced if other is not source])
        if not self.synced:
            self._last_at = since if self._last_at is None else max(since, self._last_at)

    def _look(self, content: Content) -> None:
        since = None if self.synced else self._last_at
        view = self.view
        if view is None or view.content is not content or view.since != since:
            number = 1 if view is None else view.number + (view.content is not content)
            self.view = View(content, since, number)

    def _keep_base(self, content: Content, size: int) -> None:
        bases = self._bases
        bases.append(content)
        if len(bases) > _KEPT_BASES:
            del bases[0]
        room = max(2 * size, _SMALL_BASES)
        total = sum([len(base.data) for base in bases])
        while total > room and len(bases) > 1:
            total -= len(bases.pop(0).data)
