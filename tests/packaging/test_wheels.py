"""What is in the wheels, and that the source distributions build them."""

from __future__ import annotations

import email
import json
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from typing import TYPE_CHECKING

from support.wheels import NAMES, PACKAGES, ROOT, Installation, Package

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message
    from pathlib import Path

# What a package says to be public is there, and so is what its commands and transports are found by.
LOADS = """
import importlib, json, pkgutil, sys
from importlib.metadata import distribution
name, module = sys.argv[1:]
for entry in distribution(name).entry_points:
    entry.load()
package = importlib.import_module(module)
public = [m.name for m in pkgutil.iter_modules(package.__path__, f"{module}.") if "._" not in m.name]
for found in [package, *map(importlib.import_module, public)]:
    for item in getattr(found, "__all__", ()):
        getattr(found, item)
print(json.dumps(public))
"""


class Wheel:
    """What a wheel holds.

    :ivar files: all names.
    """

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            self._contents = {name: archive.read(name).decode() for name in archive.namelist()}
        self.files = set(self._contents)

    def described(self, name: str) -> str:
        """Give a file of the description; empty if there is none."""
        (found,) = [text for file, text in self._contents.items() if file.endswith(name)] or [""]
        return found

    @property
    def metadata(self) -> Message:
        """The description itself."""
        return email.message_from_string(self.described(".dist-info/METADATA"))


def test_the_packages_that_users_are_told_of_are_here() -> None:
    assert {"hakuban-core", "hakuban-router", "hakuban-ws", "hakuban-zmq"} == NAMES


def test_the_types_of_each_package_are_checked_as_its_users_see_them(package: Package) -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    checks = tools["hatch"]["envs"]["lint"]["scripts"]["types"]
    assert f"pyright --verifytypes {package.module}" in checks


def test_a_wheel_holds_the_modules_the_mark_of_types_and_the_licence(
    distributions: Path, package: Package
) -> None:
    wheel = Wheel(package.wheel(distributions))
    sources = package.folder / "src"
    modules = {path.relative_to(sources).as_posix() for path in sources.rglob("*.py")}
    held = {item for item in wheel.files if ".dist-info/" not in item}
    assert held == modules | {f"{package.module}/py.typed"}
    assert wheel.described("licenses/LICENSE") == (ROOT / "LICENSE").read_text()


def test_a_wheel_says_what_users_and_indexes_need_to_know(
    distributions: Path, package: Package
) -> None:
    metadata, project = Wheel(package.wheel(distributions)).metadata, package.project
    assert metadata["Name"] == package.name
    assert metadata["Summary"] == project["description"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (package.folder / "README.md").read_text()
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    urls = [f"{label}, {url}" for label, url in project.get("urls", {}).items()]
    assert metadata.get_all("Project-URL", []) == urls


def test_all_wheels_have_one_version_and_need_that_of_each_other(distributions: Path) -> None:
    found = [Wheel(package.wheel(distributions)).metadata for package in PACKAGES]
    (version,) = {metadata["Version"] for metadata in found}
    series = f"~={version.rpartition('.')[0]}.0"
    needs = {
        metadata["Name"]: {
            need.partition(";")[0].strip()
            for need in metadata.get_all("Requires-Dist", [])
            if need.startswith("hakuban")
        }
        for metadata in found
    }
    core = f"hakuban-core{series}"
    assert needs == {
        "hakuban-core": set(),
        "hakuban-ws": {core},
        "hakuban-zmq": {core},
        "hakuban-router": {core, f"hakuban-ws{series}", f"hakuban-zmq{series}"},
    }


def test_a_wheel_has_the_entry_points_of_its_package(distributions: Path, package: Package) -> None:
    entries = ConfigParser(delimiters="=")
    entries.optionxform = str  # type: ignore[assignment, method-assign]  # names as they are
    entries.read_string(Wheel(package.wheel(distributions)).described("entry_points.txt"))
    project = package.project
    declared = dict(project.get("entry-points", {}))
    if "scripts" in project:
        declared["console_scripts"] = project["scripts"]
    assert {name: dict(entries[name]) for name in entries.sections()} == declared
    assert declared, "neither a command nor a transport"


def test_what_is_public_and_what_entry_points_name_is_there(
    installed: Callable[..., Installation], package: Package
) -> None:
    said = installed(package.name).evaluate(LOADS, package.name, package.module)
    own = {path.stem for path in (package.folder / "src" / package.module).glob("[!_]*.py")}
    assert set(json.loads(said)) == {f"{package.module}.{name}" for name in own}


def test_the_wheel_of_the_tree_is_that_of_the_source_distribution(
    build: Callable[..., str], distributions: Path, package: Package, tmp_path: Path
) -> None:
    build("--wheel", "--out-dir", tmp_path, package.folder)
    assert package.wheel(tmp_path).read_bytes() == package.wheel(distributions).read_bytes()


def test_a_source_distribution_holds_the_sources_and_nothing_of_a_machine(
    distributions: Path, package: Package
) -> None:
    with tarfile.open(package.source(distributions)) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO"} <= files
    assert f"src/{package.module}/py.typed" in files
    assert not [name for name in files if "__pycache__" in name or name.endswith((".pyc", ".log"))]
