"""What lies between three machines: an exposer and an observer, each with a cable to a router."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from typing_extensions import override

from .cables import Relay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Place: TypeAlias = Literal["exposer", "router", "observer"]

_LEAVES: Final[tuple[Place, ...]] = ("exposer", "observer")
_numbers = itertools.count()


class Wires:
    """All three are one machine, and nothing is between them.

    :ivar host: where the router listens.
    """

    host = "127.0.0.1"

    def within(self, _: Place, /) -> Sequence[str]:
        """Give what a command starts with that is to run there."""
        return ()

    def lead(self, _: Place, url: str, /) -> str:
        """Give the URL at which one there finds what the router has bound."""
        return url

    def pull(self, place: Place) -> None:
        """Pull the cable between a leaf and the router: nobody is told."""
        raise NotImplementedError

    def reset(self, place: Place) -> None:
        """Reset the connections between a leaf and the router, and let none be made again."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class Relays(Wires):
    """One machine, where threads pass on the bytes of each cable."""

    def __init__(self) -> None:
        self._relays: defaultdict[Place, list[Relay]] = defaultdict(list)

    @override
    def lead(self, place: Place, url: str, /) -> str:
        parts = urlsplit(url)
        assert parts.port is not None
        if place == "router":
            return url
        relay = Relay(parts.port)
        self._relays[place].append(relay)
        return f"{parts.scheme}://127.0.0.1:{relay.port}"

    @override
    def pull(self, place: Place) -> None:
        for relay in self._relays[place]:
            relay.pull()

    @override
    def reset(self, place: Place) -> None:
        for relay in self._relays[place]:
            relay.reset()

    @override
    def __exit__(self, *exc_info: object) -> None:
        for place in _LEAVES:
            self.reset(place)


class Namespaces(Wires):
    """Three machines, as the kernel's network namespaces make them: for root.

    :raises OSError: this user may not, or there is no `ip`.
    """

    host = "0.0.0.0"

    def __init__(self) -> None:
        self._name = f"hakuban-{os.getpid()}-{next(_numbers)}"
        self._stack = ExitStack()

    @override
    def within(self, place: Place, /) -> Sequence[str]:
        return "ip", "netns", "exec", f"{self._name}-{place}"

    @override
    def lead(self, place: Place, url: str, /) -> str:
        parts = urlsplit(url)
        address = "127.0.0.1" if place == "router" else f"10.0.{_LEAVES.index(place)}.1"
        return f"{parts.scheme}://{address}:{parts.port}"

    @override
    def pull(self, place: Place) -> None:
        # at the far end of it, so that whoever is to notice has no error of its own
        if place == "exposer":
            self._ip(place, "link", "set", "up", "down")
        else:
            self._ip("router", "link", "set", place, "down")

    @override
    def __enter__(self) -> Self:
        if not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("ip")):
            raise PermissionError
        with ExitStack() as stack:
            for place in ("router", *_LEAVES):
                _run("ip", "netns", "add", f"{self._name}-{place}")
                stack.callback(_run, "ip", "netns", "delete", f"{self._name}-{place}")
                self._ip(place, "link", "set", "lo", "up")
            for number, place in enumerate(_LEAVES):
                self._ip(
                    place, "link", "add", "up", "type", "veth",
                    "peer", "name", place, "netns", f"{self._name}-router",
                )  # fmt: skip
                for end, name, address in (("router", place, 1), (place, "up", 2)):
                    self._ip(end, "address", "add", f"10.0.{number}.{address}/24", "dev", name)
                    self._ip(end, "link", "set", name, "up")
            self._stack = stack.pop_all()
        return self

    @override
    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _ip(self, place: str, *words: str) -> None:
        _run("ip", "-netns", f"{self._name}-{place}", *words)


def _run(*command: str) -> None:
    """Run a command.

    :raises PermissionError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(f"{' '.join(command)}: {done.stderr}")


@contextmanager
def cables() -> Iterator[Wires]:
    """Give wires whose cables can be pulled: real ones where this user may make them, else relays."""
    with ExitStack() as stack:
        wires: Wires
        try:
            wires = stack.enter_context(Namespaces())
        except OSError:
            wires = stack.enter_context(Relays())
        yield wires
