"""Public certificates in files that others have written, or may be writing."""

from __future__ import annotations

import os
import stat
import struct
from typing import Final, NamedTuple

from zmq.utils import z85

_KEY: Final = 32  # bytes
_LARGEST: Final = 64 * 1024  # bytes of a file
_TOO_LARGE: Final = f"has more than {_LARGEST} bytes, which no certificate has"
_READ_ONLY: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Unusable(Exception):
    """A file or directory cannot be used.

    :ivar path: which.
    :ivar reason: what is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason


class Stamp(NamedTuple):
    """What a file differs in from another one in its place. No time that can be set: keys all have one size."""

    device: int
    inode: int
    changed_at: int
    size: int

    @staticmethod
    def of(status: os.stat_result) -> Stamp:
        """Take it from what the system reports."""
        return Stamp(status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size)


def read_public_key(path: str) -> tuple[bytes, Stamp]:
    """Read a file without waiting for anybody who might write to it.

    :returns: the public key, and the stamp of what was read.
    :raises OSError: it cannot be opened or read.
    :raises Unusable: it is no file, or has no key in it.
    """
    descriptor = os.open(path, _READ_ONLY)
    try:
        # of the file that is open, and taken first: what is written later shows in the next one
        status = os.fstat(descriptor)
        require_file(path, status)
        text = b""
        while len(text) <= _LARGEST and (piece := os.read(descriptor, _LARGEST + 1)):
            text += piece
    finally:
        os.close(descriptor)
    if len(text) > _LARGEST:  # it has grown meanwhile
        raise Unusable(path, _TOO_LARGE)
    return find_keys(path, text)[0], Stamp.of(status)


def require_file(path: str, status: os.stat_result) -> None:
    """Look whether this may be opened, and read.

    :raises Unusable: it is a FIFO, for example, or too large.
    """
    if not stat.S_ISREG(status.st_mode):
        raise Unusable(path, "is no file")
    if status.st_size > _LARGEST:
        raise Unusable(path, _TOO_LARGE)


def find_keys(path: str, text: bytes) -> tuple[bytes, bytes | None]:
    """Find the public and the secret key as `zmq.auth.load_certificate` does, which opens files itself.

    :param path: of the certificate, for errors.
    :raises Unusable: there is no public key in the text, or one is damaged.
    """
    public: bytes | None = None
    secret: bytes | None = None
    for line in text.split(b"\n"):
        name, _, value = line.strip().partition(b"=")
        if name.startswith(b"public-key"):
            public = value.strip(b" \t'\"")
        elif name.startswith(b"secret-key"):
            secret = value.strip(b" \t'\"")
        if public and secret:
            break
    if public is None:
        raise Unusable(path, "cannot be read as a certificate: there is no key in it")
    if not all(key is None or _is_key(key) for key in (public, secret)):
        raise Unusable(path, "cannot be read as a certificate: a key is damaged")
    return public, secret


def _is_key(text: bytes) -> bool:
    try:
        return len(z85.decode(text)) == _KEY
    except (ValueError, KeyError, struct.error):  # the length, a character, a number
        return False
