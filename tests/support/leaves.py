"""Leaves of trees, in processes of their own: exposers, and observers that tell how old what they see says to be.

    python -m support.leaves expose URLS OPTIONS
    python -m support.leaves observe URLS OPTIONS

The URLs are a JSON object, and lead to a router for each kind of tree. In each tree two objects are exposed: one is
observed by its name, the other one only by its tag, so that it ceases when nobody exposes it any more. Observers are one
and two hops away from that router; for the latter this process has a router of its own. They print a line for each state,
and one more when a stream has ended, as `Reading` reads them.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from hakuban import LocalNode

if TYPE_CHECKING:
    from hakuban import ObjectObserve, ObjectStateStream, TagObserve

    States: TypeAlias = ObjectObserve[int] | ObjectStateStream[int]

READERS: Final = frozenset({"near object", "near tag", "far object", "far tag"})

_GLANCE: Final = (
    0.005  # seconds that a look at state and clock may take, or the two do not belong together
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader saw.

    :ivar kind: of the tree.
    :ivar at: monotonic time of the look.
    :ivar age: what the state said then, in seconds.
    :ivar ended: whether it was the last state of a stream that has ended, of an object that has ceased for the contract.
    """

    kind: str
    reader: str
    at: float
    synchronized: bool
    age: float
    ended: bool

    @property
    def since(self) -> float:
        """The monotonic time at which the state was last current, as it says itself."""
        return self.at - self.age


def look(kind: str, reader: str, states: States, *, ended: bool) -> Reading:
    """Look at the newest state."""
    while True:
        before = time.monotonic()
        state = states.object_state()
        at = time.monotonic()
        if at - before < _GLANCE:
            break
    assert state is not None
    return Reading(kind, reader, at, state.synchronized, state.age, ended)


def tell(reading: Reading) -> None:
    print(json.dumps(asdict(reading)), flush=True)


async def watch(kind: str, reader: str, states: States) -> None:
    async for _ in states:
        tell(look(kind, reader, states, ended=False))


async def watch_all(kind: str, reader: str, contract: TagObserve[int]) -> None:
    async def watch_one(stream: ObjectStateStream[int]) -> None:
        await watch(kind, reader, stream)
        ceased = contract.object_state(stream.descriptor) is None
        tell(look(kind, reader, stream, ended=stream.closed and ceased))

    async with anyio.create_task_group() as group:
        async for stream in contract:
            group.start_soon(watch_one, stream)


async def observe(kind: str, url: str, options: str) -> None:
    scheme = url.partition("://")[0]
    with LocalNode("near") as near, LocalNode("second router") as router, LocalNode("far") as far:
        async with (
            near.connect(url + options),
            router.connect(url + options),
            router.listen(f"{scheme}://127.0.0.1:0{options}") as second,
            far.connect(second.url.partition("#")[0] + options),
            anyio.create_task_group() as group,
        ):
            for place, node in (("near", near), ("far", far)):
                named: ObjectObserve[int] = node.object([], kind).observe(type=int)
                tagged: TagObserve[int] = node.tag(kind).observe(type=int)
                group.start_soon(watch, kind, f"{place} object", named)
                group.start_soon(watch_all, kind, f"{place} tag", tagged)


async def expose(kind: str, url: str, options: str) -> None:
    with LocalNode("exposer") as node:
        async with node.connect(url + options):
            with node.object([], kind).expose() as named, node.object([kind], 1).expose() as tagged:
                named.set_object_data(1)
                tagged.set_object_data(1)
                await anyio.sleep_forever()


async def main(verb: str, urls: str, options: str) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:
            for kind, url in json.loads(urls).items():
                group.start_soon(expose if verb == "expose" else observe, kind, url, options)
            async for _ in signals:
                group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
