"""`hakuban observe` and `hakuban expose`: arguments, and processes that share states through a router."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hakuban
import hakuban.sync
from hakuban import ObjectDescriptor, TagDescriptor
from hakuban_router._cli import UsageError
from hakuban_router._client_arguments import parse
from support.processes import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.processes import RouterProcess

    StartRouter = Callable[..., RouterProcess]
    Start = Callable[..., Program]

URL = "ws://127.0.0.1:3001"
OBJECT = ("weather", '{"city": "Poznań"}')


# ---- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "text", "descriptor"),
    [
        ("weather", "Poznań", ObjectDescriptor(["weather"], "Poznań")),
        ('"weather"', '"Poznań"', ObjectDescriptor(["weather"], "Poznań")),
        ('["weather", "eu"]', '{"city": "Poznań"}', ObjectDescriptor(["eu", "weather"], {"city": "Poznań"})),
        ("[]", "null", ObjectDescriptor([], None)),
        ('[["a"], {"b": 1}]', "true", ObjectDescriptor([["a"], {"b": 1}], True)),
        ("7", "-5", ObjectDescriptor([7], -5)),
        ("a b", "NaN", ObjectDescriptor(["a b"], "NaN")),
        ("weather", "", ObjectDescriptor(["weather"], "")),
        ("[18446744073709551615]", "18446744073709551615", ObjectDescriptor([2**64 - 1], 2**64 - 1)),
    ],
)  # fmt: skip
def test_tags_and_object_are_json_or_plain_words(
    tags: str, text: str, descriptor: ObjectDescriptor
) -> None:
    assert parse(["observe", URL, tags, text]).descriptor == descriptor


def test_floats_stay_floats() -> None:
    request = parse(["observe", URL, "[1.0]", "1.0"])
    assert isinstance(request.descriptor, ObjectDescriptor)
    assert request.descriptor.json_text == "1.0"
    assert [tag.json_text for tag in request.descriptor.tags] == ["1.0"]


@pytest.mark.parametrize("argv", [["--tag", URL, "weather"], [URL, '"weather"', "--tag"]])
@pytest.mark.parametrize("command", ["observe", "expose"])
def test_a_tag_is_named_alone(command: str, argv: list[str]) -> None:
    assert parse([command, *argv]).descriptor == TagDescriptor("weather")


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([], "observe|expose"),
        (["look", URL, "a", "b"], "look"),
        (["observe", URL], "TAGS"),
        (["observe", URL, "weather"], "URL, TAGS and JSON"),
        (["observe", URL, "weather", "x", "--tag"], "URL and TAG"),
        (["observe", URL, "weather", "{city: Poznań}"], "{city: Poznań}: not JSON"),
        (["observe", URL, '["weather"', "x"], "not JSON"),
        (["observe", URL, "weather", '"x'], "not JSON"),
        (["observe", URL, "weather", "x", "--count", "0"], "--count"),
        (["observe", URL, "weather", "x", "--count", "few"], "--count"),
        (["observe", URL, "weather", "x", "--timeout", "0"], "--timeout"),
        (["observe", URL, "weather", "x", "--timeout", "nan"], "--timeout"),
        (["observe", URL, "weather", "x", "--timeout", "inf"], "--timeout"),
        (["observe", URL, "weather", "x", "--capacity", "2"], "--capacity"),
        (["expose", URL, "weather", "x", "--capacity", "0"], "--capacity"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(argv: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)) as caught:
        parse(argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "argv",
    [
        ["--vers"],
        ["observe", URL, "weather", "x", "--ra"],
        ["expose", URL, "weather", "x", "--cap", "2"],
    ],
)
def test_flags_are_not_abbreviated(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(argv)


def test_a_producer_is_able_to_do_1_unless_it_says_more() -> None:
    assert parse(["expose", URL, "weather", "x"]).capacity == 1
    assert parse(["expose", URL, "weather", "x", "--capacity", "5"]).capacity == 5


@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [
        (("observe", URL), 2, "TAGS"),
        (("observe", "nonsense", "a", "b"), 2, "nonsense"),
        (("observe", "ftp://127.0.0.1:1", "a", "b"), 2, "scheme 'ftp'"),
        (("expose", "ws://user:secret@127.0.0.1:1", "a", "b"), 2, "(?i)password|credentials"),
        (("expose", "ws://:3001", "a", "b"), 2, "(?i)host"),
        (("observe", "ws://h:99999?token=secret", "a", "b"), 2, "(?i)port"),
        (("observe", "ws://127.0.0.1:1?timeout=1s", "a", "b"), 2, "write #timeout=1s"),
        (("observe", URL, "a", "b", "ws://user:secret@h"), 2, "see --help"),
        (("ws://user:secret@h", "observe", "a", "b"), 2, "invalid choice"),
        (("observe", URL, "a\x1b[2J", "{\x1b"), 2, "not JSON"),
        (("observe", URL, "a", "\udcff"), 2, "cannot be named"),
        (("observe", URL, str([*range(1_001)]), "b"), 2, "more than 1,?000 tags"),
        (("expose", URL, "a", "x" * 65_537), 2, "cannot be named.*65,536"),
        (("observe", URL, "x" * 65_537, "--tag"), 2, "cannot be named.*65,536"),
        (("expose", URL, "\udcff", "--tag"), 2, "cannot be named"),
    ],
)
def test_refusals_are_one_line(start: Start, argv: tuple[str, ...], code: int, reason: str) -> None:
    program = start("hakuban_router.client", *argv)
    assert program.wait() == code
    assert len(program.err.seen) == 1
    assert program.err.seen[0].startswith("hakuban: ")
    assert re.search(reason, program.err.seen[0])
    assert "secret" not in program.err.seen[0]
    assert program.err.seen[0].isprintable()


# ---- a pair of processes -------------------------------------------------------------------------


def read(program: Program) -> Any:
    line = program.out.next()
    assert line is not None, program.err.seen
    return json.loads(line)


def read_until(program: Program, fulfils: Callable[[Any], bool]) -> Any:
    while not fulfils(line := read(program)):
        pass
    return line


def test_lines_of_one_process_become_states_of_another(
    start_router: StartRouter, start: Start
) -> None:
    router = start_router()
    expose = start("hakuban_router.client", "expose", router.url, *OBJECT)
    observe = start("hakuban_router.client", "observe", router.url, *OBJECT)
    assert read(expose) == {"assigned": True}
    expose.write('{"temperature": 21.5}\n')
    state = read(observe)
    assert set(state) == {"data", "version", "format", "synchronized", "age"}
    assert state["data"] == {"temperature": 21.5}
    assert state["version"][0] == 0
    assert len(state["version"]) == 3
    assert state["format"] == ["JSON"]
    assert state["synchronized"] is True
    assert state["age"] == 0
    expose.write("[2]\n")
    assert read(observe)["data"] == [2]

    # The end of the input: the last value arrives, then its producer leaves.
    expose.write('"last"')
    assert expose.process.stdin is not None
    expose.process.stdin.close()
    stale = read_until(observe, lambda state: state["data"] == "last" and not state["synchronized"])
    assert stale["age"] > 0
    assert expose.wait() == 0
    assert observe.stop(signal.SIGTERM) == 0
    assert not expose.err.seen
    assert not observe.err.seen


def test_the_producer_is_told_when_nobody_looks_any_more(
    start_router: StartRouter, start: Start
) -> None:
    router = start_router()
    expose = start("hakuban_router.client", "expose", router.url, *OBJECT)
    expose.write("1\n")
    for _ in range(2):
        observe = start("hakuban_router.client", "observe", router.url, *OBJECT, "--count", "1")
        assert read(observe)["data"] == 1  # kept, and published at each assignment
        assert observe.wait() == 0
        assert [read(expose), read(expose)] == [{"assigned": True}, {"assigned": False}]
    assert expose.stop(signal.SIGTERM) == 0


def test_a_tag_is_all_its_objects(start_router: StartRouter, start: Start) -> None:
    router = start_router()
    expose = start(
        "hakuban_router.client", "expose", router.url, "weather", "--tag", "--capacity", "5"
    )
    observe = start("hakuban_router.client", "observe", router.url, "--tag", "weather")
    cities = ["Poznań", "Łódź"]
    node = hakuban.LocalNode()
    with (
        node,
        hakuban.sync.connect(node, router.url),
        node.object(["weather"], cities[0]).observe(),
        node.object(["weather"], cities[1]).observe(),
    ):
        assigned = [read(expose), read(expose)]
        assert all(line["assigned"] for line in assigned)
        names = [{"tags": ["weather"], "json": city} for city in cities]
        assert sorted((line["descriptor"] for line in assigned), key=str) == sorted(names, key=str)
        expose.write("3\n")
        states = [read(observe), read(observe)]
        assert [state["data"] for state in states] == [3, 3]
        assert sorted((state["descriptor"] for state in states), key=str) == sorted(names, key=str)
    assert {read(expose)["assigned"], read(expose)["assigned"]} == {False}
    assert observe.stop(signal.SIGHUP) == 0


def test_raw_lines_are_bytes_as_they_are(start_router: StartRouter, start: Start) -> None:
    router = start_router()
    expose = start("hakuban_router.client", "expose", router.url, *OBJECT, "--raw")
    raw = start("hakuban_router.client", "observe", router.url, *OBJECT, "--raw")
    wrapped = start("hakuban_router.client", "observe", router.url, *OBJECT)
    expose.write("  {not JSON \n")
    assert raw.out.next() == "  {not JSON "
    state = read(wrapped)
    assert (state["data"], state["format"]) == (None, [])
    assert state["base64"] == "ICB7bm90IEpTT04g"


@pytest.mark.parametrize(
    ("serializer", "value", "expected"),
    [
        (hakuban.MESSAGE_PACK, {"a": [1, "ł"]}, {"data": {"a": [1, "ł"]}}),
        (hakuban.MESSAGE_PACK, float("nan"), {"data": None, "base64": "y3/4AAAAAAAA"}),
        (hakuban.RAW.with_format(["JSON"]), b'{\n"a": 1}', {"data": {"a": 1}}),
        (hakuban.RAW.with_format(["JSON"]), b"{", {"data": None, "base64": "ew=="}),
        (hakuban.RAW.with_format(["JSON", "zstd"]), b"x", {"data": None, "base64": "eA=="}),
    ],
)
def test_states_of_every_format_are_one_line_of_json(
    start_router: StartRouter,
    start: Start,
    serializer: hakuban.Serializer,
    value: object,
    expected: dict[str, object],
) -> None:
    router = start_router()
    node = hakuban.LocalNode()
    with (
        node,
        hakuban.sync.connect(node, router.url),
        node.object(["tag"], "x").expose(serializer=serializer) as exposing,
    ):
        exposing.set_object_data(value)
        observe = start("hakuban_router.client", "observe", router.url, "tag", "x", "--count", "1")
        state = read(observe)
        assert observe.wait() == 0
    assert {key: state[key] for key in state if key in ("data", "base64")} == expected


def test_lines_that_are_no_json_are_skipped_and_make_the_exit_code_1(
    start_router: StartRouter, start: Start
) -> None:
    router = start_router()
    observe = start("hakuban_router.client", "observe", router.url, *OBJECT, "--count", "1")
    expose = start("hakuban_router.client", "expose", router.url, *OBJECT, "--count", "1")
    assert read(expose) == {"assigned": True}
    expose.write("{nonsense\n\nNaN\n\\xff\n")
    expose.write("4\n5\n")
    assert read(observe)["data"] == 4  # and --count 1 takes no more
    assert expose.wait() == 1
    for number, line in zip((1, 3, 4), expose.err.seen, strict=True):  # the second one is blank
        assert line.startswith(f"hakuban: bad input line {number}: not JSON: ")
        assert line.endswith("; skipped")


def test_a_line_that_is_too_large_is_skipped(start_router: StartRouter, start: Start) -> None:
    router = start_router()
    observe = start("hakuban_router.client", "observe", router.url, *OBJECT, "--count", "1")
    expose = start("hakuban_router.client", "expose", router.url, *OBJECT)
    assert read(expose) == {"assigned": True}
    expose.write(f'"{"x" * 16_700_000}"\n')
    expose.err.wait(re.compile("bad input line 1: a state of 16700002 bytes"))
    expose.write(f'"{"x" * 17_000_000}"\n6\n')
    expose.err.wait(re.compile("bad input line 2: not JSON"))  # cut, so none
    assert read(observe)["data"] == 6
    assert observe.wait() == 0


# ---- patience ------------------------------------------------------------------------------------


def test_patience_ends_with_code_1_when_nothing_comes(
    start_router: StartRouter, start: Start
) -> None:
    router = start_router()
    observe = start("hakuban_router.client", "observe", router.url, *OBJECT, "--timeout", "0.3")
    assert observe.wait() == 1
    assert observe.err.seen == ["hakuban: nothing came for 0.3 s"]
    expose = start("hakuban_router.client", "expose", router.url, *OBJECT, "--timeout", "3")
    expose.write("1\n")
    assert expose.process.stdin is not None
    expose.process.stdin.close()
    assert expose.wait() == 1
    assert expose.err.seen == ["hakuban: nobody took the last value for 3 s"]


NOBODY = "nobody observes this object here, or somebody else was chosen to produce it"


@pytest.mark.thorough
def test_the_producer_is_told_once_that_nobody_takes_what_it_reads(
    start_router: StartRouter, start: Start
) -> None:
    router = start_router()
    expose = start("hakuban_router.client", "expose", router.url, *OBJECT)
    expose.write("1\n")
    expose.err.wait(re.compile(f"hakuban: nobody has taken a line for 3 s: {NOBODY}; waiting$"))
    expose.write("2\n")
    observe = start("hakuban_router.client", "observe", router.url, *OBJECT, "--count", "1")
    assert read(observe)["data"] == 2
    assert expose.process.stdin is not None
    expose.process.stdin.close()
    assert expose.wait() == 0
    assert len(expose.err.seen) == 1


@pytest.mark.parametrize("lines", ["1\n2\n", "{nonsense\n3"])
def test_the_producer_is_told_at_the_end_that_nobody_took_anything(
    start_router: StartRouter, start: Start, lines: str
) -> None:
    router = start_router()
    expose = start("hakuban_router.client", "expose", router.url, "--tag", "weather")
    expose.write(lines)
    assert expose.process.stdin is not None
    expose.process.stdin.close()
    assert expose.wait() == ("nonsense" in lines)
    assert expose.err.seen[-1] == f"hakuban: nobody took a line of the input: {NOBODY}"
    assert len(expose.err.seen) == 1 + ("nonsense" in lines)


def test_patience_covers_a_router_that_is_not_there(start: Start) -> None:
    observe = start(
        "hakuban_router.client", "observe", "ws://127.0.0.1:9", *OBJECT, "--timeout", "3"
    )
    assert observe.wait() == 1
    assert observe.err.seen[0].startswith("hakuban: cannot connect to ws://127.0.0.1:9")
    assert observe.err.seen[-1] == "hakuban: nothing came for 3 s"


def test_the_end_of_the_input_alone_is_a_clean_end(start_router: StartRouter, start: Start) -> None:
    router = start_router()
    expose = start("hakuban_router.client", "expose", router.url, *OBJECT)
    assert expose.process.stdin is not None
    expose.process.stdin.close()
    assert expose.wait() == 0
    assert not expose.err.seen


@pytest.mark.thorough
def test_each_state_renews_patience(start_router: StartRouter, start: Start) -> None:
    router = start_router()
    node = hakuban.LocalNode()
    with (
        node,
        hakuban.sync.connect(node, router.url),
        node.object(["tag"], "x").expose() as exposing,
    ):
        options = ("tag", "x", "--timeout", "2")
        observe = start("hakuban_router.client", "observe", router.url, *options)
        exposing.set_object_data(0)
        first = time.monotonic()
        assert read(observe)["data"] == 0
        last = first
        while last < first + 2.2:  # longer than its patience
            exposing.set_object_data(last)
            read(observe)
            last = time.monotonic()
        assert observe.wait(10) == 1
        assert time.monotonic() - last > 1.8


# ---- endings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "url"),
    [("observe", ""), ("expose", ""), ("observe", "ws://127.0.0.1:9")],
    ids=["observing", "exposing", "connecting"],
)
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 0)])
def test_a_signal_ends_it_with_the_code_that_shells_expect(
    start_router: StartRouter, start: Start, command: str, url: str, name: str, code: int
) -> None:
    router = start_router("--monitor-tag", "monitor")
    program = start("hakuban_router.client", command, url or router.url, "monitor", "exchange")
    if url:
        program.err.wait(re.compile("cannot connect"))
    elif command == "observe":
        read(program)
    else:
        node = hakuban.LocalNode()
        with (
            node,
            hakuban.sync.connect(node, router.url),
            node.object(["monitor"], "websocket-listener").observe() as listener,
        ):
            for state in listener:
                if len(state.data["downstream_connections"]) == 2:
                    break
    began = time.monotonic()
    assert program.stop(signal.Signals[name]) == code
    assert time.monotonic() - began < 1
    assert not [line for line in program.err.seen if "cannot connect" not in line]


@contextmanager
def unread(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a module whose output nobody reads."""
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_reader_that_has_gone_is_a_clean_end(start_router: StartRouter) -> None:
    router = start_router("--monitor-tag", "monitor")
    words = ("observe", router.url, "monitor", "exchange")
    with unread("hakuban_router.client", *words) as observe:
        assert observe.stdout is not None
        assert observe.stderr is not None
        assert observe.stdout.readline()
        observe.stdout.close()
        assert observe.wait(10) == 0  # at the next picture
        assert not observe.stderr.read()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", ["observe", "expose", "observe --raw"])
def test_an_output_that_cannot_be_written_is_a_failure(
    start_router: StartRouter, start: Start, programs: list[Program], arguments: str
) -> None:
    router = start_router()
    other = "expose" if arguments.startswith("observe") else "observe"
    start("hakuban_router.client", other, router.url, *OBJECT).write("1\n")
    command = [sys.executable, "-m", "hakuban_router.client", *arguments.split()]
    redirected = ["sh", "-c", 'exec "$@" >/dev/full', "sh", *command, router.url, *OBJECT]
    programs.append(Program(redirected))
    assert programs[-1].wait() == 1
    assert programs[-1].err.seen == [
        "hakuban: cannot write to the standard output: No space left on device"
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of files")
def test_a_file_that_may_not_grow_is_a_failure_too(
    start_router: StartRouter, programs: list[Program], tmp_path: Path
) -> None:
    router = start_router("--monitor-tag", "monitor")
    command = [sys.executable, "-B", "-m", "hakuban_router.client", "observe", router.url]
    script = f'ulimit -f 1; exec "$@" >{tmp_path}/out'  # 512 bytes, or 1,024: a picture or two
    programs.append(Program(["sh", "-c", script, "sh", *command, "monitor", "exchange"]))
    assert programs[-1].wait(20) == 1
    assert programs[-1].err.seen == ["hakuban: cannot write to the standard output: File too large"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_reader_that_does_not_read_delays_neither_link_nor_end(
    start_router: StartRouter,
) -> None:
    router = start_router("--timeout", "500ms", "--keep-alive", "100ms")
    node = hakuban.LocalNode("exposer")
    with (
        node,
        hakuban.sync.connect(node, router.url) as connection,
        node.object(["tag"], "x").expose() as exposing,
        unread("hakuban_router.client", "observe", router.url, "tag", "x") as observe,
    ):
        exposing.set_object_data("x" * 1_000_000)  # more than a pipe takes
        exposing.wait_assigned_sync(10)
        # The link outlives its time-out although nobody reads: nothing is unassigned meanwhile.
        with pytest.raises(TimeoutError):
            next(iter(exposing)).wait_unassigned_sync(1.2)
        assert connection.up
        observe.send_signal(signal.SIGINT)
        assert observe.wait(10) == 130
        assert observe.stderr is not None
        assert not observe.stderr.read()


def test_output_and_input_may_be_closed(start_router: StartRouter) -> None:
    router = start_router()
    words = f"-m hakuban_router.client expose {router.url} tag x <&- >&-"
    run = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} {words}"],
        stderr=subprocess.PIPE,
        timeout=20,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, b"")


def test_help_has_examples_that_work(start: Start) -> None:
    for command in ((), ("observe",), ("expose",)):
        program = start("hakuban_router.client", *command, "--help")
        assert program.wait() == 0
        assert not program.err.seen
    assert os.linesep.join(program.out.seen).count("--capacity") == 2
