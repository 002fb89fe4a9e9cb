"""Builds all packages, and installs them."""

from __future__ import annotations

import subprocess
from functools import cache, partial
from itertools import count
from typing import TYPE_CHECKING

import pytest

from support.wheels import PACKAGES, UV, Installation, Package, environment, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(params=PACKAGES, ids=lambda package: package.name)
def package(request: pytest.FixtureRequest) -> Package:
    """Give each package."""
    found: Package = request.param
    return found


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Give what builds the package of a folder: with one backend for all, that is asked for once."""
    python = environment(tmp_path_factory.mktemp("builder") / "environment")
    command = [*UV, "pip", "install", "--python", str(python), "hatchling"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NOT RUN: there is no package index: {done.stderr.strip().splitlines()[-1]}")
    return partial(run, *UV, "build", "--python", python, "--no-build-isolation")


@pytest.fixture(scope="session")
def distributions(build: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the source distributions, and the wheels that were built from these."""
    folder = tmp_path_factory.mktemp("distributions")
    for package in PACKAGES:
        build("--out-dir", folder, package.folder)
    return folder


@pytest.fixture(scope="session")
def installed(
    distributions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Installation]:
    """Give what makes an environment with some of the packages, once for each set of names."""
    folder, number = tmp_path_factory.mktemp("users"), count()

    @cache
    def install(*requirements: str) -> Installation:
        return Installation(folder / str(next(number)), distributions, *requirements)

    return install
