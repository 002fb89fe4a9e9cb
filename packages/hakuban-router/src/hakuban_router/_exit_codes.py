"""What a command may fail by, sorted into exit codes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import hakuban
from hakuban.transport import InsecureListenerError

FORESEEN: Final = (hakuban.HakubanError, OSError, ValueError)
"""What `listen` and `connect` raise where something is wrong with their surroundings."""

_USAGE = (ValueError, hakuban.UnknownSchemeError, hakuban.AmbiguousSchemeError)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command gave up.

    :ivar code: the exit code: 2 for arguments and URLs, 1 for what the machine or a peer refuses.
    :ivar reason: one line for the user.
    """

    code: int
    reason: str


def failure(what: str, error: hakuban.HakubanError | OSError | ValueError) -> Failure:
    """Sort an error of `listen` or `connect`. A ValueError, as InvalidURLError is one, is about what the user wrote.

    :param what: what could not be done, for the user.
    """
    if isinstance(error, InsecureListenerError):
        return Failure(2, f"{error}, which is --insecure here")
    if isinstance(error, _USAGE):
        return Failure(2, str(error))
    if not isinstance(error, OSError):
        return Failure(1, f"{what}: {error}")
    if error.errno is not None and error.errno > 0:  # below 0: the resolver's numbers
        return Failure(1, f"{what}: {os.strerror(error.errno)}")
    return Failure(1, f"{what}: {error.strerror or error}")


def unforeseen(what: str, error: BaseException) -> Failure:
    """Make a failure of what nobody has foreseen; its traceback is for the log."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    kind = "" if isinstance(error, hakuban.HakubanError) else f"{type(error).__name__}: "
    return Failure(1, f"{what}: {kind}{error}")
