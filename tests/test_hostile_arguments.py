"""Every public callable, called as nobody should: the node is not broken, its link lives, other objects stay fresh."""

from __future__ import annotations

import inspect
import re
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import hakuban
import hakuban.sync
import hakuban.testing
import hakuban.transport
from hakuban import (
    JSON,
    MESSAGE_PACK,
    RAW,
    LocalNode,
    ObjectDescriptor,
    ObjectState,
    TagDescriptor,
)
from hakuban.events import EventMerge
from support.hostile import BoomError, anything
from support.processes import RouterProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = 2_000

# What may come out: an error of ours, the ones that Python has for arguments, and what the user's own objects raise.
ALLOWED = (hakuban.HakubanError, TypeError, ValueError, BoomError, anyio.BusyResourceError)

HOSTILE = anything()


class Drawing:
    """Draws arguments."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def __call__(self) -> Any:
        """Draw anything."""
        return self._data.draw(HOSTILE)

    def one_of(self, *choices: Any) -> Any:
        """Draw what may be right."""
        return self._data.draw(st.sampled_from(choices))

    def some_of(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Draw for some of the keyword parameters of a function."""
        parameters = inspect.signature(function).parameters.values()
        names = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
        return {name: self() for name in names if self.one_of(True, False)}


class World:
    """A node that is ill-used, a router, and another node that looks on."""

    def __init__(self, stack: ExitStack) -> None:
        self.router = stack.enter_context(RouterProcess())
        self.node = stack.enter_context(LocalNode("ill-used"))
        self.other = stack.enter_context(LocalNode("onlooker"))
        self.links = [
            stack.enter_context(hakuban.sync.connect(node, self.router.url))
            for node in (self.node, self.other)
        ]
        self.witness = stack.enter_context(self.node.object("witness").expose())
        self.seen = stack.enter_context(self.other.object("witness").observe())
        self.count = 0

    def check(self) -> None:
        """Assert that a value gets from the node through the router to the onlooker, over the links of the beginning."""
        self.count += 1
        self.witness.set_object_data(self.count)
        for state in self.seen:
            if state.data == self.count and state.synchronized:
                break
        assert [link.counters.reconnects for link in self.links] == [0, 0]
        assert all(link.up for link in self.links)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack)


# ---- the calls ------------------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[World, Drawing], object]] = {}


def call(function: Callable[[World, Drawing], object]) -> Callable[[World, Drawing], object]:
    CALLS[function.__name__] = function
    return function


@call
def local_node(_: World, draw: Drawing) -> None:
    LocalNode(draw(), **draw.some_of(LocalNode)).close()


@call
def objects(world: World, draw: Drawing) -> None:
    """Whatever is taken as a name travels to the router and back."""
    builder = world.node.object(*(draw() for _ in range(2)))
    with (
        builder.observe(),
        builder.expose() as contract,
        world.other.object(builder.descriptor).observe() as seen,
    ):
        contract.set_object_data("x")
        assert seen.wait_state_sync(10).data == "x"


@call
def objects_by_one_argument(world: World, draw: Drawing) -> None:
    builder = world.node.object(draw())
    assert ObjectDescriptor(builder.descriptor) == builder.descriptor
    with builder.expose(), world.other.object(builder.descriptor).observe():
        pass


@call
def tags(world: World, draw: Drawing) -> None:
    builder = world.node.tag(draw())
    with builder.observe(), builder.expose(), world.other.tag(builder.descriptor).observe():
        pass


@call
def descriptors(_: World, draw: Drawing) -> None:
    for make in (ObjectDescriptor, TagDescriptor, TagDescriptor.from_json):
        with suppress(*ALLOWED):
            str(make(draw()))
    str(ObjectDescriptor.from_json(draw(), draw()))


@call
def observe(world: World, draw: Drawing) -> None:
    for builder in (world.node.object("x"), world.node.tag("x")):
        with suppress(*ALLOWED):
            with builder.observe(**draw.some_of(builder.observe)) as contract:
                assert not contract.closed


@call
def expose(world: World, draw: Drawing) -> None:
    for builder in (world.node.object("x"), world.node.tag("x")):
        with suppress(*ALLOWED):
            with builder.expose(**draw.some_of(builder.expose)) as contract:
                contract.set_object_data(*[draw() for _ in range(draw.one_of(1, 2))])


@call
def setting_an_object(world: World, draw: Drawing) -> None:
    """What is set on an object travels to the onlooker, in every serializer."""
    serializer = draw.one_of(JSON, MESSAGE_PACK, RAW, None)
    name = ObjectDescriptor(["hostile"], 1)
    with (
        world.node.object(name).expose(serializer=serializer) as contract,
        world.other.object(name).observe(serializer=RAW) as seen,
    ):
        contract.wait_assigned_sync(10)
        for use in (
            lambda: contract.set_object_data(draw()),
            lambda: contract.set_object_state(draw(), draw()),
            lambda: contract.set_object_version(draw()),
            lambda: contract.set_synchronized(draw()),
            lambda: setattr(contract, "capacity", draw()),
        ):
            with suppress(*ALLOWED):
                use()
        contract.capacity = 1
        contract.set_object_version()
        seen.object_state()


@call
def setting_through_a_tag(world: World, draw: Drawing) -> None:
    name = ObjectDescriptor(["hostile"], 2)
    with (
        world.node.tag("hostile").expose() as contract,
        world.node.tag("hostile").observe() as observed,
        world.other.object(name).observe() as seen,
    ):
        sink = next(iter(contract))
        for use in (
            lambda: contract.set_object_data(draw(), draw()),
            lambda: contract.set_object_data(name, draw()),
            lambda: contract.set_object_state(name, draw(), draw()),
            lambda: contract.set_object_version(name, draw()),
            lambda: contract.set_object_version(draw()),
            lambda: draw() in contract,
            lambda: draw() in observed,
            lambda: observed.object_data(draw()),
            lambda: observed.object_state(draw()),
            lambda: observed.object_version(draw()),
            lambda: sink.set(draw()),
            lambda: sink.set_state(draw(), draw()),
            lambda: sink.set_synchronized(draw()),
        ):
            with suppress(*ALLOWED):
                use()
        seen.object_state()
        sink.close()
        with suppress(*ALLOWED):
            sink.wait_unassigned_sync(draw())


@call
def reading(world: World, draw: Drawing) -> None:
    """What was set is read as something else than it is."""
    wanted = draw()
    with world.node.object("x").expose(serializer=RAW.with_format(["JSON"])) as contract:
        for data in (b"1", b"not JSON", b"[1"):
            contract.set_object_data(data)
            with suppress(*ALLOWED), world.node.object("x").observe(type=wanted) as seen:
                state = seen.wait_state_sync(10)
                repr(state)
                with suppress(*ALLOWED):
                    _ = state.data


@call
def waiting(world: World, draw: Drawing) -> None:
    """Anything as a time limit of something that is there already."""
    for wait in (
        world.seen.wait_state_sync,
        world.witness.wait_assigned_sync,
        world.links[0].wait_up_sync,
    ):
        with suppress(*ALLOWED):
            wait(draw())


@call
def waiting_for_what_fits(world: World, draw: Drawing) -> None:
    async def wait() -> None:
        with anyio.move_on_after(0):
            await world.seen.wait(draw())

    for use in (
        lambda: world.seen.wait_sync(draw(), 0.001),
        lambda: world.seen.wait_sync(lambda _: True, draw()),
        lambda: next(world.seen.iter(draw())),
        lambda: next(world.seen.every(draw())),
        lambda: anyio.run(wait),
    ):
        with suppress(*ALLOWED):
            use()


@call
def views(world: World, draw: Drawing) -> None:
    with (
        world.node.tag("viewed").observe() as contract,
        world.node.object((["viewed"], 1)).expose() as exposed,
        suppress(*ALLOWED),
        contract.view(**draw.some_of(contract.view)) as view,
    ):
        exposed.set_object_data(1)
        for use in (lambda: view[draw()], lambda: draw() in view, lambda: view.live(draw())):
            with suppress(*ALLOWED, KeyError):
                use()
        assert len(view) == len(view.items()) == 1


@call
def events(world: World, draw: Drawing) -> None:
    with world.node.object("x").observe() as contract, contract.changes().buffer() as buffer:
        source = contract.changes()
        for use in (
            lambda: source.register(draw()),
            lambda: source.register(len, via=draw()),
            lambda: source.map(draw()).buffer().ready(),
            lambda: source.annotate(draw()).buffer().ready(),
            lambda: EventMerge(source.map(draw()), source.annotate(draw())).keys(),
            lambda: EventMerge(draw()),
            lambda: buffer.get_sync(draw()),
        ):
            with suppress(*ALLOWED):
                use()


@call
def states(world: World, draw: Drawing) -> None:
    with world.node.object("sent").expose() as contract, world.node.object("sent").observe():
        sink = next(iter(contract))
        for use in (
            lambda: sink.send(draw()),
            lambda: sink.send(ObjectState(draw(), **draw.some_of(ObjectState))),
            lambda: sink.send(ObjectState(1).replace(**draw.some_of(ObjectState.replace))),
            lambda: sink.set(1, age=draw()),
            lambda: contract.set_object_data(1, age=draw()),
        ):
            with suppress(*ALLOWED):
                use()


@call
def serving(world: World, draw: Drawing) -> None:
    with world.node.object("served").expose() as contract:
        handler, on_error = draw(), draw()

        async def run() -> None:
            with anyio.move_on_after(0):
                await contract.serve(handler, on_error=on_error)

        anyio.run(run)


@call
def connecting(_: World, draw: Drawing) -> None:
    """A link that is never entered: all that can be known beforehand is said by the call."""
    node = LocalNode()
    options = {"timeout": draw(), draw.one_of(*OPTIONS): draw()}
    for make in (node.connect, node.listen):
        with suppress(*ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # nobody enters it
            make(draw(), **options)
        with suppress(*ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            make("ws://127.0.0.1:1", **options)
    for connect in (hakuban.sync.connect, hakuban.sync.listen):
        with suppress(*ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            connect(node, "ws://127.0.0.1:1", **options)


OPTIONS = [
    "transport", "wait", "name", "load_limit", "keep_alive", "max_message", "handshake_timeout", "nodelay", "compression",
    "headers", "ssl", "allow_origins", "max_connections", "insecure", "authorize", "no_such_option",
]  # fmt: skip


@call
def linking_oddly(world: World, draw: Drawing) -> None:
    """A link that is made with whatever is taken."""
    option = draw.one_of("name", "load_limit", "keep_alive", "nodelay", "compression", "headers")
    with LocalNode() as node:
        block = hakuban.sync.connect(node, world.router.url, **{option: draw()})
        with block as link:
            assert link.up


@call
def serializers(_: World, draw: Drawing) -> None:
    for serializer in (JSON, MESSAGE_PACK, RAW):
        with suppress(*ALLOWED):
            serializer.serialize(draw())
        with suppress(*ALLOWED):
            serializer.with_format(draw())
        with suppress(*ALLOWED):
            serializer.deserialize(("JSON",), b"1", draw())
        with suppress(*ALLOWED):
            serializer.check_type(draw())
    for codec in (JSON, MESSAGE_PACK):
        with suppress(*ALLOWED):
            hooked = codec.with_hooks(draw(), draw())
            hooked.deserialize(*hooked.serialize(draw()), draw())


@call
def helpers_of_transports(_: World, draw: Drawing) -> None:
    for use in (
        lambda: hakuban.transport.host_and_port(draw()),
        lambda: hakuban.transport.redacted(draw()),
        lambda: hakuban.transport.printable(draw()),
        lambda: hakuban.transport.Identity(draw()),
        lambda: hakuban.transport.unregister_plugin(draw()),
        lambda: hakuban.testing.cut_links(draw()),
    ):
        with suppress(*ALLOWED):
            use()


# ---- the tests ------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:a descriptor with a floating-point")
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # a world that has seen a fault is not what it was: what was found is reported as it is
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(data=st.data())
def test_no_argument_breaks_a_node_or_costs_another_object(
    world: World, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(CALLS)))
    draw = Drawing(data)
    with suppress(*ALLOWED):
        CALLS[name](world, draw)
    world.check()


def test_no_public_method_that_takes_an_argument_is_left_out() -> None:
    called = Path(__file__).read_text()
    kinds = [
        hakuban.LocalNode, hakuban.ObjectContractBuilder, hakuban.TagContractBuilder, hakuban.ObjectObserve,
        hakuban.TagObserve, hakuban.ObjectExpose, hakuban.TagExpose, hakuban.ObjectStateSink, hakuban.ObjectStateStream,
        hakuban.Connection, hakuban.Listener, hakuban.ObjectDescriptor, hakuban.TagDescriptor,
    ]  # fmt: skip
    missing = [
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, method in inspect.getmembers(kind, callable)
        if not name.startswith("_")
        and set(inspect.signature(method).parameters) - {"self"}
        and not re.search(rf"\.{name}\b", called)
    ]
    assert missing == []
