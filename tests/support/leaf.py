"""A program for tests: nodes that expose and observe what its input says, and the time of all that happens, as JSON lines.

    ["expose", "door", "open", "ws://127.0.0.1:3001"]
    ["set", "door", "shut"]
    ["observe", "guard", "door", "ws://127.0.0.1:3001"]
    ["time"]

Each observer is a node of its own; what is exposed here belongs to one more. The program ends with its input.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import hakuban
import hakuban.sync

if TYPE_CHECKING:
    from collections.abc import Callable

TAGS: Final = ["clocks"]

_saying = threading.Lock()


def say(event: str, **details: Any) -> None:
    """Say what happens now, or has just happened; `at` is monotonic, which is one time for all processes of a machine."""
    line = json.dumps({"event": event, "at": time.monotonic(), **details})
    with _saying:
        print(line, flush=True)


class Leaf:
    """What the program has open."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._exposing: hakuban.LocalNode | None = None
        self._exposed: dict[str, hakuban.ObjectExpose[Any]] = {}

    def expose(self, key: str, value: str, url: str) -> None:
        """Produce an object, which has a value before anybody is there to see it."""
        if self._exposing is None:
            self._exposing = self._node("exposer", url)
        exposed = self._stack.enter_context(self._exposing.object(TAGS, key).expose())
        self._exposed[key] = exposed
        self._in_thread(partial(self._tell_assignments, key, exposed))
        self.set(key, value)

    def set(self, key: str, value: str) -> None:
        say("set", key=key, value=value)
        self._exposed[key].set_object_data(value)

    def time(self) -> None:
        """Say what the clocks of this process show."""
        say("time", wall=time.time())

    def observe(self, who: str, key: str, url: str) -> None:
        observed = self._node(who, url).object(TAGS, key).observe()
        self._in_thread(partial(self._tell_states, who, key, self._stack.enter_context(observed)))

    def _node(self, name: str, url: str) -> hakuban.LocalNode:
        node = self._stack.enter_context(hakuban.LocalNode(name))
        self._stack.enter_context(hakuban.sync.connect(node, url, wait=False))
        return node

    def _in_thread(self, target: Callable[[], None]) -> None:
        threading.Thread(target=target, daemon=True).start()

    def _tell_assignments(self, key: str, exposed: hakuban.ObjectExpose[Any]) -> None:
        for _ in exposed:
            say("assigned", key=key)

    def _tell_states(self, who: str, key: str, observed: hakuban.ObjectObserve[Any]) -> None:
        for state in observed:
            shown = {"value": state.data, "version": state.version}
            say("seen", who=who, key=key, synchronized=state.synchronized, **shown)


def main() -> None:
    logging.basicConfig(level="INFO")
    with ExitStack() as stack:
        leaf = Leaf(stack)
        for line in sys.stdin:
            verb, *arguments = json.loads(line)
            getattr(leaf, verb)(*arguments)


if __name__ == "__main__":
    main()
