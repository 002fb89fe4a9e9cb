"""The wire protocol 0.8 of one link: bytes to events, instructions to bytes. No I/O, no clock, no decisions."""

from __future__ import annotations

from .session import Session

__all__ = ["Session"]
