"""Exposing: the ability to produce one object, or any object of a tag."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import anyio
from typing_extensions import override

from .._checks import checked_age, checked_capacity, checked_version
from .._core.new_state import Outcome
from .._descriptors import ObjectDescriptor, TagDescriptor, object_named
from .._engine.poll_results import ENDED, PENDING, Ended, Pending
from .._engine.waiting import Endless, MemberCursor, Missing, wait_for, wait_for_blocking
from .contracts import Contract
from .sinks import ObjectStateSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

    from .._canonical import Json
    from .._core.machine import Machine
    from .._engine.engine import Engine
    from .._engine.entries import ExposeEntry, SinkEntry
    from .encoder import Encoder


T_contra = TypeVar("T_contra", contravariant=True)


class ExposeContract(Contract, Endless, Generic[T_contra]):
    """The half that `ObjectExpose` and `TagExpose` have in common: being assigned.

    Looping over the contract, with `async for` in a task or `for` in a thread without event loop, yields the sinks of
    the present assignments and then each later one.
    """

    __slots__ = ("_encoder",)

    _entry: ExposeEntry

    _instead = "`for sink in contract:`, which ends when the contract is closed"

    def __init__(self, engine: Engine, entry: ExposeEntry, encoder: Encoder) -> None:
        super().__init__(engine, entry)
        self._encoder = encoder

    @property
    def capacity(self) -> int:
        """How much of this node can produce at the same time, compared with other exposers; 0 takes no assignments.

        It may be set. 0 ends the present assignments; otherwise objects may move within about a second.
        """
        return self._entry.capacity

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        checked, entry = checked_capacity(capacity), self._entry

        def change(machine: Machine, now: float) -> None:
            entry.capacity = checked
            machine.set_capacity(entry.id, checked, now)

        self._engine.submit(change)
        self._engine.catch_up()

    async def serve(
        self,
        handler: Callable[[ObjectStateSink[T_contra]], Awaitable[object]],
        *,
        on_error: Literal["log", "raise"] = "log",
    ) -> None:
        """Run a handler for each assignment, as a task of its own; until the contract is closed.

        The handler is cancelled at its next await when the assignment ends. If it returns, the assignment and the
        state stay as they are. If it raises, that is logged with the descriptor, the state is not current any more, and
        the handler is run again after 1 s, 2 s, ... 30 s; NotAssignedError after the end of the assignment is the
        normal way out. There are never two runs for one object at a time.

        :param handler: called with an `ObjectStateSink`; what it produces is named by `sink.descriptor`.
        :param on_error: "raise" has an exception of a handler end everything, in an ExceptionGroup: for tests.
        :raises TypeError: the handler cannot be one: it is no async function, yields, or takes no sink.
        :raises anyio.BusyResourceError: `serve` runs already, or somebody loops over the sinks.
        """
        from .serve import serve

        await serve(self._engine, self._entry, self._make, handler, on_error)

    def __aiter__(self) -> AsyncIterator[ObjectStateSink[T_contra]]:
        return _SinkCursor(self._engine, self._entry, self._make)

    def __iter__(self) -> Iterator[ObjectStateSink[T_contra]]:
        return self._looping(_SinkCursor(self._engine, self._entry, self._make))

    def _make(self, entry: SinkEntry) -> ObjectStateSink[T_contra]:
        return ObjectStateSink(self._engine, entry, self._encoder, self)

    def _accepted(self, outcome: Outcome) -> bool:
        if self._entry.closed:
            raise self._closed_error()
        return outcome in (Outcome.ACCEPTED, Outcome.KEPT)


class ObjectExpose(ExposeContract[T_contra]):
    """The ability to produce one object; made by `LocalNode.object(...).expose()`.

    Publish by `set_object_data` at any time: the newest value is kept, and published at each assignment. Or loop over
    the sinks, or `serve` a handler, to produce only while somebody needs it.
    """

    __slots__ = ()

    @property
    def descriptor(self) -> ObjectDescriptor:
        """The object."""
        descriptor = self._entry.descriptor
        assert isinstance(descriptor, ObjectDescriptor)
        return descriptor

    @property
    def assigned(self) -> bool:
        """Whether this contract is the one that produces the object now."""
        return bool(self._entry.members)

    async def wait_assigned(self) -> None:
        """Wait until this contract produces the object.

        :raises ClosedError: it was closed before.
        """
        if await wait_for(self._engine, self._entry, self._poll_assigned) is ENDED:
            raise self._closed_error()

    def wait_assigned_sync(self, timeout: float | None = None) -> None:
        """Block this thread until this contract produces the object.

        :param timeout: seconds to wait at most, or None.
        :raises WaitTimeoutError: it was not assigned in that time.
        :raises ClosedError: it was closed before.
        :raises RuntimeError: an event loop runs in this thread.
        """
        missing = Missing(
            self.descriptor,
            "not assigned",
            "does somebody observe it, and is there another exposer? See snapshot() of the router",
        )
        outcome = wait_for_blocking(
            self._engine,
            self._entry,
            self._poll_assigned,
            timeout,
            "await wait_assigned()",
            missing,
        )
        if outcome is ENDED:
            raise self._closed_error()

    def set_object_data(self, value: T_contra, *, age: float | None = None) -> None:
        """Set the value, with a default version. Never waits; a signal handler may call it too.

        :param age: seconds since it was current; None for current now.
        :raises SerializationError: the value cannot be encoded.
        :raises StateTooLargeError: it takes more bytes than the node's `max_state`.
        :raises ClosedError: the contract is closed.
        """
        offer, checked = self._encoder.encode(value, None, self.descriptor), checked_age(age)
        contract, wall = self._entry.id, time_ns()
        outcome = self._engine.submit(
            lambda machine, now: machine.set_kept(contract, offer, checked, now, wall)
        )
        if outcome is not None:
            self._accepted(outcome)

    def set_object_state(self, version: Iterable[int], value: T_contra) -> bool:
        """Set the value, current now, with a version of one's own.

        :param version: 64-bit integers, compared one after the other.
        :return: whether the version is newer than the one before. If it is equal, the value before is only confirmed
            to be current; if it is lower, nothing happens.
        :raises SerializationError: the value cannot be encoded.
        :raises StateTooLargeError: it takes more bytes than the node's `max_state`.
        :raises ClosedError: the contract is closed.
        """
        offer = self._encoder.encode(value, version, self.descriptor)
        contract, wall = self._entry.id, time_ns()
        return self._accepted(
            self._engine.call(
                lambda machine, now: machine.set_kept(contract, offer, None, now, wall)
            )
        )

    def set_object_version(self, version: Iterable[int] | None = None) -> bool:
        """Publish the value again under another version.

        :param version: the version; None for a default one.
        :return: whether it is newer than the one before; False without a value.
        :raises ClosedError: the contract is closed.
        """
        checked = None if version is None else checked_version(version)
        contract, wall = self._entry.id, time_ns()
        return self._accepted(
            self._engine.call(
                lambda machine, now: machine.relabel_kept(contract, checked, now, wall)
            )
        )

    def set_synchronized(self, age: float | None = None) -> None:
        """Set how fresh the value is, now and at later assignments.

        :param age: seconds since it was current; None for current.
        :raises ClosedError: the contract is closed.
        """
        checked, contract = checked_age(age), self._entry.id
        outcome = self._engine.submit(
            lambda machine, now: machine.set_kept_synchronized(contract, checked, now)
        )
        if outcome is not None:
            self._accepted(outcome)

    def _poll_assigned(self) -> bool | Pending | Ended:
        if self._entry.closed:
            return ENDED
        return True if self._entry.members else PENDING


class TagExpose(ExposeContract[T_contra]):
    """The ability to produce any object that carries a tag; made by `LocalNode.tag(...).expose()`.

    Each object that somebody needs is assigned to one exposer. What is set for an object that is not assigned here is
    not kept. Where a descriptor is asked for, whatever `ObjectDescriptor` takes alone will do, `(tags, json)` for
    example. `descriptor in contract` is True while the object is assigned here. `serve` is the usual way to use it::

        with node.tag("weather").expose(capacity=10) as contract:
            await contract.serve(produce)
    """

    __slots__ = ()

    @property
    def descriptor(self) -> TagDescriptor:
        """The tag."""
        descriptor = self._entry.descriptor
        assert isinstance(descriptor, TagDescriptor)
        return descriptor

    def object_descriptors(self) -> frozenset[ObjectDescriptor]:
        """Return the objects that are assigned to this contract now."""
        self._engine.catch_up()
        return frozenset(self._engine.read(lambda: [*self._entry.members]))

    @override
    def __contains__(self, descriptor: ObjectDescriptor | Json) -> bool:
        return object_named(descriptor) in self._entry.members

    def set_object_data(
        self, descriptor: ObjectDescriptor | Json, value: T_contra, *, age: float | None = None
    ) -> bool:
        """Publish a value of one object, with a default version.

        :param age: seconds since it was current; None for current now.
        :return: whether it was published: False if the object is not assigned here.
        :raises SerializationError: the value cannot be encoded.
        :raises StateTooLargeError: it takes more bytes than the node's `max_state`.
        :raises ClosedError: the contract is closed.
        """
        return self._publish(descriptor, value, None, checked_age(age))

    def set_object_state(
        self, descriptor: ObjectDescriptor | Json, version: Iterable[int], value: T_contra
    ) -> bool:
        """Publish a value of one object, current now, with a version of one's own.

        :return: whether the object is assigned here and the version newer than the held one.
        :raises SerializationError: the value cannot be encoded.
        :raises StateTooLargeError: it takes more bytes than the node's `max_state`.
        :raises ClosedError: the contract is closed.
        """
        return self._publish(descriptor, value, version, None)

    def set_object_version(
        self, descriptor: ObjectDescriptor | Json, version: Iterable[int] | None = None
    ) -> bool:
        """Publish the last value of one object again under another version.

        :param version: the version; None for a default one.
        :return: whether the object is assigned here, has a value, and the version is newer than the held one.
        :raises ClosedError: the contract is closed.
        """
        checked = None if version is None else checked_version(version)
        wall = time_ns()
        return self._on_sink(
            descriptor, lambda machine, sink, now: machine.relabel(sink, checked, now, wall)
        )

    def set_synchronized(
        self, descriptor: ObjectDescriptor | Json, age: float | None = None
    ) -> bool:
        """Set how fresh the last value of one object is.

        :param age: seconds since it was current; None for current.
        :return: whether the object is assigned here.
        :raises ClosedError: the contract is closed.
        """
        checked = checked_age(age)
        return self._on_sink(
            descriptor, lambda machine, sink, now: machine.set_synchronized(sink, checked, now)
        )

    def _publish(
        self,
        descriptor: ObjectDescriptor | Json,
        value: T_contra,
        version: Iterable[int] | None,
        age: float | None,
    ) -> bool:
        offer = self._encoder.encode(value, version, descriptor)
        wall = time_ns()
        return self._on_sink(
            descriptor, lambda machine, sink, now: machine.publish(sink, offer, age, now, wall)
        )

    def _on_sink(
        self,
        descriptor: ObjectDescriptor | Json,
        operation: Callable[[Machine, int, float], Outcome],
    ) -> bool:
        entry, named = self._entry, object_named(descriptor)

        def find_and_run(machine: Machine, now: float) -> Outcome:
            member = entry.members.get(named)
            if member is None:
                return Outcome.NOT_ASSIGNED
            return operation(machine, member.id, now)

        return self._accepted(self._engine.call(find_and_run))


class _SinkCursor(MemberCursor[ObjectStateSink[T_contra]]):
    """Refuses to share the sinks with `serve`."""

    __slots__ = ()

    _entry: ExposeEntry

    @override
    async def __anext__(self) -> ObjectStateSink[T_contra]:
        self._claim()
        try:
            return await super().__anext__()
        finally:
            self._entry.loops.discard(self)

    @override
    def __next__(self) -> ObjectStateSink[T_contra]:
        self._claim()
        try:
            return super().__next__()
        finally:
            self._entry.loops.discard(self)

    def _claim(self) -> None:
        self._entry.loops.add(self)
        if self._entry.served:
            self._entry.loops.discard(self)
            raise anyio.BusyResourceError("serving")
