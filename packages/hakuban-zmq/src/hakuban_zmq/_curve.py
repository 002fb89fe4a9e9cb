"""CURVE: certificates in files, and who is let in."""

from __future__ import annotations

import os
import struct
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import zmq
import zmq.auth
from zmq.utils import z85

from hakuban.transport import InvalidURLError, get_logger

from ._sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

logger = get_logger("hakuban.zmq")

SECRET_KEY_FILE: Final = "HAKUBAN_ZMQ_SECRET_KEY_FILE"  # noqa: S105 # no password, a name
SERVER_KEY_FILE: Final = "HAKUBAN_ZMQ_SERVER_KEY_FILE"
CLIENT_KEYS: Final = "HAKUBAN_ZMQ_CLIENT_KEYS"
INSECURE: Final = "HAKUBAN_ZMQ_INSECURE"

# Any other domain than "" makes libzmq ask our handler, and turn all away when that is not there.
_DOMAIN: Final = b"hakuban"
_SETTLED: Final = 2 * 10**9
"""Nanoseconds after which a file that has not changed is believed to be as it was read."""
_ZAP: Final = "inproc://zeromq.zap.01"
_KEY: Final = 32  # bytes


class KeyFileError(InvalidURLError):
    """A certificate that a URL needs cannot be used.

    :ivar url: the URL, as in `InvalidURLError`.
    :ivar path: the file or directory.
    :ivar reason: what is wrong with it, and what to do.
    """

    def __init__(self, url: str, path: str, reason: str) -> None:
        self.path = path
        super().__init__(url, f"{path}: {reason}; hakuban-zmq-keygen makes certificates")


class _Unusable(Exception):
    """The same, where nobody knows the URL."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ConnectorKeys:
    """What a connecting side shows, and whom it expects."""

    public: bytes
    secret: bytes
    server: bytes

    def options(self) -> dict[str, object]:
        """Give the options of the socket."""
        return {
            "curve_publickey": self.public,
            "curve_secretkey": self.secret,
            "curve_serverkey": self.server,
        }


@dataclass(frozen=True, slots=True)
class ListenerKeys:
    """What a listener shows, and whom it lets in.

    :ivar clients: None lets in everybody who knows the listener's own public certificate.
    """

    secret: bytes
    clients: AllowList | None

    def options(self) -> dict[str, object]:
        """Give the options of the socket."""
        return {"curve_server": 1, "curve_secretkey": self.secret, "zap_domain": _DOMAIN}

    def open(self, context: zmq.Context[zmq.Socket[bytes]]) -> Source:
        """Answer libzmq's question whether a key is let in, within a context of the listener's own."""
        socket = context.socket(zmq.REP)
        try:
            socket.bind(_ZAP)
        except BaseException:
            socket.close(0)
            raise
        return _Gate(socket, self.clients)


class _Seen(NamedTuple):
    """A certificate, and what another one in its place differs in: all have one size, and other times can be set."""

    name: str
    inode: int
    changed_at: int


class AllowList:
    """The public keys in a directory, whose files are read again when one of them has changed.

    :ivar known: the keys as they were read last.
    :raises _Unusable: there is no such directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: list[_Seen] | None = None
        self.known: frozenset[bytes] = frozenset()
        try:
            there = directory.is_dir()
        except OSError:  # nobody may look
            there = False
        if not there:
            raise _Unusable(str(directory), "is no directory of public certificates (*.key)")

    def __contains__(self, key: bytes) -> bool:
        try:
            self._refresh()
        except OSError as error:
            logger.error("nobody is let in: %s", error)  # noqa: TRY400 # one line says it
            return False
        return key in self.known

    def without(self, keys: frozenset[bytes]) -> frozenset[bytes]:
        """Give those of some keys that are not on it; none where it cannot be read."""
        try:
            self._refresh()
        except OSError:
            return frozenset()
        return keys - self.known

    def _refresh(self) -> None:
        found = self._look()
        if found != self._read:
            self.known = frozenset(_read_public(self._directory / seen.name) for seen in found)
            # Clocks of file systems are coarse: what is new may change again unnoticed.
            newest = max((seen.changed_at for seen in found), default=0)
            self._read = found if newest < time.time_ns() - _SETTLED else None

    def _look(self) -> list[_Seen]:
        found = []
        for path in sorted(self._directory.iterdir()):
            if path.suffix == ".key" and not path.name.startswith("."):
                with suppress(FileNotFoundError):  # it has gone, or is a link to nothing
                    status = path.stat()
                    found.append(_Seen(path.name, status.st_ino, status.st_ctime_ns))
        return found


class _Gate(Source):
    """Speaks ZAP (RFC 27) with libzmq."""

    __slots__ = ("_allowed",)

    def __init__(self, socket: zmq.Socket[bytes], allowed: AllowList | None) -> None:
        super().__init__(socket, self._answer)
        self._allowed = allowed

    def _answer(self) -> None:
        version, request, _, address, _, mechanism, *credentials = self.socket.recv_multipart(
            zmq.NOBLOCK
        )
        key = z85.encode(credentials[0]) if mechanism == b"CURVE" and credentials else b""
        if key and (self._allowed is None or key in self._allowed):
            status, text = b"200", b"OK"
        else:
            logger.info("%s: its key is not allowed: %s", address.decode(), key.decode())
            status, text, key = b"400", b"not allowed", b""
        self.socket.send_multipart([version, request, status, text, key, b""], zmq.NOBLOCK)


def read_connector_keys(url: str, secret_key_file: str, server_key_file: str) -> ConnectorKeys:
    """Read what the connecting side needs.

    :raises KeyFileError: a file is missing or none of these.
    """
    with _wanted_for(url):
        public, secret = _read(secret_key_file)
        server, _ = _read(server_key_file)
        return ConnectorKeys(public, _need_secret(secret_key_file, secret), server)


def read_listener_keys(url: str, secret_key_file: str, client_keys: str | None) -> ListenerKeys:
    """Read what the listening side needs.

    :raises KeyFileError: a file or directory is missing or none of these.
    """
    with _wanted_for(url):
        _, secret = _read(secret_key_file)
        clients = None if client_keys is None else AllowList(Path(client_keys))
        return ListenerKeys(_need_secret(secret_key_file, secret), clients)


@contextmanager
def _wanted_for(url: str) -> Iterator[None]:
    try:
        yield
    except _Unusable as error:
        raise KeyFileError(url, error.path, error.reason) from None


def write_keys(directory: str | PathLike[str], name: str) -> tuple[Path, Path]:
    """Make a certificate: `NAME.key`, to be given away, and `NAME.key_secret`, which only its owner may read.

    :param directory: is made if it is not there.
    :returns: the paths of the public and of the secret file.
    :raises FileExistsError: there is one of this name; nothing is overwritten.
    :raises ValueError: the name has a separator of paths in it.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"{name!r} is no name for a file")
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    with tempfile.TemporaryDirectory(dir=folder) as private:  # nobody else may look into it
        written = [Path(path) for path in zmq.auth.create_certificates(private, name)]
        written[1].chmod(0o600)
        try:
            for path in written:
                os.link(path, folder / path.name)  # fails where a rename would overwrite
                made.append(folder / path.name)
        except FileExistsError as error:
            for path in made:
                path.unlink()
            taken = folder / f"{name}.key[_secret]"
            raise FileExistsError(
                error.errno, "is there already: take another name, or remove it", str(taken)
            ) from None
    return made[0], made[1]


def _read(path: str) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except OSError as error:
        raise _Unusable(path, f"cannot be read: {error.strerror or 'there is no file'}") from None
    except (ValueError, IndexError):  # a line without what it begins with, for example
        raise _Unusable(path, "cannot be read as a certificate: there is no key in it") from None
    if not all(key is None or _is_key(key) for key in (public, secret)):
        raise _Unusable(path, "cannot be read as a certificate: a key is damaged")
    return public, secret


def _is_key(text: bytes) -> bool:
    try:
        return len(z85.decode(text)) == _KEY
    except (ValueError, KeyError, struct.error):  # the length, a character, a number
        return False


def _need_secret(path: str, secret: bytes | None) -> bytes:
    if secret is None:
        raise _Unusable(path, "has no secret key: NAME.key_secret is meant, and not NAME.key")
    return secret


def _read_public(path: Path) -> bytes:
    try:
        return _read(str(path))[0]
    except _Unusable as error:
        logger.warning("%s lets nobody in: it %s", path, error.reason)
        return b""
