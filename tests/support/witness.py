"""An honest exposer and observer at 50 Hz, in a process of their own: how long does the router serve nobody?

`python -m support.witness URL OBJECT` prints a JSON object for each line that it reads: `seconds`, the longest time in
seconds between two states since the line before, and `late`, how late the exposer itself was at most. On a machine with
more to do than it can, both grow; what the router did is the difference.

Over WebSocket it is made of plain sockets, which are never late by themselves; over other transports of the library's nodes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Self

from typing_extensions import override

import hakuban
import hakuban.sync

from .raw_node import RawNode, expose, observe, state
from .watching import changing, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
    """Runs this module, and asks it.

    :param json: the object, as JSON text: each witness of a router needs its own.
    :param env: more variables of its environment, such as the keys of a CURVE bind.
    """

    def __init__(
        self, url: str, json: str = OBJECT, *, env: Mapping[str, str] | None = None
    ) -> None:
        root = Path(__file__).parents[2]
        sources = map(str, (root / "tests", *root.glob("packages/*/src")))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.witness", url, json],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sources)} | dict(env or {}),
        )
        self.ask()

    def ask(self) -> Gap:
        """Give what it saw since it was asked before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Gap(**loads(self._process.stdout.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate(timeout=10)


@dataclass(frozen=True, slots=True)
class _Pair:
    """An exposer and an observer that see each other.

    :ivar publish: publishes a number, each time a larger one.
    :ivar take_times: gives the monotonic times at which states came since it was called before.
    """

    publish: Callable[[int], None]
    take_times: Callable[[], list[float]]


@contextmanager
def _plain_sockets(url: str, json: str) -> Iterator[_Pair]:
    with RawNode(url, name="exposer") as exposer, RawNode(url, name="observer") as observer:
        exposer.tell(expose(json))
        observer.tell(observe(json))
        channel = exposer.wait_sink(json)

        def publish(number: int) -> None:
            exposer.send(state(channel, (number,), b"0"))

        def take_times() -> list[float]:
            with changing():
                seen, observer.seen = observer.seen, []
            return [item.at for item in seen]

        publish(0)
        observer.wait_version(json, (0,))
        yield _Pair(publish, take_times)


@contextmanager
def _nodes(url: str, json: str) -> Iterator[_Pair]:
    name = hakuban.ObjectDescriptor.from_json((), json)
    with (
        hakuban.LocalNode("exposer") as exposer,
        hakuban.LocalNode("observer") as observer,
        hakuban.sync.connect(exposer, url),
        hakuban.sync.connect(observer, url),
        exposer.object(name).expose() as exposing,
        observer.object(name).observe() as observing,
    ):
        times: list[float] = []

        def watch() -> None:
            last = -1
            for seen in observing:
                if seen.data > last:  # the others tell of its age
                    last = seen.data
                    with changing():
                        times.append(time.monotonic())

        def take_times() -> list[float]:
            with changing():
                taken = times.copy()
                times.clear()
            return taken

        threading.Thread(target=watch, daemon=True).start()
        exposing.set_object_data(0)
        until(lambda: times, "the first state")
        yield _Pair(exposing.set_object_data, take_times)


def _main(url: str, json: str) -> None:
    with (_plain_sockets if url.startswith("ws://") else _nodes)(url, json) as pair:
        late = [0.0]
        over = threading.Event()

        def publish() -> None:
            number, due = 1, time.monotonic() + _PERIOD
            while not over.wait(max(0.0, due - time.monotonic())):
                late[0] = max(late[0], time.monotonic() - due)
                pair.publish(number)
                number, due = number + 1, due + _PERIOD

        last = pair.take_times()[-1]
        publishing = threading.Thread(target=publish)
        publishing.start()
        for _ in sys.stdin:
            times = [last, *pair.take_times()]
            last = times[-1]
            times.append(time.monotonic())  # a router that is silent still has a growing gap
            gap = max(later - earlier for earlier, later in pairwise(times))
            answer = {"seconds": gap, "late": late[0]}
            late[0] = 0.0
            print(dumps(answer), flush=True)
        over.set()
        publishing.join()


if __name__ == "__main__":
    _main(*sys.argv[1:])
