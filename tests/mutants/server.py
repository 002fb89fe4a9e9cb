"""A plugin for pytest: tests are collected once, and then run again and again, each time in a child with a mutant in it.

A child begins with all modules imported and all tests collected, so that a mutant costs the time of the tests alone. A function
of which the mutant has another code gets that; the file in the copy is changed too, for processes that tests start.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import sys
import warnings
from collections import defaultdict
from contextlib import suppress
from functools import cache, partial
from inspect import CO_OPTIMIZED, getsource
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from traceback import format_exception
from types import CodeType, FrameType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import coverage
import psutil
import pytest

from mutants.making import words_of
from mutants.shell import write_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COPY = os.environ["MUTANTS_COPY"]
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Take orders until there are no more."""
    _adopt_orphans()
    functions = _functions_of_copy()
    with Connection(int(os.environ["MUTANTS_CONNECTION"])) as orders:
        orders.send({item.nodeid: _words(item) for item in session.items})
        while order := orders.recv():
            what, *arguments = order
            if what == "measure":
                orders.send(_in_child(partial(_measure, session, *arguments), 3600.0))
            else:
                orders.send(_try_mutant(session, functions, *arguments))
    return True


def _words(item: pytest.Item) -> frozenset[str]:
    """Return the words of a test: of its function, with its name."""
    if isinstance(item, pytest.Function):
        return _words_of_function(item.function)
    return words_of(item.name)


@cache
def _words_of_function(function: Callable[..., object]) -> frozenset[str]:
    return words_of(getsource(function))


def _try_mutant(
    session: pytest.Session,
    functions: dict[str, list[FunctionType]],
    path: str,
    text: str,
    tests: dict[str, float],
    longest: float,
) -> object:
    """Return the test that notices, or "" if none; None if it has to be imported, and can be noticed in a new process only.

    :param tests: the seconds that each may take.
    """
    file = Path(path)
    original = file.read_text()
    codes = _changed_codes(original, text, path)
    if codes is None:
        return None

    def run() -> str:
        for function in functions[path]:
            code = codes.get(_key(function.__code__))
            if code is not None:
                function.__code__ = code
        return _run(session, tests)

    write_source(file, text)
    try:
        return _in_child(run, longest, "(hangs or dies)")
    finally:
        write_source(file, original)


def _run(session: pytest.Session, tests: dict[str, float]) -> str:
    items = {item.nodeid: item for item in session.items}
    chosen = [items[test] for test in tests]
    for item in chosen:
        item.add_marker(pytest.mark.timeout(tests[item.nodeid]), append=False)
    for item, following in zip(chosen, [*chosen[1:], None], strict=True):
        try:
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        except (Exception, pytest.fail.Exception):  # noqa: BLE001  # a time-out amid a report
            return item.nodeid
        if session.testsfailed:
            return item.nodeid
    return ""


def _measure(
    session: pytest.Session, tests: Sequence[str], folder: str
) -> tuple[dict[str, dict[int, list[str]]], dict[str, float], list[str]]:
    """Run tests; return by file and line which pass there, the seconds of each, and which fail."""
    os.environ["MUTANTS_LINES"] = folder
    chosen = set(tests)
    measured = coverage.Coverage(
        data_file=f"{folder}/lines", data_suffix=True, include=[f"{COPY}/*"], config_file=False
    )
    seconds: dict[str, float] = {}
    failed = []
    traced = _Traced()
    measured.start()
    items = [item for item in session.items if item.nodeid in chosen]
    for item, following in zip(items, [*items[1:], None], strict=True):
        traced.test = item.nodeid
        measured.switch_context(item.nodeid)
        began = perf_counter()
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        seconds[item.nodeid] = perf_counter() - began
        if session.testsfailed:
            failed.append(item.nodeid)
            session.testsfailed = 0
            session.shouldfail = False
    measured.stop()
    measured.save()
    with warnings.catch_warnings():  # of a process that was killed while it saved its lines
        warnings.simplefilter("ignore", coverage.exceptions.CoverageWarning)
        measured.combine([folder])
    data = measured.get_data()
    lines: dict[str, dict[int, list[str]]] = defaultdict(dict)
    for file in data.measured_files():
        for line, names in data.contexts_by_lineno(file).items():
            lines[file][line] = [name for name in names if name in seconds]
    for (file, line), tests_there in traced.lines.items():
        lines[file][line] = [*{*lines[file].get(line, []), *tests_there}]
    return dict(lines), seconds, failed


class _Traced:
    """The lines that tests pass through while they trace themselves, when coverage sees none.

    :ivar test: which is run now.
    """

    def __init__(self) -> None:
        self.lines: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        self.test = ""
        self._settrace = sys.settrace
        sys.settrace = self._set  # in a process that ends after it

    def _set(self, function: Any) -> None:
        if isinstance(function, FunctionType | MethodType):
            noting: Any = partial(self._note, function)
            self._settrace(noting)
        else:
            self._settrace(function)

    def _note(self, function: Any, frame: FrameType, event: str, argument: object) -> object:
        """Note a line, also where the test's own function is not interested any more."""
        if frame.f_code.co_filename.startswith(COPY):
            self.lines[frame.f_code.co_filename, frame.f_lineno].add(self.test)
        return partial(self._note, function and function(frame, event, argument))


# ---- functions with another code ------------------------------------------------------------------------------------


def _functions_of_copy() -> dict[str, list[FunctionType]]:
    found: dict[str, list[FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if type(each) is FunctionType and each.__code__.co_filename.startswith(COPY):
            found[each.__code__.co_filename].append(each)
    return found


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _changed_codes(original: str, text: str, path: str) -> dict[tuple[str, int], CodeType] | None:
    """Return the functions that differ; None if that is not enough: a module's or class's own lines do, or cells."""
    if original == text:
        raise ValueError(f"{path} has no mutant in it")
    old = _all_codes(compile(original, path, "exec", dont_inherit=True))
    new = _all_codes(compile(text, path, "exec", dont_inherit=True))
    changed = {}
    for key, code in new.items():
        before = old[key]  # all lines stay where they are
        if code == before:
            continue
        if code.co_flags & CO_OPTIMIZED:
            at_import = code.co_name in _COMPREHENSIONS and "<locals>" not in code.co_qualname
            if at_import or code.co_freevars != before.co_freevars:
                return None
            changed[key] = code
        elif _own(code) != _own(before):
            return None
    return changed


def _own(code: CodeType) -> object:
    return (
        code.co_code,
        code.co_names,
        [each for each in code.co_consts if not isinstance(each, CodeType)],
    )


def _all_codes(code: CodeType) -> dict[tuple[str, int], CodeType]:
    found = {_key(code): code}
    for each in code.co_consts:
        if isinstance(each, CodeType):
            found |= _all_codes(each)
    return found


# ---- children -------------------------------------------------------------------------------------------------------


def _in_child(work: Callable[[], object], longest: float, died: object = None) -> object:
    """Do some work in a fork; return what it returns, or `died`. Whatever it has started is ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with Connection(writing, readable=False) as answers:
            try:
                os.close(reading)
                answers.send(work())
            except Exception as error:  # noqa: BLE001 - of ours, not of a test
                answers.send(RuntimeError("".join(format_exception(error))))
            finally:
                os._exit(0)
    os.close(writing)
    answers = Connection(reading, writable=False)
    try:
        return answers.recv() if select.select([reading], [], [], longest)[0] else died
    except EOFError:
        return died
    finally:
        answers.close()
        _end_all(child)


def _end_all(child: int) -> None:
    for process in [*psutil.Process(child).children(recursive=True), psutil.Process(child)]:
        _kill(process)
    os.waitpid(child, 0)
    for process in psutil.Process().children(recursive=True):  # adopted meanwhile
        _kill(process)
        process.wait(10.0)


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


def _adopt_orphans() -> None:
    """Become the parent of what a child leaves behind (Linux)."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
