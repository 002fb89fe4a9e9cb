"""Text that other people wrote, in the log, in tracebacks and in errors: nothing of it talks to a terminal."""

from __future__ import annotations

import io
import logging
import traceback
import unicodedata
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from typing_extensions import override

import hakuban
from hakuban import JSON, LocalNode
from hakuban.transport import Identity, get_logger, printable, printable_lines
from support.logs import fail, filtered, handled
from support.unseen import UNSEEN, check_seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "hakuban.tests.text"
unseen = pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN)


@contextmanager
def logged(formatter: logging.Formatter | None = None) -> Iterator[io.StringIO]:
    """Log as a program does that has configured nothing but a handler."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter or logging.Formatter("%(levelname)s %(message)s"))
    log = logging.getLogger(NAME)
    log.addHandler(handler)
    try:
        yield written
    finally:
        log.removeHandler(handler)


# ---- the function --------------------------------------------------------------------------------


def test_all_that_is_not_to_be_seen_is_escaped() -> None:
    kinds = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    for number in (*range(0x3000), *range(0xD7F0, 0x11000), 0xE0001, 0xE0041, 0x10FFFF):
        if unicodedata.category(one := chr(number)) in kinds:
            assert printable(one).isascii(), hex(number)
            assert printable(one).isprintable(), hex(number)
    assert printable("Poznań \U0001f600 שלום") == "Poznań \U0001f600 שלום"


@unseen
def test_lines_are_kept_where_there_are_lines(text: str) -> None:
    assert printable_lines(f"a{text}\n b\n") == f"a{printable(text)}\n b\n"
    with pytest.raises(TypeError, match="a text is a str"):
        printable_lines(b"a\n")  # type: ignore[arg-type]  # as users may


# ---- the log -------------------------------------------------------------------------------------


@unseen
@pytest.mark.parametrize(
    "say",
    [
        lambda log, text: log.warning("of %s", text),
        lambda log, text: log.warning("of %(who)s, %(times)d times", {"who": text, "times": 3}),
        lambda log, text: log.warning(text),
        lambda log, text: log.warning(ValueError(text)),
    ],
    ids=["argument", "mapping", "text", "exception"],
)
def test_records_are_fit_for_a_terminal(say: Callable[[Any, str], None], text: str) -> None:
    with logged() as written:
        say(get_logger(NAME), f"a{text}\nERROR b")
    line, end = written.getvalue().split("\n")
    assert not end
    assert f"a{printable(text)}\\nERROR b" in line
    check_seen(line)


def raise_all(text: str) -> None:
    """Raise an error with a cause, a note, a group, and a text of their own each."""
    error = ValueError(f"why {text}")
    error.add_note(f"note {text}")
    error.__cause__ = ExceptionGroup("several", [LookupError(f"cause {text}")])
    raise error


@unseen
def test_tracebacks_are_too_whatever_formatter_a_program_has(text: str) -> None:
    with logged() as written:
        try:
            raise_all(text)
        except ValueError:
            get_logger(NAME).exception("failed")
    shown = written.getvalue()
    check_seen(shown)
    for what in ("why", "note"):
        assert f"{what} {printable(text)}" in shown
    # in groups Python breaks lines at each of these characters that is a line break
    assert f"cause {printable(text[0])}" in shown
    assert "in raise_all" in shown


def test_a_traceback_without_harm_is_written_as_the_program_likes() -> None:
    class OneLine(logging.Formatter):
        @override
        def formatException(self, ei: Any) -> str:
            return repr(super().formatException(ei))

    with logged(OneLine()) as written:
        try:
            raise ValueError("ł")
        except ValueError:
            get_logger(NAME).exception("failed")
    assert written.getvalue().count("\n") == 2


@unseen
@pytest.mark.parametrize("broken", [filtered, handled], ids=["filter", "handler"])
def test_what_a_filter_or_handler_raises_is_too(
    broken: Any, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakuban._logger.printed", {})

    def complain(record: logging.LogRecord) -> bool:
        try:
            return fail(record)
        except ZeroDivisionError as error:
            raise ValueError(f"of {text}") from error

    with broken(complain, NAME):
        get_logger(NAME).warning("a line")
    said = capsys.readouterr().err
    assert f"ValueError: of {printable(text)}" in said
    check_seen(said)


# ---- errors --------------------------------------------------------------------------------------


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    celsius: float = 0


@unseen
def test_an_error_that_quotes_a_state_is_with_its_cause(text: str) -> None:
    data = JSON.serialize({text: 1})[1]
    with pytest.raises(hakuban.DeserializationError) as caught:
        JSON.deserialize(("JSON",), data, Strict)
    shown = "".join(traceback.format_exception(caught.value))
    assert printable(text) in shown
    assert "unknown field" in str(caught.value.__cause__)
    assert printable(text) in caught.value.reason
    check_seen(shown)


@unseen
@pytest.mark.parametrize(
    "make",
    [
        hakuban.InvalidDescriptorError,
        lambda text: hakuban.InvalidURLError(text, text),
        lambda text: hakuban.UnknownSchemeError(text, [text], text, reason=text),
        lambda text: hakuban.PluginError(text, text),
        lambda text: hakuban.SerializationError(str, text),
        lambda text: hakuban.DeserializationError([text], text),
        hakuban.LinkError,
        lambda text: hakuban.RefusedError(text, retry=True),
        hakuban.PeerViolationError,
    ],
)
def test_reasons_of_errors_are_lines_for_people(make: Callable[[str], Any], text: str) -> None:
    error = make(text)
    check_seen(error.reason)
    check_seen(f"{error} {error!r}")
    assert printable(text) in error.reason


@unseen
def test_what_print_and_repr_show_is_too(text: str) -> None:
    node = LocalNode(f"a{text}")
    with (
        node,
        node.object([text], {text: text}).observe() as observing,
        node.object([text], {text: text}).expose() as exposing,
    ):
        exposing.set_object_data({text: text})
        state = observing.wait_state_sync(10)
        things = [node, observing, exposing, state, state.descriptor, observing.descriptor]
        for thing in (*things, Identity(text), node.object([text], text), node.tag(text)):
            check_seen(f"{thing} {thing!r}")
        check_seen(f"{node.snapshot()!r}")
