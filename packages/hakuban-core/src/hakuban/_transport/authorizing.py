"""Asks plugins, and functions of the program's, who a peer is: in threads, a few at a time, and none for long."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from .._exceptions import RefusedError
from .._logger import logger
from .._loops.wakeups import AutoResetEvent
from .._remote import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from .interface import ConnectionRequest, TransportOptions


THREADS: Final = 8
"""Calls that run at the same time, of all listeners of a process; one that is given up counts until it ends."""

_LAST_CODE: Final = 0xFFFF  # it is sent in two bytes

NOBODY: Final = "the listener cannot authorise anybody at the moment"


class Authorizer:
    """Asks the plugins, or a function of the program's, about a peer; without a clear yes the answer is no."""

    __slots__ = ("_ask", "_warned", "_warned_of_time")

    def __init__(self, ask: Callable[[ConnectionRequest], object]) -> None:
        self._ask = ask
        self._warned = self._warned_of_time = False

    def __call__(self, request: ConnectionRequest) -> Identity | None:
        try:
            identity = self._answer(request)
            if not isinstance(identity, Identity | None):
                raise TypeError(f"{identity!r:.100} is neither an Identity nor None")
        except RefusedError:
            raise
        except BaseException as error:  # of a plugin, in a thread of its own
            if isinstance(error, KeyboardInterrupt) and _in_main_thread():
                raise  # of the user's: a transport of somebody else's asks on its event loop
            # A broken plugin lets nobody in and stops nobody else. Where it raises what ends programs, or what ends tasks
            # (SystemExit, CancelledError), the listener would be gone. Peers that try for ever do not fill the log.
            if not self._warned:
                self._warned = True
                logger.exception("authorising a peer failed; peers are refused while it does")
            raise RefusedError(NOBODY, retry=True) from error  # noqa: ASYNC104 # it is logged, and refuses this peer
        if identity is None:
            raise RefusedError("not authorised", retry=False)
        return identity

    def _answer(self, request: ConnectionRequest) -> object:
        """Ask; a refusal that no transport can put into bytes is a fault."""
        try:
            return self._ask(request)
        except RefusedError as refusal:
            code: object = refusal.code
            if isinstance(code, int) and 0 <= code <= _LAST_CODE:
                raise
            text = f"{code!r:.100} is no close code: it is a number from 0 to {_LAST_CODE}"
            raise ValueError(text) from refusal

    def took_longer(self, seconds: float) -> None:
        """Log once that a call was given up."""
        if not self._warned_of_time:
            self._warned_of_time = True
            logger.error(
                "authorising a peer took over %g s; peers are refused while it does, and at most %d such calls go on",
                seconds,
                THREADS,
            )


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class _Call:
    """A call for a task, to be made in a thread.

    :ivar answered: whether it has returned.
    """

    __slots__ = ("_answered", "_authorize", "_identity", "_refusal", "_request", "answered")

    def __init__(self, authorize: Authorizer, request: ConnectionRequest) -> None:
        self._authorize = authorize
        self._request = request
        self._answered = AutoResetEvent()
        self._identity: Identity | None = None
        self._refusal: RefusedError | None = RefusedError(NOBODY, retry=True)
        self.answered = False

    def run(self) -> None:
        """Make the call, in this thread."""
        try:
            self._identity = self._authorize(self._request)
            self._refusal = None
        except RefusedError as refusal:
            self._refusal = refusal
        finally:
            self.answered = True
            self._answered.set()

    async def wait(self) -> None:
        """Wait for the answer."""
        await self._answered.wait()

    def answer(self) -> Identity | None:
        """Return the answer, once."""
        refusal, self._refusal = self._refusal, None
        if refusal is None:
            return self._identity
        try:
            raise refusal
        finally:
            del refusal  # its traceback holds this frame: else it would wait for the collector


class _Pool:
    """Makes the calls of all tasks of a process, in the order of their coming.

    A thread for each call, up to the bound; it goes on with those that wait, and ends when there are none. They are
    daemons, unlike the threads of asyncio and anyio: a call that never returns must not keep the process from ending.
    """

    def __init__(self) -> None:
        self.forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forget)  # a child has none of the threads

    def forget(self) -> None:
        """Begin anew."""
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._threads = 0

    def put(self, call: _Call) -> None:
        """Have a call made."""
        with self._lock:
            self._waiting.append(call)
            if self._threads >= THREADS:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="hakuban authorises", daemon=True).start()
        except RuntimeError:  # no thread to be had: the next call may find one
            with self._lock:
                self._threads -= 1

    def withdraw(self, call: _Call) -> bool:
        """Forget a call; return whether it had not been asked yet."""
        with self._lock:
            try:
                self._waiting.remove(call)
            except ValueError:
                return False
            return True

    def _work(self) -> None:
        while (call := self._next()) is not None:
            # of the log only, which lets SystemExit through; those who wait have to be asked
            with suppress(BaseException):
                call.run()

    def _next(self) -> _Call | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            return None


_pool = _Pool()


async def identify(options: TransportOptions, request: ConnectionRequest) -> Identity | None:
    """Ask `options.authorize` who a peer is, before its link is up: for listeners. None where nobody authorises.

    It is called in a worker thread, so that the event loop goes on, and at most 8 such calls run in a process at the
    same time; other questions wait. A question that has no answer within half of `options.handshake_timeout`, waiting
    included, is a refusal: a call that runs then goes on, and counts until it returns, its answer unused. Safe to
    cancel. The peer may be gone when the answer comes.

    :raises RefusedError: with what to send to the peer; whatever else `authorize` returns or raises, SystemExit and
        CancelledError too, is logged, and becomes one with `retry`.
    """
    authorize = options.authorize
    if authorize is None:
        return None
    if not isinstance(authorize, Authorizer):
        authorize = Authorizer(authorize)
    seconds = options.handshake_timeout / 2  # the other half is for the answer to the peer
    call, unasked = _Call(authorize, request), False
    _pool.put(call)
    try:
        with anyio.move_on_after(seconds):
            await call.wait()
    finally:
        if not call.answered:
            unasked = _pool.withdraw(call)
    if call.answered:
        return call.answer()
    if unasked:
        raise RefusedError("too many peers wait to be authorised", retry=True)
    authorize.took_longer(seconds)
    raise RefusedError(f"authorising took longer than {seconds:g} s", retry=True)
