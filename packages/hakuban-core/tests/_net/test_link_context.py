"""Links used in another way than `async with`: each says what to write, once, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hakuban
from hakuban import LocalNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ASYNC = {
    "connect": r"write `async with node\.connect\(\.\.\.\) as connection:`",
    "listen": r"write `async with node\.listen\(\.\.\.\) as listener:`",
}
SYNC = {
    "connect": r"write `with hakuban\.sync\.connect\(node, \.\.\.\) as connection:`",
    "listen": r"write `with hakuban\.sync\.listen\(node, \.\.\.\) as listener:`",
}
WHAT = pytest.mark.parametrize("what", ["connect", "listen"])


@pytest.fixture
def node() -> Iterator[LocalNode]:
    """Give a node; what was done wrong with it has left no claim, no thread and no warning but those that are expected."""
    node = LocalNode()
    threads = threading.active_count()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield node
        gc.collect()
    assert not [str(warning.message) for warning in caught]
    assert threading.active_count() <= threads
    with (
        hakuban.sync.listen(node, "memory://"),
        hakuban.sync.connect(node, "memory://1", wait=False),
    ):
        pass  # it is free


def make(node: LocalNode, what: str) -> Any:
    return getattr(node, what)("memory://1")


def make_sync(node: LocalNode, what: str) -> Any:
    return getattr(hakuban.sync, what)(node, "memory://1")


def collect(blocks: list[Any]) -> None:
    blocks.clear()
    gc.collect()


# ---- forgotten ------------------------------------------------------------------------------------------------------


@WHAT
@pytest.mark.parametrize(
    ("make", "words"), [(make, ASYNC), (make_sync, SYNC)], ids=["async", "sync"]
)
def test_a_forgotten_block_is_warned_of_where_it_was_made(
    node: LocalNode, what: str, make: Callable[..., Any], words: dict[str, str]
) -> None:
    blocks = [make(node, what)]
    with pytest.warns(RuntimeWarning, match=words[what]) as caught:
        collect(blocks)
    [warning] = caught
    assert warning.filename == __file__
    source, line = Path(__file__).read_text().splitlines(), warning.lineno
    assert "getattr(" in source[line - 1], "the line that made it"


def test_at_the_end_of_the_interpreter_nothing_is_said() -> None:
    program = """
import hakuban
node = hakuban.LocalNode()
blocks = [node.connect("memory://1"), node.listen("memory://1"), hakuban.sync.connect(node, "memory://1")]
blocks.append(blocks)  # found by the collector only
kept = node.object("x").observe()
"""
    done = subprocess.run(
        [sys.executable, "-Wdefault", "-Xdev", "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- used in another way --------------------------------------------------------------------------------------------


@WHAT
async def test_a_block_is_not_awaited(node: LocalNode, what: str) -> None:
    with pytest.raises(TypeError, match=ASYNC[what]):
        await make(node, what)
    with pytest.raises(TypeError, match=ASYNC[what]):
        await make_sync(node, what)


@WHAT
async def test_a_block_is_not_entered_by_with(node: LocalNode, what: str) -> None:
    with pytest.raises(TypeError, match=ASYNC[what]) as caught, make(node, what):
        pass
    assert "hakuban.sync" in str(caught.value)
    with contextlib.ExitStack() as stack, pytest.raises(TypeError, match=ASYNC[what]):
        stack.enter_context(make(node, what))


@WHAT
async def test_a_block_of_sync_is_not_entered_in_an_event_loop(node: LocalNode, what: str) -> None:
    with pytest.raises(TypeError, match=ASYNC[what]):
        async with make_sync(node, what):
            pass
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(TypeError, match=ASYNC[what]):
            await stack.enter_async_context(make_sync(node, what))
    with pytest.raises(RuntimeError, match=ASYNC[what]), make_sync(node, what):
        pass


@WHAT
def test_a_block_has_nothing_of_what_it_gives(node: LocalNode, what: str) -> None:
    for block, words in ((make(node, what), ASYNC), (make_sync(node, what), SYNC)):
        with pytest.raises(AttributeError, match=words[what]):
            _ = block.url
        with pytest.raises(AttributeError, match=f"'wait_up'.*{words[what]}"):
            block.wait_up()


def test_looking_at_a_block_from_outside_is_no_use_of_it(node: LocalNode) -> None:
    blocks: list[object] = [node.connect("memory://1")]
    assert not inspect.iscoroutine(blocks[0])
    assert ASYNC["connect"].replace("\\", "").removeprefix("write ") in repr(blocks[0])
    assert not hasattr(blocks[0], "__fspath__")
    blocks.append(copy.copy(blocks[0]))
    with pytest.warns(RuntimeWarning, match="never made") as caught:
        collect(blocks)
    assert len(caught) == 1


async def test_a_block_is_entered_once(node: LocalNode) -> None:
    block = node.listen("memory://")
    async with block as listener:
        with pytest.raises(RuntimeError, match=f"entered once: {ASYNC['listen']} again"):
            await block.__aenter__()
        async with LocalNode().connect(listener.url) as connection:
            assert connection.up, "the first use goes on"
    with pytest.raises(RuntimeError, match=ASYNC["listen"]):
        async with block:
            pass


def test_a_block_of_sync_is_entered_once(node: LocalNode) -> None:
    block = hakuban.sync.listen(node, "memory://")
    with block as listener:
        with pytest.raises(RuntimeError, match=f"entered once: {SYNC['listen']} again"), block:
            pass
        assert listener.url
    with pytest.raises(RuntimeError, match=SYNC["listen"]), block:
        pass


def test_a_block_that_could_not_be_entered_leaves_the_node_free(node: LocalNode) -> None:
    block = hakuban.sync.listen(node, "memory://taken")
    with hakuban.sync.listen(LocalNode(), "memory://taken"):
        with pytest.raises(OSError, match="in use"), block:
            pass
        with pytest.raises(RuntimeError, match="entered once"), block:
            pass
