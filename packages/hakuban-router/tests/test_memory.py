"""Memory that is free goes back to the operating system."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import anyio
import psutil
import pytest

from hakuban_router import _memory
from hakuban_router._memory import find_trim, give_memory_back

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="glibc keeps what is free")
def test_holes_in_the_heap_go_back_to_the_system() -> None:
    trim = find_trim()
    if trim is None:
        pytest.skip("this is another C library, which needs no help")
    blocks = [bytes(1_500) for _ in range(40_000)]
    kept = blocks[::20]
    full = psutil.Process().memory_info().rss
    blocks.clear()
    trim(0)
    assert psutil.Process().memory_info().rss < full - 20 * MIB
    assert len(kept) == 2_000


def put_c_library(monkeypatch: pytest.MonkeyPatch, load: Callable[[None], object]) -> None:
    """Put another C library into the place of this system's, as Linux has it."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", load)


async def test_what_is_free_is_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times = 0

    def trim(_: int) -> int:
        nonlocal times
        times += 1
        if times == 3:
            scope.cancel()
        return 1

    monkeypatch.setattr(_memory, "_PERIOD", 0.01)
    put_c_library(monkeypatch, lambda _: SimpleNamespace(malloc_trim=trim))
    with anyio.fail_after(20), anyio.CancelScope() as scope:
        await give_memory_back()
    assert times == 3


async def test_no_start_waits_for_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[None] = []
    put_c_library(monkeypatch, loaded.append)
    with anyio.move_on_after(0):
        await give_memory_back()
    assert not loaded


def test_other_systems_need_no_help(monkeypatch: pytest.MonkeyPatch) -> None:
    put_c_library(monkeypatch, lambda _: SimpleNamespace(malloc_trim=len))
    assert find_trim() is not None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert find_trim() is None


async def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    put_c_library(monkeypatch, lambda _: SimpleNamespace())
    assert find_trim() is None

    def cannot_load(_: None) -> object:
        raise OSError("Dynamic loading not supported")

    put_c_library(monkeypatch, cannot_load)
    assert find_trim() is None
    with anyio.fail_after(20):
        monkeypatch.setattr(_memory, "_PERIOD", 0.01)
        await give_memory_back()
