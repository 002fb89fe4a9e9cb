"""What is to be published, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._contents import Format, Version


class Outcome(Enum):
    """What became of a published state."""

    ACCEPTED = "newer than the held one"
    NOT_NEWER = "not newer than the held one"
    KEPT = "kept until the contract is assigned"
    NOT_ASSIGNED = "the assignment has ended"


@dataclass(slots=True)
class NewState:
    """Data to be published. `version` None asks for a default version, chosen when it is published."""

    data: bytes
    format: Format
    version: Version | None
