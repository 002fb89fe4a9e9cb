"""Objects of ours that are left after a test, with the collector off: what only it would free is found, too."""

from __future__ import annotations

import gc
from collections import Counter
from types import CoroutineType, FrameType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

from hakuban._loops import wakeups
from hakuban._loops.tracebacks import forget_frames

from .circles import circles_of_ours, code_of, is_our_module, module_of, origin

if TYPE_CHECKING:
    import pytest

MOST: Final = 8
"""Kinds of objects, circles and referrers that are told of."""


def ours() -> list[object]:
    """List what is ours of the objects that were made since the last `gc.freeze`: instances, and calls that wait."""
    return [one for one in gc.get_objects() if _is_ours(one)]


def wakeups_of_ended_loops() -> list[str]:
    """Return what is on its way to the loop that ran in this thread last; that of one that runs is done soon."""
    home = wakeups._local.home
    return [] if home is None else [f"{name_of(one)} waits for {home!r}" for one in home._pending]


def forget_last_loop() -> None:
    """Let go of the loop that ran in this thread last, which it knows until the next one, with the frames of a test."""
    wakeups._local.home = None


def _is_ours(one: Any) -> bool:
    cls = type(one)
    if is_our_module(module_of(one)):
        return isinstance(one, BaseException) or origin(one) == "ours"
    if cls is CoroutineType:
        return one.cr_frame is not None and origin(one) == "ours"
    return cls is GeneratorType and one.gi_frame is not None and origin(one) == "ours"


def collect() -> list[str]:
    """Have the collector free what it can; describe the circles that are ours to avoid."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    garbage, gc.garbage[:] = gc.garbage[:], []
    found = [
        "a circle that only the collector frees: "
        + " -> ".join(map(name_of, circle))
        + tasks_in(circle)
        for circle in circles_of_ours(garbage)
    ]
    del garbage
    gc.collect()
    return sorted(set(found))[:MOST]


def tasks_in(circle: list[Any]) -> str:
    """Name the frames of ours that exceptions in a circle hold."""
    frames = []
    for one in circle:
        passed = one.__traceback__ if isinstance(one, BaseException) else None
        while passed is not None:
            if origin(passed.tb_frame) == "ours":
                frames.append(name_of(passed.tb_frame))
            passed = passed.tb_next
    return f", with {', '.join(frames[:3])}" if frames else ""


def forget_parameters(item: pytest.Function) -> None:
    """Let go of what a test was given; an exception that is a parameter, and was raised, keeps no frames."""
    item.funcargs.clear()
    if hasattr(item, "callspec"):
        for value in item.callspec.params.values():
            for one in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(one, BaseException):
                    forget_frames(one)


def describe(objects: list[object]) -> list[str]:
    """Say how many there are of each kind, and what refers to the first of each."""
    kinds = Counter(map(name_of, objects))
    lines = []
    for kind, number in kinds.most_common(MOST):
        one = next(one for one in objects if name_of(one) == kind)
        lines.append(f"{number} {kind}, referred to by {_referrers(one, objects)}")
    if len(kinds) > MOST:
        lines.append(f"objects of {len(kinds) - MOST} other kinds")
    return lines


def name_of(one: Any) -> str:
    """Name an object for people."""
    code = code_of(one)
    if code is not None:
        line = f":{one.f_lineno}" if isinstance(one, FrameType) else ""
        return f"{type(one).__name__} {code.co_qualname}{line}"
    if type(one) is dict:
        return f"dict of {', '.join(str(key)[:20] for key in list(one)[:4])}"
    return f"{module_of(one)}.{type(one).__qualname__}".removeprefix("builtins.")


def _referrers(one: object, beside: object) -> str:
    names = [
        _describe_referrer(other, one)
        for other in gc.get_referrers(one)
        if other is not beside
        and not (type(other) is FrameType and other.f_code.co_filename == __file__)
    ]
    return ", ".join(names[:MOST]) or "nothing that the collector knows"


def _describe_referrer(other: Any, one: object) -> str:
    if type(other) is FrameType:
        names = [name for name, value in other.f_locals.items() if value is one]
        return f"{', '.join(names)} of the {name_of(other)}"
    if type(other) is dict:
        keys = [repr(key)[:60] for key, value in other.items() if value is one]
        holders = [
            holder
            for holder in gc.get_referrers(other)
            if getattr(holder, "__dict__", None) is other
        ]
        return f"{', '.join(keys)} of {name_of(holders[0] if holders else other)}"
    slots = [
        name
        for cls in type(other).__mro__
        for name in cls.__dict__.get("__slots__", ())
        if isinstance(name, str) and not name.startswith("__") and getattr(other, name, None) is one
    ]
    return f"{', '.join(slots)} of {name_of(other)}" if slots else name_of(other)
