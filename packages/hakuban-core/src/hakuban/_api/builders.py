"""From the name of an object or tag to a contract on it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar, overload

from typing_extensions import override

from .._checks import checked_capacity
from .._engine.entries import ExposeEntry, ObserveEntry
from .decoding import Decoder
from .encoder import Encoder
from .expose import ObjectExpose, TagExpose
from .observe import ObjectObserve, TagObserve
from .serializer_names import found_serializer
from .serializers import check_type

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from .._descriptors import ObjectDescriptor, TagDescriptor
    from .._engine.engine import Engine
    from .serializers import Serializer


T = TypeVar("T")


class Defaults:
    """What contracts of a node take over from it."""

    __slots__ = ("engine", "max_state", "serializer")

    def __init__(self, engine: Engine, serializer: Serializer, max_state: int) -> None:
        self.engine: Engine = engine
        self.serializer: Serializer = serializer
        self.max_state: int = max_state

    def decoder(self, type: Any, serializer: Serializer | str | None) -> Decoder[Any]:
        chosen = self._chosen(serializer)
        check_type(chosen, type)
        return Decoder(chosen, type)

    def encoder(self, type: Any, serializer: Serializer | str | None) -> Encoder:
        chosen = self._chosen(serializer)
        check_type(chosen, type)
        return Encoder(chosen, self.max_state, type if _checks_values() else Any)

    def _chosen(self, serializer: Serializer | str | None) -> Serializer:
        return self.serializer if serializer is None else found_serializer(serializer)


def _checks_values() -> bool:
    return sys.flags.dev_mode or os.environ.get("HAKUBAN_DEBUG") == "1"


class ObjectContractBuilder:
    """An object of a node, before anybody wants anything of it: what `LocalNode.object` returns.

    Making contracts is thread-safe; each is in effect at once.
    """

    __slots__ = ("_defaults", "_descriptor")

    def __init__(self, defaults: Defaults, descriptor: ObjectDescriptor) -> None:
        self._defaults = defaults
        self._descriptor = descriptor

    @property
    def descriptor(self) -> ObjectDescriptor:
        """The object."""
        return self._descriptor

    @overload
    def observe(self, *, serializer: Serializer | str | None = None) -> ObjectObserve[Any]: ...
    @overload
    def observe(
        self, type: TypeForm[T], *, serializer: Serializer | str | None = None
    ) -> ObjectObserve[T]: ...
    @overload
    def observe(
        self, type: Any, *, serializer: Serializer | str | None = None
    ) -> ObjectObserve[Any]: ...
    def observe(
        self, type: Any = Any, *, serializer: Serializer | str | None = None
    ) -> ObjectObserve[Any]:
        """Begin to observe the object. Close the contract by `with`, or `close`.

        :param type: what to decode values to: any type that msgspec knows; `Any` for plain lists, dicts and so on.
        :param serializer: how to decode values, or the name of an installed one ("json", "msgpack", "raw", or one of the
            entry points `hakuban.serializers`); None for the node's serializer.
        :raises TypeError: no value can be decoded to the type, or the serializer is none.
        :raises PluginError: the installed package that offers the serializer is broken, or two offer it.
        :raises ClosedError: the node is closed.
        """
        engine, descriptor = self._defaults.engine, self._descriptor
        entry = ObserveEntry(descriptor)
        contract = ObjectObserve[Any](engine, entry, self._defaults.decoder(type, serializer))
        engine.open_entry(entry, lambda machine, now: machine.observe_object(descriptor, now))
        return contract

    @overload
    def expose(
        self, *, capacity: int = 1, serializer: Serializer | str | None = None
    ) -> ObjectExpose[Any]: ...
    @overload
    def expose(
        self, *, type: TypeForm[T], capacity: int = 1, serializer: Serializer | str | None = None
    ) -> ObjectExpose[T]: ...
    @overload
    def expose(
        self, *, type: Any, capacity: int = 1, serializer: Serializer | str | None = None
    ) -> ObjectExpose[Any]: ...
    def expose(
        self,
        *,
        type: Any = Any,
        capacity: int = 1,
        serializer: Serializer | str | None = None,
    ) -> ObjectExpose[Any]:
        """Begin to be able to produce the object. Close the contract by `with`, or `close`.

        :param type: of the values, for type checkers; under `python -X dev`, or where HAKUBAN_DEBUG is 1, each value that is
            set is checked: what an observer with this type could not read raises SerializationError.
        :param capacity: what this exposer can produce, compared with others; see `ObjectExpose.capacity`.
        :param serializer: how to encode values, or its name as in `observe`; None for the node's serializer.
        :raises TypeError: the capacity is no integer, or the serializer is none.
        :raises PluginError: the installed package that offers the serializer is broken, or two offer it.
        :raises ValueError: the capacity is out of range.
        :raises ClosedError: the node is closed.
        """
        engine, descriptor = self._defaults.engine, self._descriptor
        checked = checked_capacity(capacity)
        entry = ExposeEntry(descriptor, checked)
        contract = ObjectExpose[Any](engine, entry, self._defaults.encoder(type, serializer))
        engine.open_entry(
            entry, lambda machine, now: machine.expose_object(descriptor, checked, now)
        )
        return contract

    @override
    def __repr__(self) -> str:
        return f"<ObjectContractBuilder {self._descriptor}>"


class TagContractBuilder:
    """A tag of a node, before anybody wants anything of it: what `LocalNode.tag` returns.

    Making contracts is thread-safe; each is in effect at once.
    """

    __slots__ = ("_defaults", "_descriptor")

    def __init__(self, defaults: Defaults, descriptor: TagDescriptor) -> None:
        self._defaults = defaults
        self._descriptor = descriptor

    @property
    def descriptor(self) -> TagDescriptor:
        """The tag."""
        return self._descriptor

    @overload
    def observe(self, *, serializer: Serializer | str | None = None) -> TagObserve[Any]: ...
    @overload
    def observe(
        self, type: TypeForm[T], *, serializer: Serializer | str | None = None
    ) -> TagObserve[T]: ...
    @overload
    def observe(
        self, type: Any, *, serializer: Serializer | str | None = None
    ) -> TagObserve[Any]: ...
    def observe(
        self, type: Any = Any, *, serializer: Serializer | str | None = None
    ) -> TagObserve[Any]:
        """Begin to observe all objects that carry the tag. Close the contract by `with`, or `close`.

        :param type: what to decode values to: any type that msgspec knows; `Any` for plain lists, dicts and so on.
        :param serializer: how to decode values, or the name of an installed one ("json", "msgpack", "raw", or one of the
            entry points `hakuban.serializers`); None for the node's serializer.
        :raises TypeError: no value can be decoded to the type, or the serializer is none.
        :raises PluginError: the installed package that offers the serializer is broken, or two offer it.
        :raises ClosedError: the node is closed.
        """
        engine, descriptor = self._defaults.engine, self._descriptor
        entry = ObserveEntry(descriptor)
        contract = TagObserve[Any](engine, entry, self._defaults.decoder(type, serializer))
        engine.open_entry(entry, lambda machine, now: machine.observe_tag(descriptor, now))
        return contract

    @overload
    def expose(
        self, *, capacity: int = 1, serializer: Serializer | str | None = None
    ) -> TagExpose[Any]: ...
    @overload
    def expose(
        self, *, type: TypeForm[T], capacity: int = 1, serializer: Serializer | str | None = None
    ) -> TagExpose[T]: ...
    @overload
    def expose(
        self, *, type: Any, capacity: int = 1, serializer: Serializer | str | None = None
    ) -> TagExpose[Any]: ...
    def expose(
        self,
        *,
        type: Any = Any,
        capacity: int = 1,
        serializer: Serializer | str | None = None,
    ) -> TagExpose[Any]:
        """Begin to be able to produce any object that carries the tag. Close the contract by `with`, or `close`.

        :param type: of the values, for type checkers; under `python -X dev`, or where HAKUBAN_DEBUG is 1, each value that is
            set is checked: what an observer with this type could not read raises SerializationError.
        :param capacity: what this exposer can produce, compared with others; see `TagExpose.capacity`.
        :param serializer: how to encode values, or its name as in `observe`; None for the node's serializer.
        :raises TypeError: the capacity is no integer, or the serializer is none.
        :raises PluginError: the installed package that offers the serializer is broken, or two offer it.
        :raises ValueError: the capacity is out of range.
        :raises ClosedError: the node is closed.
        """
        engine, descriptor = self._defaults.engine, self._descriptor
        checked = checked_capacity(capacity)
        entry = ExposeEntry(descriptor, checked)
        contract = TagExpose[Any](engine, entry, self._defaults.encoder(type, serializer))
        engine.open_entry(entry, lambda machine, now: machine.expose_tag(descriptor, checked, now))
        return contract

    @override
    def __repr__(self) -> str:
        return f"<TagContractBuilder {self._descriptor}>"
