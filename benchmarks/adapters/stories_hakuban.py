"""This library in the user stories (slow reader, restart, frozen and killed exposer, fan-out ...).

Put beside the other adapters of the stories' driver as `hakuban_py.py`; `benchmarks/README.md` has the commands.
"""

import asyncio
import contextlib
import os

import hakuban
from adapters import PY, Adapter, Conn

BYTES = hakuban.RAW.with_format(["JSON"])
VARIANTS = {"": "", "t2": "#timeout=2s,keep-alive=500ms"}


class HakubanConn(Conn):
    def __init__(self, url):
        self.stack = contextlib.AsyncExitStack()
        self.node = hakuban.LocalNode(serializer=BYTES)
        self.url = url
        self.sinks = {}
        self.tasks = []

    async def open(self):
        self.link = await self.stack.enter_async_context(self.node.connect(self.url, wait=False))
        return self

    async def ready(self):
        await self.link.wait_up()

    async def expose(self, keys, on_assign):
        async def assignments(contract, key):
            async for sink in contract:
                sink.set(on_assign(key))
                self.sinks[key] = sink

        for key in keys:
            contract = self.stack.enter_context(self.node.object(["t"], key).expose())
            self.tasks.append(asyncio.create_task(assignments(contract, key)))

    async def put(self, items):
        for key, data in items:
            sink = self.sinks.get(key)
            if sink is not None:
                try:
                    sink.set(data)
                except hakuban.NotAssignedError:
                    del self.sinks[key]

    async def observe(self, keys):
        contracts = [
            self.stack.enter_context(self.node.object(["t"], key).observe()) for key in keys
        ]
        return [self._states(key, contract) for key, contract in zip(keys, contracts, strict=True)]

    @staticmethod
    async def _states(key, contract):
        async for state in contract:
            yield key, state.data, int(state.synchronized)

    async def observe_all(self):
        contract = self.stack.enter_context(self.node.tag("t").observe())
        merged = asyncio.Queue()

        async def one(stream):
            async for state in stream:
                merged.put_nowait((stream.descriptor.json, state.data, int(state.synchronized)))

        async def members():
            async for stream in contract:
                self.tasks.append(asyncio.create_task(one(stream)))

        async def states():
            while True:
                yield await merged.get()

        self.tasks.append(asyncio.create_task(members()))
        return [states()]

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await self.stack.aclose()


class Hakuban(Adapter):
    desc = "hakuban (Python), own router and nodes, defaults"
    failover = True
    url_opts = VARIANTS

    def router_cmd(self, port, rundir, variant=""):
        router = os.path.join(os.path.dirname(PY), "hakuban-router")
        return [router, "--bind", f"ws://127.0.0.1:{port}" + VARIANTS[variant]]

    def url(self, port, variant=""):
        return f"ws://127.0.0.1:{port}/" + VARIANTS[variant]

    async def connect(self, url):
        return await HakubanConn(url).open()


class RustRouter(Hakuban):
    desc = "our nodes behind the crate's router"

    def router_cmd(self, port, rundir, variant=""):
        router = os.environ.get("RUST_ROUTER", "hakuban-router")
        return [router, "--bind", f"ws://127.0.0.1:{port}" + VARIANTS[variant]]


ADAPTERS = {"hakuban_py": Hakuban(), "py_nodes_rust_router": RustRouter()}
