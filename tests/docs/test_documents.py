"""All code in the documents runs, against a router: exposers in the background, observers until they print a state."""

from __future__ import annotations

import re
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.ports import free_port
from support.processes import Program, RouterProcess

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r'^```python(?: title="(?P<title>[\w.]+)")?\n(?P<code>.*?)^```$', re.MULTILINE | re.DOTALL
)
URL = "ws://127.0.0.1:3001"


def programs(document: Path) -> list[tuple[str, str]]:
    found = BLOCK.finditer(document.read_text())
    return [(match["title"] or f"block{i}.py", match["code"]) for i, match in enumerate(found)]


def start(folder: Path, title: str, code: str, url: str) -> Program:
    program = folder / title
    program.write_text(code.replace(URL, url))
    env = {"PYTHONPATH": str(ROOT / "examples/transport-plugin"), "PYTHONWARNINGS": "error"}
    return Program([sys.executable, str(program)], env)


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if programs(path)], ids=lambda path: path.name
)
def test_every_program_of_a_document_runs(document: Path, tmp_path: Path) -> None:
    started: list[Program] = []
    with RouterProcess() as router, ExitStack() as background:
        for title, code in programs(document):
            program = background.enter_context(start(tmp_path, title, code, router.url))
            started.append(program)
            if title.startswith("observer"):
                assert program.out.next(), f"{title} printed nothing: {program.err.seen}"
            elif not title.startswith("exposer"):
                assert program.wait(30) == 0, f"{title}: {program.out.seen}{program.err.seen}"
        for program in started:
            assert "Traceback" not in "".join(program.err.seen)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("when", ["running", "connecting"])
def test_the_programs_of_the_readme_end_by_ctrl_c_without_a_traceback(
    when: str, tmp_path: Path
) -> None:
    shown = programs(ROOT / "README.md")
    assert [title for title, _ in shown] == ["exposer.py", "observer.py", "observer_thread.py"]
    with RouterProcess() as router, ExitStack() as running:
        url = router.url if when == "running" else f"ws://127.0.0.1:{free_port()}"
        started = [
            running.enter_context(start(tmp_path, title, code, url)) for title, code in shown
        ]
        for program in started:
            if when == "connecting":
                program.err.wait(re.compile("cannot connect"))
            elif program is not started[0]:
                assert program.out.next()  # a state, so the exposer runs too
        for program in started:
            assert program.stop(signal.SIGINT) == 130, program.err.seen
            assert "Traceback" not in "".join(program.err.seen)


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
