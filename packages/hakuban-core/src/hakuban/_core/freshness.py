"""The held state of one object: which version wins, and since when it is not current (semantics: publishing, versions).

A *source* is whatever may publish states of an object: a local sink, or a channel from a peer. A state is synchronized
while at least one source says so; otherwise it carries the time at which it was last known to be current.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._states import Content, Version
    from .links import Link

_INT64_MAX = 2**63 - 1
_KEPT_BASES = 4
_SMALL_BASES = 64 * 1024


def bumped(version: Version) -> Version:
    """Give the next version that the same counter would give: strictly larger, and hardly so."""
    if not version:
        return (0,)
    if version[-1] == _INT64_MAX:
        return (*version, 0)
    return (*version[:-1], version[-1] + 1)


class View:
    """What an observer sees; a new object whenever content or freshness change, so that cursors compare by identity.

    `since` is None while synchronized, else the monotonic time at which the content was last known to be current.
    """

    __slots__ = ("content", "since")

    def __init__(self, content: Content, since: float | None) -> None:
        self.content = content
        self.since = since


class Source:
    """A place from which states of one object come. `version` is the last one that was not ignored."""

    __slots__ = ("link", "version", "warned")

    def __init__(self, link: Link | None) -> None:
        self.link = link
        self.version: Version | None = None
        self.warned = False


class Held:
    """The held state of one object, and who vouches for it."""

    __slots__ = ("_bases", "_last_at", "_synced", "ignored", "origin", "seen", "view")

    def __init__(self) -> None:
        self.view: View | None = None
        self.seen: Version = ()  # the largest version ever, for default versions; outlives the content
        self.origin: Link | None = (
            None  # the link that the content came over: it is never echoed there
        )
        self.ignored = 0  # published states that were not newer
        self._synced: dict[Source, None] = {}
        self._last_at: float | None = None
        self._bases: list[
            Content
        ] = []  # old contents that slow links may still have: patches refer to them

    @property
    def synchronized(self) -> bool:
        return bool(self._synced)

    def publish(
        self, source: Source, content: Content, since: float | None, *, bases: bool
    ) -> bool:
        """Take a state from a source if its version is newer; an equal one only says how fresh it is.

        :param since: None for current, else when it was last current.
        :param bases: whether somebody may want patches from the content that is replaced.
        :return: whether the version was newer than the held one.
        """
        held = self.view.content if self.view else None
        if held is not None and content.version < held.version:
            self.ignored += 1
            return False
        source.version = content.version
        newer = held is None or content.version > held.version
        if newer:
            self.origin = source.link
            self.seen = max(self.seen, content.version)
            if held is not None and bases:
                self._keep_base(held, len(content.data))
            held = content
        else:
            self.ignored += held is not content
        self._declare(source, since)
        self._look(held)
        return newer

    def set_synchronized(self, source: Source, since: float | None) -> None:
        """Hear from a source how fresh its last state is; of a state that was ignored this means nothing."""
        if self.view is not None and source.version == self.view.content.version:
            self._declare(source, since)
            self._look(self.view.content)

    def lose(self, source: Source, now: float) -> None:
        """A source has ended. If it was the last to vouch for the state, the state was current until now."""
        if source in self._synced:
            del self._synced[source]
            if not self._synced:
                self._last_at = now
            if self.view is not None:
                self._look(self.view.content)

    def drop(self) -> None:
        """Forget the state; nobody needs it and nobody vouches for it."""
        self.view = None
        self.origin = None
        self._last_at = None
        self._bases.clear()

    def _declare(self, source: Source, since: float | None) -> None:
        if since is None:
            self._synced[source] = None
            self._last_at = None
            return
        self._synced.pop(source, None)
        if not self._synced:
            self._last_at = since if self._last_at is None else max(since, self._last_at)

    def _look(self, content: Content | None) -> None:
        since = None if self._synced else self._last_at
        view = self.view
        if content is not None and (
            view is None or view.content is not content or view.since != since
        ):
            self.view = View(content, since)

    def _keep_base(self, content: Content, size: int) -> None:
        bases = self._bases
        bases.append(content)
        room = max(2 * size, _SMALL_BASES)
        total = sum(len(base.data) for base in bases)
        while len(bases) > _KEPT_BASES or (total > room and len(bases) > 1):
            total -= len(bases.pop(0).data)
