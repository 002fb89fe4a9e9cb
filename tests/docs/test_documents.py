"""All code in the documents runs, against a router: exposers in the background, observers until they print a state."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import RouterProcess

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r'^```python(?: title="(?P<title>[\w.]+)")?\n(?P<code>.*?)^```$', re.MULTILINE | re.DOTALL
)
URL = "ws://127.0.0.1:3001"


def programs(document: Path) -> list[tuple[str, str]]:
    found = BLOCK.finditer(document.read_text())
    return [(match["title"] or f"block{i}.py", match["code"]) for i, match in enumerate(found)]


def start(folder: Path, title: str, code: str, url: str) -> subprocess.Popen[str]:
    program = folder / title
    program.write_text(code.replace(URL, url))
    env = os.environ | {
        "PYTHONPATH": str(ROOT / "examples/transport-plugin"),
        "PYTHONWARNINGS": "error",
    }
    return subprocess.Popen(
        [sys.executable, program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if programs(path)], ids=lambda path: path.name
)
def test_every_program_of_a_document_runs(document: Path, tmp_path: Path) -> None:
    background: list[subprocess.Popen[str]] = []
    with RouterProcess() as router:
        for title, code in programs(document):
            process = start(tmp_path, title, code, router.url)
            if title.startswith("exposer"):
                background.append(process)
                continue
            if title.startswith("observer"):
                assert process.stdout is not None
                assert process.stdout.readline(), f"{title} printed nothing"
                background.append(process)
                continue
            out, err = process.communicate(timeout=30)
            assert process.returncode == 0, f"{title}: {out}{err}"
        for process in background:
            process.terminate()
            _, err = process.communicate(timeout=10)
            assert "Traceback" not in err.replace("KeyboardInterrupt", ""), err


def test_every_block_of_code_is_one_that_this_test_runs() -> None:
    for document in DOCUMENTS:
        fences = re.findall(r"^```(\w+)", document.read_text(), re.MULTILINE)
        assert set(fences) <= {"python", "toml", "text"}, f"{document.name}: {fences}"
        assert fences.count("python") == len(programs(document)), document.name


def test_the_transport_of_the_document_is_the_one_in_the_examples() -> None:
    (shown,) = (
        code for title, code in programs(ROOT / "docs/transports.md") if title == "hakuban_tcp.py"
    )
    assert shown == (ROOT / "examples/transport-plugin/hakuban_tcp.py").read_text()
