"""The transport object that core asks for."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio

from hakuban.transport import Liveness

from ._connector import Connector
from ._contexts import new_context, shared, terminate
from ._curve import (
    CLIENT_KEYS,
    INSECURE,
    SECRET_KEY_FILE,
    SERVER_KEY_FILE,
    InsecureListenerError,
    KeyFileError,
    read_connector_keys,
    read_listener_keys,
)
from ._frames import Window
from ._hub import STOP_SECONDS, socket_options
from ._listener import Listener
from ._names import check_reachable, take_name
from ._urls import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from os import PathLike

    import zmq
    from anyio.abc import TaskGroup, TaskStatus

    from hakuban.transport import MessageStream, TransportOptions

    from ._curve import ListenerKeys
    from ._stream import ZeroMQStream
    from ._urls import Endpoint

WINDOW: Final = 256 * 1024
HIGH_WATER_MARK: Final = 512


class ZeroMQTransport:
    """Links over zmq+tcp://, zmq+ipc:// and zmq+inproc://.

    What is not given is looked up in the environment when a link or listener is made.

    :param secret_key_file: the own certificate (`HAKUBAN_ZMQ_SECRET_KEY_FILE`); listening with it is CURVE.
    :param server_key_file: the listener's public certificate (`HAKUBAN_ZMQ_SERVER_KEY_FILE`); connecting with it is
        CURVE.
    :param client_keys: a directory with the public certificates of those let in (`HAKUBAN_ZMQ_CLIENT_KEYS`).
    :param insecure: listen beyond this machine without CURVE, or without an allow-list (`HAKUBAN_ZMQ_INSECURE=1`).
    :param window: bytes that may be on their way on a link, or wait for its reader.
    :param high_water_mark: chunks of up to 64 KiB that may.
    """

    def __init__(
        self,
        *,
        secret_key_file: str | PathLike[str] | None = None,
        server_key_file: str | PathLike[str] | None = None,
        client_keys: str | PathLike[str] | None = None,
        insecure: bool = False,
        window: int = WINDOW,
        high_water_mark: int = HIGH_WATER_MARK,
    ) -> None:
        self._secret_key_file = secret_key_file
        self._server_key_file = server_key_file
        self._client_keys = client_keys
        self._insecure = insecure
        self._window = Window(window, high_water_mark)

    @asynccontextmanager
    async def connect(self, url: str, options: TransportOptions, /) -> AsyncIterator[ZeroMQStream]:
        """Connect.

        :raises InvalidURLError: the URL cannot be used.
        :raises KeyFileError: a certificate cannot be used.
        :raises OSError: nobody answers.
        :raises TimeoutError: not within `handshake_timeout`.
        :raises RefusedError: the other side said no, does not know our key, or is none of ours.
        """
        endpoint = parse_url(url)
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            connector: Connector | None = None
            try:
                with anyio.fail_after(options.handshake_timeout):
                    connector, stream = await self._reach(endpoint, options, tasks)
                try:
                    yield stream
                finally:
                    with anyio.CancelScope(shield=True):  # as aclose does itself, for 1 s at most
                        await stream.aclose()
            except Exception as error:  # noqa: BLE001  # raised below: from in here it would come out as a group
                failure = error
            finally:
                if connector is not None:
                    with anyio.move_on_after(STOP_SECONDS, shield=True):
                        await connector.stop()
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _reach(
        self, endpoint: Endpoint, options: TransportOptions, tasks: TaskGroup
    ) -> tuple[Connector, ZeroMQStream]:
        """Try the addresses of a host in turn."""
        server = _given(self._server_key_file, SERVER_KEY_FILE)
        keys = None
        if server is not None and endpoint.kind != "inproc":
            secret = _given(self._secret_key_file, SECRET_KEY_FILE)
            keys = read_connector_keys(str(endpoint), secret, server)
        check_reachable(endpoint)
        liveness = Liveness()
        failure: OSError | None = None
        addresses = await endpoint.resolve()
        deadline = anyio.current_effective_deadline()
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            connector = Connector(address, options, self._window, liveness)
            connector.open(keys)
            tasks.start_soon(connector.run)
            try:
                # one that says nothing leaves the others their time
                with anyio.fail_after((deadline - anyio.current_time()) / left):
                    stream = await connector.answer()
            except OSError as error:  # a TimeoutError is one too
                with anyio.move_on_after(STOP_SECONDS, shield=True):
                    await connector.stop()
                failure = failure or error
            except BaseException:
                with anyio.move_on_after(STOP_SECONDS, shield=True):
                    await connector.stop()
                raise
            else:
                tasks.start_soon(liveness.run)
                return connector, stream
        assert failure is not None
        raise failure

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
        :raises InsecureListenerError: it leads beyond this machine, and there is no CURVE with an allow-list.
        :raises KeyFileError: a certificate cannot be used.
        :raises OSError: an address cannot be bound.
        """
        endpoint = parse_url(url, bind=True)
        addresses = await endpoint.resolve()
        keys = self._listener_keys(url, addresses)
        # Within a context there is one who answers for all keys; so a listener with keys has its own.
        context = shared.acquire() if keys is None else new_context()
        release_context = shared.release if keys is None else terminate
        try:
            give_back_name = take_name(endpoint)
        except OSError:
            release_context(context)
            raise

        def release(context: zmq.Context[zmq.Socket[bytes]]) -> None:
            give_back_name()
            release_context(context)

        listener = Listener(context, release, options, self._window, handler)
        listener.open(addresses, socket_options(self._window, options), keys)
        if endpoint.kind == "tcp":
            endpoint = replace(endpoint, port=listener.port)
        listener.url = str(endpoint)
        await listener.serve(lambda: task_status.started(listener.url))

    def _listener_keys(self, url: str, addresses: Sequence[Endpoint]) -> ListenerKeys | None:
        secret = _given(self._secret_key_file, SECRET_KEY_FILE)
        clients = _given(self._client_keys, CLIENT_KEYS)
        keys = None
        if secret is not None and addresses[0].kind != "inproc":
            keys = read_listener_keys(url, secret, clients)
        elif clients is not None and secret is None:
            reason = f"an allow-list keeps nobody out without a secret key ({SECRET_KEY_FILE})"
            raise KeyFileError(url, clients, reason)
        insecure = self._insecure or os.environ.get(INSECURE) == "1"
        if not insecure and not all(address.local for address in addresses):
            if keys is None:
                reason = (
                    "other machines would get in, and nothing would be encrypted: set"
                    f" {SECRET_KEY_FILE} and {CLIENT_KEYS} (hakuban-zmq-keygen makes certificates),"
                    f" listen on 127.0.0.1, or say {INSECURE}=1"
                )
                raise InsecureListenerError(url, reason)
            if keys.clients is None:
                reason = (
                    "everybody who knows the public certificate of this listener would get in: set"
                    f" {CLIENT_KEYS} to a directory of the certificates let in, or say {INSECURE}=1"
                )
                raise InsecureListenerError(url, reason)
        return keys


def _given(argument: str | PathLike[str] | None, variable: str) -> str | None:
    if argument is not None:
        return os.fspath(argument)
    return os.environ.get(variable) or None
