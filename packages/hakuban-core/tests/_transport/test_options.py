"""The options of a link: in the fragment of a URL, and as arguments."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import pytest

from hakuban._exceptions import InvalidURLError
from hakuban._transport.options import _OPTIONS, LinkOptions, TransportArguments
from hakuban._transport.urls import split_url
from hakuban.transport import TransportOptions

if TYPE_CHECKING:
    from collections.abc import Callable


def options_of(fragment: str) -> LinkOptions:
    return split_url(f"ws://127.0.0.1:3001#{fragment}")[2]


def refusal_of(url: str) -> InvalidURLError:
    with pytest.raises(InvalidURLError) as caught:
        split_url(url)
    return caught.value


@pytest.mark.parametrize("fragment", ["", ",", ",,"])
def test_nothing_in_the_fragment_says_nothing(fragment: str) -> None:
    assert options_of(fragment) == LinkOptions()


def test_every_option_of_the_fragment_reaches_its_field() -> None:
    fragment = "name=lab,load-limit=3,keep-alive=1s,timeout=3s,max-message=1000,nodelay=false,compression=true"
    assert options_of(fragment) == LinkOptions(
        name="lab",
        load_limit=((0.0, 3),),
        keep_alive=1.0,
        timeout=3.0,
        max_message=1000,
        nodelay=False,
        compression=True,
    )


@pytest.mark.parametrize(
    "key", ["allow-origins", "authorize", "handshake-timeout", "headers", "max-connections", "ssl"]
)
def test_what_a_url_cannot_say_is_refused_with_what_it_can(key: str) -> None:
    assert refusal_of(f"ws://h:1#{key}=1").reason == (
        f"unknown option '{key}'; there are compression, insecure, keep-alive, load-limit, max-message, name, nodelay,"
        " timeout"
    )


def test_empty_items_of_the_fragment_are_skipped() -> None:
    assert options_of(",name=router").name == "router"


def test_the_last_of_two_equal_keys_holds() -> None:
    assert options_of("timeout=1s,timeout=2s")["timeout"] == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("700ms", 0.7),
        ("1m", 60),
        ("1h", 3600),
        ("250us", 0.00025),
        ("5ns", 5e-9),
        ("2d", 172_800),
        ("1m30s", 90),
        ("1h1m1s1ms", 3661.001),
        ("1", 1),
        ("0.5", 0.5),
        ("1.5s", 1.5),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert options_of(f"timeout={text}")["timeout"] == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["0", "0s", "-1", "s", "1x", "1 s", "1m30", "1e3", "inf", "nan", "1.", ".5", "٣s", "9" * 400, "1000000001"],
)  # fmt: skip
def test_what_is_no_positive_duration_is_refused(text: str) -> None:
    assert "timeout" in refusal_of(f"ws://h:1#timeout={text}").reason


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("10", [(0, 10)]),
        ("10-5s:20", [(0, 10), (5, 20)]),
        ("2:0-2:5-5:7", [(2, 0), (2, 5), (5, 7)]),
        ("500ms:4294967295", [(0.5, 2**32 - 1)]),
    ],
)
def test_a_load_limit_is_a_list_of_points_in_the_given_order(
    text: str, points: list[tuple[float, int]]
) -> None:
    assert options_of(f"load-limit={text}").load_limit == tuple(points)


@pytest.mark.parametrize(
    "text",
    ["a", "-1", "1-", "5s:", ":5", "1:2:3", "1.5", "4294967296", "1000000001:1", "-".join(["1"] * 1_001)],
)  # fmt: skip
def test_a_load_limit_that_means_nothing_is_refused(text: str) -> None:
    assert "load-limit" in refusal_of(f"ws://h:1#load-limit={text}").reason


def test_the_longest_load_limit_is_taken() -> None:
    assert len(options_of("load-limit=" + "-".join(["1"] * 1_000)).load_limit) == 1_000


@pytest.mark.parametrize(
    ("fragment", "hint"),
    [
        ("nane=x", "unknown option 'nane'"),
        ("name", "'name' has no value"),
        ("timeout=", "'timeout' has no value"),
        ("nodelay=yes", "true or false"),
        ("compression=1", "true or false"),
        ("max-message=0", "above 0"),
        ("max-message=16MiB", "integer"),
        ("max-message=" + "9" * 5_000, "integer"),
        ("name=" + "x" * 1_025, "1024 bytes"),
        ("name=%ff", "name"),
        ("=1", "not key=value"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_wrong(fragment: str, hint: str) -> None:
    assert hint in refusal_of(f"ws://h:1#{fragment}").reason


def test_a_name_may_be_percent_encoded() -> None:
    assert options_of("name=a%2Cb%20%C5%82").name == "a,b ł"


def test_defaults_hold_where_neither_program_nor_url_says_anything() -> None:
    assert LinkOptions().transport_options({}) == TransportOptions()


def test_the_fragment_goes_before_the_default() -> None:
    options = options_of("keep-alive=1,timeout=3,max-message=5,nodelay=false,compression=true")
    assert options.transport_options({}) == TransportOptions(
        keep_alive=1.0, timeout=3.0, max_message=5, nodelay=False, compression=True
    )


def test_an_argument_goes_before_the_fragment_and_none_is_no_argument() -> None:
    options = options_of("keep-alive=1,timeout=3,nodelay=true")
    arguments: TransportArguments = {
        "keep_alive": 0.5,
        "timeout": None,
        "nodelay": False,
        "headers": {"Authorization": "x"},
    }
    merged = options.transport_options(arguments)
    assert merged == TransportOptions(
        keep_alive=0.5, timeout=3.0, nodelay=False, headers={"Authorization": "x"}
    )


def test_a_program_can_say_everything_that_a_transport_is_told() -> None:
    told = {field.name for field in dataclasses.fields(TransportOptions)}
    assert set(TransportArguments.__annotations__) == told - {"clock"}  # that one is the node's
    assert set(_OPTIONS) == told - {"clock"}


@pytest.mark.parametrize(
    "say",
    [
        lambda: LinkOptions().transport_options({"keep_alive": 0}),
        lambda: LinkOptions().transport_options({"timeout": -1}),
        lambda: LinkOptions().transport_options({"timeout": float("nan")}),
        lambda: LinkOptions().transport_options({"handshake_timeout": 0}),
        lambda: LinkOptions().transport_options({"max_message": 0}),
        lambda: LinkOptions().transport_options({"max_connections": 0}),
    ],
)
def test_an_argument_out_of_range_is_a_value_error(say: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"above 0|integer from 1"):
        say()


def test_a_timeout_that_no_keep_alive_can_meet_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, logger="hakuban"):
        options_of("timeout=2").transport_options({})
        options_of("timeout=3").transport_options({})
        options_of("keep-alive=6").transport_options({})
        options_of("keep-alive=5").transport_options({})
    warnings = [record.getMessage()[:29] for record in caplog.records]
    assert warnings == ["timeout 2 s is not above keep", "timeout 6 s is not above keep"]
