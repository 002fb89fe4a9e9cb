"""Flags, variables, and which of them goes before which."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from hakuban_router._cli import OPTIONS, PREFIX, Config, UsageError, parse

DEFAULT_BIND = ("ws://127.0.0.1:3001",)

# option, arguments, value
FLAGS: list[tuple[str, list[str], Any]] = [
    ("bind", ["-b", "ws://[::1]:1"], ("ws://[::1]:1",)),
    ("bind", ["--bind", "ws://[::1]:1", "-b", "tcp://h:2"], ("ws://[::1]:1", "tcp://h:2")),
    ("bind", ["--bind=ws://127.0.0.1:0#,name=router"], ("ws://127.0.0.1:0#,name=router",)),
    ("connect", ["-c", "ws://h:1"], "ws://h:1"),
    ("connect", ["--connect", "ws://h:1"], "ws://h:1"),
    ("name", ["-n", "lab"], "lab"),
    ("name", ["--name", "lab, 2#"], "lab, 2#"),
    ("monitor_tag", ["--monitor-tag=monitor"], "monitor"),
    ("rebalance_threshold", ["--rebalance-threshold", "0"], 0.0),
    ("rebalance_threshold", ["--rebalance-threshold", "1.5"], 1.5),
    ("max_clock_lead", ["--max-clock-lead", "60"], 60.0),
    ("max_clock_lead", ["--max-clock-lead", "1e9"], 1e9),
    ("loop", ["--loop", "trio"], "trio"),
    ("tls_cert", ["--tls-cert", "a b.pem"], "a b.pem"),
    ("tls_key", ["--tls-key", "key.pem"], "key.pem"),
    ("tls_client_ca", ["--tls-client-ca", "ca.pem"], "ca.pem"),
    ("tls_ca", ["--tls-ca", "ca.pem"], "ca.pem"),
    ("allow_origin", ["--allow-origin", "null", "--allow-origin", "https://b"], ("null", "https://b")),
    ("max_connections", ["--max-connections", "7"], 7),
    ("max_message", ["--max-message", "1048576"], 1048576),
    ("timeout", ["--timeout", "1m30s"], "1m30s"),
    ("keep_alive", ["--keep-alive", "0.5"], "0.5"),
    ("compression", ["--compression"], True),
    ("insecure", ["--insecure"], True),
    ("threads", ["-t", "4"], 4),
    ("log_level", ["--log-level", "Debug"], "debug"),
]  # fmt: skip

VARIABLES: list[tuple[str, str, Any]] = [
    ("bind", " ws://[::1]:1  tcp://h:2 ", ("ws://[::1]:1", "tcp://h:2")),
    ("connect", "ws://h:1", "ws://h:1"),
    ("name", "lab", "lab"),
    ("monitor_tag", "monitor", "monitor"),
    ("rebalance_threshold", "0.25", 0.25),
    ("max_clock_lead", "0", 0.0),
    ("loop", "asyncio", "asyncio"),
    ("tls_cert", "a b.pem", "a b.pem"),
    ("tls_key", "key.pem", "key.pem"),
    ("tls_client_ca", "ca.pem", "ca.pem"),
    ("tls_ca", "ca.pem", "ca.pem"),
    ("allow_origin", "https://a https://b", ("https://a", "https://b")),
    ("max_connections", "7", 7),
    ("max_message", "9", 9),
    ("timeout", "700ms", "700ms"),
    ("keep_alive", "1s", "1s"),
    ("compression", "yes", True),
    ("compression", "0", False),
    ("compression", "1", True),
    ("insecure", "TRUE", True),
    ("insecure", "no", False),
    ("insecure", "false", False),
    ("threads", "2", 2),
    ("log_level", "warning", "warning"),
]

# arguments, and what the one line has to name
BAD_FLAGS: list[tuple[list[str], str]] = [
    (["--threads", "0"], "--threads '0': not a number above 0"),
    (["--threads", "many"], "--threads 'many'"),
    (["--max-connections", "-1"], "--max-connections"),
    (["--max-message", "16MiB"], "--max-message '16MiB'"),
    (["--rebalance-threshold", "nan"], "--rebalance-threshold 'nan'"),
    (["--rebalance-threshold", "-0.1"], "--rebalance-threshold"),
    (["--rebalance-threshold", "inf"], "--rebalance-threshold 'inf'"),
    (["--rebalance-threshold", "little"], "--rebalance-threshold 'little': not a number of 0"),
    (["--max-clock-lead", "-1"], "--max-clock-lead"),
    (["--max-clock-lead", "1e10"], "--max-clock-lead"),
    (["--max-clock-lead", "a day"], "--max-clock-lead 'a day': not a number of seconds"),
    (["--timeout", "1s,name=x"], "--timeout '1s,name=x': not a duration"),
    (["--keep-alive", "soon!"], "--keep-alive 'soon!'"),
    (["--loop", "curio"], "--loop 'curio': not one of auto, asyncio, uvloop, trio"),
    (["--log-level", "loud"], "--log-level 'loud': not one of debug, info, warning, error"),
    (["--bind"], "--bind"),
    (["--nonsense"], "--nonsense"),
    (["--moni", "x"], "--moni"),
    (["word"], "word"),
    (["--insecure=yes"], "--insecure"),
]


@pytest.mark.parametrize(("name", "argv", "value"), FLAGS)
def test_a_flag_sets_its_option(name: str, argv: list[str], value: Any) -> None:
    arguments = parse(argv, {})
    assert getattr(arguments.config, name) == value
    assert arguments.sources[name] == f"--{name.replace('_', '-')}"
    assert arguments.config == dataclasses.replace(Config(), **{name: value})


@pytest.mark.parametrize(("name", "text", "value"), VARIABLES)
def test_a_variable_sets_its_option(name: str, text: str, value: Any) -> None:
    variable = PREFIX + name.upper()
    arguments = parse([], {variable: text})
    assert arguments.config == dataclasses.replace(Config(), **{name: value})
    assert arguments.sources[name] == variable


def test_the_tables_above_miss_no_option() -> None:
    assert {name for name, _, _ in FLAGS} == set(OPTIONS) == {name for name, _, _ in VARIABLES}


@pytest.mark.parametrize(("argv", "named"), BAD_FLAGS)
def test_a_bad_argument_is_refused_in_one_line_that_names_it(argv: list[str], named: str) -> None:
    with pytest.raises(UsageError, match=re.escape(named)) as caught:
        parse(argv, {})
    assert "\n" not in str(caught.value)


def test_a_bad_variable_is_refused_by_its_name() -> None:
    with pytest.raises(UsageError, match="HAKUBAN_ROUTER_COMPRESSION 'perhaps'"):
        parse([], {"HAKUBAN_ROUTER_COMPRESSION": "perhaps"})


def test_without_arguments_every_option_has_its_default() -> None:
    arguments = parse([], {})
    assert arguments.config == Config()
    assert arguments.config.bind == DEFAULT_BIND
    assert set(arguments.sources.values()) == {"default"}
    assert not arguments.config.insecure
    assert not arguments.config.compression
    assert not arguments.show_config


def test_a_flag_goes_before_a_variable_as_a_whole() -> None:
    environ = {"HAKUBAN_ROUTER_BIND": "ws://a:1 ws://b:2", "HAKUBAN_ROUTER_NAME": "variable"}
    arguments = parse(["--bind", "ws://c:3"], environ)
    assert arguments.config.bind == ("ws://c:3",)
    assert arguments.config.name == "variable"


def test_a_bad_variable_that_a_flag_replaces_does_no_harm() -> None:
    assert parse(["-t", "3"], {"HAKUBAN_ROUTER_THREADS": "x"}).config.threads == 3


@pytest.mark.parametrize(
    ("environ", "level", "source"),
    [
        ({"HAKUBAN_LOG": "debug"}, "debug", "HAKUBAN_LOG"),
        (
            {"HAKUBAN_LOG": "debug", "HAKUBAN_ROUTER_LOG_LEVEL": "error"},
            "error",
            "HAKUBAN_ROUTER_LOG_LEVEL",
        ),
        ({"HAKUBAN_LOG": ""}, "info", "default"),
    ],
)
def test_the_log_level_has_a_variable_that_other_programs_share(
    environ: dict[str, str], level: str, source: str
) -> None:
    arguments = parse([], environ)
    assert (arguments.config.log_level, arguments.sources["log_level"]) == (level, source)


def test_empty_and_foreign_variables_are_left_alone() -> None:
    environ = {
        "HAKUBAN_ROUTER_NAME": " ",
        "HAKUBAN_ROUTER_PORT": "tcp://10.0.0.1:3001",  # Kubernetes
        "HAKUBAN_ROUTER_SERVICE_HOST": "10.0.0.1",
    }
    assert parse([], environ).config == Config()


def test_show_config_gives_each_value_as_json_with_its_source() -> None:
    arguments = parse(
        ["--show-config", "--name", "Poznań"], {"HAKUBAN_ROUTER_ALLOW_ORIGIN": "https://a"}
    )
    assert arguments.show_config
    lines = arguments.describe().splitlines()
    assert 'name = "Poznań"  # --name' in lines
    assert 'allow-origin = ["https://a"]  # HAKUBAN_ROUTER_ALLOW_ORIGIN' in lines
    assert "connect = null  # default" in lines
    assert len(lines) == len(OPTIONS)
    for line in lines:
        value, separator, source = line.partition(" = ")[2].rpartition("  # ")
        assert separator
        assert source
        json.loads(value)


@pytest.mark.parametrize("flag", ["--help", "-h", "--version", "-V"])
def test_help_and_version_go_to_stdout(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([flag], {})
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert not err
    if flag in ("--help", "-h"):
        assert all(f"--{name.replace('_', '-')}" in out for name in OPTIONS)
    else:
        assert re.fullmatch(r"hakuban-router \d+\.\d+\.\d+\n", out)
