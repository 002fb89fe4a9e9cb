"""The Rust crate for tests: its router, and a node of it that is told what to do (tests/rust-peer)."""

from __future__ import annotations

import base64
import itertools
import json
import os
import queue
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from hakuban import ObjectDescriptor, TagDescriptor

from .parties import Descriptor, Party, State
from .ports import free_port
from .processes import Program
from .watching import until

if TYPE_CHECKING:
    from collections.abc import Sequence

_CRATE = Path(__file__).parents[1] / "rust-peer"
_BUILT = _CRATE / "target" / "release"
_PLACES = {
    "hk-peer": "HAKUBAN_RUST_PEER",
    "hakuban-router": "HAKUBAN_RUST_ROUTER",
}


@dataclass(frozen=True, slots=True)
class Binaries:
    """The crate's programs.

    :ivar peer: a node driven by JSON lines.
    :ivar router: the crate's own router.
    """

    peer: Path
    router: Path


@cache
def binaries() -> Binaries | None:
    """Find the programs by the environment, or build them (3 minutes, once for each checkout); None without cargo.

    :raises subprocess.CalledProcessError: they do not build.
    """
    given = {name: os.environ.get(variable) for name, variable in _PLACES.items()}
    if not all(given.values()):
        cargo = shutil.which("cargo")
        if cargo is None:
            return None
        built = ["-p", "hk-peer", "-p", "hakuban", "--bins", "--target-dir", str(_BUILT.parent)]
        subprocess.run(
            [cargo, "build", "--release", *built],
            cwd=_CRATE,
            stdin=subprocess.DEVNULL,
            check=True,
        )
    paths = {name: Path(place) if place else _BUILT / name for name, place in given.items()}
    return Binaries(paths["hk-peer"], paths["hakuban-router"])


def _programs() -> Binaries:
    found = binaries()
    assert found is not None, "tests that need the crate are skipped without cargo"
    return found


class RustRouter(Program):
    """The crate's router; `url` is where it listens.

    :param within: a command that runs it, such as `ip netns exec NAME`; then nobody waits until it listens.
    """

    def __init__(self, *options: str, bind: str | None = None, within: Sequence[str] = ()) -> None:
        self.url = bind or f"ws://127.0.0.1:{free_port()}"
        super().__init__(
            [*within, str(_programs().router), "--bind", self.url, *options],
            env={"RUST_LOG": os.environ.get("RUST_LOG", "hakuban=info")},
        )
        try:
            assert self.process.stdin is not None
            self.process.stdin.close()  # while it is open, one worker thread is blocked reading it
            if not within:
                self._wait_for_port()
        except BaseException:
            self.__exit__()
            raise

    def _wait_for_port(self) -> None:
        host, port = self.url.removeprefix("ws://").partition("#")[0].rstrip("/").split(":")
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
            except ConnectionRefusedError:
                assert self.process.poll() is None, f"the crate's router ended: {self.err.seen}"
                assert time.monotonic() < deadline, "the crate's router does not listen"
                time.sleep(0.02)  # another process: there is nothing to wait on
            else:
                return


class RustPeerError(Exception):
    """The peer refused a command, or has ended."""


class RustPeer(Party):
    """A node of the crate, in a process of its own.

    :param options: options of its URLs, such as `load-limit=3`.
    """

    def __init__(self, name: str = "rust", *, options: str = "") -> None:
        super().__init__(name)
        self._fragment = f"#name={name}" + (f",{options}" if options else "")
        self._refs = itertools.count()
        self._replies: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._ended = False
        self._process = subprocess.Popen(
            [_programs().peer], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.stack.callback(self._quit)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def returncode(self) -> int | None:
        """The exit code, once the process has ended."""
        return self._process.poll()

    @override
    def vanish(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def call(self, command: str, **fields: Any) -> dict[str, Any]:
        """Give a command and wait for its answer.

        :raises RustPeerError: it was refused, or the process has ended.
        """
        return self._answer(self._give(command, fields))

    def call_all(self, command: str, many: list[dict[str, Any]]) -> None:
        """Give a command many times without waiting in between, then wait for the answers."""
        for ref in [self._give(command, fields) for fields in many]:
            self._answer(ref)

    def _give(self, command: str, fields: dict[str, Any]) -> int:
        ref = next(self._refs)
        self._replies[ref] = queue.SimpleQueue()
        line = json.dumps({"cmd": command, "ref": ref, **fields})
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RustPeerError(f"{self.name} has ended ({self.returncode})") from None
        return ref

    def _answer(self, ref: int) -> dict[str, Any]:
        if self._ended:
            self._replies[ref].put({"event": "error", "message": "the process has ended"})
        answer = self._replies[ref].get(timeout=30)
        del self._replies[ref]
        if answer["event"] == "error":
            raise RustPeerError(f"{self.name}: {answer['message']}")
        return answer

    # ---- what it says ------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            for line in pipe:
                self._hear(json.loads(line))
        self._ended = True
        for replies in list(self._replies.values()):
            replies.put({"event": "error", "message": "the process has ended"})

    def _hear(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "ok" | "error" if "ref" in event:
                self._replies[event["ref"]].put(event)
            case "ready" | "bye" | "error":
                pass
            case "state":
                self.happened("state", _thing(event), _state(event))
            case "assigned" | "unassigned" | "stream_opened" | "stream_closed" as kind:
                self.happened(kind, _thing(event))
            case kind:
                self.happened(kind)

    # ---- Party ------------------------------------------------------------------------------------------------------

    @override
    def connect(self, url: str) -> None:
        before = self.count("connected")
        self.call("connect", url=url + "/" + self._fragment)
        until(lambda: self.count("connected") > before, f"{self.name} is connected to {url}")

    @override
    def disconnect(self) -> None:
        self.call("disconnect")

    @override
    def listen(self) -> str:
        bound: str = self.call(
            "listen", url="ws://127.0.0.1:0/" + self._fragment, rebalance_threshold=0.1
        )["url"]
        return bound.partition("#")[0].rstrip("/")

    @override
    def observe(self, descriptor: Descriptor) -> None:
        self._contract("observe", descriptor)

    @override
    def unobserve(self, descriptor: Descriptor) -> None:
        self._contract("unobserve", descriptor)

    @override
    def expose(self, descriptor: Descriptor, capacity: int = 1) -> None:
        self._contract("expose", descriptor, capacity=capacity)

    @override
    def unexpose(self, descriptor: Descriptor) -> None:
        self._contract("unexpose", descriptor)

    def _contract(self, verb: str, descriptor: Descriptor, **fields: Any) -> None:
        if isinstance(descriptor, TagDescriptor):
            self.call(f"{verb}_tag", tag=descriptor.json, **fields)
        else:
            self.call(f"{verb}_object", descriptor=_json(descriptor), **fields)

    @override
    def publish(
        self, thing: ObjectDescriptor, data: bytes, version: tuple[int, ...] | None = None
    ) -> None:
        self.call("set_state", **_command(thing, data, version))

    @override
    def publish_all(self, thing: ObjectDescriptor, states: Sequence[bytes]) -> None:
        self.call_all("set_state", [_command(thing, data, None) for data in states])

    def _quit(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.vanish()
        self._reader.join(10)


def _command(
    thing: ObjectDescriptor, data: bytes, version: tuple[int, ...] | None
) -> dict[str, Any]:
    command: dict[str, Any] = {
        "descriptor": _json(thing),
        "data_base64": base64.b64encode(data).decode(),
        "format": ["JSON"],
    }
    if version is not None:
        command["version"] = list(version)
    return command


def _json(thing: ObjectDescriptor) -> dict[str, Any]:
    return {"tags": [tag.json for tag in thing.tags], "json": thing.json}


def _thing(event: dict[str, Any]) -> ObjectDescriptor:
    return ObjectDescriptor(event["descriptor"]["tags"], event["descriptor"]["json"])


def _state(event: dict[str, Any]) -> State:
    data = event.get("data")
    return State(
        data.encode() if data is not None else base64.b64decode(event["data_base64"]),
        tuple(event["format"]),
        tuple(event["version"]),
        event["synchronized"],
        event["synchronized_micros_ago"] / 1e6,
    )
