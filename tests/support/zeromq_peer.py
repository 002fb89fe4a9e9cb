"""A process that says its URL when it is ready.

`listen` and `connect` send back what they receive; `route` is a node that listens.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import anyio

from hakuban import LocalNode
from hakuban.transport import LinkError, TransportOptions
from hakuban_zmq import ZeroMQTransport

if TYPE_CHECKING:
    from hakuban.transport import MessageStream


async def echo(stream: MessageStream) -> None:
    try:
        while True:
            await stream.send(await stream.receive())
    except (anyio.EndOfStream, anyio.BrokenResourceError, LinkError):
        pass
    finally:
        await stream.aclose()


async def main(what: str, url: str) -> None:
    options = TransportOptions()
    if what == "listen":
        async with anyio.create_task_group() as group:
            print(
                await group.start(partial(ZeroMQTransport().serve, url, options, echo)), flush=True
            )
    elif what == "route":
        async with LocalNode().listen(url) as listener:
            print(listener.url, flush=True)
            await anyio.sleep_forever()
    else:
        async with ZeroMQTransport().connect(url, options) as stream:
            print(url, flush=True)
            await echo(stream)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
