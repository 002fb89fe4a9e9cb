"""A program with a window: Tk looks at a buffer from time to time, and nothing else touches it."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from hakuban import LocalNode, ObjectDescriptor

if TYPE_CHECKING:
    import tkinter as tk
    from collections.abc import Iterator
else:
    tk = pytest.importorskip("tkinter")

WARSAW = ObjectDescriptor(["weather"], "Warsaw")


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[tk.Tk]:
    """The root window of Tk; where there is neither a display nor Xvfb, its event loop without a window."""
    if "DISPLAY" in os.environ:
        window = tk.Tk()
        yield window
        window.destroy()
    elif xvfb := shutil.which("Xvfb"):
        command = [xvfb, "-displayfd", "1", "-nolisten", "tcp"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout is not None
            monkeypatch.setenv("DISPLAY", f":{server.stdout.readline().decode().strip()}")
            window = tk.Tk()
            yield window
            window.destroy()
            server.terminate()
    else:
        yield tk.Tcl()


def test_a_window_shows_what_is_set_by_another_thread(root: tk.Tk) -> None:
    node = LocalNode()
    shown: list[int] = []
    in_threads: set[int] = set()

    def drain() -> None:
        for _ in buffer.ready():
            shown.append(observe.object_data() or 0)
            in_threads.add(threading.get_ident())
        root.after(5, drain)

    def produce() -> None:
        with node.object(WARSAW).expose() as expose:
            for number in range(100):
                expose.set_object_data(number)

    with node.object(WARSAW).observe(int) as observe:
        buffer = observe.changes().buffer()
        root.after(0, drain)
        thread = threading.Thread(target=produce)
        thread.start()
        while shown[-1:] != [99]:
            root.tk.dooneevent()
        thread.join()
        assert shown == sorted(shown)
        assert in_threads == {threading.get_ident()}
