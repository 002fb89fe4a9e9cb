"""The house: who imports whom, how large modules are, what is public, what is suppressed."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "hakuban": ROOT / "packages/hakuban-core/src/hakuban",
    "hakuban_ws": ROOT / "packages/hakuban-ws/src/hakuban_ws",
    "hakuban_zmq": ROOT / "packages/hakuban-zmq/src/hakuban_zmq",
    "hakuban_router": ROOT / "packages/hakuban-router/src/hakuban_router",
}
SOURCES = sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))
MOST_LINES = 400
# what a transport may know of the core
FACES = ("hakuban.transport", "hakuban.sockets")
# Which room of the core may import from which: all imports count, also for type checking and within functions. `values`
# are the private modules beside the rooms; "_core.events" is that module alone.
ROOMS: dict[str, set[str]] = {
    "values": {"values"},
    "_diff": {"values"},
    "_wire": {"values", "_diff"},
    "_core": {"values"},
    "_loops": set(),
    "_transport": {"values", "_loops"},
    "_sockets": {"values", "_loops", "_transport"},
    "_engine": {"values", "_core", "_loops"},
    "_events": {"values", "_engine", "_loops"},
    "_net": {"values", "_core.events", "_engine", "_events", "_loops", "_transport", "_wire"},
    "_api": {"values", "_core", "_engine", "_events", "_loops", "_net", "_transport"},
    # public names alone; these from where they are, since `hakuban` itself names `testing`
    "_testing": {"_api.node", "_net.connection", "transport"},
    "transport": {"values", "_loops", "_transport"},
    "sockets": {"_sockets"},
    "testing": {"_testing", "transport"},
    "events": {"values", "_events"},
    "sync": {"_api", "_loops", "_net", "_transport"},
    "__init__": {"values", "_api", "_core", "_net", "events", "sync", "testing", "transport"},
}
PURE_ROOMS = ("_core", "_wire", "_diff")
# the values that they may know; others log, or ask the operating system
PURE_VALUES = {
    "_canonical",
    "_descriptors",
    "_exceptions",
    "_contents",
    "_limits",
    "_session_events",
}
BARRED_IN_PURE = {
    "anyio", "asyncio", "datetime", "logging", "os", "pluggy", "random", "socket", "threading", "time", "trio", "uuid",
}  # fmt: skip
# A suppression is a debt with a reason; raise this number only with a good one.
MOST_SUPPRESSIONS = 60


def module_name(path: Path) -> str:
    for name, folder in PACKAGES.items():
        if path.is_relative_to(folder):
            parts = [name, *path.relative_to(folder).with_suffix("").parts]
            return ".".join(parts).removesuffix(".__init__")
    raise AssertionError(path)


def imports(path: Path) -> set[str]:
    """List what a module imports, in absolute names; imports for type checking count too."""
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                above = ".".join(parts[: len(parts) - node.level + 1])
                base = f"{above}.{base}".rstrip(".")
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def room(module: str) -> str:
    """Name the part of the core that a module belongs to: a room, a face, or `values`."""
    parts = [*module.split("."), "__init__"]
    if parts[1] in ROOMS:
        return parts[1]
    return "values"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_module_is_longer_than_a_newcomer_reads_at_once(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES, f"{path.name} has {lines} lines: split it"


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if "hakuban-core" in path.parts], ids=module_name
)
def test_the_rooms_of_the_core_know_those_below_alone(path: Path) -> None:
    own = room(module_name(path))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "hakuban" and room(name) != own:
            known = room(name) in ROOMS[own] or ".".join(parts[1:3]) in ROOMS[own]
            assert known, f"{module_name(path)} imports {name}"


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if room(module_name(path)) in PURE_ROOMS],
    ids=module_name,
)
def test_pure_rooms_import_nothing_impure(path: Path) -> None:
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] not in BARRED_IN_PURE, f"{path.name} imports {name}"
        if parts[0] == "hakuban" and room(name) == "values":
            assert parts[1] in PURE_VALUES, f"{path.name} imports {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_leads_back_to_itself(package: str) -> None:
    """Whoever opens a file can read it without one that has to be read first because of it."""
    modules = {
        module_name(path): path for path in SOURCES if module_name(path).split(".")[0] == package
    }
    known = {name: imported_modules(path, modules) - {name} for name, path in modules.items()}
    while leaves := [name for name, others in known.items() if not others]:
        for name in leaves:
            del known[name]
        for others in known.values():
            others.difference_update(leaves)
    assert not known, f"in circles, or above them: {sorted(known)}"


def imported_modules(path: Path, modules: dict[str, Path]) -> set[str]:
    """List the modules of a package that one of them imports: whole, or something of them."""
    found = {name if name in modules else name.rpartition(".")[0] for name in imports(path)}
    return found & modules.keys()


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if {"hakuban_ws", "hakuban_zmq"} & set(path.parts)],
    ids=module_name,
)
def test_a_transport_knows_its_contract_and_sockets_and_nothing_else_of_the_core(
    path: Path,
) -> None:
    for name in imports(path):
        if name.split(".")[0] == "hakuban":
            assert name.startswith(FACES), f"{path.name} imports {name}"


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if "hakuban_router" in path.parts], ids=module_name
)
def test_the_router_uses_public_names_of_the_core(path: Path) -> None:
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "hakuban":
            assert not any(part.startswith("_") for part in parts), f"{path.name} imports {name}"
        assert parts[0] not in ("hakuban_ws", "hakuban_zmq"), (
            "transports are found through entry points"
        )


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_the_core_knows_no_transport_and_no_router(path: Path) -> None:
    if module_name(path).split(".")[0] == "hakuban":
        others = set(PACKAGES) - {"hakuban"}
        assert not {name.split(".")[0] for name in imports(path)} & others


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_whoever_logs_does_it_by_a_guarded_logger(path: Path) -> None:
    """`logging`'s own ones let the exceptions of filters and handlers out, which are user code."""
    asked = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "logging"
    }
    asked |= {
        name.removeprefix("logging.") for name in imports(path) if name.startswith("logging.")
    }
    if module_name(path) != "hakuban._logger":
        ways = {"getLogger", "log", "debug", "info", "warning", "error", "exception", "critical"}
        assert not asked & ways, f"{path.name}: ask hakuban.transport.get_logger instead"


@pytest.mark.parametrize(
    "name",
    [
        "hakuban",
        "hakuban.sockets",
        "hakuban.transport",
        "hakuban.testing",
        "hakuban.sync",
        "hakuban_ws",
        "hakuban_zmq",
    ],
)
def test_what_is_public_is_listed_sorted_and_real(name: str) -> None:
    module = importlib.import_module(name)
    listed: list[str] = module.__all__
    assert listed == sorted(listed)
    assert not [item for item in listed if not hasattr(module, item)]
    own = {
        item
        for item, value in vars(module).items()
        if not item.startswith("_") and getattr(value, "__module__", "") == name
    }
    assert own <= set(listed), f"public but not listed: {own - set(listed)}"


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_is_typed_and_has_the_one_version(name: str) -> None:
    assert (PACKAGES[name] / "py.typed").exists()
    versions = {(folder / "_version.py").read_text() for folder in PACKAGES.values()}
    assert len(versions) == 1


SUPPRESSION = re.compile(r"#\s*(noqa|type:\s*ignore|pragma: no)(?P<rest>.*)$")


def test_suppressions_carry_a_reason_and_are_few() -> None:
    found = []
    for path in SOURCES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = SUPPRESSION.search(line)
            if match:
                found.append(f"{module_name(path)}:{number}")
                reason = match["rest"].partition("#")[2].strip()
                assert reason or " -- " in match["rest"], (
                    f"{found[-1]} gives no reason: {line.strip()}"
                )
    print(f"{len(found)} suppressions: {', '.join(found)}")
    assert len(found) <= MOST_SUPPRESSIONS


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_what_is_public_or_passed_on_is_listed(path: Path) -> None:
    """In a private module the underscore says it: a list there would be a second place to keep up to date."""
    name = module_name(path)
    private = any(part.startswith("_") for part in name.split(".")) and path.name != "__init__.py"
    if private and name not in ("hakuban._exceptions", "hakuban_router.__main__"):
        assert "__all__ = " not in path.read_text()
