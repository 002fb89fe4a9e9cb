"""The pure middle: which objects exist, who produces them, how fresh they are, what is to be sent on each link.

No I/O, no clock, no tasks, no random, no bytes: `Machine` turns events into effects, and answers to pulls.
"""

from .machine import Machine

__all__ = ["Machine"]
