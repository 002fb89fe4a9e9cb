"""Links for programs without an event loop."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

import hakuban
from hakuban import LocalNode, ObjectDescriptor

if TYPE_CHECKING:
    from collections.abc import Iterator

WEATHER = ObjectDescriptor(["weather"], 1)


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "anyio" in thread.name.lower()]


def test_a_program_without_event_loop_observes_over_a_link() -> None:
    before = threading.active_count()
    router, leaf = LocalNode("router"), LocalNode("leaf")
    with hakuban.sync.listen(router, "memory://") as listener:
        with hakuban.sync.connect(leaf, listener.url) as connection:
            assert threading.active_count() == before + 1, "one thread for all links"
            connection.wait_up_sync(timeout=5)
            assert connection.remote_name == "router"
            with (
                router.object(WEATHER).expose() as contract,
                leaf.object(WEATHER).observe() as watcher,
            ):
                contract.set_object_data("sunny")
                for state in watcher:
                    assert state.data == "sunny"
                    break
                watcher.wait_state_sync(timeout=5)
            assert next(iter(connection.statuses())).up
        assert not connection.up
    assert threading.active_count() == before


def test_an_exception_comes_out_of_the_block_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), hakuban.sync.listen(LocalNode(), "memory://"):
        raise ZeroDivisionError
    with pytest.raises(hakuban.InvalidURLError), hakuban.sync.connect(LocalNode(), "nowhere"):
        pass


class _InterruptsAtFirstFailure(logging.Handler):
    """Presses Ctrl-C, so to speak, while the main thread waits for a link."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if "cannot connect" in record.getMessage():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.fixture
def interrupted_by_the_first_failure() -> Iterator[None]:
    handler = _InterruptsAtFirstFailure()
    logging.getLogger("hakuban").addHandler(handler)
    yield
    logging.getLogger("hakuban").removeHandler(handler)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals")
@pytest.mark.usefixtures("interrupted_by_the_first_failure")
@pytest.mark.parametrize("others", ["nobody else", "another link"])
def test_ctrl_c_while_connecting_gives_up_and_leaves_the_node_free(others: str) -> None:
    before = threading.active_count()
    node = LocalNode("interrupted")
    with ExitStack() as stack:
        if others == "another link":  # whose thread has to live on
            stack.enter_context(hakuban.sync.listen(LocalNode("other"), "memory://"))
        with pytest.raises(KeyboardInterrupt), hakuban.sync.connect(node, "memory://nobody"):
            pass
        assert threading.active_count() == before + (others == "another link")
        router = LocalNode("router")
        with (
            hakuban.sync.listen(router, "memory://nobody") as listener,
            hakuban.sync.connect(node, listener.url) as connection,
        ):
            assert connection.remote_name == "router"
    assert threading.active_count() == before


async def test_an_event_loop_is_not_blocked_by_it() -> None:
    node = LocalNode()
    with (
        pytest.raises(RuntimeError, match=r"async with node\.connect"),
        hakuban.sync.connect(node, "memory://x"),
    ):
        pass
    with (
        pytest.raises(RuntimeError, match=r"async with node\.listen"),
        hakuban.sync.listen(node, "memory://x"),
    ):
        pass


def test_the_thread_keeps_no_process_alive() -> None:
    program = """
import hakuban, sys
node = hakuban.LocalNode()
block = hakuban.sync.listen(node, "memory://")
block.__enter__()
print("leaving")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "leaving\n"


def test_importing_is_light() -> None:
    program = """
import sys, hakuban
print(*sorted({"ssl", "asyncio", "trio", "pluggy", "socket", "subprocess"} & set(sys.modules)))
hakuban.sync, hakuban.testing, hakuban.transport
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_gets_a_thread_of_its_own() -> None:
    with hakuban.sync.listen(LocalNode(), "memory://"):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(10)
                with hakuban.sync.listen(LocalNode(), "memory://") as listener:
                    code = 0 if listener.url.startswith("memory://") else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- fork -----------------------------------------------------------------------------------------------------------

FORKING = """
import os, signal, sys, time
import hakuban

def child():
{child}

parent = os.getpid()
node, router = hakuban.LocalNode("node"), hakuban.LocalNode("router")
code = None
try:
    with hakuban.sync.listen(router, "memory://fork") as listener:
        with hakuban.sync.connect(node, "memory://fork") as connection:
            with node.object("x").observe() as seen, router.object("x").expose() as exposed:
                exposed.set_object_data(1)
                seen.wait_state_sync(5)
                pid = os.fork()
                if pid == 0:
                    began = time.monotonic()
                    signal.alarm(15)
                    child()
                else:
                    deadline = time.monotonic() + 10
                    while code is None and time.monotonic() < deadline:
                        done, status = os.waitpid(pid, os.WNOHANG)
                        code = os.waitstatus_to_exitcode(status) if done else None
                        time.sleep(0.01)
                    exposed.set_object_data(2)
                    while seen.object_data() != 2:
                        time.sleep(0.01)
                    assert connection.up, "the parent's link is as it was"
                    print("parent", code)
finally:
    if os.getpid() != parent:
        assert time.monotonic() - began < 1, "leaving took long"
if os.getpid() != parent:
    print("child left")
"""
CHILDREN = {
    "leaves": ("pass", 0, ["child left"]),
    "raises": ("raise ValueError('of the child')", 1, []),
    "exits": ("sys.exit(3)", 3, []),
    "is interrupted": ("raise KeyboardInterrupt", -signal.SIGINT, []),
    "closes the node": ("node.close(); router.close()", 0, ["child left"]),
    "uses the node": (
        """
for use in (
    lambda: node.object("y").observe(),
    lambda: node.snapshot(),
    lambda: exposed.set_object_data(3),
    lambda: node.peers,
    lambda: hakuban.sync.listen(node, "memory://y").__enter__(),
    lambda: hakuban.sync.connect(node, "memory://y").__enter__(),
):
    try:
        use()
    except hakuban.NodeForkedError:
        pass
    else:
        raise AssertionError("no error")
""",
        0,
        ["child left"],
    ),
    "makes nodes": (
        """
with hakuban.sync.listen(hakuban.LocalNode(), "memory://child") as mine:
    with hakuban.sync.connect(hakuban.LocalNode(), mine.url) as below:
        assert below.up
""",
        0,
        ["child left"],
    ),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("child", CHILDREN)
def test_a_forked_child_leaves_a_block_at_once(child: str) -> None:
    code, exit_code, said = CHILDREN[child]
    program = FORKING.format(child=textwrap.indent(textwrap.dedent(code).strip(), "    "))
    done = subprocess.run(
        [sys.executable, "-Wdefault", "-Wignore:This process:DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.stdout.splitlines() == [*said, f"parent {exit_code}"], done.stderr
    if child == "raises":
        assert done.stderr.splitlines()[-1] == "ValueError: of the child"
    elif child != "is interrupted":
        assert done.stderr == ""
    assert "leaving took long" not in done.stderr
