"""For tests, of programs and of transports.

The `memory://name` transport links nodes within one event loop; `MemoryStream.cut` and `cut_links` break such links as
a network would. `linked_nodes` yields nodes around a router. `check_transport` checks a transport against the contract
of `hakuban.transport`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._testing.conformance import check_transport
from ._testing.environment import TransportContractError
from ._testing.memory import MemoryStream, MemoryTransport, cut_links
from ._testing.nodes import linked_nodes
from .transport import hookimpl

if TYPE_CHECKING:
    from .transport import Transport

__all__ = [
    "MemoryStream",
    "MemoryTransport",
    "TransportContractError",
    "check_transport",
    "cut_links",
    "hakuban_transport",
    "linked_nodes",
]


@hookimpl
def hakuban_transport(scheme: str) -> Transport | None:
    """Serve `memory://` URLs: the core's own transport comes through the same door as others."""
    return MemoryTransport() if scheme == "memory" else None
