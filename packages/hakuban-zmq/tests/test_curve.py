"""CURVE: who is let in, who is not, and what both sides are told."""

from __future__ import annotations

import gc
import logging
import socket
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anyio
import pytest
import zmq.auth

import hakuban
import hakuban_zmq
from hakuban.testing import check_transport
from hakuban.transport import (
    ConnectionRequest,
    Identity,
    InvalidURLError,
    RefusedError,
    TransportOptions,
)
from hakuban_zmq import InsecureListenerError, KeyFileError, ZeroMQTransport, write_keys
from hakuban_zmq._allow_list import AllowList
from hakuban_zmq._frames import (
    BYE,
    VERSION,
    Hello,
    Window,
    read_bye,
)
from hakuban_zmq._revocation import Revocation
from support.addresses import resolve_in_turn, resolve_to
from support.logs import fail, filtered, handled
from support.zeromq import (
    LOCAL,
    accepting,
    be_turned_away,
    end_of,
    get_in,
    raw_client,
    serve_alone,
    serving,
)

if TYPE_CHECKING:
    from pathlib import Path

    from hakuban.transport import MessageStream


NO_LONGER = "the key of this link is no longer on the list of those let in"


@dataclass
class Keys:
    """A listener and two clients, of which it knows one."""

    folder: Path

    def __post_init__(self) -> None:
        self.listener_public, self.listener_secret = write_keys(self.folder, "listener")
        self.allowed = self.folder / "allowed"
        self.known_public, known = write_keys(self.allowed, "known")
        self.known_secret = known.rename(self.folder / "known.key_secret")
        self.stranger_public, self.stranger_secret = write_keys(self.folder, "stranger")

    def listening(self) -> ZeroMQTransport:
        return ZeroMQTransport(secret_key_file=self.listener_secret, client_keys=self.allowed)

    def connecting(self, secret: Path, server: Path | None = None) -> ZeroMQTransport:
        return ZeroMQTransport(
            secret_key_file=secret, server_key_file=server or self.listener_public
        )

    @property
    def both(self) -> ZeroMQTransport:
        """One transport that can listen, and connect to itself."""
        own = self.allowed / self.listener_public.name
        if not own.exists():
            own.write_bytes(self.listener_public.read_bytes())
        return ZeroMQTransport(
            secret_key_file=self.listener_secret,
            server_key_file=self.listener_public,
            client_keys=self.allowed,
        )


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys")


async def attempt(transport: ZeroMQTransport, url: str, **options: float) -> None:
    async with transport.connect(url, TransportOptions(**options)):  # type: ignore[arg-type] # all of these are numbers
        pass


@pytest.mark.thorough
@pytest.mark.timeout(180)
async def test_curve_keeps_the_contract_of_transports(keys: Keys) -> None:
    await check_transport(keys.both, LOCAL)


async def test_who_is_on_the_list_gets_in_and_is_known_by_its_key(keys: Keys) -> None:
    requests: list[ConnectionRequest] = []

    def authorize(request: ConnectionRequest) -> Identity:
        requests.append(request)
        return Identity(request.headers["curve-key"])

    async with accepting(transport=keys.listening(), authorize=authorize) as (url, accepted):
        async with keys.connecting(keys.known_secret).connect(url, TransportOptions()) as stream:
            other_end = await accepted.receive()
            await stream.send([b"secret"])
            assert list(await other_end.receive()) == [b"secret"]
    (request,) = requests
    assert request.headers["curve-key"] in keys.known_public.read_text()
    assert request.url == url
    assert request.remote_address.startswith("127.0.0.1:")
    assert other_end.identity == Identity(request.headers["curve-key"])


async def test_who_is_not_on_the_list_is_refused_at_once(keys: Keys) -> None:
    async with accepting(transport=keys.listening()) as (url, accepted):
        with (
            anyio.fail_after(2),
            pytest.raises(RefusedError, match="does not let this key in") as caught,
        ):
            await attempt(keys.connecting(keys.stranger_secret), url)
        assert caught.value.retry is False
        with pytest.raises(anyio.WouldBlock):
            accepted.receive_nowait()
        await attempt(keys.connecting(keys.known_secret), url)


@pytest.mark.long
async def test_a_change_of_the_list_is_noticed_by_those_who_connect_later(keys: Keys) -> None:
    stranger = keys.connecting(keys.stranger_secret)
    async with accepting(transport=keys.listening()) as (url, _):
        with pytest.raises(RefusedError):
            await attempt(stranger, url)
        (keys.allowed / "new.key").write_bytes(keys.stranger_public.read_bytes())
        await get_in(stranger, url)
        (keys.allowed / "new.key").unlink()
        await be_turned_away(stranger, url)
        (keys.allowed / "known.key").write_bytes(keys.stranger_public.read_bytes())
        await get_in(stranger, url)


@pytest.mark.long
async def test_who_is_taken_off_the_list_loses_its_link_and_nobody_else_does(keys: Keys) -> None:
    (keys.allowed / "other.key").write_bytes(keys.stranger_public.read_bytes())
    known, other = keys.connecting(keys.known_secret), keys.connecting(keys.stranger_secret)
    async with (
        accepting(transport=keys.listening()) as (url, accepted),
        other.connect(url, TransportOptions()) as staying,
    ):
        left = await accepted.receive()
        async with known.connect(url, TransportOptions()) as going:
            gone = await accepted.receive()
            keys.known_public.unlink()
            with anyio.fail_after(10), pytest.raises(anyio.EndOfStream):
                await going.receive()
            assert (going.close_code, going.close_reason) == (1008, NO_LONGER)
            assert NO_LONGER in str(await end_of(gone))
        with pytest.raises(RefusedError, match="does not let this key in"):
            await attempt(known, url)
        await staying.send([b"still here"])
        assert list(await left.receive()) == [b"still here"]


@pytest.mark.long
async def test_a_key_that_was_taken_off_is_told_so_and_gets_no_other_link(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait_for_the_end(stream: MessageStream) -> None:
        await end_of(stream)
        await stream.aclose()

    monkeypatch.setattr("hakuban_zmq._revocation._PERIOD", 0.1)
    public, secret = zmq.auth.load_certificate(keys.known_secret)
    server, _ = zmq.auth.load_certificate(keys.listener_public)
    curve = {"curve_publickey": public, "curve_secretkey": secret, "curve_serverkey": server}
    async with serving(wait_for_the_end, transport=keys.listening()) as url:
        with raw_client(url, **curve) as client:
            await client.enter()
            keys.known_public.unlink()
            assert read_bye(await client.frame(BYE)) == (1008, NO_LONGER)
        with raw_client(url, **curve) as client:
            client.send(Hello(client.own, VERSION, Window(0, 0)).encode())
            assert await client.until_silent() == []


class Link:
    """One that is up until it is told otherwise."""

    remote_address = "somebody"
    up = True

    def revoke(self, _: str, /) -> None:
        self.up = False


def test_a_list_that_cannot_be_read_or_a_file_that_is_replaced_ends_no_link(keys: Keys) -> None:
    allowed, link = AllowList(keys.allowed), Link()
    revocation = Revocation(allowed)

    def look() -> None:
        allowed.read()
        revocation.check(0.0)

    def write(text: str) -> None:
        keys.known_public.write_text(text)
        look()

    text = keys.known_public.read_text()
    look()
    revocation.watch(link, zmq.auth.load_certificate(keys.known_public)[0].decode())
    for broken in ("", "half of a fi"):
        write(broken)
        revocation.check(0.0)  # of the same look
        write(text)
    keys.allowed.rename(keys.folder / "elsewhere")
    for _ in range(3):
        look()
    (keys.folder / "elsewhere").rename(keys.allowed)
    look()
    assert link.up
    write(keys.stranger_public.read_text())
    assert link.up
    look()
    assert not link.up


def test_nothing_is_kept_of_links_that_have_ended(keys: Keys) -> None:
    revocation, links = Revocation(AllowList(keys.allowed)), [Link() for _ in range(10)]
    gone = WeakSet(links)
    for link in links:
        revocation.watch(link, "key")
    del link
    links.clear()
    gc.collect()
    assert not gone


async def test_a_broken_file_on_the_list_lets_nobody_in_and_keeps_nobody_out(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    broken = ("nonsense", "public-key", 'public-key = "short"', f'public-key = "{"#" * 40}"')
    for number, text in enumerate(broken):
        (keys.allowed / f"broken{number}.key").write_text(text)
    async with accepting(transport=keys.listening()) as (url, _):
        await attempt(keys.connecting(keys.known_secret), url)
        with pytest.raises(RefusedError):
            await attempt(keys.connecting(keys.stranger_secret), url)
    for number, _ in enumerate(broken):
        assert f"broken{number}.key lets nobody in" in caplog.text


@pytest.mark.long
async def test_a_list_that_went_away_lets_nobody_in(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with accepting(transport=keys.listening()) as (url, _):
        keys.allowed.rename(keys.folder / "elsewhere")
        await be_turned_away(keys.connecting(keys.known_secret), url)
    assert "nobody is let in" in caplog.text


async def test_another_key_of_the_listener_than_expected_is_no_link(keys: Keys) -> None:
    wrong = keys.connecting(keys.known_secret, server=keys.stranger_public)
    async with accepting(transport=keys.listening()) as (url, _):
        with anyio.fail_after(3), pytest.raises(OSError, match="HAKUBAN_ZMQ_SERVER_KEY_FILE"):
            await attempt(wrong, url)


async def test_who_does_not_encrypt_gets_no_link_with_a_listener_that_does(keys: Keys) -> None:
    async with accepting(transport=keys.listening()) as (url, accepted):
        with anyio.fail_after(3), pytest.raises((OSError, RefusedError)):
            await attempt(ZeroMQTransport(), url, handshake_timeout=1.0)
        with raw_client(url) as client:
            with pytest.raises(TimeoutError), anyio.fail_after(0.5):
                await client.enter()
        with pytest.raises(anyio.WouldBlock):
            accepted.receive_nowait()


async def test_who_encrypts_gets_no_link_with_a_listener_that_does_not(keys: Keys) -> None:
    async with accepting() as (url, _):
        with anyio.fail_after(3), pytest.raises((OSError, RefusedError)):
            await attempt(keys.connecting(keys.known_secret), url, handshake_timeout=1.0)


async def test_without_a_list_every_key_gets_in_on_this_machine(keys: Keys) -> None:
    listening = ZeroMQTransport(secret_key_file=keys.listener_secret)
    async with accepting(transport=listening) as (url, _):
        await attempt(keys.connecting(keys.stranger_secret), url)


async def test_two_listeners_have_lists_of_their_own(keys: Keys, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "stranger.key").write_bytes(keys.stranger_public.read_bytes())
    other = ZeroMQTransport(secret_key_file=keys.listener_secret, client_keys=others)
    known, stranger = keys.connecting(keys.known_secret), keys.connecting(keys.stranger_secret)
    async with accepting(transport=keys.listening()) as (one, _):
        async with accepting(transport=other) as (two, _):
            await attempt(known, one)
            await attempt(stranger, two)
            for transport, url in ((stranger, one), (known, two)):
                with pytest.raises(RefusedError):
                    await attempt(transport, url)


async def test_the_environment_names_the_keys(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAKUBAN_ZMQ_SECRET_KEY_FILE", str(keys.listener_secret))
    monkeypatch.setenv("HAKUBAN_ZMQ_CLIENT_KEYS", str(keys.allowed))
    async with accepting() as (url, _):
        monkeypatch.setenv("HAKUBAN_ZMQ_SECRET_KEY_FILE", str(keys.known_secret))
        with pytest.raises((OSError, RefusedError)):
            await attempt(ZeroMQTransport(), url, handshake_timeout=1.0)
        monkeypatch.setenv("HAKUBAN_ZMQ_SERVER_KEY_FILE", str(keys.listener_public))
        await attempt(ZeroMQTransport(), url)


async def test_keys_are_for_sockets_and_not_for_names_within_the_process(keys: Keys) -> None:
    async with accepting("zmq+inproc://keys", keys.both) as (url, _):
        await attempt(keys.both, url)


# ---- beyond this machine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["zmq+tcp://0.0.0.0:0", "zmq+tcp://[::]:0"])
async def test_listening_beyond_this_machine_needs_keys_and_a_list(keys: Keys, url: str) -> None:
    for transport, missing, consequence in (
        (ZeroMQTransport(), "HAKUBAN_ZMQ_SECRET_KEY_FILE", "nothing is encrypted"),
        (
            ZeroMQTransport(secret_key_file=keys.listener_secret),
            "HAKUBAN_ZMQ_CLIENT_KEYS",
            "everybody gets in who knows",
        ),
    ):
        with anyio.fail_after(5), pytest.raises(InsecureListenerError) as caught:
            await serve_alone(transport, url)
        error = caught.value
        assert isinstance(error, InvalidURLError)
        assert error.url == url
        assert missing in error.reason
        assert consequence in error.reason
        assert "insecure=True" in error.reason


@pytest.mark.parametrize("hosts", [("0.0.0.0",), ("::",), ("192.0.2.1",), ("127.0.0.1", "0.0.0.0")])
async def test_a_name_counts_by_the_addresses_that_would_be_bound(
    hosts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, *hosts)
    with anyio.fail_after(5), pytest.raises(InsecureListenerError) as caught:
        await serve_alone(ZeroMQTransport(), "zmq+tcp://localhost:0")
    assert f"can reach {hosts[-1]}, and" in caught.value.reason


async def test_what_a_name_leads_to_later_is_not_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_in_turn(monkeypatch, ["127.0.0.1"], ["0.0.0.0"])
    async with accepting("zmq+tcp://localhost:0") as (url, _):
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.2", int(url.rpartition(":")[2])))


ANYWHERE = "zmq+tcp://0.0.0.0:0"


async def test_a_node_listens_beyond_this_machine_when_it_is_guarded_or_told_to(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known(_: ConnectionRequest) -> Identity:
        return Identity("anybody")

    without_list = ZeroMQTransport(secret_key_file=keys.listener_secret)
    with hakuban.LocalNode() as node:
        for unguarded in (node.listen(ANYWHERE), node.listen(ANYWHERE, transport=without_list)):
            with pytest.raises(hakuban.InsecureListenerError):
                await unguarded.__aenter__()
        for block in (
            node.listen(ANYWHERE, transport=keys.listening()),
            node.listen(ANYWHERE, authorize=known),
            node.listen(ANYWHERE, transport=without_list, authorize=known),
            node.listen(ANYWHERE, insecure=True),
            node.listen(f"{ANYWHERE}#insecure=true"),
            node.listen(ANYWHERE, transport=ZeroMQTransport(insecure=True)),
        ):
            async with block:
                pass
        monkeypatch.setenv("HAKUBAN_ZMQ_INSECURE", "1")
        async with node.listen(ANYWHERE):
            pass


def test_there_is_one_error_of_insecure_listeners() -> None:
    assert InsecureListenerError is hakuban.InsecureListenerError


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_secret_key_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    public, secret = write_keys(tmp_path / "new" / "folder", "router")
    assert (public.name, secret.name) == ("router.key", "router.key_secret")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert "secret-key" in secret.read_text()
    assert "secret-key" not in public.read_text()
    assert sorted(path.name for path in public.parent.iterdir()) == [public.name, secret.name]


@pytest.mark.parametrize("there", ["router.key", "router.key_secret"])
def test_keys_are_never_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(FileExistsError, match="take another name"):
        write_keys(tmp_path, "router")
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".."])
def test_a_name_is_one_of_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name for a file"):
        write_keys(tmp_path, name)


async def test_what_is_wrong_with_a_key_file_is_said(keys: Keys, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    for secret, server, reason in (
        (tmp_path / "missing", keys.listener_public, "cannot be read"),
        (tmp_path / "a\0b", keys.listener_public, "cannot be read"),
        (tmp_path, keys.listener_public, "cannot be read"),
        (nonsense, keys.listener_public, "cannot be read"),
        (keys.known_public, keys.listener_public, "key_secret is meant"),
        (keys.known_secret, tmp_path / "missing", "cannot be read"),
        (None, keys.listener_public, "HAKUBAN_ZMQ_SECRET_KEY_FILE"),
    ):
        transport = ZeroMQTransport(secret_key_file=secret, server_key_file=server)
        with pytest.raises(KeyFileError, match=reason) as caught:
            await attempt(transport, "zmq+tcp://127.0.0.1:1")
        assert "hakuban-zmq-keygen" in str(caught.value)
    for transport in (
        ZeroMQTransport(secret_key_file=keys.known_public),
        ZeroMQTransport(secret_key_file=keys.known_secret, client_keys=tmp_path / "missing"),
    ):
        with anyio.fail_after(5), pytest.raises(KeyFileError):
            await serve_alone(transport, LOCAL)


def test_public_names() -> None:
    assert hakuban_zmq.write_keys is write_keys


# ---- the authorising plugin -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [True, False])
async def test_whom_the_plugin_refuses_is_told_why(*, retry: bool) -> None:
    def authorize(request: ConnectionRequest) -> Identity:
        assert request.headers == {}
        raise RefusedError("come back tomorrow", retry=retry, code=4003)

    async with accepting(authorize=authorize) as (url, accepted):
        with pytest.raises(RefusedError, match="come back tomorrow") as caught:
            await attempt(ZeroMQTransport(), url)
        assert (caught.value.retry, caught.value.code) == (retry, 4003)
        with pytest.raises(anyio.WouldBlock):
            accepted.receive_nowait()


async def test_a_plugin_that_fails_lets_nobody_in_and_says_nothing_of_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def authorize(_: ConnectionRequest) -> Identity:
        raise OSError("the directory at 10.0.0.1 is down")

    async with accepting(authorize=authorize) as (url, _):
        with pytest.raises(RefusedError, match="cannot authorise anybody") as caught:
            await attempt(ZeroMQTransport(), url)
    assert "10.0.0.1" not in str(caught.value)
    assert "10.0.0.1" in caplog.text


@pytest.mark.parametrize("broken", [filtered, handled], ids=["filter", "handler"])
async def test_what_cannot_be_logged_ends_no_listener(
    broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban._logger.printed", {})  # faults of this test are meant
    known = False

    def authorize(_: ConnectionRequest) -> Identity:
        if not known:
            raise OSError("the directory is down")
        return Identity("somebody")

    async with accepting(authorize=authorize) as (url, accepted):
        with broken(fail, "hakuban"):
            for _ in range(2):
                with pytest.raises(RefusedError, match="cannot authorise anybody"):
                    await attempt(ZeroMQTransport(), url)
        known = True
        async with ZeroMQTransport().connect(url, TransportOptions()):
            assert (await accepted.receive()).identity == Identity("somebody")


async def test_no_more_links_than_allowed() -> None:
    async with accepting(max_connections=1) as (url, accepted):
        async with ZeroMQTransport().connect(url, TransportOptions()):
            await accepted.receive()
            with pytest.raises(RefusedError, match="too many connections") as caught:
                await attempt(ZeroMQTransport(), url)
            assert caught.value.retry is True


async def test_a_link_that_has_ended_makes_room(caplog: pytest.LogCaptureFixture) -> None:
    async def end(stream: object) -> None:
        await end_of(stream)  # type: ignore[arg-type] # it is a stream
        await stream.aclose()  # type: ignore[attr-defined]

    async with serving(end, max_connections=1) as url:
        for _ in range(5):
            started = time.monotonic()
            while True:
                try:
                    await attempt(ZeroMQTransport(), url)
                    break
                except RefusedError:
                    assert time.monotonic() - started < 5
    assert not caplog.records


async def test_a_handler_that_fails_is_logged_and_its_peer_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_: object) -> None:
        raise RuntimeError("oh")

    async with serving(fail) as url:
        async with ZeroMQTransport().connect(url, TransportOptions()) as stream:
            assert isinstance(await end_of(stream), anyio.EndOfStream)
            assert (stream.close_code, stream.close_reason) == (1011, "internal error")
    assert "oh" in caplog.text
