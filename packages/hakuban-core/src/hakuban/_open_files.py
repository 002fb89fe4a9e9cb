"""How many files and sockets this process may have open."""

from __future__ import annotations


def open_files_limit() -> int | None:
    """Return the limit that holds now, or None where there is none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
