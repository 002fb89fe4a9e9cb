"""How many files and sockets the router may have open."""

from __future__ import annotations

from contextlib import suppress

_MOST_OF_DARWIN = 10_240


def raise_open_files_limit() -> None:
    """Take as many descriptors as the system administrator allows: each link needs one.

    The lower soft limit is for programs that use `select`, which does not know descriptors from 1,024 on.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    # Darwin may name no hard limit, and allow less than that
    for most in (hard, max(soft, _MOST_OF_DARWIN)):
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            return
