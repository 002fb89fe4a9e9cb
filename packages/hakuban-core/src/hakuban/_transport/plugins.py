"""Finds the transport of a URL scheme, and the plugins that authorise peers.

Entry points of the group `hakuban.transports` are named after the scheme they serve; only the one that is needed is
imported, and it is asked for that scheme alone, so that a broken plugin breaks nothing but its own scheme. Plugins of
the group `hakuban.plugins`, and those that a program registers, are asked for everything.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeGuard

import pluggy

from .._exceptions import (
    AmbiguousSchemeError,
    HakubanError,
    PluginError,
    UnknownSchemeError,
)
from .authorizing import Authorizer
from .interface import Hooks, InstalledTransport, Transport
from .urls import split_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.metadata import EntryPoint, EntryPoints

    from .._remote import Identity
    from .interface import ConnectionRequest, TransportOptions
    from .options import LinkOptions


TRANSPORTS = "hakuban.transports"
PLUGINS = "hakuban.plugins"


def _entry_points(group: str) -> EntryPoints:
    return _scan(group, tuple(sys.path))


@lru_cache(maxsize=8)
def _scan(group: str, path: tuple[str, ...]) -> EntryPoints:  # noqa: ARG001  # what it depends on
    """Read what is installed: once for each search path, since it takes 5 ms, and links are made again and again."""
    from importlib.metadata import (
        entry_points,
    )  # loads sockets, and takes as long as all the rest of this package

    return entry_points(group=group)


@dataclass(frozen=True, slots=True)
class LinkTarget:
    """Where a link leads, or where to listen, as far as it can be known before anything is tried.

    :ivar url: without its fragment.
    :ivar url_options: what the fragment sets.
    """

    transport: Transport
    url: str
    options: TransportOptions
    url_options: LinkOptions


def find_target(
    url: str, transport: Transport | None, arguments: Mapping[str, object], *, listening: bool
) -> LinkTarget:
    """Check all that a program states about a link, and find its transport. Thread-safe.

    :raises TypeError: an argument is of another type.
    :raises ValueError: an argument is out of range.
    :raises InvalidURLError: the URL can never work.
    :raises UnknownSchemeError: and others, as `find_transport`.
    """
    scheme, bare, url_options = split_url(url)
    options = url_options.transport_options(arguments)
    if transport is None:
        transport = find_transport(scheme)
    elif not _is_transport(transport):
        raise TypeError(f"transport is an object with connect and serve, not {transport!r:.100}")
    check = getattr(transport, "check", None)
    if check is not None:
        try:
            check(bare, options, listening=listening)
        except ValueError:  # an InvalidURLError is one
            raise
        except Exception as error:
            raise PluginError(
                f"the transport of {scheme}://", f"its check raised {_text_of(error)}"
            ) from error
    return LinkTarget(transport, bare, options, url_options)


def find_transport(scheme: str) -> Transport:
    """Return the transport that serves a URL scheme. Thread-safe.

    :raises UnknownSchemeError: no plugin serves it; with what is installed, and what to install.
    :raises AmbiguousSchemeError: two installed distributions serve it.
    :raises PluginError: the plugin that should serve it is broken.
    """
    transport = plugins.transport(scheme, None, "a registered plugin")
    if transport is not None:
        return transport
    return _transport_of(_entry_point(scheme))


def installed_transports() -> tuple[InstalledTransport, ...]:
    """List what is installed, by scheme and distribution: all plugins are imported, and the broken ones state why.

    Plugins that `register_plugin` was given are not installed, and not listed. Thread-safe.
    """
    found = {(one.name, _distribution(one)): one for one in _entry_points(TRANSPORTS)}
    return tuple(_look_at(found[key]) for key in sorted(found))


def _look_at(entry_point: EntryPoint) -> InstalledTransport:
    error: HakubanError | None = None
    try:
        _entry_point(entry_point.name)
        _transport_of(entry_point)
    except HakubanError as reason:
        error = reason
    version = entry_point.dist.version if entry_point.dist else ""
    return InstalledTransport(entry_point.name, _distribution(entry_point), version, error)


def authorizer() -> Callable[[ConnectionRequest], Identity | None] | None:
    """Return what a listener asks about each peer, or None when no plugin authorises: then everybody is let in.

    `LocalNode.listen` asks this by itself; it is public for programs that want to know before they listen. Imports the
    plugins of the entry-point group `hakuban.plugins`. Where any plugin implements `hakuban_authorize`, a peer that none
    of them gives an identity is refused. Thread-safe.

    :raises PluginError: a plugin is broken. It may be the one that keeps unknown peers out, so there is no going on
        without it.
    """
    for entry_point in _entry_points(PLUGINS):
        _load(entry_point, PLUGINS)
    return plugins.authorizer()


class _Plugins:
    """The plugins of this process. Every method is thread-safe; no plugin's code runs under the lock."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("hakuban")
        self._manager.add_hookspecs(Hooks)
        self._lock = threading.Lock()
        self._transports: list[object] = []  # loaded by their scheme, and asked for no other

    def register(self, plugin: object) -> None:
        """Add a plugin that is asked for everything; raises PluginError, or ValueError when it is there already."""
        with self._lock:
            if self._manager.is_registered(plugin):
                raise ValueError(f"{plugin!r} is registered already")
            self._register(plugin, repr(plugin))

    def unregister(self, plugin: object) -> None:
        """Remove a plugin; raises ValueError when it is not there."""
        with self._lock:
            if not self._manager.is_registered(plugin):
                raise ValueError(f"{plugin!r} is not registered")
            self._manager.unregister(plugin)
            self._transports = [other for other in self._transports if other is not plugin]

    def add(self, plugin: object, group: str, description: str) -> None:
        """Add a plugin of an entry point, unless it is there: one module may serve several schemes."""
        with self._lock:
            if not self._manager.is_registered(plugin):
                self._register(plugin, description)
                if group == TRANSPORTS:
                    self._transports.append(plugin)
            elif group == PLUGINS:
                self._transports = [other for other in self._transports if other is not plugin]

    def _register(self, plugin: object, description: str) -> None:
        no_hook = "it has no hook; mark one with hakuban.transport.hookimpl"
        if plugin is None:  # which pluggy takes for no plugin
            raise PluginError(description, no_hook)
        try:
            self._manager.register(plugin)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            raise PluginError(description, str(error)) from error
        if not self._manager.get_hookcallers(plugin):
            self._manager.unregister(plugin)
            raise PluginError(description, no_hook)

    def transport(
        self, scheme: str, installed: object | None, description: str
    ) -> Transport | None:
        """Ask the plugins that are asked for everything, and the installed one, for the transport of a scheme."""
        with self._lock:
            others = [plugin for plugin in self._transports if plugin is not installed]
            hook = self._manager.subset_hook_caller("hakuban_transport", others)
        try:
            transport = hook(scheme=scheme)
        except Exception as error:
            reason = f"asked for scheme {scheme!r}, it raised {_text_of(error)}"
            raise PluginError(description, reason) from error
        if transport is None:
            return None
        if not _is_transport(transport):
            reason = f"asked for scheme {scheme!r}, it returned {transport!r}, no object with connect and serve"
            raise PluginError(description, reason)
        return transport

    def authorizer(self) -> Authorizer | None:
        """Return the authorising hook if any plugin implements it."""
        hook = self._manager.hook.hakuban_authorize
        with self._lock:
            implementations = [
                one for one in hook.get_hookimpls() if not (one.wrapper or one.hookwrapper)
            ]
        return Authorizer(lambda request: hook(request=request)) if implementations else None


plugins = _Plugins()
"""Made once, by the import lock, when a program first needs a plugin."""


def register_plugin(plugin: object) -> None:
    """Use a plugin that is not installed: a module or object with hooks marked by `hookimpl`.

    Its transports go before installed ones, and its `hakuban_authorize` is asked by every listener of this process
    that starts from now on. Thread-safe.

    :raises PluginError: it has no hook, or one that does not fit `Hooks`.
    :raises ValueError: it is registered already.
    """
    plugins.register(plugin)


def unregister_plugin(plugin: object) -> None:
    """Forget a plugin that `register_plugin` was given. Links and listeners that exist are left as they are.

    A listener that asked it for authorisation refuses everybody whom no other plugin lets in. Thread-safe.

    :raises ValueError: it is not registered.
    """
    plugins.unregister(plugin)


def _is_transport(transport: object) -> TypeGuard[Transport]:
    return not isinstance(transport, type) and isinstance(transport, Transport)


def _entry_point(scheme: str) -> EntryPoint:
    found = {_distribution(one): one for one in _entry_points(TRANSPORTS).select(name=scheme)}
    if len(found) > 1:
        raise AmbiguousSchemeError(scheme, sorted(found))
    if not found:
        raise _unknown(scheme)
    return next(iter(found.values()))


def _transport_of(entry_point: EntryPoint) -> Transport:
    description = _describe(entry_point)
    plugin = _load(entry_point, TRANSPORTS)
    transport = plugins.transport(entry_point.name, plugin, description)
    if transport is None:
        raise _unknown(entry_point.name, f"{description} does not return one for it")
    return transport


def _load(entry_point: EntryPoint, group: str) -> object:
    try:
        plugin: object = entry_point.load()
    except Exception as error:
        raise PluginError(_describe(entry_point), f"it does not load: {_text_of(error)}") from error
    plugins.add(plugin, group, _describe(entry_point))
    return plugin


def _unknown(scheme: str, reason: str | None = None) -> UnknownSchemeError:
    installed = sorted({one.name for one in _entry_points(TRANSPORTS)})
    return UnknownSchemeError(scheme, installed, _known_distribution(scheme), reason=reason)


def _known_distribution(scheme: str) -> str | None:
    if scheme in ("ws", "wss"):
        return "hakuban-ws"
    return "hakuban-zmq" if scheme.startswith("zmq+") else None


def _distribution(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else entry_point.value


def _describe(entry_point: EntryPoint) -> str:
    return f"plugin {entry_point.value} of {_distribution(entry_point)}"


def _text_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
