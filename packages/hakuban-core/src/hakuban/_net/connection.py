"""The other sides of links, and the state of a connection, as users see them."""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from .._engine.entries import peers_of
from .._engine.poll_results import ENDED, PENDING, Ended, Pending
from .._engine.waiting import Cursor, Missing, wait_for, wait_for_blocking
from .._events.source import EventSource
from .._exceptions import ClosedError
from .._remote import ConnectionCounters, ConnectionStatus, Traffic
from .._text import redacted
from .message_sizes import SizeCap
from .summaries import shown_connection, shown_listener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._engine.engine import Engine
    from .._engine.entries import LinkEntry
    from .._engine.feeds import Emitter
    from .._remote import Peer
    from .link_peer import LinkPeer


class ConnectionState:
    """What a connector knows of its connection. Changed under the lock of the node, read from anywhere."""

    __slots__ = (
        "closed", "engine", "last_error", "links", "peer", "size_cap", "status", "traffic", "url",
    )  # fmt: skip

    def __init__(self, engine: Engine, url: str) -> None:
        self.engine: Engine = engine
        self.url: str = url
        self.status: ConnectionStatus = ConnectionStatus()
        self.last_error: Exception | None = None
        self.links: int = 0
        self.traffic: Traffic = Traffic()
        self.peer: LinkPeer | None = None
        self.size_cap: SizeCap = SizeCap(url)
        self.closed: bool = False

    def established(self, remote: Peer) -> None:
        """The link is up, or the other side has another name. Only under the lock."""
        if not self.status.up:
            self.links += 1
        self.status = ConnectionStatus(up=True, remote=remote)
        self.engine.wake(self)

    def lost(self, error: Exception | None) -> None:
        """A link was lost, or could not be made; without an error, this side wanted it. Only under the lock."""
        attempts = 0 if self.status.up else self.status.attempts + 1
        self.peer = None
        if error is not None:
            self.last_error = error
        self.status = ConnectionStatus(error=error, attempts=attempts)
        self.engine.wake(self)

    def forget_error(self) -> None:
        """The caller gets the error, and no connection that could be asked for it."""

        def change() -> None:
            self.last_error = None
            self.status = ConnectionStatus()

        self.engine.update(self, change)

    def close(self) -> None:
        """There will be no link any more."""

        def change() -> None:
            self.closed = True

        self.engine.update(self, change)

    def expect_open(self, outcome: object) -> None:
        """Look at the outcome of a wait.

        :raises ClosedError: there will be no link any more.
        """
        if outcome is ENDED:
            again = "enter a new block: node.connect(...), or hakuban.sync.connect(node, ...)"
            step = "make a new LocalNode" if self.engine.closed else again
            raise ClosedError(self.url, "the connection to", step)

    def poll_up(self) -> bool | Pending | Ended:
        if self.closed:
            return ENDED
        return True if self.status.up else PENDING

    def poll_status(self, seen: ConnectionStatus | None) -> ConnectionStatus | Pending | Ended:
        if self.closed:
            return ENDED
        return PENDING if self.status is seen else self.status


class Connection:
    """The upstream link of a node, while it is up and while it is not: what `LocalNode.connect` yields.

    It mends itself: a lost link is made again, contracts are announced and states flow again. Thread-safe.
    """

    __slots__ = ("_state",)

    def __init__(self, state: ConnectionState) -> None:
        self._state = state

    @property
    def url(self) -> str:
        """Where it leads, without user and password."""
        return self._state.url

    @property
    def up(self) -> bool:
        """Whether there is an established link. Not in the child of a fork."""
        return self._state.status.up and not self._state.engine.forked

    @property
    def remote(self) -> Peer | None:
        """The node on the other side; None while there is no link."""
        return self._state.status.remote

    @property
    def remote_name(self) -> str | None:
        """The name of the node on the other side; None while there is no link."""
        remote = self._state.status.remote
        return None if remote is None else remote.name

    @property
    def last_error(self) -> Exception | None:
        """Why the last link was lost, or the last attempt failed; None if that never happened."""
        return self._state.last_error

    @property
    def silent_for(self) -> float:
        """Seconds since anything last came from the other side, signs of life included; inf while there is no link."""
        peer = self._state.peer
        if peer is None or not self._state.status.up:
            return math.inf
        return max(0.0, monotonic() - peer.last_heard)

    @property
    def size_cap(self) -> int | None:
        """Bytes of the largest message that is sent for now; None for what the other side states that it takes.

        There is such a cap for 10 minutes after the other side, or a proxy on the way, ended a link with code 1009.
        """
        return self._state.size_cap.most(monotonic())

    @property
    def counters(self) -> ConnectionCounters:
        """What was carried so far."""
        traffic = self._state.traffic
        return ConnectionCounters(
            messages_in=traffic.messages_in,
            messages_out=traffic.messages_out,
            bytes_in=traffic.bytes_in,
            bytes_out=traffic.bytes_out,
            reconnects=max(0, self._state.links - 1),
            states_skipped=traffic.states_skipped,
        )

    async def wait_up(self) -> None:
        """Wait until there is an established link. Use `anyio.fail_after` for a time limit.

        :raises ClosedError: the block of the connection was left, or the node closed.
        """
        state = self._state
        state.expect_open(await wait_for(state.engine, state, state.poll_up))

    def wait_up_sync(self, timeout: float | None = None) -> None:
        """Block this thread until there is an established link.

        :param timeout: seconds to wait at most, or None.
        :raises WaitTimeoutError: there was none in that time.
        :raises ClosedError: the block of the connection was left, or the node closed.
        :raises RuntimeError: an event loop runs in this thread.
        """
        state = self._state
        missing = Missing(state.url, "no link", "`connection.last_error` says why")
        outcome = wait_for_blocking(
            state.engine, state, state.poll_up, timeout, "await wait_up()", missing
        )
        state.expect_open(outcome)

    def statuses(self) -> Statuses:
        """Loop, with `async for` or `for`, over the present status and each later one, until the block is left.

        What came in between while nobody looked is skipped.
        """
        return Statuses(self._state)

    @override
    def __repr__(self) -> str:
        return f"<Connection {self.url} {'up' if self.up else 'down'}>"

    @override
    def __str__(self) -> str:
        state = self._state
        return shown_connection(state.url, state.status, closed=state.closed)


class Listener:
    """What `LocalNode.listen` yields: where the node listens, and who has come. Thread-safe."""

    __slots__ = ("_links", "_peers", "_url")

    def __init__(
        self,
        url: str,
        links: Callable[[], Sequence[LinkEntry]],
        peers: Callable[[], Emitter[Peer]],
    ) -> None:
        self._url = url
        self._links = links
        self._peers = peers

    @property
    def url(self) -> str:
        """The URL to connect to, with the real port."""
        return self._url

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The nodes that are connected to this listener now, in the order of their coming."""
        return tuple(peers_of(self._links()))

    def peer_changes(self) -> EventSource[Peer]:
        """Return the coming and going of `peers` as events, until the block is left.

        A peer that changes its name goes, and comes with the new one.
        """
        return EventSource(self._peers(), None, self)

    @override
    def __repr__(self) -> str:
        return f"<Listener {redacted(self._url)}>"

    @override
    def __str__(self) -> str:
        return shown_listener(redacted(self._url), self._links)


class Statuses(Cursor[ConnectionStatus]):
    """A loop over the statuses of a connection."""

    __slots__ = ("_seen", "_state")

    def __init__(self, state: ConnectionState) -> None:
        super().__init__(state.engine, state)
        self._state = state
        self._seen: ConnectionStatus | None = None

    @override
    def _poll(self) -> ConnectionStatus | Pending | Ended:
        return self._state.poll_status(self._seen)

    @override
    def _take(self, item: Any) -> ConnectionStatus:
        self._seen = item
        status: ConnectionStatus = item
        return status
