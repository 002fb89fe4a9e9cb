"""Ports of this machine, for those who name one before they bind it or bind one again later."""

from __future__ import annotations

import itertools
import os
import socket
from typing import Final

_FIRST: Final = 10_000
_BLOCKS: Final = 200
_IN_A_BLOCK: Final = 100

# Below what the system gives to those who ask for any port (from 32,768 on Linux), and for each process a block of its
# own: tests run in several, and what one lets go of for a moment would sooner or later be another's.
_next = itertools.count(os.getpid() % _BLOCKS * _IN_A_BLOCK)


def free_port() -> int:
    """Give a port that is free on all addresses, and that nobody else will get soon."""
    for number in _next:
        port = _FIRST + number % (_BLOCKS * _IN_A_BLOCK)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError
