"""Characters that change what a terminal shows, or cannot be seen there."""

from __future__ import annotations

from typing import Final

__all__ = ["UNSEEN", "check_seen"]

UNSEEN: Final = {
    "override": "\u202e",
    "isolates": "\u2066\u2067\u2068\u2069",
    "separators": "\u2028\u2029",
    "zero width": "\u200b\u200c\u200d\u200e\u200f\ufeff",
    "C1": "\x9b2J",
    "DEL": "\x7f",
    "C0": "\x1b[2J\r\x07",
    "tag": "\U000e0041",
    "private": "\ue000",
    "soft hyphen": "\xad",
}
"""Texts by what is in them; each has more than one cousin."""


def check_seen(text: str) -> None:
    """See that each line of a text can be shown."""
    for line in text.split("\n"):
        assert line.isprintable(), ascii(line)
