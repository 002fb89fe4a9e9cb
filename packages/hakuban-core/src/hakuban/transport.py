"""What a transport plugin needs, and all it needs.

A plugin is a module (or object) with one hook, found through an entry point whose name is the URL scheme:

    [project.entry-points."hakuban.transports"]
    tcp = "my_package"

    @hakuban.transport.hookimpl
    def hakuban_transport(scheme): return MyTransport() if scheme == "tcp" else None

`hakuban.testing.check_transport` checks the contract written down here.
"""

from __future__ import annotations

from ._exceptions import (
    InsecureListenerError,
    InvalidURLError,
    LinkError,
    LinkTimeoutError,
    PeerViolationError,
    RefusedError,
)
from ._logger import Logger, get_logger
from ._loops.latch import Latch
from ._loops.tasks import background_tasks
from ._loops.tracebacks import contained
from ._loops.wakeups import AutoResetEvent
from ._remote import Identity
from ._text import printable, printable_lines, redacted
from ._transport.authorizing import identify
from ._transport.handlers import run_handler
from ._transport.heartbeats import Heartbeats, Monitored, default_max_connections
from ._transport.interface import (
    ConnectionRequest,
    Hooks,
    InstalledTransport,
    MessageStream,
    Transport,
    TransportOptions,
    hookimpl,
    hookspec,
)
from ._transport.keep_alive import KeepAlive, Verdict
from ._transport.listener_exposure import check_exposure
from ._transport.plugins import (
    authorizer,
    installed_transports,
    register_plugin,
    unregister_plugin,
)
from ._transport.read_ahead import ReadAhead
from ._transport.reassembly import Reassembling, ReassemblyLimit
from ._transport.urls import host_and_port, url_parts

__all__ = [
    "AutoResetEvent",
    "ConnectionRequest",
    "Heartbeats",
    "Hooks",
    "Identity",
    "InsecureListenerError",
    "InstalledTransport",
    "InvalidURLError",
    "KeepAlive",
    "Latch",
    "LinkError",
    "LinkTimeoutError",
    "Logger",
    "MessageStream",
    "Monitored",
    "PeerViolationError",
    "ReadAhead",
    "Reassembling",
    "ReassemblyLimit",
    "RefusedError",
    "Transport",
    "TransportOptions",
    "Verdict",
    "authorizer",
    "background_tasks",
    "check_exposure",
    "contained",
    "default_max_connections",
    "get_logger",
    "hookimpl",
    "hookspec",
    "host_and_port",
    "identify",
    "installed_transports",
    "printable",
    "printable_lines",
    "redacted",
    "register_plugin",
    "run_handler",
    "unregister_plugin",
    "url_parts",
]
