"""How much of what comes in is read before what was read is handled."""

from __future__ import annotations

from typing import Final

# Seconds of handling that what was read may take. It goes before every newer value, so this is how stale it makes them; less
# than that is not worth a smaller read, or a window that is smaller than a long path needs.
HANDLING: Final = 0.05
# Seconds of handling that the estimate goes by: long enough for pauses of the process to even out.
MEMORY: Final = 0.2
# Bytes. What is read at once is conflated here, so more than a few states should be: with 4 KiB a router at 5 % of a core
# handled fewer bytes a second, and was no fresher. A read that brings less does not show how much could be handled.
LEAST: Final = 16 * 1024
MOST: Final = 1024 * 1024


class ReadAhead:
    """How many bytes to ask an operating system for, so that they can be handled soon: within 50 ms.

    While handling is quick, that is `most`. A process that is short of CPU gets less at once: what was not read waits
    with the sender, where the newest value takes the place of older ones.

    For one stream; knows no clock, its user measures times.

    :param most: bytes that are asked for while there is time enough.
    :ivar size: bytes to ask for, as `learn` set it last: from 16 KiB, or `most` where that is less, to `most`.
    """

    __slots__ = ("_brief", "_most", "_read", "_seconds", "size")

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.size: int = most
        # seconds of handling after which `most` fits all the same
        self._brief = HANDLING * LEAST / most
        self._read = 0  # since it was last looked at how long handling takes
        self._seconds = 0.0  # that handling took since then

    def came(self, size: int) -> None:
        """So many bytes were read."""
        self._read += size

    def handled(self, seconds: float) -> None:
        """Handling some of it took so long: from messages being handed out to more being asked for."""
        self._seconds += seconds

    def learn(self) -> int:
        """Return the bytes to ask for next: to be called when all that was read is handled."""
        seconds, size, most = self._seconds, self.size, self._most
        if seconds > 0:
            if size != most or seconds > self._brief:
                read = max(self._read, LEAST)
                fitting = (size * MEMORY + read * HANDLING) / (MEMORY + seconds)
                size = self.size = min(most, max(LEAST, int(fitting)))
            self._seconds, self._read = 0.0, 0
        return size
