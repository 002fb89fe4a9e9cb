"""Trees of real processes that lose something, and what their observers say then of the age of what they see."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from .leaves import READERS, Reading
from .ports import free_port
from .processes import Program, RouterProcess
from .rust import RustRouter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .wires import Place, Wires

ROOT: Final = Path(__file__).parents[2]

RUST: Final = "ws, Rust router"
DEEP: Final = "ws, two routers"
SCHEMES: Final = {"ws": "ws", "zmq": "zmq+tcp", "tcp plugin": "tcp", DEEP: "ws", RUST: "ws"}
"""Kinds of trees, and the schemes of their URLs. In a deep one the exposer is at a router below that of the observers."""

_LISTENING = re.compile(r"listening on (\S+)")


@dataclass(frozen=True)
class Timing:
    """Signs of life, in seconds.

    :ivar said: whether URLs say so, or these are the defaults.
    """

    keep_alive: float
    timeout: float
    said: bool = True

    @property
    def options(self) -> str:
        """The fragment of URLs, in words that the crate's router has too."""
        if not self.said:
            return ""
        return f"#keep-alive={self.keep_alive * 1000:.0f}ms,timeout={self.timeout * 1000:.0f}ms"


class Observer(Program):
    """Observers of all trees, in one process.

    :ivar readings: what they have said so far.
    """

    def __init__(self, command: Sequence[str], env: dict[str, str]) -> None:
        super().__init__(command, env)
        self.readings: list[Reading] = []

    def read(
        self, readers: Iterable[tuple[str, str]], seen: Callable[[Reading], bool], seconds: float
    ) -> None:
        """Take what they say until each of these readers, named by its tree's kind too, has seen something.

        :raises AssertionError: some did not in time.
        """
        deadline = time.monotonic() + seconds
        missing = set(readers) - {(said.kind, said.reader) for said in self.readings if seen(said)}
        while missing:
            try:
                line = self.out.next(max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not in {seconds:g} s: {missing}; {self.err.seen}") from None
            assert line is not None, f"the observers ended: {self.err.seen}"
            said = Reading(**json.loads(line))
            self.readings.append(said)
            if seen(said):
                missing.discard((said.kind, said.reader))


class Trees:
    """A tree of each kind: a router with an exposer, and with observers one and two hops away; see `leaves`.

    Trees have nothing to do with each other, and yet share processes, since each takes half a second to start.

    :param folder: where the plugin is said to be installed.
    :ivar readers: those of all trees, with the tree's kind.
    """

    def __init__(self, kinds: Sequence[str], wires: Wires, timing: Timing, folder: Path) -> None:
        self.kinds = kinds
        self.readers = {(kind, reader) for kind in kinds for reader in READERS}
        self._wires, self._timing = wires, timing
        path = [ROOT / "tests", ROOT / "examples/transport-plugin", _installed_plugin(folder)]
        also = os.environ.get("PYTHONPATH", "")
        self._env = {"PYTHONPATH": os.pathsep.join([*map(str, path), also])}
        self._urls: dict[str, str] = {}  # where exposers connect
        self._routers: list[Program] = []
        with ExitStack() as stack:
            self._stack = stack
            self._start_routers()
            self._exposer = Program(self._leaves("exposer", "expose"), self._env)
            self._stack.enter_context(self._exposer)
            self.observer = self.observe()
            self._stack = stack.pop_all()

    def _start_routers(self) -> None:
        host, options = self._wires.host, self._timing.options
        ours = [kind for kind in self.kinds if kind not in (DEEP, RUST)]
        first, *more = (f"{SCHEMES[kind]}://{host}:0{options}" for kind in ours)
        router = self._start_router(first, *(f"--bind={url}" for url in more))
        urls = [router.url, *(router.err.wait(_LISTENING)[1] for _ in more)]
        self._urls.update(zip(ours, urls, strict=True))
        if DEEP in self.kinds:
            above = self._wires.lead("router", self._urls["ws"]) + options
            below = self._start_router(f"ws://{host}:0{options}", f"--connect={above}")
            self._urls[DEEP] = below.url
        if RUST in self.kinds:
            self._urls[RUST] = url = f"ws://{host}:{free_port()}"
            rust = RustRouter(bind=f"{url}/{options}", within=self._wires.within("router"))
            self._routers.append(self._stack.enter_context(rust))

    def _start_router(self, bind: str, *more: str) -> RouterProcess:
        within = self._wires.within("router")
        router = RouterProcess("--insecure", *more, bind=bind, env=self._env, within=within)
        self._routers.append(self._stack.enter_context(router))
        return router

    def _leaves(self, place: Place, verb: str) -> list[str]:
        urls = dict(self._urls)
        if place == "observer" and DEEP in urls:
            urls[DEEP] = urls["ws"]
        urls = {kind: self._wires.lead(place, url) for kind, url in urls.items()}
        program = [sys.executable, "-m", "support.leaves", verb, json.dumps(urls)]
        return [*self._wires.within(place), *program, self._timing.options]

    def observe(self) -> Observer:
        """Start observers of all trees."""
        return self._stack.enter_context(Observer(self._leaves("observer", "observe"), self._env))

    def signal(self, place: Place, signum: int) -> None:
        """Send a signal to the exposers, or to the routers between."""
        for program in self._programs(place):
            os.kill(program.pid, signum)

    def wait_ended(self, place: Place) -> None:
        """Wait until the exposers, or the routers between, have ended."""
        for program in self._programs(place):
            program.wait()

    def _programs(self, place: Place) -> list[Program]:
        return {"exposer": [self._exposer], "router": self._routers, "observer": []}[place]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()


def _installed_plugin(folder: Path) -> Path:
    """Have the transport of the examples found in a folder as if pip had installed it there."""
    info = folder / "hakuban_tcp_example-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: hakuban-tcp-example\nVersion: 0.1.0\n"
    )
    (info / "entry_points.txt").write_text("[hakuban.transports]\ntcp = hakuban_tcp\n")
    return folder


@contextmanager
def idle_trees(kinds: Sequence[str], wires: Wires, timing: Timing, folder: Path) -> Iterator[Trees]:
    """Give trees in which all see what is exposed, and since then only signs of life have come over their links."""
    with Trees(kinds, wires, timing, folder) as trees:
        trees.observer.read(trees.readers, lambda said: said.synchronized, 30)
        time.sleep(1.6 * timing.keep_alive)
        yield trees


# ---- losses ----------------------------------------------------------------------------------------------------------

Loss: TypeAlias = "Callable[[Trees, Wires], None]"


def frozen(*places: Place) -> Loss:
    """Processes are stopped, and say nothing any more."""

    def inflict(trees: Trees, _: Wires) -> None:
        for place in places:
            trees.signal(place, signal.SIGSTOP)

    return inflict


def killed(place: Place) -> Loss:
    """Processes are killed: their system ends the connections."""
    return lambda trees, _: trees.signal(place, signal.SIGKILL)


def leaving(place: Place) -> Loss:
    """Processes say that they leave, and end."""

    def inflict(trees: Trees, _: Wires) -> None:
        trees.signal(place, signal.SIGTERM)
        trees.wait_ended(place)

    return inflict


def pulled(place: Place) -> Loss:
    """The cable between leaves and the router is pulled."""
    return lambda _, wires: wires.pull(place)


def reset(place: Place) -> Loss:
    """The connections between leaves and the router are reset by something between."""
    return lambda _, wires: wires.reset(place)
