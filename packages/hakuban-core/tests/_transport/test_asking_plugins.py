"""What plugins and their transports are asked, and what they are told."""

from __future__ import annotations

from typing import Any

import pytest
from typing_extensions import override

from hakuban._exceptions import PluginError
from hakuban._transport.plugins import PLUGINS, TRANSPORTS, _Plugins, find_target
from hakuban.testing import MemoryTransport
from hakuban.transport import (
    ConnectionRequest,
    Hooks,
    Identity,
    InvalidURLError,
    TransportOptions,
    hookimpl,
)

REQUEST = ConnectionRequest(
    url="ws://127.0.0.1:1", path="/?token=sesame", headers={"authorization": "sesame"}
)


class Checking(MemoryTransport):
    """A transport that looks at a URL beforehand."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.asked: list[tuple[str, float, bool]] = []

    @override
    def check(self, url: str, options: TransportOptions, /, *, listening: bool) -> None:
        self.asked.append((url, options.keep_alive, listening))
        if self._error is not None:
            raise self._error


def test_a_transport_is_asked_whether_a_url_can_work_before_anything_is_entered() -> None:
    transport = Checking()
    for listening in (False, True):
        target = find_target("memory://x#keep-alive=3s", transport, {}, listening=listening)
        assert target.transport is transport
    assert transport.asked == [("memory://x", 3.0, False), ("memory://x", 3.0, True)]
    for refused in (InvalidURLError("memory://x", "there is no x"), ValueError("x")):
        with pytest.raises(ValueError, match="x") as caught:
            find_target("memory://x", Checking(refused), {}, listening=False)
        assert caught.value is refused
    with pytest.raises(PluginError, match="its check raised ZeroDivisionError"):
        find_target("memory://x", Checking(ZeroDivisionError()), {}, listening=False)
    wrong: Any = MemoryTransport
    with pytest.raises(TypeError, match="an object with connect and serve"):
        find_target("memory://x", wrong, {}, listening=False)


class Everything:
    """A plugin that serves any scheme, and knows everybody."""

    def __init__(self, name: str = "") -> None:
        self.identity = Identity(name)
        self.transport = MemoryTransport()

    @hookimpl
    def hakuban_transport(self, scheme: str) -> MemoryTransport:  # noqa: ARG002  # pluggy goes by it
        return self.transport

    @hookimpl
    def hakuban_authorize(self, request: ConnectionRequest) -> Identity:  # noqa: ARG002  # as above
        return self.identity


@pytest.mark.parametrize("how", ["registered", "installed for everything"])
def test_a_plugin_that_was_found_by_its_scheme_may_be_asked_for_more_later(how: str) -> None:
    plugins, plugin = _Plugins(), Everything()
    plugins.add(plugin, TRANSPORTS, "the plugin of one")
    assert plugins.transport("another", None, "another's") is None
    assert plugins.transport("one", plugin, "the plugin of one") is not None
    if how == "registered":
        plugins.unregister(plugin)
        plugins.register(plugin)
    else:
        plugins.add(plugin, PLUGINS, "the plugin of one")
    assert plugins.transport("another", None, "another's") is not None


def test_a_hook_has_no_opinion_of_its_own_and_one_of_a_plugin_is_enough() -> None:
    hooks, plugins = Hooks(), _Plugins()
    assert hooks.hakuban_transport("x") is None
    assert hooks.hakuban_authorize(REQUEST) is None
    older, newer = Everything("older"), Everything("newer")
    for plugin in (older, newer):
        plugins.register(plugin)
    authorizer = plugins.authorizer()
    assert authorizer is not None
    assert authorizer(REQUEST) == newer.identity
    assert plugins.transport("x", None, "a plugin") is newer.transport


def test_what_transports_and_plugins_are_told_is_safe_by_default_and_shows_no_secret() -> None:
    options = TransportOptions(headers={"Authorization": "sesame"})
    assert (options.nodelay, options.compression, options.insecure) == (True, False, False)
    assert Hooks().hakuban_authorize(REQUEST) is None
    assert "sesame" not in f"{options} {REQUEST}"
