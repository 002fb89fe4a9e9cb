"""How many descriptors are missing in what strangers do not get."""

from __future__ import annotations

import pytest

from hakuban._sockets.descriptor_reserve import missing_in_reserve

resource = pytest.importorskip("resource")


@pytest.mark.parametrize(
    ("limit", "accepted", "missing"),
    [
        (1024, 959, 0),
        (1024, 960, 1),
        (1024, 1023, 64),
        (100, 74, 0),
        (100, 75, 1),
        (resource.RLIM_INFINITY, 100_000, 0),
    ],
)
def test_the_last_descriptors_are_missed_from_the_first_on(
    limit: int, accepted: int, missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert missing_in_reserve(accepted) == missing
