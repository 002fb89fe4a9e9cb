"""The `hakuban-zmq-keygen` command."""

from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import zmq.auth

if TYPE_CHECKING:
    from pathlib import Path


def keygen(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hakuban_zmq.keygen", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_makes_certificates_of_which_one_half_is_secret(tmp_path: Path) -> None:
    done = keygen("-d", tmp_path / "keys", "router", "robot")
    assert done.returncode == 0
    names = ["router.key", "router.key_secret", "robot.key", "robot.key_secret"]
    paths = [tmp_path / "keys" / name for name in names]
    assert done.stdout.splitlines() == [str(path) for path in paths]
    for public, secret in (paths[:2], paths[2:]):
        assert zmq.auth.load_certificate(public)[1] is None
        assert zmq.auth.load_certificate(secret)[0] == zmq.auth.load_certificate(public)[0]
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    keygen("-d", tmp_path, "router")
    before = (tmp_path / "router.key_secret").read_bytes()
    done = keygen("-d", tmp_path, "router")
    assert done.returncode == 1
    assert done.stderr.startswith("hakuban-zmq-keygen: error:")
    assert "is there already" in done.stderr
    assert (tmp_path / "router.key_secret").read_bytes() == before


def test_a_name_is_no_path(tmp_path: Path) -> None:
    done = keygen("-d", tmp_path, "../router")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
