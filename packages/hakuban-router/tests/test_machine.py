"""What the machine says and allows: errors of its files and addresses, and its limit of open files."""

from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from hakuban_router._exit_codes import failure
from hakuban_router._open_files import raise_open_files_limit

if TYPE_CHECKING:
    from collections.abc import Callable

resource = pytest.importorskip("resource")


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EADDRINUSE, "[Errno 98] error while attempting to bind"), "Address already in use"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError(0, "Error"), "Error"),
        (OSError("All connection attempts failed"), "All connection attempts failed"),
    ],
    ids=["of the system", "of the resolver", "without a number", "of a library"],
)  # fmt: skip
def test_an_error_of_the_machine_is_told_in_its_words_without_its_number(
    error: OSError, reason: str
) -> None:
    told = failure("cannot listen", error)
    assert (told.code, told.reason) == (1, f"cannot listen: {reason}")


# ---- open files ----------------------------------------------------------------------------------


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[int, int]]]:
    """Raise the limit of a system; give the limits that were asked for.

    :param allowed: more of the soft limit is refused, as Darwin does.
    """

    def raised(soft: int, hard: int, allowed: int = sys.maxsize) -> list[tuple[int, int]]:
        asked = []

        def set_limit(_: int, wanted: tuple[int, int]) -> None:
            asked.append(wanted)
            if not 0 <= wanted[0] <= allowed:
                raise ValueError("current limit exceeds maximum limit")

        monkeypatch.setattr("resource.getrlimit", lambda _: (soft, hard))
        monkeypatch.setattr("resource.setrlimit", set_limit)
        raise_open_files_limit()
        return asked

    return raised


def test_as_many_files_as_the_administrator_allows_are_asked_for_once(
    limits: Callable[..., list[tuple[int, int]]],
) -> None:
    assert limits(1_024, 524_288) == [(524_288, 524_288)]


def test_a_limit_that_is_as_high_as_it_may_be_is_left_alone(
    limits: Callable[..., list[tuple[int, int]]],
) -> None:
    assert limits(4_096, 4_096) == []


@pytest.mark.parametrize(("soft", "most"), [(256, 10_240), (12_288, 12_288)])
def test_where_no_limit_is_named_and_there_is_one_the_most_of_darwin_is_taken(
    limits: Callable[..., list[tuple[int, int]]], soft: int, most: int
) -> None:
    unlimited = resource.RLIM_INFINITY
    assert limits(soft, unlimited, allowed=12_288) == [(unlimited, unlimited), (most, unlimited)]


def test_a_system_without_such_a_limit_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    raise_open_files_limit()
