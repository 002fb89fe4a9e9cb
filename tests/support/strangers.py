"""Strangers at the binds of a router process that has 1,024 descriptors, and what becomes of it."""

from __future__ import annotations

import re
import select
import socket
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

import hakuban
import hakuban.sync

from .processes import RouterProcess
from .watching import happens, until
from .witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

LIMIT: Final = 1024
"""Descriptors that the router may have."""

_RESERVE: Final = 64
"""Descriptors that it keeps from strangers."""

_MIB: Final = 1 << 20
_LISTENING: Final = re.compile(r"listening on (\S+)")
_WITHIN: Final = ("sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh")
_PEAK: Final = re.compile(r"^VmHWM:\s*(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """What a process has of its system.

    :ivar memory: resident, in MiB.
    """

    descriptors: int
    threads: int
    memory: float


class Attack:
    """What the strangers of a `Besieged.unharmed` block did.

    :ivar peak: the most resident memory of the router, in MiB above what it had before; known after the block.
    """

    peak: float = 0


class Besieged(RouterProcess):
    """A router with few descriptors, to be attacked on one bind, and watched there and on others.

    :param binds: URLs; the first one is `bind` of the router.
    :param env: more variables of its environment.
    :param friends: those of honest clients.
    :ivar urls: of the binds, as bound, by their schemes.
    """

    def __init__(
        self,
        *binds: str,
        loop: str = "auto",
        env: dict[str, str] | None = None,
        friends: Mapping[str, str] | None = None,
    ) -> None:
        first, *others = binds
        options = [option for bind in others for option in ("-b", bind)]
        self._friends = friends
        super().__init__(*options, "--loop", loop, bind=first, env=env, within=_WITHIN)
        lines = [self.url, *(self.err.wait(_LISTENING)[1].rstrip("/") for _ in others)]
        self.urls = {url.partition("://")[0]: url for url in lines}
        self._process = psutil.Process(self.pid)

    def held(self) -> Held:
        memory = self._process.memory_info().rss / _MIB
        return Held(self._process.num_fds(), self._process.num_threads(), memory)

    def _peak(self) -> float:
        found = _PEAK.search(Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    @contextmanager
    def unharmed(self, *watched: str, record: Callable[[str, object], None]) -> Iterator[Attack]:
        """Check that nobody on some binds notices the strangers of this block, and that nothing of them is left.

        :param watched: schemes of the binds.
        :param record: the fixture `record_property`.
        """
        attack = Attack()
        with ExitStack() as stack:
            witnesses = [
                stack.enter_context(Witness(self.urls[scheme], f'"{scheme}"', env=self._friends))
                for scheme in watched
            ]
            before = self.held()
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # the peak begins here
            for witness in witnesses:
                witness.ask()
            yield attack
            gaps = [witness.ask() for witness in witnesses]
            attack.peak = self._peak() - before.memory
            happens(lambda: self._has_recovered(before), 10)
            after = self.held()
        shown = ", ".join(f"{scheme} {gap}" for scheme, gap in zip(watched, gaps, strict=True))
        memory = f"{before.memory:.0f} {attack.peak:+.0f} {after.memory - before.memory:+.0f} MiB"
        record("figure", f"gaps {shown}; {memory}; {before.descriptors} {after.descriptors} files")
        assert self.process.poll() is None
        assert max(gap.of_router for gap in gaps) < 1
        assert after.descriptors <= before.descriptors
        assert after.threads <= before.threads
        assert after.memory <= before.memory + 20

    def _has_recovered(self, before: Held) -> bool:
        now = self.held()
        return (
            now.descriptors <= before.descriptors
            and now.threads <= before.threads
            and now.memory <= before.memory + 20
        )

    def wait_full(self) -> None:
        """Wait until strangers have all the descriptors that they can get."""
        full = LIMIT - _RESERVE
        until(lambda: self._process.num_fds() >= full, "descriptors are short", 10)

    def lets_in(self, scheme: str, seconds: float) -> float:
        """Have an honest client come to a bind, and come back when it is turned away; give how long that took.

        :raises AssertionError: it is not let in within some seconds.
        """
        start = time.monotonic()
        with hakuban.LocalNode("newcomer") as node:
            with hakuban.sync.connect(node, self.urls[scheme], wait=False) as connection:
                until(lambda: connection.up, f"somebody gets in on {scheme}", seconds)
        return time.monotonic() - start


def knock(url: str) -> socket.socket:
    """Connect to a bind, and say nothing; no later call waits for longer than 10 s."""
    scheme, _, place = url.partition("://")
    if scheme == "zmq+ipc":
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(
            place
        )  # waits where the queue is full; with a time-out of Python's it would fail at once
        stranger.settimeout(10)
        return stranger
    host, _, port = place.rpartition(":")
    stranger = socket.create_connection((host, int(port)), 10)
    stranger.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stranger


@contextmanager
def crowd(url: str, words: Sequence[bytes]) -> Iterator[list[socket.socket]]:
    """Have a stranger for each of some words, who connects, says it, and stays until the end of the block."""
    with ExitStack() as stack:
        strangers = []
        for word in words:
            strangers.append(stack.enter_context(knock(url)))
            with suppress(ConnectionError):  # it was turned away already
                strangers[-1].sendall(word)
        yield strangers


def wait_cut(strangers: Sequence[socket.socket], count: int, seconds: float) -> None:
    """Wait until the router has ended the connections of so many, whatever it says before.

    :raises AssertionError: it has not in that time.
    """
    deadline = time.monotonic() + seconds
    poll = select.poll()
    alive = {stranger.fileno(): stranger for stranger in strangers}
    for descriptor in alive:
        poll.register(descriptor, select.POLLIN)
    while len(strangers) - len(alive) < count:
        left = deadline - time.monotonic()
        assert left > 0, f"{len(alive)} of {len(strangers)} are still there after {seconds:g} s"
        for descriptor, _ in poll.poll(1000 * left):
            try:
                ended = not alive[descriptor].recv(1 << 16)
            except ConnectionError:
                ended = True
            if ended:
                poll.unregister(descriptor)
                del alive[descriptor]
