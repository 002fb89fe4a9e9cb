"""Memory that is free goes back to the operating system."""

from __future__ import annotations

import sys

import psutil
import pytest

from hakuban_router._memory import find_trim

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
