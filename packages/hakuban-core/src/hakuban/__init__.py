"""Live data objects, shared between processes: observe what you want, expose what you can.

Further modules: `hakuban.events` (changes as events), `hakuban.sync` (links without an event loop), `hakuban.transport`
(for authors of transports and authorising plugins), `hakuban.testing` (links in memory, and checks of transports).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._api.builders import ObjectContractBuilder, TagContractBuilder
from ._api.codecs import JSON, MESSAGE_PACK
from ._api.expose import ObjectExpose, TagExpose
from ._api.node import LocalNode
from ._api.observe import ObjectObserve, TagObserve
from ._api.serializers import RAW, Serializer
from ._api.sinks import ObjectStateSink
from ._api.streams import ObjectStateStream
from ._api.view import TagView
from ._contents import Format, Version
from ._core.snapshot import NodeSnapshot
from ._descriptors import ObjectDescriptor, TagDescriptor
from ._exceptions import (
    AlreadyConnectedError,
    AmbiguousSchemeError,
    CircleError,
    ClosedError,
    DeserializationError,
    DiffError,
    HakubanError,
    InsecureListenerError,
    InvalidDescriptorError,
    InvalidURLError,
    LinkError,
    LinkTimeoutError,
    NodeBrokenError,
    NodeForkedError,
    NotAssignedError,
    PeerViolationError,
    PluginError,
    ProtocolMismatchError,
    RefusedError,
    SerializationError,
    StateTooLargeError,
    UnknownSchemeError,
    WaitTimeoutError,
    WireError,
    WrongFormatError,
)
from ._net.connection import Connection, Listener
from ._remote import ConnectionCounters, ConnectionStatus, Peer
from ._states import ObjectState
from ._version import __version__

__all__ = [  # noqa: RUF022  # sorted plainly, constants among the rest
    "AlreadyConnectedError",
    "AmbiguousSchemeError",
    "CircleError",
    "ClosedError",
    "Connection",
    "ConnectionCounters",
    "ConnectionStatus",
    "DeserializationError",
    "DiffError",
    "Format",
    "HakubanError",
    "InsecureListenerError",
    "InvalidDescriptorError",
    "InvalidURLError",
    "JSON",
    "LinkError",
    "LinkTimeoutError",
    "Listener",
    "LocalNode",
    "MESSAGE_PACK",
    "NodeBrokenError",
    "NodeForkedError",
    "NodeSnapshot",
    "NotAssignedError",
    "ObjectContractBuilder",
    "ObjectDescriptor",
    "ObjectExpose",
    "ObjectObserve",
    "ObjectState",
    "ObjectStateSink",
    "ObjectStateStream",
    "Peer",
    "PeerViolationError",
    "PluginError",
    "ProtocolMismatchError",
    "RAW",
    "RefusedError",
    "SerializationError",
    "Serializer",
    "StateTooLargeError",
    "TagContractBuilder",
    "TagDescriptor",
    "TagExpose",
    "TagObserve",
    "TagView",
    "UnknownSchemeError",
    "Version",
    "WaitTimeoutError",
    "WireError",
    "WrongFormatError",
    "__version__",
]

for _name in __all__:
    _public = globals()[_name]
    if isinstance(_public, type) and _public.__module__.startswith("hakuban."):
        _public.__module__ = "hakuban"  # the name to import it by, in docs, tracebacks and pickles
del _name, _public


if TYPE_CHECKING:
    from . import events as events
    from . import sync as sync
    from . import testing as testing
    from . import transport as transport
else:  # a type checker would take any name for one of this module's

    def __getattr__(name: str) -> Any:
        # `import hakuban` is enough for hakuban.sync, and stays light for those who need none of it
        if name in ("events", "sync", "testing", "transport"):
            return import_module(f"hakuban.{name}")
        raise AttributeError(f"module 'hakuban' has no attribute {name!r}")
