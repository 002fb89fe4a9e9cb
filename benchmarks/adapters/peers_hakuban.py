"""This library in the seven workloads (latency, flood, 10,000 objects, fan-out, large object, idle, fail-over).

Put beside the other adapters of the workloads' driver as `hakuban_py.py`; `benchmarks/README.md` has the commands.
"""

import asyncio
import contextlib
import os

import hakuban
from adapters import PY, Adapter, Conn

BYTES = hakuban.RAW.with_format(["JSON"])


class HakubanConn(Conn):
    def __init__(self, url, name):
        self.stack = contextlib.AsyncExitStack()
        self.node = hakuban.LocalNode(name or None, serializer=BYTES)
        self.url = url
        self.contracts = {}
        self.tasks = []

    async def open(self):
        await self.stack.enter_async_context(self.node.connect(self.url))
        return self

    async def expose(self, keys):
        for key in keys:
            contract = self.stack.enter_context(self.node.object(["t"], key).expose())
            self.contracts[key] = contract
        if len(keys) == 1:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.contracts[keys[0]].wait_assigned()

    async def put(self, key, data):
        self.contracts[key].set_object_data(data)

    async def flush(self):
        await asyncio.sleep(0)

    async def observe(self, keys, cb):
        for key in keys:
            contract = self.stack.enter_context(self.node.object(["t"], key).observe())
            self.tasks.append(asyncio.create_task(self._states(key, contract, cb)))

    async def observe_all(self, cb):
        contract = self.stack.enter_context(self.node.tag("t").observe())

        async def members():
            async for stream in contract:
                key = stream.descriptor.json
                self.tasks.append(asyncio.create_task(self._states(key, stream, cb)))

        self.tasks.append(asyncio.create_task(members()))

    @staticmethod
    async def _states(key, states, cb):
        async for state in states:
            cb(key, state.data)

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await self.stack.aclose()


class Hakuban(Adapter):
    desc = "hakuban (Python), own router and nodes, defaults"
    retain = True
    wildcard = True
    failover = True
    workloads = ("w1", "w2", "w3", "w4", "w5", "w6", "w7")

    def router_cmds(self, port, rundir):
        router = os.path.join(os.path.dirname(PY), "hakuban-router")
        return [[router, "--bind", f"ws://127.0.0.1:{port}"]]

    def url(self, port):
        return f"ws://127.0.0.1:{port}/"

    async def connect(self, url, name=""):
        return await HakubanConn(url, name).open()


ADAPTERS = {"hakuban_py": Hakuban()}
