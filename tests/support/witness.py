"""An honest exposer and observer at 50 Hz, in a process of their own: how long does the router serve nobody?

`python -m support.witness URL` prints a JSON object for each line that it reads: `seconds`, the longest time in seconds
between two states since the line before, and `late`, how late the exposer itself was at most. On a machine with more
to do than it can, both grow; what the router did is the difference.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

from typing_extensions import override

from .raw_node import RawNode, expose, observe, state
from .watching import changing

OBJECT = '"witness"'
_PERIOD = 0.02


@dataclass(frozen=True, slots=True)
class Gap:
    """The longest time without a state, and what of it may be the fault of the witness itself; seconds."""

    seconds: float
    late: float

    @property
    def of_router(self) -> float:
        return self.seconds - self.late

    @override
    def __str__(self) -> str:
        return f"{1000 * self.seconds:.0f} ms ({1000 * self.late:.0f} ms late)"


class Witness:
    """Runs this module, and asks it."""

    def __init__(self, url: str) -> None:
        tests = str(Path(__file__).parents[1])
        packages = str(Path(__file__).parents[2] / "packages" / "hakuban-core" / "src")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.witness", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([tests, packages])},
        )
        self.ask()

    def ask(self) -> Gap:
        """Give what it saw since it was asked before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Gap(**json.loads(self._process.stdout.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate(timeout=10)


def _main(url: str) -> None:
    with RawNode(url, name="exposer") as exposer, RawNode(url, name="observer") as observer:
        exposer.tell(expose(OBJECT))
        observer.tell(observe(OBJECT))
        channel = exposer.wait_sink(OBJECT)
        exposer.send(state(channel, (0,), b"0"))
        observer.wait_version(OBJECT, (0,))
        late = [0.0]

        def publish() -> None:
            number, due = 0, time.monotonic()
            while True:
                number, due = number + 1, due + _PERIOD
                time.sleep(max(0.0, due - time.monotonic()))
                late[0] = max(late[0], time.monotonic() - due)
                exposer.send(state(channel, (number,), b"0"))

        threading.Thread(target=publish, daemon=True).start()
        last = observer.seen[-1]
        for _ in sys.stdin:
            with changing():
                seen, observer.seen = observer.seen, []
            times = [item.at for item in (last, *seen)]
            if seen:
                last = seen[-1]
            times.append(time.monotonic())  # a router that is silent still has a growing gap
            gap = max(later - earlier for earlier, later in pairwise(times))
            answer = {"seconds": gap, "late": late[0]}
            late[0] = 0.0
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
