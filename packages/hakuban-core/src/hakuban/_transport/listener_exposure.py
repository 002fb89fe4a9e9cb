"""Whether a listener may be reached from beyond this machine."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from .._exceptions import InsecureListenerError
from .._text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .interface import TransportOptions


def check_exposure(
    url: str,
    addresses: Iterable[str],
    options: TransportOptions,
    *,
    protected: bool = False,
    remedy: str = "",
) -> None:
    """Refuse to listen where other machines get in and nothing keeps unknown peers out.

    To be called by `Transport.serve` with what it has bound, or is about to bind where binding lets somebody in, before
    `task_status.started`. Fine is: this machine alone, an authorising plugin (`options.authorize`), a transport that
    knows its peers, or `options.insecure`.

    :param addresses: the IP addresses that are bound, without port, for example "0.0.0.0" or "::1"; a text that is none
        counts as reachable from everywhere.
    :param protected: whether the transport itself lets in only whom it knows, as TLS with client certificates does.
    :param remedy: how it would, for the error: "use wss:// with client certificates".
    :raises InsecureListenerError: with the address, and with what to do.
    """
    if protected or options.insecure or options.authorize is not None:
        return
    for address in addresses:
        if not _on_this_machine(address):
            steps = [remedy, "install an authorising plugin", "listen on 127.0.0.1"]
            raise InsecureListenerError(
                url,
                f"other machines can reach {printable(address)}, and anybody may connect:"
                f" {', '.join(filter(None, steps))}, or say insecure=True (#insecure=true)",
            )


def _on_this_machine(address: str) -> bool:
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped.is_loopback
    return ip.is_loopback
