"""The transport object that core asks for."""

from __future__ import annotations

import operator
import os
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio

from hakuban.transport import (
    Heartbeats,
    InvalidURLError,
    background_tasks,
    check_exposure,
    get_logger,
    redacted,
)

from ._address_claims import claim_address
from ._connector import Connector
from ._curve import (
    CLIENT_KEYS,
    INSECURE,
    SECRET_KEY_FILE,
    SERVER_KEY_FILE,
    KeyFileError,
    read_connector_keys,
    read_listener_keys,
)
from ._frames import Window
from ._listener import Listener
from ._socket_owner import STOP_SECONDS
from ._urls import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from os import PathLike

    from anyio.abc import TaskGroup, TaskStatus

    from hakuban.transport import MessageStream, TransportOptions

    from ._curve import ConnectorKeys, ListenerKeys
    from ._stream import ZeroMQStream
    from ._urls import Endpoint

WINDOW: Final = 256 * 1024
HIGH_WATER_MARK: Final = 512

IPC_MODE: Final = "HAKUBAN_ZMQ_IPC_MODE"
OWNER_ONLY: Final = 0o600

_MOST: Final = 1_000_000_000  # twice that is a number for libzmq still
_NOT_ENCRYPTED: Final = (
    f"set {SECRET_KEY_FILE} and {CLIENT_KEYS}, since nothing is encrypted without"
    " (hakuban-zmq-keygen makes certificates)"
)
_NO_LIST: Final = (
    f"set {CLIENT_KEYS} to a directory of the certificates let in, since everybody gets in who knows"
    " the public certificate of this listener"
)
_ABSTRACT: Final = (
    "every user of this machine can connect to %s, since an abstract name has no permissions:"
    " listen on a path, or let in by CURVE or an authorising plugin, or say insecure=True"
)

logger = get_logger("hakuban.zmq")


class ZeroMQTransport:
    """Links over zmq+tcp://, zmq+ipc:// and zmq+inproc://.

    What is not given is looked up in the environment when a link or listener is made.

    :param secret_key_file: the own certificate (`HAKUBAN_ZMQ_SECRET_KEY_FILE`); listening with it is CURVE.
    :param server_key_file: the listener's public certificate (`HAKUBAN_ZMQ_SERVER_KEY_FILE`); connecting with it is
        CURVE.
    :param client_keys: a directory with the public certificates of those let in (`HAKUBAN_ZMQ_CLIENT_KEYS`).
    :param insecure: listen beyond this machine without CURVE, or without an allow-list (`HAKUBAN_ZMQ_INSECURE=1`), as
        `listen(..., insecure=True)` does.
    :param ipc_mode: who may connect to the path of a `zmq+ipc` listener, as `chmod` has it (`HAKUBAN_ZMQ_IPC_MODE`, octal):
        the user of this process alone (0o600) unless it allows more.
    :param window: bytes that may be on their way on a link, or wait for its reader.
    :param high_water_mark: chunks of up to 64 KiB that may.
    :raises TypeError: an argument is of another type.
    :raises ValueError: `window` or `high_water_mark` is not from 1 to 1,000,000,000, or `ipc_mode` not from 0 to 0o777.
    """

    def __init__(
        self,
        *,
        secret_key_file: str | PathLike[str] | None = None,
        server_key_file: str | PathLike[str] | None = None,
        client_keys: str | PathLike[str] | None = None,
        insecure: bool = False,
        ipc_mode: int | None = None,
        window: int = WINDOW,
        high_water_mark: int = HIGH_WATER_MARK,
    ) -> None:
        if not isinstance(insecure, bool):  # "no" would count as yes
            raise TypeError(f"insecure is True or False, not {insecure!r:.100}")
        self._secret_key_file = _path(secret_key_file)
        self._server_key_file = _path(server_key_file)
        self._client_keys = _path(client_keys)
        self._insecure = insecure
        self._ipc_mode = None if ipc_mode is None else _mode(operator.index(ipc_mode))
        self._window = Window(_count("window", window), _count("high_water_mark", high_water_mark))

    def check(self, url: str, _options: TransportOptions, /, *, listening: bool) -> None:
        """Refuse what can never work. Does no I/O.

        :raises InvalidURLError: the URL cannot be used, or what the environment names as a mode is none.
        :raises KeyFileError: one certificate is named, and the one that it needs is not.
        """
        endpoint = parse_url(url, listening=listening)
        files = self._listener_files if listening else self._connector_files
        files(url, endpoint)
        if listening:
            self._mode_of_path(url, endpoint)

    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[ZeroMQStream]:
        """Connect.

        :raises InvalidURLError: the URL cannot be used.
        :raises KeyFileError: a certificate cannot be used.
        :raises OSError: nobody answers.
        :raises TimeoutError: not within `handshake_timeout`.
        :raises RefusedError: the other side refused, does not know our key, or is none of ours.
        """
        endpoint = parse_url(url, listening=False)
        files = self._connector_files(url, endpoint)
        keys = None if files is None else read_connector_keys(url, *files)
        async with background_tasks() as tasks:
            with _answer_within(options.handshake_timeout, endpoint):
                connector, stream = await self._reach(endpoint, keys, options, tasks)
            try:
                try:
                    yield stream
                finally:
                    with anyio.CancelScope(shield=True):  # as aclose does itself, for 1 s at most
                        await stream.aclose()
            finally:
                with anyio.move_on_after(STOP_SECONDS, shield=True):
                    await connector.stop()

    async def _reach(
        self,
        endpoint: Endpoint,
        keys: ConnectorKeys | None,
        options: TransportOptions,
        tasks: TaskGroup,
    ) -> tuple[Connector, ZeroMQStream]:
        """Try the addresses of a host in turn."""
        heartbeats = Heartbeats()
        failure: OSError | None = None
        addresses = await endpoint.resolve()
        deadline = anyio.current_effective_deadline()
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            connector = Connector(address, options, self._window, heartbeats)
            connector.open(keys)
            tasks.start_soon(connector.run)
            # one that sends nothing leaves the others their time; the last one has what is left
            share = (deadline - anyio.current_time()) / left if left > 1 else None
            try:
                with _answer_within(share, address):
                    stream = await connector.answer()
            except OSError as error:  # a TimeoutError is one too
                with anyio.move_on_after(STOP_SECONDS, shield=True):
                    await connector.stop()
                failure = failure or copy(error)  # without frames: in one of them is this
            except BaseException:
                with anyio.move_on_after(STOP_SECONDS, shield=True):
                    await connector.stop()
                raise
            else:
                tasks.start_soon(heartbeats.run)
                return connector, stream
        assert failure is not None
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame

    async def serve(
        self,
        url: str,
        options: TransportOptions,
        handler: Callable[[MessageStream], Awaitable[None]],
        /,
        *,
        task_status: TaskStatus[str],
    ) -> None:
        """Listen until cancelled.

        :raises InvalidURLError: the URL cannot be used.
        :raises InsecureListenerError: it leads beyond this machine, and there is neither CURVE with an allow-list nor an
            authorising plugin.
        :raises KeyFileError: a certificate cannot be used.
        :raises OSError: an address cannot be bound.
        """
        endpoint = parse_url(url, listening=True)
        files = self._listener_files(url, endpoint)
        keys = None if files is None else read_listener_keys(url, *files)
        mode = self._mode_of_path(url, endpoint)
        addresses = await endpoint.resolve()
        self._check_exposure(url, addresses, options, keys)
        claim = claim_address(endpoint, addresses, mode)
        try:
            url = str(claim.endpoint)
            listener = Listener(url, options, self._window, keys, handler)
            await listener.serve(claim.sockets, lambda: task_status.started(url))
        finally:
            claim.release()

    def _check_exposure(
        self,
        url: str,
        addresses: Sequence[Endpoint],
        options: TransportOptions,
        keys: ListenerKeys | None,
    ) -> None:
        wanted = options.insecure or self._insecure or os.environ.get(INSECURE) == "1"
        protected = keys is not None and keys.clients is not None
        check_exposure(
            url,
            [address.host for address in addresses if address.kind == "tcp"],
            replace(options, insecure=wanted),
            protected=protected,
            remedy=_NOT_ENCRYPTED if keys is None else _NO_LIST,
        )
        guarded = wanted or protected or options.authorize is not None
        if addresses[0].is_abstract and not guarded:
            logger.warning(_ABSTRACT, redacted(url))

    def _mode_of_path(self, url: str, endpoint: Endpoint) -> int:
        """Return who may connect to a path.

        :raises InvalidURLError: the environment names no mode.
        """
        if self._ipc_mode is not None:
            return self._ipc_mode
        text = os.environ.get(IPC_MODE) if endpoint.kind == "ipc" else None
        if not text:
            return OWNER_ONLY
        try:
            return _mode(int(text, 8))
        except ValueError:
            raise InvalidURLError(
                url, f"{IPC_MODE} is not octal, as 0660 is, or too large"
            ) from None

    def _connector_files(self, url: str, endpoint: Endpoint) -> tuple[str, str] | None:
        """Return where the own certificate is and that of the listener; None without CURVE.

        :raises KeyFileError: the own one is not named.
        """
        server = _given(self._server_key_file, SERVER_KEY_FILE)
        if server is None or endpoint.kind == "inproc":
            return None
        own = _given(self._secret_key_file, SECRET_KEY_FILE)
        if own is None:
            reason = f"a link with CURVE needs an own certificate too ({SECRET_KEY_FILE})"
            raise KeyFileError(url, server, reason)
        return own, server

    def _listener_files(self, url: str, endpoint: Endpoint) -> tuple[str, str | None] | None:
        """Return where the own certificate is and, if there is a list, those of whom it lets in; None without CURVE.

        :raises KeyFileError: the own one is not named.
        """
        own = _given(self._secret_key_file, SECRET_KEY_FILE)
        clients = _given(self._client_keys, CLIENT_KEYS)
        if endpoint.kind == "inproc":
            return None
        if own is None and clients is not None:
            reason = f"an allow-list keeps nobody out without a secret key ({SECRET_KEY_FILE})"
            raise KeyFileError(url, clients, reason)
        return None if own is None else (own, clients)


@contextmanager
def _answer_within(seconds: float | None, endpoint: Endpoint) -> Iterator[None]:
    """Bound a wait.

    :raises TimeoutError: with where nobody answered, and for how long.
    """
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as error:
        if error.args:  # it is not this one
            raise
        reason = f"{endpoint}: no answer within {round(seconds or 0, 3):g} s; is it a listener of hakuban, and up?"
        raise TimeoutError(reason) from None


def _given(argument: str | None, variable: str) -> str | None:
    return os.environ.get(variable) or None if argument is None else argument


def _path(argument: str | PathLike[str] | None) -> str | None:
    return None if argument is None else os.fsdecode(argument)


def _mode(number: int) -> int:
    if not 0 <= number <= 0o777:
        raise ValueError(f"ipc_mode is from 0 to 0o777, not {number:#o}")
    return number


def _count(name: str, value: int) -> int:
    number = operator.index(value)
    if not 1 <= number <= _MOST:
        raise ValueError(f"{name} is a number from 1 to {_MOST:,}, not {number}")
    return number
