"""Every error, by a mistake that somebody makes: it has a text with the next step, tells no secret, and can be pickled."""

from __future__ import annotations

import copy
import ctypes
import os
import pickle
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import hakuban
import hakuban.sync
from hakuban import RAW, LocalNode, ObjectDescriptor
from hakuban._contents import Content
from hakuban._limits import Limits
from hakuban._session_events import ChannelKind, OpenChannel, SendState
from hakuban._wire import Session
from hakuban.testing import MemoryTransport, linked_nodes
from hakuban.transport import InsecureListenerError, TransportOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from anyio.abc import TaskStatus

    from hakuban.transport import ConnectionRequest, Identity, MessageStream

SECRET = "s3cret"
WEATHER = ObjectDescriptor(["weather"], {"city": "Poznań"})
Mistake = Callable[[Path], Awaitable[Any]]
MISTAKES: list[tuple[type[BaseException], str, Mistake]] = []


def mistake(kind: type[BaseException], words: str) -> Callable[[Mistake], Mistake]:
    """Note what makes an error, and words that its text has to have."""

    def note(function: Mistake) -> Mistake:
        MISTAKES.append((kind, words, function))
        return function

    return note


# ---- names, values, contracts ---------------------------------------------------------------------------------------


@mistake(hakuban.InvalidDescriptorError, "write sorted")
async def a_set_in_a_name(_: Path) -> None:
    LocalNode().object(["weather"], {"Poznań", "Paris"})


@mistake(hakuban.StateTooLargeError, "max_state")
async def too_much_data(_: Path) -> None:
    with LocalNode(max_state=3).object(WEATHER).expose() as contract:
        contract.set_object_data("more")


@mistake(hakuban.SerializationError, "cannot encode")
async def a_value_of_a_local_class(_: Path) -> None:
    class Reading:
        pass

    with LocalNode().object(WEATHER).expose() as contract:
        contract.set_object_data(Reading())


@mistake(hakuban.DeserializationError, "Poznań")
async def another_type_than_was_set(_: Path) -> None:
    node = LocalNode()
    with (
        node.object(WEATHER).expose() as contract,
        node.object(WEATHER).observe(type=int) as watcher,
    ):
        contract.set_object_data("no number")
        watcher.object_data()


@mistake(hakuban.WrongFormatError, "serializer")
async def another_serializer_than_was_set(_: Path) -> None:
    node = LocalNode()
    with (
        node.object(WEATHER).expose(serializer=RAW) as contract,
        node.object(WEATHER).observe() as watcher,
    ):
        contract.set_object_data(b"1")
        state = watcher.object_state()
        assert state is not None
        _ = state.data


@mistake(hakuban.NotAssignedError, "next sink")
async def a_sink_is_used_after_its_end(_: Path) -> None:
    node = LocalNode()
    with node.object(WEATHER).expose() as contract, node.object(WEATHER).observe() as watcher:
        sink = await anext(aiter(contract))
        watcher.close()
        sink.set(1)


@mistake(hakuban.ClosedError, "Poznań")
async def a_contract_is_used_after_its_block(_: Path) -> None:
    with LocalNode().object(WEATHER).expose() as contract:
        pass
    contract.set_object_data(1)


@mistake(hakuban.ClosedError, "new LocalNode")
async def a_node_is_used_after_its_block(_: Path) -> None:
    with LocalNode("mine") as node:
        pass
    node.object(WEATHER).observe()


@mistake(hakuban.ClosedError, "Poznań")
async def a_contract_is_waited_on_after_its_block(_: Path) -> None:
    with LocalNode().object(WEATHER).observe() as watcher:
        pass
    await watcher.wait_state()


@mistake(hakuban.WaitTimeoutError, "Poznań")
async def nobody_exposes_what_is_waited_for(_: Path) -> None:
    def wait() -> None:
        with LocalNode().object(WEATHER).observe() as watcher:
            watcher.wait_state_sync(timeout=0.01)

    await anyio.to_thread.run_sync(wait)


@mistake(hakuban.WaitTimeoutError, "assigned")
async def nobody_wants_what_could_be_produced(_: Path) -> None:
    def wait() -> None:
        with LocalNode().object(WEATHER).expose() as contract:
            contract.wait_assigned_sync(timeout=0.01)

    await anyio.to_thread.run_sync(wait)


# ---- the node as a whole --------------------------------------------------------------------------------------------


@mistake(hakuban.NodeBrokenError, "new LocalNode")
async def a_node_is_used_after_an_exception_in_its_core(_: Path) -> None:
    """An exception set asynchronously is what an impatient program does to its threads."""
    node = LocalNode()
    thread = ctypes.c_ulong(threading.get_ident())

    def interrupted(_machine: object, _now: float) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(KeyboardInterrupt))
        for _ in range(1_000):
            pass

    with pytest.raises(KeyboardInterrupt):
        node._engine.call(interrupted)
    node.snapshot()


@mistake(hakuban.NodeForkedError, "after fork")
async def a_node_is_used_in_the_child_of_a_fork(_: Path) -> None:
    """The error comes back through a pipe, as from a process pool."""
    node = LocalNode()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            node.snapshot()
        except hakuban.HakubanError as error:
            os.write(writing, pickle.dumps(error))
        finally:
            os._exit(0)
    os.close(writing)
    refused = pickle.loads(os.read(reading, 10_000))
    os.close(reading)
    os.waitpid(child, 0)  # noqa: ASYNC222  # it has ended
    raise refused


# ---- links ----------------------------------------------------------------------------------------------------------


@mistake(hakuban.InvalidURLError, "Authorization")
async def a_password_in_a_url(_: Path) -> None:
    LocalNode().connect(f"ws://ann:{SECRET}@127.0.0.1:3001/?token={SECRET}")


@mistake(hakuban.InvalidURLError, "port")
async def a_port_that_is_none(_: Path) -> None:
    LocalNode().connect(f"ws://127.0.0.1:99999/?token={SECRET}")


@mistake(hakuban.InvalidURLError, "#timeout=1s")
async def an_option_in_the_query(_: Path) -> None:
    LocalNode().connect(f"ws://127.0.0.1:3001/?token={SECRET}&timeout=1s")


@mistake(InsecureListenerError, "127.0.0.1")
async def a_listener_for_everybody(_: Path) -> None:
    async with LocalNode().listen("ws://0.0.0.0:0"):
        pass


@mistake(hakuban.UnknownSchemeError, "install")
async def a_transport_that_is_not_installed(_: Path) -> None:
    LocalNode().connect(f"mqtt://127.0.0.1/?token={SECRET}")


@mistake(hakuban.AmbiguousSchemeError, "uninstall")
async def two_distributions_for_one_scheme(folder: Path) -> None:
    for name in ("first", "second"):
        distribution(folder, name, "twice", "raise SystemError")
    LocalNode().connect(f"twice://127.0.0.1/?token={SECRET}")


@mistake(hakuban.PluginError, "mend, upgrade or uninstall")
async def a_plugin_that_does_not_import(folder: Path) -> None:
    distribution(folder, "third", "broken", "import no_such_module")
    LocalNode().connect(f"broken://127.0.0.1/?token={SECRET}")


def distribution(folder: Path, name: str, scheme: str, code: str) -> None:
    (folder / f"plugin_{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hakuban.transports]\n{scheme} = plugin_{name}\n")


@mistake(hakuban.AlreadyConnectedError, "second LocalNode")
async def two_links_upwards(_: Path) -> None:
    async with linked_nodes(1) as (node,):
        async with node.connect("memory://elsewhere"):
            pass


@mistake(hakuban.RefusedError, "origin")
async def a_link_that_claims_to_be_a_web_page(_: Path) -> None:
    async with LocalNode().listen("ws://127.0.0.1:0") as listener:
        headers = {"Origin": "https://example.org", "Authorization": SECRET}
        async with LocalNode().connect(listener.url, headers=headers):
            pass


@mistake(hakuban.CircleError, "lab -> lab; let one of them connect")
async def a_node_that_connects_to_itself(_: Path) -> None:
    lab = LocalNode("lab")
    async with lab.listen("memory://") as listener, lab.connect(listener.url):
        pass


@mistake(hakuban.RefusedError, "not today")
async def a_link_that_a_plugin_refuses(_: Path) -> None:
    def refuse(_request: ConnectionRequest) -> Identity | None:
        raise hakuban.RefusedError("not today\x1b[2J\u202e", retry=False)

    async with LocalNode().listen("memory://", authorize=refuse) as listener:
        async with LocalNode().connect(listener.url):
            pass


@asynccontextmanager
async def peer_that(speaks: Callable[[MessageStream], Awaitable[None]]) -> AsyncIterator[str]:
    """Listen as something else than a node."""
    async with anyio.create_task_group() as group:
        yield await group.start(MemoryTransport().serve, "memory://", TransportOptions(), speaks)
        group.cancel_scope.cancel()


async def link_to(speaks: Callable[[MessageStream], Awaitable[None]], **options: Any) -> None:
    """Have a node connect to such a peer, and raise why the link has ended."""
    async with peer_that(speaks) as url:
        with LocalNode() as node, node.object(WEATHER).observe():
            try:
                async with node.connect(url, **options) as connection:
                    async for status in connection.statuses():
                        if status.error is not None:
                            failure = status.error
                            break
            except hakuban.HakubanError as error:
                failure = error
    raise failure


@mistake(hakuban.ProtocolMismatchError, "upgrade it")
async def a_peer_of_an_old_release(_: Path) -> None:
    async def speak(stream: MessageStream) -> None:
        await stream.send([b"\0\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0"])
        await anyio.sleep_forever()

    await link_to(speak)


@mistake(hakuban.WireError, "")
async def a_peer_that_speaks_something_else(_: Path) -> None:
    async def speak(stream: MessageStream) -> None:
        await stream.send([b"GET / HTTP/1.1\r\n\r\n"])
        await anyio.sleep_forever()

    await link_to(speak)


@mistake(hakuban.PeerViolationError, "")
async def a_peer_whose_channels_are_not_open(_: Path) -> None:
    session = Session(listening=True, name="odd", limits=Limits())

    async def speak(stream: MessageStream) -> None:
        opening = session.encode(OpenChannel(2, ChannelKind.STREAM, WEATHER))
        await stream.send([*session.opening(), *opening, *opening])
        await anyio.sleep_forever()

    await link_to(speak)


@mistake(hakuban.DiffError, "")
async def a_peer_whose_difference_refers_to_nothing(_: Path) -> None:
    session, base = (Session(listening=True, name="odd", limits=Limits()) for _ in range(2))
    for one in (session, base):
        opening = [*one.opening(), *one.encode(OpenChannel(2, ChannelKind.STREAM, WEATHER))]
    data = os.urandom(10_000)
    before, after = Content(data, (), (1,)), Content(data + b"more", (), (2,))
    session.encode(SendState(2, before, 0))  # is never sent
    difference = session.encode(SendState(2, after, 0))
    other = base.encode(SendState(2, Content(b"z", (), (1,)), 0))

    async def speak(stream: MessageStream) -> None:
        await stream.send([*opening, *other, *difference])
        await anyio.sleep_forever()

    await link_to(speak)


@mistake(hakuban.LinkTimeoutError, "nothing received")
async def a_peer_that_falls_silent(_: Path) -> None:
    session = Session(listening=True, name="silent", limits=Limits())

    async def speak(stream: MessageStream) -> None:
        await stream.send(session.opening())
        await anyio.sleep_forever()

    await link_to(speak, keep_alive=0.05, timeout=0.1)


@mistake(hakuban.LinkError, "1001")
async def a_router_that_is_stopped(_: Path) -> None:
    stop = anyio.Event()

    async def route(task_status: TaskStatus[str]) -> None:
        async with LocalNode().listen("memory://") as listener:
            task_status.started(listener.url)
            await stop.wait()

    async with anyio.create_task_group() as group:
        url = await group.start(route)
        async with LocalNode().connect(url) as connection:
            stop.set()
            async for status in connection.statuses():
                if status.error is not None:
                    failure = status.error
                    break
    raise failure


# ---- the tests ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a place where distributions are found."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("first", "second", "third"):
        sys.modules.pop(f"plugin_{name}", None)


@pytest.mark.parametrize(
    ("kind", "words", "make"), MISTAKES, ids=lambda value: getattr(value, "__name__", "-")
)
@pytest.mark.parametrize("anyio_backend", [("asyncio", {}), ("trio", {})], ids=["asyncio", "trio"])
async def test_an_error_says_what_to_do_and_keeps_its_fields(
    kind: type[BaseException], words: str, make: Mistake, folder: Path
) -> None:
    with pytest.raises(kind) as caught:
        await make(folder)
    error = caught.value
    assert type(error) is kind
    text = str(error)
    assert len(text) > 10
    assert words in text
    assert text.isprintable()
    assert SECRET not in f"{text} {error!r} {vars(error)}"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), repr(again)) == (kind, text, repr(error))
    assert vars(again).keys() == vars(error).keys()
    for other in (copy.copy(error), copy.deepcopy(error)):
        assert (type(other), str(other), vars(other)) == (kind, text, vars(error))


def test_no_error_is_left_out() -> None:
    def below(kind: type[BaseException]) -> set[type[BaseException]]:
        return {kind, *(one for sub in kind.__subclasses__() for one in below(sub))}

    ours = {one for one in below(hakuban.HakubanError) if one.__module__.split(".")[0] == "hakuban"}
    assert ours - {hakuban.HakubanError} == {kind for kind, *_ in MISTAKES}


def encode(value: int) -> None:
    with LocalNode(max_state=1).object("x").expose() as contract:
        contract.set_object_data(value)


def test_an_error_comes_out_of_a_process_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(hakuban.StateTooLargeError) as caught:
            pool.submit(encode, 1_000).result(timeout=50)
        assert (caught.value.size, caught.value.limit) == (4, 1)
        pool.submit(encode, 1).result(timeout=50)


def test_fields_of_a_local_class_become_what_can_be_pickled() -> None:
    class Reading(dict[str, int]):
        pass

    error = hakuban.SerializationError(Reading, "too hot")
    again = pickle.loads(pickle.dumps(error))
    assert (again.value_type, str(again)) == (dict, str(error))
    assert copy.copy(error).value_type is copy.deepcopy(error).value_type is Reading


async def test_states_descriptors_and_snapshots_survive_too() -> None:
    class Local(dict[str, int]):
        pass

    node = LocalNode()
    with (
        node.object(WEATHER).expose() as contract,
        node.object(WEATHER).observe(type=dict) as watcher,
    ):
        contract.set_object_data({"celsius": 20})
        contract.set_synchronized(2.5)
        state = watcher.object_state()
        assert state is not None
        again = pickle.loads(pickle.dumps(state))
        assert again == state
        assert (again.data, again.descriptor) == ({"celsius": 20}, WEATHER)
        assert 2.5 <= state.age <= again.age < 60
        assert copy.deepcopy(state) is copy.copy(state) is state
        snapshot = node.snapshot()
        assert pickle.loads(pickle.dumps(snapshot)) == snapshot == copy.deepcopy(snapshot)
        assert pickle.loads(pickle.dumps(WEATHER)) == WEATHER


def test_a_state_of_a_type_that_cannot_be_pickled_keeps_its_value_or_says_so() -> None:
    from dataclasses import dataclass

    class Own:
        """A serializer that nobody can import."""

        def serialize(self, value: Any, /) -> tuple[tuple[str, ...], bytes]:
            return (), str(value).encode()

        def deserialize(self, _format: object, data: bytes, _type: Any, /) -> Any:
            return int(data)

    @dataclass
    class Reading:
        celsius: int

    node = LocalNode(serializer=Own())
    with node.object("own").expose() as contract, node.object("own").observe() as watcher:
        contract.set_object_data(7)
        assert pickle.loads(pickle.dumps(watcher.object_state())).data == 7
    node = LocalNode()
    with (
        node.object("typed").expose() as contract,
        node.object("typed").observe(type=Reading) as typed,
        node.object("typed").observe(type=list[str]) as wrong,
    ):
        contract.set_object_data({"celsius": 20})
        for watcher in (typed, wrong):
            again = pickle.loads(pickle.dumps(watcher.object_state()))
            assert again.raw == b'{"celsius":20}'
            with pytest.raises(hakuban.DeserializationError, match="typed"):
                _ = again.data
