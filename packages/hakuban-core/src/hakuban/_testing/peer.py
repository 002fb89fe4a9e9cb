"""The other process of the rules on processes: nodes over the transport under test, until it is killed."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from .._api.node import LocalNode
from .environment import PATIENCE, Finding

if TYPE_CHECKING:
    from ..transport import Transport, TransportOptions


CAN_FREEZE: Final = hasattr(signal, "SIGSTOP")
"""Whether a process can be stopped so that its links stay open, and send nothing; not on Windows."""

_START: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer);"
    " from hakuban._testing.peer import main; main()"
)
_FAILED: Final = "failed: "


@dataclass(slots=True)
class Carried:
    """What is taken into the other process.

    :ivar url: where it listens.
    :ivar parent: the URL of a listener of this process, to connect to.
    """

    transport: Transport
    url: str
    parent: str
    options: TransportOptions
    serve_options: TransportOptions


class OtherProcess:
    """A process whose nodes use the transport; killed at the end of the block.

    :raises Finding: what it needs cannot be pickled.
    """

    def __init__(self, carried: Carried) -> None:
        try:
            needed = pickle.dumps(carried)
        except Exception as error:
            raise Finding(f"pickle raised {type(error).__name__}: {error}") from error
        self._process = subprocess.Popen(  # noqa: S603 -- this interpreter, with code of this module
            [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has failed; `url` reports that
            self._process.stdin.write(pickle.dumps(sys.path) + needed)
            self._process.stdin.flush()

    async def url(self) -> str:
        """Wait until it listens and has connected to this process; return the URL where it listens.

        :raises Finding: it does not get that far.
        """
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

        def read() -> None:
            assert self._process.stdout is not None
            lines.put(self._process.stdout.readline())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        with anyio.move_on_after(PATIENCE):
            while lines.empty():  # noqa: ASYNC110 -- a thread of an event loop's pool could not be left
                await anyio.sleep(0.01)
        if lines.empty():
            raise Finding(f"not within {PATIENCE:g} s: another process listens, and connects")
        line = lines.get().decode().strip()
        if not line or line.startswith(_FAILED):
            raise Finding(f"another process {line or 'ended before it listened'}")
        return line

    def kill(self) -> None:
        """End it as the operating system does when memory is short."""
        self._process.kill()

    def freeze(self) -> None:
        """Stop it: its sockets stay open, and nothing comes from them any more."""
        self._process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def link_arguments(options: TransportOptions) -> Any:
    """Return the options as `LocalNode.connect` and `listen` take them."""
    names = {field.name for field in fields(options)} - {"clock"}
    return {name: getattr(options, name) for name in names}


def main() -> None:
    """Run the other process: reads what it needs from the standard input, and ends with it."""
    try:
        carried: Carried = pickle.load(sys.stdin.buffer)  # noqa: S301 -- from the process that started this one
        threading.Thread(target=_end_with_parent, daemon=True).start()
        anyio.run(_link, carried)
    except BaseException as error:
        print(f"{_FAILED}{type(error).__name__}: {error}", flush=True)  # noqa: T201 -- it is what is waited for
        raise


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


async def _link(carried: Carried) -> None:
    transport = carried.transport
    with LocalNode("there, above") as above, LocalNode("there, below") as below:
        async with (
            above.listen(
                carried.url, transport=transport, **link_arguments(carried.serve_options)
            ) as listener,
            below.connect(carried.parent, transport=transport, **link_arguments(carried.options)),
        ):
            print(listener.url, flush=True)  # noqa: T201 -- it is what is waited for
            await anyio.sleep_forever()
