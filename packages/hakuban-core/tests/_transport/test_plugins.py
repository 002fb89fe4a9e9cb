"""Plugins: real distributions in a folder, found through their entry points."""

from __future__ import annotations

import logging
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from hakuban._exceptions import (
    AmbiguousSchemeError,
    PluginError,
    RefusedError,
    UnknownSchemeError,
)
from hakuban._transport import plugins as _plugins
from hakuban._transport.plugins import authorizer, find_transport
from hakuban.testing import MemoryTransport
from hakuban.transport import (
    ConnectionRequest,
    Identity,
    InstalledTransport,
    Transport,
    hookimpl,
    installed_transports,
    register_plugin,
    unregister_plugin,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

REQUEST = ConnectionRequest(url="memory://x", headers={"authorization": "let me in"})

SERVES = """
    from hakuban.testing import MemoryTransport
    from hakuban.transport import hookimpl

    class Mine(MemoryTransport):
        pass

    @hookimpl
    def hakuban_transport(scheme):
        return Mine() if scheme in SCHEMES else None
"""


class Installer:
    """Installs distributions, each with one module, into a folder that is searched for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, name: str, code: str, *schemes: str, group: str = "hakuban.transports"
    ) -> str:
        module = f"plugin_of_{name.replace('-', '_')}"
        (self.folder / f"{module}.py").write_text(f"SCHEMES = {schemes!r}\n{textwrap.dedent(code)}")
        info = self.folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{scheme} = {module}\n" for scheme in schemes)
        (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        return module


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plugins, "plugins", type(_plugins.plugins)())


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Installer]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Installer(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("plugin_of_"):
            del sys.modules[name]


def owner(transport: Transport) -> str:
    return type(transport).__module__


# ---- transports -----------------------------------------------------------------------------------------------------


def test_the_transport_of_an_installed_distribution_is_found_by_its_scheme(
    install: Installer,
) -> None:
    module = install("acme", SERVES, "acme")
    assert owner(find_transport("acme")) == module


def test_a_scheme_with_a_plus_sign_is_found(install: Installer) -> None:
    module = install("acme", SERVES, "acme+tcp")
    assert owner(find_transport("acme+tcp")) == module


def test_one_module_serves_several_schemes_and_is_asked_again(install: Installer) -> None:
    module = install("acme", SERVES, "acme", "acmes")
    assert [owner(find_transport(scheme)) for scheme in ("acme", "acmes", "acme")] == [module] * 3


def test_only_the_plugin_of_the_scheme_is_imported(install: Installer) -> None:
    install("acme", SERVES, "acme")
    other = install("other", SERVES, "other")
    find_transport("acme")
    assert other not in sys.modules


def test_the_core_finds_its_own_transport_through_the_same_door() -> None:
    assert isinstance(find_transport("memory"), MemoryTransport)


BROKEN = {
    "import": ("import nothing_of_this_name", "ModuleNotFoundError: No module named"),
    "syntax": ("def", "SyntaxError"),
    "raises at import": ("raise SystemError('no licence')", "SystemError: no licence"),
    "no hook": ("x = 1", "it has no hook"),
    "unknown hook": (
        "from hakuban.transport import hookimpl\n@hookimpl\ndef hakuban_transprot(scheme): pass",
        "hakuban_transprot",
    ),
    "wrong argument": (
        "from hakuban.transport import hookimpl\n@hookimpl\ndef hakuban_transport(url): pass",
        "url",
    ),
    "hook raises": (
        "from hakuban.transport import hookimpl\n@hookimpl\ndef hakuban_transport(): return 1 / 0",
        "ZeroDivisionError",
    ),
    "no transport": (
        "from hakuban.transport import hookimpl\n@hookimpl\ndef hakuban_transport(): return 5",
        "it returned 5",
    ),
    "a class": (
        SERVES.replace("Mine() if scheme in SCHEMES else None", "Mine"),
        "it returned <class",
    ),
}


@pytest.mark.parametrize("value", ["[]", "{}", "5", "None", "'text'"])
def test_an_entry_point_that_leads_to_no_plugin_is_broken_like_others(
    install: Installer, value: str
) -> None:
    module = install("broken", f"plugin = {value}", "broken")
    points = install.folder / "broken-1.0.dist-info/entry_points.txt"
    points.write_text(f"[hakuban.transports]\nbroken = {module}:plugin\n")
    good = install("acme", SERVES, "acme")
    for _ in range(2):
        with pytest.raises(PluginError) as caught:
            find_transport("broken")
        assert "it has no hook" in caught.value.reason
        assert caught.value.plugin == f"plugin {module}:plugin of broken"
    assert owner(find_transport("acme")) == good


@pytest.mark.promise("plugins")
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_breaks_its_own_scheme_and_no_other(install: Installer, fault: str) -> None:
    code, reason = BROKEN[fault]
    module = install("broken", code, "broken")
    good = install("acme", SERVES, "acme")
    for _ in range(2):  # a failure leaves nothing behind that would make the next one another
        with pytest.raises(PluginError) as caught:
            find_transport("broken")
        assert reason in caught.value.reason
        assert caught.value.plugin == f"plugin {module} of broken"
        assert "uninstall" in str(caught.value)
        assert owner(find_transport("acme")) == good


def test_the_cause_of_a_failed_import_is_kept(install: Installer) -> None:
    install("broken", "import nothing_of_this_name", "broken")
    with pytest.raises(PluginError) as caught:
        find_transport("broken")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_plugin_that_does_not_serve_the_scheme_it_is_named_after_is_told_of(
    install: Installer,
) -> None:
    install("acme", SERVES.replace("in SCHEMES", "== 'other'"), "acme")
    with pytest.raises(UnknownSchemeError, match="plugin_of_acme of acme does not return one"):
        find_transport("acme")


def test_an_unknown_scheme_says_what_is_installed(install: Installer) -> None:
    install("acme", SERVES, "acme")
    with pytest.raises(UnknownSchemeError) as caught:
        find_transport("nobody")
    assert caught.value.scheme == "nobody"
    assert {"acme", "memory"} <= set(caught.value.installed)
    assert list(caught.value.installed) == sorted(caught.value.installed)
    assert caught.value.distribution is None


@pytest.mark.parametrize(
    ("scheme", "distribution"),
    [("ws", "hakuban-ws"), ("wss", "hakuban-ws"), ("zmq+tcp", "hakuban-zmq"), ("zmq+ipc", "hakuban-zmq")],
)  # fmt: skip
def test_a_known_scheme_that_is_not_installed_says_what_to_install(
    install: Installer, monkeypatch: pytest.MonkeyPatch, scheme: str, distribution: str
) -> None:
    without = [path for path in sys.path if not path.endswith(("site-packages", "src"))]
    monkeypatch.setattr(sys, "path", [str(install.folder), *without])
    with pytest.raises(UnknownSchemeError, match=f"pip install {distribution}") as caught:
        find_transport(scheme)
    assert caught.value.distribution == distribution


def test_two_distributions_for_one_scheme_are_an_error_that_names_both(install: Installer) -> None:
    install("acme", SERVES, "acme")
    install("zacme", SERVES, "acme")
    with pytest.raises(AmbiguousSchemeError) as caught:
        find_transport("acme")
    assert caught.value.distributions == ("acme", "zacme")


def test_a_plugin_is_asked_for_no_scheme_but_its_own(install: Installer) -> None:
    install("greedy", SERVES.replace("if scheme in SCHEMES else None", ""), "greedy")
    module = install("acme", SERVES, "acme")
    find_transport("greedy")
    assert owner(find_transport("acme")) == module


def test_threads_that_need_a_plugin_at_the_same_time_all_get_it(install: Installer) -> None:
    module = install("acme", f"import time\ntime.sleep(0.01)\n{textwrap.dedent(SERVES)}", "acme")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(find_transport, ["acme"] * 32))
    assert {owner(transport) for transport in found} == {module}


# ---- what is installed ----------------------------------------------------------------------------------------------


def listed(*schemes: str) -> list[InstalledTransport]:
    return [one for one in installed_transports() if one.scheme in schemes]


def test_what_is_installed_is_listed_with_distributions_and_versions(install: Installer) -> None:
    install("acme", SERVES, "acme", "acmes")
    assert listed("acme", "acmes") == [
        InstalledTransport("acme", "acme", "1.0"),
        InstalledTransport("acmes", "acme", "1.0"),
    ]
    (memory,) = listed("memory")
    assert (memory.distribution, memory.error) == ("hakuban-core", None)
    schemes = [one.scheme for one in installed_transports()]
    assert schemes == sorted(schemes)


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_broken_is_listed_with_its_error(install: Installer, fault: str) -> None:
    code, reason = BROKEN[fault]
    install("broken", code, "broken")
    install("acme", SERVES, "acme")
    works, broken = listed("acme", "broken")
    assert works.error is None
    assert isinstance(broken.error, PluginError)
    assert reason in broken.error.reason


def test_two_distributions_for_one_scheme_are_both_listed_with_the_error(
    install: Installer,
) -> None:
    install("acme", SERVES, "acme")
    install("zacme", SERVES, "acme")
    both = listed("acme")
    assert [one.distribution for one in both] == ["acme", "zacme"]
    assert all(isinstance(one.error, AmbiguousSchemeError) for one in both)


def test_a_plugin_that_does_not_serve_its_scheme_is_listed_with_the_error(
    install: Installer,
) -> None:
    install("acme", SERVES.replace("in SCHEMES", "== 'other'"), "acme")
    (acme,) = listed("acme")
    assert isinstance(acme.error, UnknownSchemeError)


def test_a_registered_plugin_is_not_listed_as_installed() -> None:
    register_plugin(Registered("acme"))
    assert listed("acme") == []


# ---- registered plugins ---------------------------------------------------------------------------------------------


class Registered:
    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.transport = MemoryTransport()

    @hookimpl
    def hakuban_transport(self, scheme: str) -> Transport | None:
        return self.transport if scheme == self.scheme else None


def test_a_registered_plugin_goes_before_an_installed_one_which_is_not_even_imported(
    install: Installer,
) -> None:
    module = install("acme", "import nothing_of_this_name", "acme")
    plugin = Registered("acme")
    register_plugin(plugin)
    assert find_transport("acme") is plugin.transport
    assert module not in sys.modules


def test_an_unregistered_plugin_is_asked_no_more(install: Installer) -> None:
    module = install("acme", SERVES, "acme")
    plugin = Registered("acme")
    register_plugin(plugin)
    unregister_plugin(plugin)
    assert owner(find_transport("acme")) == module


def test_a_registered_wrapper_wraps_installed_transports(install: Installer) -> None:
    class Wrapper:
        @hookimpl(wrapper=True)
        def hakuban_transport(self) -> Generator[None, Transport | None, Transport | None]:
            inner = yield
            wrapped.append(inner)
            return inner

    wrapped: list[Transport | None] = []
    install("acme", SERVES, "acme")
    register_plugin(Wrapper())
    assert wrapped == []
    assert find_transport("acme") is wrapped[-1]


async def test_a_wrapper_of_the_authorising_hook_lets_nobody_in_and_keeps_nobody_out() -> None:
    """It only looks on: so a listener that others can reach is as open as without it, and is refused."""

    class Wrapper:
        @hookimpl(wrapper=True)
        def hakuban_authorize(self) -> Generator[None, object, object]:
            return (yield)

    assert authorizer() is None
    register_plugin(Wrapper())
    assert authorizer() is None


def test_an_object_without_hooks_is_no_plugin() -> None:
    with pytest.raises(PluginError, match="hookimpl"):
        register_plugin(object())


def test_registering_twice_and_forgetting_what_is_not_there_are_errors() -> None:
    plugin = Registered("x")
    register_plugin(plugin)
    with pytest.raises(ValueError, match="registered already"):
        register_plugin(plugin)
    unregister_plugin(plugin)
    with pytest.raises(ValueError, match="not registered"):
        unregister_plugin(plugin)


# ---- authorisation --------------------------------------------------------------------------------------------------


class Guard:
    def __init__(self, answer: Callable[[ConnectionRequest], Identity | None]) -> None:
        self.answer = answer

    @hookimpl
    def hakuban_authorize(self, request: ConnectionRequest) -> Identity | None:
        return self.answer(request)


def refuse(request: ConnectionRequest) -> Identity | None:
    raise RefusedError(f"no {request.headers['authorization']}", retry=False)


def fail(_request: ConnectionRequest) -> Identity | None:
    raise OSError("the directory is down")


def ask(request: ConnectionRequest = REQUEST) -> Identity | None:
    authorize = authorizer()
    assert authorize is not None
    return authorize(request)


def test_without_an_authorising_plugin_there_is_nobody_to_ask(install: Installer) -> None:
    install("acme", SERVES, "acme")
    find_transport("acme")
    assert authorizer() is None


def test_the_first_plugin_with_an_opinion_says_who_a_peer_is() -> None:
    register_plugin(Guard(lambda request: Identity(request.headers["authorization"])))
    register_plugin(Guard(lambda _: None))
    assert ask() == Identity("let me in")


def test_a_peer_that_no_plugin_knows_is_refused() -> None:
    register_plugin(Guard(lambda _: None))
    with pytest.raises(RefusedError) as caught:
        ask()
    assert not caught.value.retry


def test_a_refusal_reaches_the_listener_as_it_is() -> None:
    register_plugin(Guard(refuse))
    with pytest.raises(RefusedError, match="no let me in"):
        ask()


@pytest.mark.parametrize("answer", [fail, lambda _: "root"])
def test_a_failing_plugin_lets_nobody_in_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
    answer: Callable[[ConnectionRequest], Identity | None],
) -> None:
    register_plugin(Guard(answer))
    authorize = authorizer()
    assert authorize is not None
    with caplog.at_level(logging.ERROR, logger="hakuban"):
        for _ in range(2):
            with pytest.raises(RefusedError) as caught:
                authorize(REQUEST)
            assert caught.value.retry
    assert len(caplog.records) == 1


def test_a_listener_whose_only_guard_was_unregistered_lets_nobody_in() -> None:
    guard = Guard(lambda _: Identity("anybody"))
    register_plugin(guard)
    authorize = authorizer()
    unregister_plugin(guard)
    assert authorize is not None
    with pytest.raises(RefusedError):
        authorize(REQUEST)


GUARDS = """
    from hakuban.transport import Identity, hookimpl

    @hookimpl
    def hakuban_authorize(request):
        return Identity("guest of " + request.url)
"""


def test_an_installed_guard_is_asked(install: Installer) -> None:
    install("guard", GUARDS, "guard", group="hakuban.plugins")
    for _ in range(2):  # each listener asks again
        assert ask() == Identity("guest of memory://x")


def test_a_broken_installed_plugin_keeps_a_listener_from_starting(install: Installer) -> None:
    install("guard", "import nothing_of_this_name", "guard", group="hakuban.plugins")
    with pytest.raises(PluginError, match="nothing_of_this_name"):
        authorizer()


def test_a_module_installed_as_both_is_asked_for_both(install: Installer) -> None:
    module = install("both", textwrap.dedent(GUARDS) + textwrap.dedent(SERVES), "both")
    info = install.folder / "both-1.0.dist-info/entry_points.txt"
    info.write_text(f"{info.read_text()}[hakuban.plugins]\nboth = {module}\n")
    assert owner(find_transport("both")) == module
    assert ask() == Identity("guest of memory://x")
    assert owner(find_transport("both")) == module
