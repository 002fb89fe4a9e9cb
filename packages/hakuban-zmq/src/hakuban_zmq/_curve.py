"""CURVE: certificates in files, and who is let in."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import zmq.auth
from zmq.utils import z85

from hakuban.transport import InvalidURLError

from ._allow_list import AllowList
from ._certificates import Unusable, find_keys
from ._curve_server import CurveServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

SECRET_KEY_FILE: Final = "HAKUBAN_ZMQ_SECRET_KEY_FILE"  # noqa: S105 # no password, a name
SERVER_KEY_FILE: Final = "HAKUBAN_ZMQ_SERVER_KEY_FILE"
CLIENT_KEYS: Final = "HAKUBAN_ZMQ_CLIENT_KEYS"
INSECURE: Final = "HAKUBAN_ZMQ_INSECURE"


class KeyFileError(InvalidURLError):
    """A certificate that a URL needs cannot be used.

    :ivar url: the URL, as in `InvalidURLError`.
    :ivar path: the file or directory.
    :ivar reason: what is wrong with it, and what to do.
    """

    def __init__(self, url: str, path: str, reason: str) -> None:
        self.path = path
        super().__init__(url, f"{path}: {reason}; hakuban-zmq-keygen makes certificates")


@dataclass(frozen=True, slots=True)
class ConnectorKeys:
    """What a connecting side shows, and whom it expects."""

    public: bytes
    secret: bytes
    server: bytes

    def options(self) -> dict[str, object]:
        """Return the options of the socket."""
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

    server: CurveServer
    clients: AllowList | None


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
        server = CurveServer(z85.decode(_need_secret(secret_key_file, secret)))
        if client_keys is None:
            return ListenerKeys(server, None)
        clients = AllowList(Path(client_keys))
        clients.read()
        return ListenerKeys(server, clients)


@contextmanager
def _wanted_for(url: str) -> Iterator[None]:
    try:
        yield
    except Unusable as error:
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
        text = Path(path).read_bytes()
    except OSError as error:
        raise Unusable(path, f"cannot be read: {error.strerror}") from None
    except ValueError:  # there is a NUL in it
        raise Unusable(path, "cannot be read: that is no path") from None
    return find_keys(path, text)


def _need_secret(path: str, secret: bytes | None) -> bytes:
    if secret is None:
        raise Unusable(path, "has no secret key: NAME.key_secret is meant, and not NAME.key")
    return secret
