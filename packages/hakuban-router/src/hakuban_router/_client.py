"""What the `hakuban` command does between its arguments and its exit code."""

from __future__ import annotations

import base64
import os
import signal
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from typing_extensions import override

import hakuban
from hakuban.transport import redacted

from ._exit_codes import failure
from ._log import say, start_logging
from ._signals import INTERRUPTED
from ._stderr import write_out_errors
from ._stdio import OutputError, read_lines, write_out

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

    from ._client_arguments import Request
    from ._signals import Signals

    Sink = hakuban.ObjectStateSink[bytes]


PATIENCE = (
    1.0  # seconds that the last value waits for somebody who takes it, after the end of the input
)
NOTICE = 3.0  # seconds that the first line waits for somebody who takes it, before a notice

NOBODY = "nobody observes this object here, or somebody else was chosen to produce it"


def run(request: Request, signals: Signals) -> int:
    """Do what is asked; return the exit code.

    :param signals: they may have come before this already.
    """
    start_logging("warning", "hakuban: %(message)s")
    output = _Output()
    with signals.beside_a_loop():
        code = anyio.run(_probe, request, output, signals)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left but Python's own shutdown
    if output.busy:
        write_out_errors(PATIENCE)
        os._exit(code)  # a thread hangs in a write that nobody reads, and Python would wait for it
    return code


async def _probe(request: Request, output: _Output, signals: Signals) -> int:
    probe = _Exposer(request, output) if request.expose else _Observer(request, output)
    await probe.run(signals)
    return probe.code


class _Output:
    """The standard output, written by a thread: its reader may be slow, and the link has to live on meanwhile."""

    def __init__(self) -> None:
        self.busy = False
        self._lock = anyio.Lock()

    async def write(self, line: bytes) -> bool:
        """Write a line; return False when its reader has gone.

        :raises OutputError: it cannot be written.
        """
        async with self._lock:
            # before there is a thread, which may begin late; where none begins, `run` ends the process all the same
            self.busy = True
            return await anyio.to_thread.run_sync(self._write, line, abandon_on_cancel=True)

    def _write(self, line: bytes) -> bool:
        try:
            return write_out(line + b"\n")
        finally:
            self.busy = False


class _Probe(ABC):
    """A node with one link and one contract.

    :ivar code: the exit code.
    """

    def __init__(self, request: Request, output: _Output) -> None:
        self.code = 0
        self._request = request
        self._output = output
        self._node = hakuban.LocalNode()
        self._scope = anyio.CancelScope()
        self._finished = False
        self._left = request.count

    async def run(self, signals: Signals) -> None:
        async with anyio.create_task_group() as group:
            await group.start(signals.watch, self._end)
            with self._scope:
                await self._connect()
            if self._scope.cancelled_caught and not self._finished:
                self._complain(f"nothing came for {self._request.timeout:g} s")
            group.cancel_scope.cancel()

    async def _connect(self) -> None:
        self._renew_patience()
        try:
            async with self._node.connect(self._request.url):
                await self._work()
        except (hakuban.HakubanError, OSError, ValueError) as error:
            why = failure(f"cannot connect to {redacted(self._request.url)}", error)
            self._complain(why.reason, why.code)

    @abstractmethod
    async def _work(self) -> None:
        """Do what the link is for, until it is done or cancelled."""

    def _renew_patience(self) -> None:
        if self._request.timeout is not None:
            self._scope.deadline = anyio.current_time() + self._request.timeout

    def _end(self, signum: int) -> int:
        """Leave because of a signal; return the exit code."""
        if signum == signal.SIGINT:
            self.code = INTERRUPTED
        self._finish()
        return self.code

    def _finish(self) -> None:
        self._finished = True
        self._scope.cancel()

    async def _print(self, line: bytes) -> bool:
        """Write a line of the output; return False, and finish, when there is nobody or nothing to write to."""
        try:
            written = await self._output.write(line)
        except OutputError as error:
            self._complain(str(error))
            written = False
        if not written:
            self._finish()
        return written

    def _counted(self) -> bool:
        """Count a state or line; return whether it was the last one."""
        if self._left is not None:
            self._left -= 1
        return self._left == 0

    def _complain(self, reason: str, code: int = 1) -> None:
        if self.code != INTERRUPTED:
            self.code = code
        say("hakuban", reason)


# ---- observing -----------------------------------------------------------------------------------


class _Observer(_Probe):
    """Prints states."""

    @override
    async def _work(self) -> None:
        descriptor = self._request.descriptor
        if isinstance(descriptor, hakuban.ObjectDescriptor):
            with self._node.object(descriptor).observe(serializer=hakuban.RAW) as states:
                await self._show(states, {})
            return
        with self._node.tag(descriptor).observe(serializer=hakuban.RAW) as streams:
            async with anyio.create_task_group() as group:
                async for stream in streams:
                    group.start_soon(self._show, stream, _named(stream.descriptor))

    async def _show(
        self, states: AsyncIterable[hakuban.ObjectState[bytes]], name: dict[str, Any]
    ) -> None:
        async for state in states:
            self._renew_patience()
            line = state.raw if self._request.raw else _line(state, name)
            if await self._print(line) and self._counted():
                self._finish()


def _named(descriptor: hakuban.ObjectDescriptor) -> dict[str, Any]:
    tags = [tag.json for tag in descriptor.tags]
    return {"descriptor": {"tags": tags, "json": descriptor.json}}


def _line(state: hakuban.ObjectState[bytes], name: dict[str, Any]) -> bytes:
    facts = {
        "version": state.version,
        "format": state.format,
        "synchronized": state.synchronized,
        "age": round(state.age, 6),
    }
    for serializer in (hakuban.JSON, hakuban.MESSAGE_PACK):
        with suppress(hakuban.DeserializationError, hakuban.SerializationError):
            data: Any = serializer.deserialize(state.format, state.raw, Any)
            return _json({**name, "data": data, **facts})
    encoded = base64.b64encode(state.raw).decode()
    return _json({**name, "data": None, "base64": encoded, **facts})


def _json(value: dict[str, Any]) -> bytes:
    return hakuban.JSON.serialize(value)[1]


# ---- exposing ------------------------------------------------------------------------------------


class _Exposer(_Probe):
    """Publishes lines of the input to whatever is assigned."""

    def __init__(self, request: Request, output: _Output) -> None:
        super().__init__(request, output)
        self._sinks: set[Sink] = set()
        self._number = 0  # of the last line that was read
        self._value: tuple[int, bytes] | None = None  # the number of a line, and itself
        self._first_read = anyio.Event()
        self._first_taken = anyio.Event()
        self._taken = anyio.Event()  # the last value
        self._ended = anyio.Event()
        self._told = False  # that nobody takes anything

    @override
    async def _work(self) -> None:
        self._scope.deadline = float("inf")  # connected: nothing else has to come by itself
        serializer = hakuban.RAW if self._request.raw else hakuban.RAW.with_format(["JSON"])
        descriptor = self._request.descriptor
        builder = (
            self._node.object(descriptor)
            if isinstance(descriptor, hakuban.ObjectDescriptor)
            else self._node.tag(descriptor)
        )
        with builder.expose(capacity=self._request.capacity, serializer=serializer) as sinks:
            async with anyio.create_task_group() as group:
                group.start_soon(self._produce_all, sinks)
                group.start_soon(self._notice_nobody)
                self._read_input()
                await self._ended.wait()
                await self._wait_taken()
                group.cancel_scope.cancel()

    async def _produce_all(self, sinks: AsyncIterable[Sink]) -> None:
        async with anyio.create_task_group() as group:
            async for sink in sinks:
                group.start_soon(self._produce, sink)

    async def _produce(self, sink: Sink) -> None:
        name = (
            {}
            if isinstance(self._request.descriptor, hakuban.ObjectDescriptor)
            else _named(sink.descriptor)
        )
        self._sinks.add(sink)
        self._publish(sink)
        await self._print(_json({**name, "assigned": True}))
        await sink.wait_unassigned()
        self._sinks.discard(sink)
        await self._print(_json({**name, "assigned": False}))

    async def _notice_nobody(self) -> None:
        await self._first_read.wait()
        with anyio.move_on_after(NOTICE):
            await self._first_taken.wait()
        # at the end of the input there are words of their own for that
        if not (self._first_taken.is_set() or self._sinks or self._ended.is_set()):
            self._told = True
            say("hakuban", f"nobody has taken a line for {NOTICE:g} s: {NOBODY}; waiting")

    def _read_input(self) -> None:
        token = anyio.lowlevel.current_token()

        def hand_over(function: Callable[..., object], *args: object) -> None:
            with suppress(RuntimeError):  # the event loop has ended
                anyio.from_thread.run_sync(function, *args, token=token)

        read_lines(lambda line: hand_over(self._take, line), lambda: hand_over(self._ended.set))

    def _take(self, line: bytes) -> None:
        self._number += 1
        if self._ended.is_set() or not (line.strip() or self._request.raw):
            return
        if not self._request.raw:
            try:
                hakuban.JSON.deserialize(("JSON",), line, Any)
            except hakuban.DeserializationError as error:
                self._complain(f"bad input line {self._number}: not JSON: {error.reason}; skipped")
                return
        self._value = self._number, line
        self._first_read.set()
        self._taken = anyio.Event()
        for sink in self._sinks:
            self._publish(sink)
        if self._counted():
            self._ended.set()

    def _publish(self, sink: Sink) -> None:
        if self._value is None:
            return
        number, line = self._value
        try:
            sink.set(line)
            self._taken.set()
            self._first_taken.set()
        except hakuban.NotAssignedError:
            pass  # wait_unassigned is about to report that
        except hakuban.StateTooLargeError as error:
            self._complain(f"bad input line {number}: {error}; skipped")
            self._value = None  # it would be tried again, and reported again, at each assignment

    async def _wait_taken(self) -> None:
        if self._value is None:
            return
        timeout = self._request.timeout
        with anyio.move_on_after(PATIENCE if timeout is None else timeout):
            await self._taken.wait()
        if self._taken.is_set():
            return
        if timeout is not None:
            self._complain(f"nobody took the last value for {timeout:g} s")
        elif not (self._first_taken.is_set() or self._told):
            say("hakuban", f"nobody took a line of the input: {NOBODY}")
