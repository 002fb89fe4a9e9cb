"""The patch format of protocol 0.8: what changed between two byte strings, in few bytes.

It is described in `docs/protocol.md`. Any diff that `patch` understands is as good as another, so that `diff`
is free to make small ones fast. Both work at the speed of C: they compare slices, let
`bytes.find` and dicts search, and never loop over bytes.
"""

from __future__ import annotations

from .diff import diff, diffing
from .patch import patch, patching

__all__ = ["diff", "diffing", "patch", "patching"]
