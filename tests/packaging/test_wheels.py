"""What users install: wheels in an environment of their own, without this repository."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from support.processes import Program

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "hakuban_core": "hakuban",
    "hakuban_ws": "hakuban_ws",
    "hakuban_router": "hakuban_router",
}
BINARIES = "Scripts" if sys.platform == "win32" else "bin"
LISTENING = re.compile(r"listening on (\S+)")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pip, in an environment that can build."""
    folder = tmp_path_factory.mktemp("builder")
    run(sys.executable, "-m", "venv", folder)
    pip = folder / BINARIES / "pip"
    done = subprocess.run(
        [pip, "install", "-q", "hatchling"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"NOT RUN: there is no package index: {done.stderr.strip().splitlines()[-1]}")
    return pip


@pytest.fixture(scope="module")
def distributions(pip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheels and source distributions."""
    folder = tmp_path_factory.mktemp("distributions")
    python = pip.with_name("python")
    for name in PACKAGES:
        package = ROOT / "packages" / name.replace("_", "-")
        run(python, "-m", "hatchling", "build", "-d", folder, cwd=package)
    return folder


@pytest.fixture(scope="module")
def installed(pip: Path, distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that has nothing but the wheels, and what they need."""
    folder = tmp_path_factory.mktemp("user")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / BINARIES / "python"
    run(pip, "--python", python, "install", "-q", *distributions.glob("*.whl"))
    return python.parent


@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_holds_the_package_its_types_and_its_licence(
    distributions: Path, name: str
) -> None:
    (path,) = distributions.glob(f"{name}-*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (metadata,) = [item for item in names if item.endswith("dist-info/METADATA")]
        text = wheel.read(metadata).decode()
    sources = ROOT / "packages" / name.replace("_", "-") / "src"
    modules = {path.relative_to(sources).as_posix() for path in sources.rglob("*.py")}
    held = {item for item in names if ".dist-info/" not in item}
    assert held == modules | {f"{PACKAGES[name]}/py.typed"}
    assert any(item.endswith("licenses/LICENSE") for item in names)
    assert "License-Expression: MIT" in text
    assert "Requires-Python: >=3.11" in text
    assert "Description-Content-Type: text/markdown" in text


@pytest.mark.parametrize("name", PACKAGES)
def test_a_source_distribution_can_build_the_same_wheel(
    pip: Path, distributions: Path, name: str, tmp_path: Path
) -> None:
    (path,) = distributions.glob(f"{name}-*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    run(pip.with_name("python"), "-m", "hatchling", "build", "-t", "wheel", cwd=unpacked)
    (again,) = (unpacked / "dist").glob("*.whl")
    assert again.read_bytes() == (distributions / again.name).read_bytes()


def test_the_programs_of_the_readme_run(installed: Path, tmp_path: Path) -> None:
    python, readme = str(installed / "python"), (ROOT / "README.md").read_text()
    programs = dict(
        re.findall(r'^```python title="(\w+)\.py"\n(.*?)^```$', readme, re.MULTILINE | re.DOTALL)
    )
    with Program([str(installed / "hakuban-router"), "--bind", "ws://127.0.0.1:0"]) as router:
        url = router.err.wait(LISTENING)[1].rstrip("/")
        for name, code in programs.items():
            (tmp_path / f"{name}.py").write_text(code.replace("ws://127.0.0.1:3001", url))
        with Program([python, str(tmp_path / "exposer.py")]):
            for name in ("observer", "observer_thread"):
                with Program([python, str(tmp_path / f"{name}.py")]) as observer:
                    observer.out.wait(re.compile("'city': 'Poznań', 'celsius'"))
            with Program(
                [str(installed / "hakuban"), "observe", url, "weather", '{"city": "Poznań"}']
            ) as observer:
                observer.out.wait(re.compile("celsius"))
        assert router.stop() == 0


def test_commands_say_their_version(installed: Path) -> None:
    version = run(installed / "python", "-c", "import hakuban; print(hakuban.__version__)").strip()
    assert version in run(installed / "hakuban-router", "--version")


def test_importing_the_library_loads_no_event_loop_and_no_tls(installed: Path) -> None:
    code = "import sys, json, hakuban, hakuban.transport; print(json.dumps(list(sys.modules)))"
    loaded = set(json.loads(run(installed / "python", "-c", code)))
    assert loaded & {"asyncio", "trio", "uvloop", "ssl", "socket", "hakuban_ws", "wsproto"} == set()


def test_the_wheels_need_what_they_say_and_the_schemes_are_found(installed: Path) -> None:
    code = (
        "import json, importlib.metadata as m;"
        "print(json.dumps([sorted(d.name for d in m.distributions()),"
        " sorted(e.name for e in m.entry_points(group='hakuban.transports'))]))"
    )
    distributions, schemes = json.loads(run(installed / "python", "-c", code))
    assert schemes == ["memory", "ws", "wss"]
    assert "trio" not in distributions
    assert {"hakuban-core", "hakuban-ws", "hakuban-router"} <= set(distributions)
