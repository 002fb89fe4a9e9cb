"""Every error this project raises.

    HakubanError
    ├── InvalidDescriptorError (ValueError)     a tag or object that cannot be named in JSON
    ├── InvalidURLError (ValueError)            a URL or one of its options
    │   └── InsecureListenerError               a listener that anybody on other machines could use
    ├── UnknownSchemeError                      no installed transport serves this scheme
    ├── AmbiguousSchemeError                    two installed transports serve it
    ├── PluginError                             a plugin does not import, or breaks the rules of its hooks
    ├── AlreadyConnectedError                   a node has one upstream link at most
    ├── NotAssignedError                        a sink was used after its assignment ended
    ├── StateTooLargeError (ValueError)         more bytes than the node's max_state
    ├── SerializationError (ValueError)         a value that the serializer cannot encode
    ├── DeserializationError (ValueError)       a state that the serializer cannot decode
    │   └── WrongFormatError                    its outermost format is another one
    ├── ClosedError (anyio.ClosedResourceError) a contract, connection or node that was closed
    ├── WaitTimeoutError (TimeoutError)         what was waited for did not come in time
    ├── NodeBrokenError                         an exception escaped the node's core
    ├── NodeForkedError                         the node belongs to the parent process
    └── LinkError                               a link could not be made, or ended
        ├── RefusedError                        the other side refused the link
        ├── CircleError                         a node would be above itself
        ├── PeerViolationError                  the other side broke the protocol
        │   ├── ProtocolMismatchError           ... by speaking another version of it
        │   └── WireError                       ... with bytes that do not decode
        │       └── DiffError                   ... in a patch
        └── LinkTimeoutError                    the other side was silent for too long

Errors carry fields; the text is made of them, ends with the next step, and has no control characters of a peer's.
They survive pickle and copy with fields and text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from ._error import HakubanError
from ._text import cut, printable, redacted

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AlreadyConnectedError",
    "AmbiguousSchemeError",
    "CircleError",
    "ClosedError",
    "DeserializationError",
    "DiffError",
    "HakubanError",
    "InsecureListenerError",
    "InvalidDescriptorError",
    "InvalidURLError",
    "LinkError",
    "LinkTimeoutError",
    "NodeBrokenError",
    "NodeForkedError",
    "NotAssignedError",
    "PeerViolationError",
    "PluginError",
    "ProtocolMismatchError",
    "RefusedError",
    "SerializationError",
    "StateTooLargeError",
    "UnknownSchemeError",
    "WaitTimeoutError",
    "WireError",
    "WrongFormatError",
]


class InvalidDescriptorError(HakubanError, ValueError):
    """A tag or object descriptor is not JSON that every peer can read.

    :ivar reason: what is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        self.reason: str = printable(reason)
        super().__init__(f"{reason}; a descriptor is plain JSON: see ObjectDescriptor")


class InvalidURLError(HakubanError, ValueError):
    """A URL, or an option in its fragment, cannot be used.

    :ivar url: the URL as given, but without user, password, query and fragment, which may be secrets.
    :ivar reason: what is wrong with it.
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url: str = redacted(url)
        self.reason: str = printable(reason)
        super().__init__(f"{self.url!r}: {reason}")


class InsecureListenerError(InvalidURLError):
    """A listener could be reached from other machines, and would let everybody in, or would not encrypt.

    :ivar url: the URL, as in `InvalidURLError`.
    :ivar reason: what is missing, and what to do.
    """


class UnknownSchemeError(HakubanError):
    """No installed transport serves the scheme of a URL.

    :ivar scheme: the scheme asked for.
    :ivar installed: the schemes that installed distributions offer, sorted.
    :ivar distribution: the distribution that is known to offer it, or None.
    :ivar reason: why the plugin that is named after the scheme does not serve it, or None when there is none.
    """

    def __init__(
        self,
        scheme: str,
        installed: Sequence[str],
        distribution: str | None = None,
        *,
        reason: str | None = None,
    ) -> None:
        self.scheme = scheme
        self.installed: tuple[str, ...] = tuple(installed)
        self.distribution = distribution
        self.reason: str | None = None if reason is None else printable(reason)
        have = ", ".join(self.installed) or "none"
        step = (
            f"pip install {distribution}"
            if distribution
            else "install a distribution with this name in the entry-point group hakuban.transports"
        )
        cause = f": {reason}" if reason else ""
        super().__init__(f"no transport for scheme {scheme!r}{cause} (installed: {have}); {step}")


class AmbiguousSchemeError(HakubanError):
    """Two installed distributions offer a transport for one scheme.

    :ivar scheme: the scheme asked for.
    :ivar distributions: the distributions that offer it.
    """

    def __init__(self, scheme: str, distributions: Sequence[str]) -> None:
        self.scheme = scheme
        self.distributions: tuple[str, ...] = tuple(distributions)
        super().__init__(
            f"scheme {scheme!r} is offered by {' and '.join(self.distributions)};"
            " uninstall all but one, or pass transport= explicitly"
        )


class PluginError(HakubanError):
    """A plugin cannot be used; nothing but what it offers is affected. The `__cause__`, if there is one, has details.

    :ivar plugin: which plugin, in words.
    :ivar reason: what is wrong with it.
    """

    def __init__(self, plugin: str, reason: str) -> None:
        self.plugin = plugin
        self.reason: str = printable(reason)
        super().__init__(f"{plugin}: {reason}; mend, upgrade or uninstall that plugin")


class AlreadyConnectedError(HakubanError):
    """The node already has an upstream link, and a tree node has one at most.

    :ivar url: where the existing connection leads.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        super().__init__(
            f"this node is connected to {url} already; leave that block first,"
            " or use a second LocalNode"
        )


class NotAssignedError(HakubanError):
    """A sink was used although its assignment has ended: somebody else produces the object, or nobody wants it.

    :ivar descriptor: the object.
    """

    def __init__(self, descriptor: object) -> None:
        self.descriptor = descriptor
        super().__init__(
            f"no longer assigned to produce {cut(descriptor)}; stop producing and wait for the next sink"
        )


class StateTooLargeError(HakubanError, ValueError):
    """The data of a state exceed what the node may send.

    :ivar size: bytes of the refused data.
    :ivar limit: bytes allowed (`max_state` of the node).
    """

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            f"a state of {size} bytes is over the limit of {limit} bytes;"
            " split the object, or raise LocalNode(max_state=...) on every node of the tree"
        )


class SerializationError(HakubanError, ValueError):
    """A value cannot be encoded; nothing was published and no version was used up.

    :ivar value_type: the type of the value.
    :ivar reason: what is wrong, with the path of the part that it is about.
    :ivar descriptor: the object or tag, where it is known.
    """

    def __init__(self, value_type: type, reason: str) -> None:
        self.value_type: type = value_type
        self.reason: str = printable(reason)
        self.descriptor: object | None = None
        super().__init__(f"cannot encode {value_type.__name__}: {reason}")

    def name_object(self, descriptor: object) -> None:
        """Add to the text which object it is about, once; a serializer does not know that."""
        if self.descriptor is None:
            self.descriptor = descriptor
            self.args: tuple[Any, ...] = (f"{cut(descriptor)}: {self}",)


class DeserializationError(HakubanError, ValueError):
    """The data of a state cannot be decoded to what the observer asked for.

    :ivar format: the state's stack of encodings, outermost last.
    :ivar reason: what is wrong.
    :ivar descriptor: the object, where it is known.
    """

    def __init__(self, format: Sequence[str], reason: str) -> None:
        self.format: tuple[str, ...] = tuple(format)
        self.reason: str = printable(reason)
        self.descriptor: object | None = None
        super().__init__(f"cannot decode a state of format {list(self.format)}: {reason}")

    def name_object(self, descriptor: object | None) -> None:
        """Add to the text which object it is about, once; a serializer does not know that."""
        if self.descriptor is None and descriptor is not None:
            self.descriptor = descriptor
            self.args: tuple[Any, ...] = (f"{cut(descriptor)}: {self}",)


class WrongFormatError(DeserializationError):
    """The outermost format of a state is not the one the serializer reads.

    :ivar expected: the format that the serializer reads.
    """

    def __init__(self, format: Sequence[str], expected: str) -> None:
        self.expected = expected
        super().__init__(
            format, f"the last format is not {expected!r}; observe with the exposer's serializer"
        )


class ClosedError(HakubanError, anyio.ClosedResourceError):
    """What was used is closed: a contract, a connection, or the whole node.

    :ivar subject: what is closed: a descriptor, a URL, or the name of a node.
    """

    def __init__(self, subject: object, kind: str, step: str) -> None:
        self.subject = subject
        super().__init__(f"{kind} {cut(subject)} is closed; {step}")


class WaitTimeoutError(HakubanError, TimeoutError):
    """What was waited for did not come in time.

    :ivar subject: what was waited on: a descriptor, or a URL.
    :ivar timeout: seconds that were allowed.
    """

    def __init__(self, subject: object, timeout: float, missing: str, step: str) -> None:
        self.subject = subject
        self.timeout = timeout
        super().__init__(f"{cut(subject)}: {missing} within {timeout:g} s; {step}")


class NodeBrokenError(HakubanError):
    """An exception escaped the core of this node, so its state cannot be trusted; its links are closed.

    The exception is the `__cause__`. Make a new LocalNode.
    """

    def __init__(self) -> None:
        super().__init__(
            "this node is broken by an earlier exception (see __cause__); make a new LocalNode"
        )


class NodeForkedError(HakubanError):
    """The node was made by the parent of this process; a node does not survive fork."""

    def __init__(self) -> None:
        super().__init__("this node belongs to the parent process; make a LocalNode after fork")


class LinkError(HakubanError):
    """A link could not be made, or has ended.

    :ivar code: the WebSocket close code that states why (RFC 6455, section 7.4), also on other transports.
    :ivar reason: one line for people.
    :ivar url: where the link led, without user, password, query and fragment; None where that is not known.
    """

    code: int = 1006
    url: str | None = None

    def __init__(self, reason: str, *, code: int | None = None) -> None:
        self.reason: str = printable(reason) or "no reason was given"
        if code is not None:
            self.code = code
        super().__init__(self.reason)


class RefusedError(LinkError):
    """The other side refused the link.

    :ivar retry: whether trying again can help (a server error does, a wrong path does not).
    """

    code = 1008

    def __init__(self, reason: str, *, retry: bool, code: int | None = None) -> None:
        self.retry = retry
        super().__init__(reason, code=code)


class CircleError(LinkError):
    """The node that this side has connected to is this one, or is below it.

    :ivar path: the names of the nodes in the circle, from this one up to this one: ("lab", "hall", "lab").
    """

    code = 1008

    def __init__(self, path: Sequence[str]) -> None:
        self.path: tuple[str, ...] = tuple(map(printable, path))
        super().__init__(f"that would close a circle: {' -> '.join(self.path)}")
        self.args: tuple[Any, ...] = (
            f"{self.reason}; let one of them connect to a node that is not among them",
        )


class PeerViolationError(LinkError):
    """The other side broke the protocol; its link is ended, and nothing else.

    :ivar descriptor: the object or tag concerned, or None.
    """

    code = 1002

    def __init__(
        self, reason: str, *, code: int | None = None, descriptor: object | None = None
    ) -> None:
        self.descriptor = descriptor
        super().__init__(reason, code=code)


class ProtocolMismatchError(PeerViolationError):
    """The other side speaks a version of the protocol that this one does not; trying again cannot help.

    :ivar retry: always False.
    """

    retry = False


class WireError(PeerViolationError):
    """Bytes from the other side do not decode."""

    code = 1007


class DiffError(WireError):
    """A patch from the other side is truncated, out of range, or over the size limit."""


class LinkTimeoutError(LinkError):
    """Nothing was received from the other side for `timeout` seconds.

    :ivar timeout: seconds of silence that were allowed.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        super().__init__(f"nothing received for {timeout:g} s")
