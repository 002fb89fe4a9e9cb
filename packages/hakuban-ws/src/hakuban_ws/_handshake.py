"""The HTTP that opens a WebSocket, on both sides. Pure; wsproto and h11 do the grammar."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from wsproto import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.extensions import PerMessageDeflate
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from ._deflate import Deflater, Inflater
from ._frames import FrameReader, FrameWriter
from ._http_refusals import no_websocket, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hakuban.transport import TransportOptions

    from ._urls import Endpoint

SUBPROTOCOL = "hakuban.0.8"

MAX_HEAD = 32 * 1024
MAX_HEADERS = 128
MAX_FIRST_LINE = 8 * 1024

# Alerts and handshakes begin like this.
_TLS_RECORDS = (b"\x15", b"\x16")
_END_OF_HEAD = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z]+) [!-~]+ HTTP/1\.[01]\r\n")
# How the first line of a head may begin; there is no use in waiting for the rest of anything else.
REQUEST = re.compile(rb"[A-Z]{1,16}(?: [!-~]*(?: [HTP/1.0\r]*)?)?")
RESPONSE = re.compile(rb"H(?:T(?:T(?:P(?:/(?:1(?:\.[\x20-\xff\r]*)?)?)?)?)?)?")
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:[^\r\n]*websocket", re.IGNORECASE)
_SERVED = "GET, HEAD, OPTIONS"
_KEY_BYTES = 16
_RETRY_AFTER = ("Retry-After", "1")
# The transport's own, which options may not set; and what names and values may be made of.
_OWN_HEADER = re.compile(
    r"host|connection|upgrade|sec-websocket-.*|content-length|transfer-encoding|te|trailer|expect",
    re.IGNORECASE,
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?")


@dataclass(slots=True)
class Agreement:
    """What both sides agreed on.

    :ivar ours: whether the other side knows our sub-protocol.
    :ivar deflate: the parameters of permessage-deflate, or None.
    :ivar peer_clock: what the listening side stated as Unix time in nanoseconds, or None.
    """

    ours: bool
    deflate: PerMessageDeflate | None = None
    peer_clock: int | None = None

    def codec(self, *, listening: bool, max_message: int) -> tuple[FrameReader, FrameWriter]:
        """The frame layer of the side that listens, or of the one that connected."""
        deflater = inflater = None
        if (agreed := self.deflate) is not None:
            client = (agreed.client_max_window_bits, agreed.client_no_context_takeover)
            server = (agreed.server_max_window_bits, agreed.server_no_context_takeover)
            sends, receives = (server, client) if listening else (client, server)
            deflater = Deflater(sends[0], reset=sends[1])
            inflater = Inflater(reset=receives[1], max_message=max_message)
        return (
            FrameReader(masked=listening, max_message=max_message, inflater=inflater),
            FrameWriter(masked=not listening, deflater=deflater),
        )


class HTTPAnswer(Exception):
    """A request is answered, and not with an upgrade.

    :ivar status: the status code.
    :ivar body: one line of text.
    :param head_only: whether the body is only announced, as HEAD asks.
    """

    def __init__(
        self,
        status: int,
        body: str,
        headers: Sequence[tuple[str, str]] = (),
        *,
        head_only: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self._headers = tuple(headers)
        self._head_only = head_only
        super().__init__(f"{status} {body}")

    @classmethod
    def try_later(cls, body: str) -> HTTPAnswer:
        """Not now: 503, with the time after which to come back."""
        return cls(HTTPStatus.SERVICE_UNAVAILABLE, body, [_RETRY_AFTER])

    def encode(self) -> bytes:
        """The response; the connection is to be closed after it."""
        body = f"{self.body}\n".encode("utf-8", "replace")
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self._headers),
        ]
        head = "\r\n".join(lines).encode("ascii") + _END_OF_HEAD
        return head if self._head_only else head + body


class Head:
    """Collects the head of a message, and no more than 32 KiB of it.

    :param first_line: what its first line has to begin like: REQUEST or RESPONSE.
    :ivar rest: what came after the head.
    """

    def __init__(self, first_line: re.Pattern[bytes]) -> None:
        self._first_line: re.Pattern[bytes] | None = first_line  # None once it is checked
        self._data = bytearray()
        self.rest = b""

    def feed(self, data: bytes) -> bytes | None:
        """Take in bytes; returns the head once it is whole.

        :raises HTTPAnswer: 400, it is none; 431, it is too long or has too many headers.
        """
        searched = max(0, len(self._data) - len(_END_OF_HEAD))
        self._data += data
        if self._first_line is not None:
            self._check_first_line(self._first_line)
        end = self._data.find(_END_OF_HEAD, searched)
        size = len(self._data) if end < 0 else end + len(_END_OF_HEAD)
        if size > MAX_HEAD:
            raise HTTPAnswer(431, f"head over {MAX_HEAD} bytes")
        if end < 0:
            return None
        head = bytes(self._data[:size])
        if head.count(b"\r\n") - 2 > MAX_HEADERS:
            raise HTTPAnswer(431, f"more than {MAX_HEADERS} headers")
        self.rest = bytes(self._data[size:])
        return head

    def _check_first_line(self, pattern: re.Pattern[bytes]) -> None:
        line, newline, _ = self._data[: MAX_FIRST_LINE + 1].partition(b"\n")
        if line[:1] in _TLS_RECORDS:
            raise HTTPAnswer(400, "TLS on one side only; use wss:// on both, or ws://")
        if not pattern.fullmatch(line):
            raise HTTPAnswer(400, "not HTTP/1.1; is it another protocol?")
        if len(line) > MAX_FIRST_LINE:
            raise HTTPAnswer(431, f"first line over {MAX_FIRST_LINE} bytes")
        if newline:
            self._first_line = None


class ServerHandshake:
    """The listening side: one request, whose head has come in.

    :ivar path: the target, as it was sent.
    :ivar headers: its headers by name in lower case.
    :raises HTTPAnswer: it asks for no WebSocket, or wrongly.
    """

    def __init__(self, head: bytes) -> None:
        line = _REQUEST_LINE.match(head)
        if line is None:
            raise HTTPAnswer(400, "not an HTTP/1.1 request")
        method = line[1].decode()
        if method not in _SERVED.split(", "):
            raise HTTPAnswer(405, f"only {_SERVED} are served here", [("Allow", _SERVED)])
        if method != "GET" or _UPGRADE.search(head) is None:
            allow = [("Allow", _SERVED)] if method == "OPTIONS" else ()
            raise HTTPAnswer(200, "hakuban ok", allow, head_only=method == "HEAD")
        self._http = H11Handshake(ConnectionType.SERVER)
        try:
            self._http.receive_data(head)
            request = next(self._http.events(), None)
        except RemoteProtocolError as error:
            raise _rejection(error) from None
        except ValueError as error:  # text that is not ASCII where only ASCII may be
            raise HTTPAnswer(400, f"bad header: {type(error).__name__}") from None
        if not isinstance(request, Request):
            raise HTTPAnswer(400, "not a WebSocket request")
        self._request = request
        self.path = request.target
        self.headers = _header_map(request)
        if not _is_key(self.headers["sec-websocket-key"]):
            raise HTTPAnswer(400, "Sec-WebSocket-Key is not one key of 16 bytes in base64")

    def accept(self, now: int, *, compression: bool) -> tuple[Agreement, bytes]:
        """Agree; returns the response too.

        :param now: Unix time in nanoseconds, to be stated to the other side.
        :param compression: whether to accept permessage-deflate.
        """
        ours = SUBPROTOCOL in self._request.subprotocols
        extra_headers = [(b"Hakuban-Time", str(now).encode())]
        subprotocol = SUBPROTOCOL if ours else None
        deflate = PerMessageDeflate()
        try:
            response = self._http.send(
                AcceptConnection(
                    subprotocol=subprotocol,
                    extensions=[deflate] if compression else [],
                    extra_headers=extra_headers,
                )
            )
        except ValueError:
            # The offer has parameters that are no numbers: an extension that is not understood is declined.
            deflate = PerMessageDeflate()
            response = self._http.send(
                AcceptConnection(subprotocol=subprotocol, extra_headers=extra_headers)
            )
        return Agreement(ours, deflate if deflate.enabled() else None), response


class ClientHandshake:
    """The connecting side.

    :raises ValueError: a header of the options cannot be sent, or they are more than listeners read.
    """

    def __init__(self, endpoint: Endpoint, options: TransportOptions) -> None:
        self._http = H11Handshake(ConnectionType.CLIENT)
        target = endpoint.target
        self.request = self._http.send(
            Request(
                host=endpoint.authority,
                target=target if target.startswith("/") else f"/{target}",
                subprotocols=[SUBPROTOCOL],
                extensions=[PerMessageDeflate()] if options.compression else [],
                extra_headers=_header_lines(options.headers),
            )
        )
        if self.request.index(b"\n") > MAX_FIRST_LINE:
            raise ValueError(
                f"path and query are over the {MAX_FIRST_LINE} bytes that listeners read: shorten them"
            )
        if len(self.request) > MAX_HEAD or self.request.count(b"\r\n") - 2 > MAX_HEADERS:
            raise ValueError(
                f"the headers are over the {MAX_HEAD} bytes, or the {MAX_HEADERS} of them, that listeners read: send fewer"
            )

    def finish(self, head: bytes, rest: bytes) -> Agreement:
        """Read the response.

        :param rest: what came behind its head; a refusal has its reason there.
        :raises RefusedError: the answer is no, or no answer at all.
        """
        try:
            self._http.receive_data(head)
            event = next(self._http.events(), None)
        except (RemoteProtocolError, LocalProtocolError, ValueError) as error:
            raise no_websocket(f"is it another server? {error}") from None
        if isinstance(event, RejectConnection):
            raise refusal(event.status_code, event.headers, rest)
        if not isinstance(event, AcceptConnection):
            raise no_websocket("is it another server? It gave no response")
        deflate = event.extensions[0] if event.extensions else None
        assert deflate is None or isinstance(deflate, PerMessageDeflate)
        return Agreement(event.subprotocol == SUBPROTOCOL, deflate, _clock(event))


def _rejection(error: RemoteProtocolError) -> HTTPAnswer:
    status, headers = 400, []
    if isinstance(error.event_hint, RejectConnection):
        status = error.event_hint.status_code
        headers = [(name.decode(), value.decode()) for name, value in error.event_hint.headers]
    return HTTPAnswer(status, str(error), headers)


def _header_map(request: Request) -> dict[str, str]:
    headers = {"host": request.host}
    for raw_name, raw_value in request.extra_headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _is_key(text: str) -> bool:
    """Return whether it is what RFC 6455, 4.2.1 asks for; two keys, joined by a comma, are not."""
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):  # the other one for what is not ASCII
        return False


def _header_lines(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as bytes.

    :raises ValueError: one cannot be sent; stated without its value, which may be a secret.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            shown = name.partition(":")[0]  # behind it there may be a token: a typing error
            raise ValueError(f"header {shown!r} is not what HTTP can carry")
        if _OWN_HEADER.fullmatch(name):
            raise ValueError(f"header {name!r} is the transport's own")
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def _clock(event: AcceptConnection) -> int | None:
    for name, value in event.extra_headers:
        if name.lower() == b"hakuban-time" and re.fullmatch(rb"[0-9]{1,19}", value):
            return min(int(value), 2**63 - 1)
    return None
