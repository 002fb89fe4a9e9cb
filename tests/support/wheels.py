"""The packages of this repository, and environments that have nothing but what was built of some of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BINARIES = "Scripts" if sys.platform == "win32" else "bin"
UV = (sys.executable, "-m", "uv", "--quiet")


def run(*command: str | Path) -> str:
    """Run a program that has to succeed, and give what it printed."""
    variables = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Package:
    """A package of this repository.

    :ivar name: as pip knows it.
    """

    name: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return ROOT / "packages" / self.name

    @property
    def module(self) -> str:
        """The name to import it by."""
        (found,) = (self.folder / "src").glob("*/py.typed")
        return found.parent.name

    @property
    def project(self) -> dict[str, Any]:
        """What it says of itself."""
        project: dict[str, Any] = tomllib.loads((self.folder / "pyproject.toml").read_text())
        found: dict[str, Any] = project["project"]
        return found

    def wheel(self, folder: Path) -> Path:
        """Find its wheel in a folder."""
        (wheel,) = folder.glob(f"{self.name.replace('-', '_')}-*.whl")
        return wheel

    def source(self, folder: Path) -> Path:
        """Find its source distribution in a folder."""
        (archive,) = folder.glob(f"{self.name.replace('-', '_')}-*.tar.gz")
        return archive


PACKAGES = [Package(path.parent.name) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
NAMES = {package.name for package in PACKAGES}


def environment(folder: Path) -> Path:
    """Make an environment without any package, and give its Python."""
    run(*UV, "venv", "--python", sys.executable, folder)
    return folder / BINARIES / "python"


class Installation:
    """An environment that has some of our wheels and what they need.

    :param wheels: the folder where all of them are.
    :param requirements: by name; others of our packages come as far as these need them.
    """

    def __init__(self, folder: Path, wheels: Path, *requirements: str) -> None:
        self.python = environment(folder)
        ours = folder / "ours.txt"  # so that no index is asked for them
        ours.write_text("".join(f"{p.name} @ {p.wheel(wheels).as_uri()}\n" for p in PACKAGES))
        options = ("--python", self.python, "--constraints", ours)
        run(*UV, "pip", "install", *options, *requirements)

    def program(self, name: str) -> str:
        """Give the path of an installed command."""
        return str(self.python.with_name(name))

    def run(self, *arguments: str | Path) -> str:
        """Run its Python, and give what it printed."""
        return run(self.python, *arguments).strip()

    def evaluate(self, code: str, *arguments: str) -> str:
        """Run code, and give what it printed."""
        return self.run("-c", code, *arguments)
