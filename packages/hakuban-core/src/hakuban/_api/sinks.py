"""Publishing states for one assignment."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from typing_extensions import override

from .._checks import checked_age
from .._core.new_state import Outcome
from .._engine.poll_results import PENDING, Pending
from .._engine.waiting import Missing, wait_for, wait_for_blocking
from .._exceptions import NotAssignedError
from .._states import ObjectState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._core.new_state import NewState
    from .._descriptors import ObjectDescriptor
    from .._engine.engine import Engine
    from .._engine.entries import SinkEntry
    from .encoder import Encoder


T_contra = TypeVar("T_contra", contravariant=True)


class ObjectStateSink(Generic[T_contra]):
    """One assignment to produce an object: an item of the loop over an expose contract, and what `serve` hands out.

    It ends when somebody else is chosen, nobody needs the object any more, or the contract is closed; from then on
    publishing raises NotAssignedError, and being assigned again makes another sink. Thread-safe; nothing waits but
    what is named so.
    """

    __slots__ = ("_contract", "_encoder", "_engine", "_entry")

    def __init__(
        self, engine: Engine, entry: SinkEntry, encoder: Encoder, contract: object
    ) -> None:
        self._engine = engine
        self._entry = entry
        self._encoder = encoder
        self._contract = (
            contract  # or it would be collected, and closed, while its sinks are in use
        )

    @property
    def descriptor(self) -> ObjectDescriptor:
        """The object to produce."""
        return self._entry.descriptor

    @property
    def assigned(self) -> bool:
        """Whether the assignment has not ended."""
        return not self._entry.closed

    def set(self, value: T_contra, *, age: float | None = None) -> None:
        """Publish a value as the object's state, with a default version.

        The bytes are passed on as soon as links take them; a value that is replaced before that is never sent.

        :param age: seconds since the value was current; None for current now.
        :raises NotAssignedError: the assignment has ended.
        :raises SerializationError: the value cannot be encoded.
        :raises StateTooLargeError: it takes more bytes than the node's `max_state`.
        """
        self._publish(self._encoder.encode(value, None, self.descriptor), age)

    def set_state(self, version: Iterable[int], value: T_contra) -> bool:
        """Publish a value as the object's state now, with a version of one's own.

        :param version: 64-bit integers, compared one after the other.
        :return: whether the version is newer than the held one. If it is equal, the held value is only confirmed to be
            current; if it is lower, nothing happens.
        :raises NotAssignedError: the assignment has ended.
        :raises SerializationError: the value cannot be encoded.
        :raises StateTooLargeError: it takes more bytes than the node's `max_state`.
        """
        return self._publish(self._encoder.encode(value, version, self.descriptor), None)

    def send(self, state: ObjectState[Any]) -> bool:
        """Publish a state as it is: bytes, format, version and age. One that was received is forwarded unchanged.

        :param state: one's own too, see `ObjectState`: what is no bytes is encoded, its format goes under the encoding, and
            () is a default version.
        :return: whether its version is newer than the held one; see `set_state`.
        :raises TypeError: it is no ObjectState.
        :raises NotAssignedError: the assignment has ended.
        :raises SerializationError: the value cannot be encoded.
        :raises StateTooLargeError: it takes more bytes than the node's `max_state`.
        """
        if not isinstance(state, ObjectState):
            raise TypeError(
                f"send takes an ObjectState, not {type(state).__name__}: write `set(value)`, or `send(ObjectState(value))`"
            )
        return self._publish(self._encoder.encode_state(state, self.descriptor), state.age_now())

    def set_synchronized(self, age: float | None = None) -> None:
        """Set how fresh the last published state is.

        :param age: seconds since it was current; None for current.
        :raises NotAssignedError: the assignment has ended.
        """
        checked, sink = checked_age(age), self._entry.id
        self._expect(
            self._engine.submit(lambda machine, now: machine.set_synchronized(sink, checked, now))
        )

    async def wait_unassigned(self) -> None:
        """Wait until the assignment has ended."""
        await wait_for(self._engine, self._entry, self._poll_end)

    def wait_unassigned_sync(self, timeout: float | None = None) -> None:
        """Block this thread until the assignment has ended.

        :param timeout: seconds to wait at most, or None.
        :raises WaitTimeoutError: it has not ended in that time.
        :raises RuntimeError: an event loop runs in this thread.
        """
        missing = Missing(self.descriptor, "still assigned", "wait longer, or close() the sink")
        wait_for_blocking(
            self._engine, self._entry, self._poll_end, timeout, "await wait_unassigned()", missing
        )

    def close(self) -> None:
        """Return the assignment back: the state is not current from now on. While chosen, another sink follows at once."""
        sink = self._entry.id
        self._engine.close_quietly(lambda machine, now: machine.drop_sink(sink, now))

    def _poll_end(self) -> bool | Pending:
        return True if self._entry.closed else PENDING

    def _publish(self, offer: NewState, age: float | None) -> bool:
        sink, wall, checked = self._entry.id, time_ns(), checked_age(age)
        outcome = self._engine.submit(
            lambda machine, now: machine.publish(sink, offer, checked, now, wall)
        )
        self._expect(outcome)
        return outcome is Outcome.ACCEPTED

    def _expect(self, outcome: Outcome | None) -> None:
        if outcome is Outcome.NOT_ASSIGNED:
            raise NotAssignedError(self._entry.descriptor)

    @override
    def __repr__(self) -> str:
        ended = "" if self.assigned else " unassigned"
        return f"<ObjectStateSink {self.descriptor}{ended}>"
