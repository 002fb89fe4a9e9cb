"""Circles of references: what keeps objects that nobody refers to any more, until the collector comes by.

A circle is a finding if an object or a function of ours is a part of it: unless something of the test is one, too, which
has made it then, as `with pytest.raises(...) as caught` does. So is one of anyio's, if a cancellation is a part of it that
has ended a task of ours: on asyncio a task group keeps what a cancelled task ended with, which is ours to avoid. An error
that a task ended with is the caller's.
"""

from __future__ import annotations

import gc
import os
import sys
from asyncio import CancelledError
from importlib.util import find_spec
from pathlib import Path
from types import (
    AsyncGeneratorType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
    TracebackType,
)
from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES: Final = ("hakuban", "hakuban_ws", "hakuban_zmq", "hakuban_router")
# where they are imported from, which may be a copy with a fault in it
SOURCES: Final = tuple(
    str(Path(found.origin).parent) + os.sep
    for found in map(find_spec, PACKAGES)
    if found is not None and found.origin is not None
)
KIT: Final = "/hakuban/_testing/"
MEMORY: Final = "/hakuban/_testing/memory.py"
"""The one module of the kit that is none: the others are a test, for transports."""
TESTS: Final = "/tests/"


THEIR_TASKS: Final = {
    "contained": "the last frame of each task of ours, which has forgotten all others and knows nothing",
    "_serve_only": "as above, for a task that reports when it has begun",
    "StateReader.wait_state": "a test calls it",
    "MemoryTransport.serve": "a test that needs no node calls it",
    "WebSocketTransport.serve": "a test that needs no node calls it",
    "ZeroMQTransport.serve": "a test that needs no node calls it",
    "MemoryStream.receive": "a test calls it",
    "WebSocketStream.receive": "a test calls it",
    "WebSocketStream.send": "a test calls it",
    "ZeroMQStream.receive": "a test calls it",
    "ZeroMQStream.send": "a test calls it",
    "Acceptor.run": "a test of it calls it",
}
"""Where tasks begin that are not ours, or that nothing is to be avoided of; and why."""


_CODE: Final[dict[type, str]] = {
    AsyncGeneratorType: "ag_code",
    CoroutineType: "cr_code",
    FrameType: "f_code",
    FunctionType: "__code__",
    GeneratorType: "gi_code",
}


_LATER_CALLERS: Final = {
    "TaskGroup.start.<locals>.run_coro_with_task_status",
    "_AsyncGeneratorContextManager.__aexit__",
}
CALLERS: Final = {
    "TaskGroup.start",
    "AsyncExitStack.__aexit__",
    *(_LATER_CALLERS if sys.version_info >= (3, 12) else ()),
}
"""Functions of anyio and contextlib that keep what came out of them, in a circle: with what is the caller's."""


def origin(one: Any) -> str:
    """Return whose an object is: "ours", "test", or "" for anybody else's."""
    code = code_of(one)
    if code is not None:
        return _origin_of_file(code.co_filename)
    if isinstance(one, BaseException):
        return ""  # they come through, whoever made them: their frames tell
    module = module_of(one)
    if is_our_module(module):
        kit = module.startswith("hakuban._testing.") and module != "hakuban._testing.memory"
        return "test" if kit else "ours"
    return "test" if module.startswith(("packages.", "tests.", "support.")) else ""


def module_of(one: object) -> str:
    """Return the name of the module of an object's class."""
    module: object = type(one).__module__
    return module if isinstance(module, str) else ""  # a descriptor, of some types in C


def is_our_module(name: str) -> bool:
    """Return whether a module is of one of our packages; documents have some whose names begin like ours."""
    return name.partition(".")[0] in PACKAGES


def code_of(one: Any) -> Any:
    """Return the code of a function, a call or a frame; None of anything else."""
    if isinstance(one, MethodType):
        return code_of(one.__func__)
    name = _CODE.get(type(one))
    return None if name is None else getattr(one, name)


def _origin_of_file(file: str) -> str:
    if file.startswith(SOURCES):
        return "test" if KIT in file and MEMORY not in file else "ours"
    return "test" if TESTS in file else ""


def circles_of_ours(garbage: list[Any]) -> Iterator[list[Any]]:
    """Find circles that are ours to avoid; of several that hang together, a short one."""
    objects = {id(one): one for one in garbage}
    edges = {
        key: [id(other) for other in gc.get_referents(one) if id(other) in objects]
        for key, one in objects.items()
    }
    for members in _strong_components(edges):
        whose = [origin(objects[member]) for member in members]
        if "test" in whose or any(_is_error_of_task(objects[member]) for member in members):
            continue
        if "ours" in whose or any(_ended_ours(objects[member]) for member in members):
            yield [objects[key] for key in _short_circle(members, edges)]


def _ended_ours(one: Any) -> bool:
    """Return whether an object is a cancellation that has ended a task of ours."""
    if not isinstance(one, CancelledError | trio.Cancelled):
        return False
    passed: TracebackType | None = one.__traceback__
    while passed is not None:
        frame = passed.tb_frame
        whose = origin(frame)
        if whose:
            return whose == "ours" and frame.f_code.co_qualname not in THEIR_TASKS
        passed = passed.tb_next
    return False


def _is_error_of_task(one: Any) -> bool:
    """Return whether an object is what anyio keeps of a task that has ended with an error."""
    error: object = None
    if type(one).__name__ == "TaskHandle":
        error = one._exception
    elif isinstance(one, FrameType) and one.f_code.co_qualname in CALLERS:
        return True  # the caller has got the error, or was cancelled
    return isinstance(error, Exception) and not isinstance(error, CancelledError)


def _strong_components(edges: dict[int, list[int]]) -> Iterator[list[int]]:
    """Find the nodes that reach each other, by Tarjan's algorithm: several, or one that refers to itself."""
    number: dict[int, int] = {}
    lowest: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for start, first in edges.items():
        work = [] if start in number else [(start, iter(first))]
        while work:
            node, others = work[-1]
            if node not in number:
                number[node] = lowest[node] = len(number)
                stack.append(node)
                on_stack.add(node)
            for other in others:
                if other not in number:
                    work.append((other, iter(edges[other])))
                    break
                if other in on_stack:
                    lowest[node] = min(lowest[node], number[other])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    lowest[above] = min(lowest[above], lowest[node])
                if lowest[node] == number[node]:
                    members = [stack.pop()]
                    while members[-1] != node:
                        members.append(stack.pop())
                    on_stack.difference_update(members)
                    if len(members) > 1 or node in edges[node]:
                        yield members


def _short_circle(members: list[int], edges: dict[int, list[int]]) -> list[int]:
    """Return the shortest circle through one of the first members."""
    shortest: list[int] = []
    inside = set(members)
    for start in members[:50]:
        before: dict[int, int | None] = {start: None}
        queue = [start]
        for node in queue:
            if start in edges[node]:
                path = _path(node, before)
                if not shortest or len(path) < len(shortest):
                    shortest = path
                break
            for other in edges[node]:
                if other in inside and other not in before:
                    before[other] = node
                    queue.append(other)
    return shortest


def _path(node: int | None, before: dict[int, int | None]) -> list[int]:
    path = []
    while node is not None:
        path.append(node)
        node = before[node]
    return path[::-1]
