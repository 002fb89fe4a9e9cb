"""What a router is for, in one look: two nodes get in, and a value goes from one to the other."""

from __future__ import annotations

import hakuban
import hakuban.sync


def check_that_it_serves(url: str, *, seconds: float = 10) -> None:
    exposer, observer = hakuban.LocalNode(), hakuban.LocalNode()
    with (
        exposer,
        observer,
        hakuban.sync.connect(exposer, url),
        hakuban.sync.connect(observer, url),
        exposer.object(["tag"], "object").expose() as exposing,
        observer.object(["tag"], "object").observe() as observing,
    ):
        exposing.set_object_data({"a": 1})
        assert observing.wait_state_sync(timeout=seconds).data == {"a": 1}
