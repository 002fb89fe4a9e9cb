"""The node of this process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, Self, overload

from typing_extensions import Unpack, override

from .._checks import checked_integer, checked_name, checked_rebalance, checked_seconds
from .._core.machine import Machine
from .._descriptors import ObjectDescriptor, TagDescriptor, check_size
from .._engine.engine import Engine
from .._engine.entries import peers_of
from .._events.source import EventSource
from .._net.summaries import shown_node
from .._text import printable
from .._version import __version__
from .builders import Defaults, ObjectContractBuilder, TagContractBuilder
from .codecs import JSON
from .names import default_name
from .serializer_names import found_serializer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .._canonical import Json
    from .._core.snapshot import NodeSnapshot
    from .._net.connection import Connection, Listener
    from .._remote import Peer
    from .._transport.interface import Transport
    from .._transport.options import TransportArguments
    from .serializers import Serializer


MAX_STATE: Final = 16_672_358  # 15.9 MiB: what fits into a message of 16 MiB, with its version, format and descriptor


class LocalNode:
    """A node of the tree: what this process observes and exposes, and its links to other nodes.

    Needs no event loop: contracts are made, states set and read, from any thread or task, and none of that waits.
    Only `connect` and `listen` belong to an event loop (or to `hakuban.sync`). Works in a `with` block, or without::

        node = hakuban.LocalNode()
        async with node.connect("ws://127.0.0.1:3001"):
            with node.object(["weather"], {"city": "Poznań"}).observe() as weather:
                async for state in weather:
                    print(state.data)

    :param name: what other nodes call this one, in logs and monitors, at most 1,024 bytes; None for the name of the
        program and four random hexadecimal digits, as in "exposer-3f2a".
    :param serializer: how values become bytes and back, where a contract has no other: an object, or the name of one.
    :param max_state: bytes that the data of a state may have; more raise StateTooLargeError when set.
    :param rebalance: of a node that others connect to: how much lighter (in load, from 0 to 1) another exposer has to
        be before an object moves to it; None moves none.
    :param max_clock_lead: of a node that others connect to: seconds by which their clocks may be ahead of this
        machine's; a tree goes by the one that is farthest ahead, but by none beyond this (see docs/freshness.md).
    :raises TypeError: an argument is of another type.
    :raises ValueError: an argument is out of range.
    :raises PluginError: the package that offers a serializer of this name is broken.
    """

    __slots__ = ("_defaults", "_engine", "_name")

    def __init__(
        self,
        name: str | None = None,
        *,
        serializer: Serializer | str = JSON,
        max_state: int = MAX_STATE,
        rebalance: float | None = 0.1,
        max_clock_lead: float = 86_400.0,
    ) -> None:
        id = os.urandom(8).hex()
        self._name = checked_name(name) or default_name(id)
        most = checked_integer("max_state", max_state, 0, 2**63 - 1)
        machine = Machine(
            rebalance=checked_rebalance(rebalance),
            max_clock_lead=checked_seconds("max_clock_lead", max_clock_lead),
            node=id,
            name=self._name,
            software=__version__,
        )
        self._engine = Engine(machine, self._name)
        self._defaults = Defaults(self._engine, found_serializer(serializer), most)

    @property
    def name(self) -> str:
        """What other nodes call this one, unless a link has another name."""
        return self._name

    # ---- contracts --------------------------------------------------------------------------------------------------

    @overload
    def object(self, descriptor: ObjectDescriptor, /) -> ObjectContractBuilder: ...
    @overload
    def object(self, json: Json, /) -> ObjectContractBuilder: ...
    @overload
    def object(
        self, tags: Iterable[TagDescriptor | Json], json: Json, /
    ) -> ObjectContractBuilder: ...
    def object(self, *name: Any) -> ObjectContractBuilder:
        """Name an object: `object(tags, json)`, `object(json)` for one without tags, or `object(descriptor)`.

        As in `ObjectDescriptor`, one tuple is the crate's spelling, `(tags, json)` or `(json,)`.

        :raises InvalidDescriptorError: the tags or the JSON value are none, or more than peers accept.
        :raises TypeError: there are other arguments, or the tags are a string.
        """
        if not 1 <= len(name) <= 2:
            raise TypeError("write object(tags, json), object(json) or object(descriptor)")
        if isinstance(name[0], ObjectDescriptor) and len(name) == 1:
            descriptor = name[0]
            check_size(descriptor)  # where a peer's text was read, nobody did
        else:
            descriptor = ObjectDescriptor(*name)
        return ObjectContractBuilder(self._defaults, descriptor)

    def tag(self, tag: TagDescriptor | Json, /) -> TagContractBuilder:
        """Name a tag by a JSON value or a descriptor.

        A list of one string is a legal tag, and another one than that string: so it is logged once.

        :raises InvalidDescriptorError: the value is not JSON, or more than peers accept.
        """
        if isinstance(tag, TagDescriptor):
            descriptor = tag
            check_size(descriptor)
        else:
            descriptor = TagDescriptor(tag)
        return TagContractBuilder(self._defaults, descriptor)

    # ---- links ------------------------------------------------------------------------------------------------------

    def connect(
        self,
        url: str,
        *,
        transport: Transport | None = None,
        wait: bool = True,
        name: str | None = None,
        load_limit: Iterable[tuple[float, int]] | int | str | None = None,
        **options: Unpack[TransportArguments],
    ) -> AbstractAsyncContextManager[Connection]:
        """Connect to the node above, and stay connected until the block is left.

            async with node.connect("ws://127.0.0.1:3001") as connection: ...

        Entering waits for the first established link; what may pass (nobody answers, a server error) is tried again,
        with one line of warning: use `anyio.fail_after` for a time limit. Afterwards a lost link is made again as long
        as it takes. Leaving sends, for at most a second, what was announced and set before, and closes the link;
        contracts live on.

        :param url: where to; options of the link may follow a `#`, as in `ws://host:3001#name=bench-3,timeout=3s`.
        :param transport: the transport; None for the installed one that serves the URL's scheme.
        :param wait: False enters at once; nothing but a bad URL is raised then, and the rest is retried.
        :param name: what the other node calls this one; None for the URL's `name`, or the node's.
        :param load_limit: points of (seconds from now, load) between which the load that the other node may assign to
            this one changes evenly; or one load for always; None for the URL's `load-limit`, or no limit.
        :param options: `keep_alive`, `timeout`, `max_message`, `headers`, `ssl` and others: the fields of
            `hakuban.transport.TransportOptions`; they go before the URL's, and may be written as there: `timeout="3s"`.
        :raises TypeError: an argument is of another type.
        :raises ValueError: an argument is out of range.
        :raises InvalidURLError: the URL, or an option in it, can never work. This and those before are raised by the
            call; what follows, where the block is entered.
        :raises UnknownSchemeError: no installed transport serves its scheme (by the call, too).
        :raises AlreadyConnectedError: the node is inside another block of this kind.
        :raises ClosedError: the node is closed.
        :raises RefusedError: the other side refused for good.
        :raises PeerViolationError: the other side speaks another protocol.
        :raises NodeBrokenError: an earlier exception broke the node.
        """
        from .._net.connector import connect

        return connect(
            self._engine,
            url,
            name=name,
            default_name=self.name,
            transport=transport,
            wait=wait,
            load_limit=load_limit,
            arguments=options,
        )

    def listen(
        self,
        url: str,
        *,
        transport: Transport | None = None,
        name: str | None = None,
        **options: Unpack[TransportArguments],
    ) -> AbstractAsyncContextManager[Listener]:
        """Let other nodes connect to this one, until the block is left.

            async with node.listen("ws://127.0.0.1:0") as listener:
                print(listener.url)

        Leaving stops listening first, and then closes all links of this listener at once.

        :param url: where; port 0 takes a free one. Options may follow a `#`.
        :param transport: the transport; None for the installed one that serves the URL's scheme.
        :param name: what other nodes call this one; None for the URL's `name`, or the node's.
        :param options: `ssl`, `allow_origins`, `max_connections`, `insecure` and others: the fields of
            `hakuban.transport.TransportOptions`; they go before the URL's.
        :raises TypeError: an argument is of another type.
        :raises ValueError: an argument is out of range.
        :raises InvalidURLError: the URL, or an option in it, can never work. This and those before are raised by the
            call; what follows, where the block is entered.
        :raises UnknownSchemeError: no installed transport serves its scheme (by the call, too).
        :raises PluginError: a plugin that might authorise peers is broken (by the call, too).
        :raises InsecureListenerError: other machines could connect, and nothing would keep unknown peers out.
        :raises OSError: nobody can listen there.
        :raises ClosedError: the node is closed.
        :raises NodeBrokenError: an earlier exception broke the node.
        """
        from .._net.listener import listen

        return listen(
            self._engine,
            url,
            name=name,
            default_name=self.name,
            transport=transport,
            arguments=options,
        )

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The nodes that are linked to this one now, the one above among them, in the order of their coming."""
        return tuple(self._engine.read(lambda: peers_of(self._engine.links.values())))

    def peer_changes(self) -> EventSource[Peer]:
        """Return the coming and going of `peers` as events. A peer that changes its name goes, and comes with the new one."""
        return EventSource(self._engine.known_peers(), None, self)

    # ---- the whole --------------------------------------------------------------------------------------------------

    def changes(self) -> EventSource[ObjectDescriptor]:
        """Return the coming and going of objects that this node knows as events: INSERT and REMOVE.

        It knows an object that somebody here wants or makes, and one that a linked node has told it of.
        """
        return EventSource(self._engine.known_objects(), None, self)

    def snapshot(self) -> NodeSnapshot:
        """Take a picture of everything the node knows, for monitors and tests.

        That takes time in proportion (10 us an object, about), and lets other threads go on meanwhile: so of a large node
        one part of the picture may be of another moment than the next. Thread-safe; a task leaves it to a thread, for the
        sake of its event loop: `await anyio.to_thread.run_sync(node.snapshot)`.
        """
        return self._engine.snapshot()

    @property
    def closed(self) -> bool:
        """Whether the node was closed."""
        return self._engine.closed

    def close(self) -> None:
        """Close all contracts and links, and make none any more. Never waits; twice is fine.

        Blocks of `connect` and `listen` stay to be left; their links end soon.
        """
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @override
    def __repr__(self) -> str:
        closed = " closed" if self.closed else ""
        return f"<LocalNode {printable(self.name)}{closed}>"

    @override
    def __str__(self) -> str:
        return shown_node(self._engine, self.name)
