"""How nodes are called that nobody has named, and what `print` shows of nodes and links."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

import hakuban
from hakuban import LocalNode, ObjectDescriptor
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = "import hakuban\nnode = hakuban.LocalNode()\nprint(node.name, node.name, hakuban.LocalNode().name)\n"


def names(*arguments: str, folder: Path, stdin: str | None = None) -> tuple[str, str, str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=folder,
        env=os.environ | {"PYTHONUTF8": "1"},
        timeout=20,
        check=True,
    )
    first, again, other = done.stdout.split(" ")
    return first, again, other.strip()


# ---- names ----------------------------------------------------------------------------------------------------------


def write(folder: Path) -> None:
    (folder / "pkg" / "sub").mkdir(parents=True)
    for name in ("oven.py", "oven.old.py", "héizung.py", "pkg/__main__.py", "pkg/sub/tool.py"):
        (folder / name).write_text(PROGRAM)
    (folder / "app").mkdir()
    (folder / "app" / "__main__.py").write_text(PROGRAM)


@pytest.mark.parametrize(
    ("arguments", "stdin", "program"),
    [
        (["oven.py"], None, "oven"),
        (["./oven.old.py", "--argument"], None, "oven.old"),
        (["héizung.py"], None, "héizung"),
        (["-m", "oven"], None, "oven"),
        (["-m", "pkg"], None, "pkg"),
        (["-m", "pkg.sub.tool"], None, "pkg.sub.tool"),
        (["app/"], None, "app"),
        (["-c", PROGRAM], None, "python"),
        (["-"], PROGRAM, "python"),
        ([], PROGRAM, "python"),
    ],
    ids=lambda value: " ".join(value)[:16] if isinstance(value, list) else None,
)
def test_a_node_is_called_after_its_program(
    arguments: list[str], stdin: str | None, program: str, tmp_path: Path
) -> None:
    write(tmp_path)
    first, again, other = names(*arguments, folder=tmp_path, stdin=stdin)
    assert re.fullmatch(f"{re.escape(program)}-[0-9a-f]{{4}}", first)
    assert first == again
    assert other.rpartition("-")[0] == program


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("/usr/bin/\x1b[31mred\n.py", r"\x1b[31mred\n"),
        ("/usr/bin/caf\udce9.py", "caf?"),
        ("/usr/bin/" + "\x00é" * 5_000, None),
        ("hakuban-router.exe", "hakuban-router"),
        ("", "python"),
        (".py", "python"),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_a_strange_file_name_makes_a_name_that_peers_take(
    script: str, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [script])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    node = LocalNode()
    assert node.name.isprintable()
    assert len(node.name.encode()) <= 1_024
    assert name is None or node.name.rpartition("-")[0] == name
    assert LocalNode(node.name).name == node.name, "it would do as an argument"
    with (
        hakuban.sync.listen(node, "memory://") as listener,
        hakuban.sync.connect(LocalNode(), listener.url) as connection,
    ):
        assert connection.remote_name == node.name


def test_without_arguments_a_node_is_called_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert re.fullmatch("python-[0-9a-f]{4}", LocalNode().name)


def test_nodes_of_one_program_are_told_apart() -> None:
    assert len({LocalNode().name for _ in range(20)}) > 1
    assert repr(LocalNode("oven")) == "<LocalNode oven>"


# ---- print ----------------------------------------------------------------------------------------------------------


async def test_printing_a_node_shows_its_links_and_counts() -> None:
    lab, oven = LocalNode("lab"), LocalNode("oven")
    assert str(lab) == "node lab: 0 contracts, 0 objects, 0 links"
    async with lab.listen("memory://") as listener, oven.connect(listener.url) as connection:
        await until(lambda: listener.peers)
        address = listener.peers[0].address
        with oven.object(ObjectDescriptor(["t"], 1)).observe(), oven.tag("t").expose():
            assert str(oven).splitlines() == [
                "node oven: 2 contracts, 1 object, 1 link",
                f"  above: lab at {listener.url} (memory), up",
            ]
        assert str(lab).splitlines()[1:] == [f"  below: oven at {address} (memory), up"]
        assert str(connection) == f"connection to {listener.url}: up, lab at {listener.url}"
        assert str(listener).splitlines() == [
            f"listener on {listener.url}: 1 link",
            f"  below: oven at {address} (memory), up",
        ]
    assert str(connection).startswith(f"connection to {listener.url}: closed")
    assert str(listener) == f"listener on {listener.url}: 0 links"


async def test_printing_a_node_shows_where_it_would_be_connected() -> None:
    oven = LocalNode("oven")
    async with oven.connect("memory://ali:sesame@nobody?sesame", wait=False) as connection:
        await until(lambda: connection.last_error)
        assert "  above: memory://...@nobody?..., down" in str(oven)
        assert re.fullmatch(
            r"connection to memory://\.\.\.@nobody\?\.\.\.: down: .*nobody listens.*",
            str(connection),
        )
        assert "sesame" not in f"{oven} {connection} {oven!r} {connection!r}"
    assert "above" not in str(oven)


async def test_a_thousand_links_are_not_all_printed() -> None:
    lab = LocalNode("lab")
    async with lab.listen("memory://") as listener:
        async with anyio.create_task_group() as group:
            come = anyio.Event()

            async def leaf() -> None:
                async with LocalNode("leaf").connect(listener.url):
                    await come.wait()

            for _ in range(30):
                group.start_soon(leaf)
            await until(lambda: len(listener.peers) == 30)
            for shown in (str(lab), str(listener)):
                assert "30 links" in shown.splitlines()[0]
                assert len(shown.splitlines()) == 22
                assert shown.endswith("  and 10 more")
            come.set()


def test_a_closed_and_a_broken_node_are_printed_too() -> None:
    node = LocalNode("oven")
    node.close()
    assert str(node) == "node oven (closed): 0 contracts, 0 objects, 0 links"
    broken = LocalNode("oven")
    with pytest.raises(ZeroDivisionError):
        broken._engine.call(lambda _machine, _now: 1 / 0)
    assert str(broken).startswith("node oven (broken: ZeroDivisionError: division by zero): ")
    assert repr(broken) == "<LocalNode oven>"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_node_of_the_parent_process_is_printed_too() -> None:
    program = """
import os, hakuban
node = hakuban.LocalNode("oven")
with hakuban.sync.listen(node, "memory://x") as listener, hakuban.sync.connect(hakuban.LocalNode(), "memory://x") as link:
    if os.fork() == 0:
        print(node, listener, repr(node), repr(listener), repr(link), sep=";", flush=True)
        print(link)
        os._exit(0)
    os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-Wignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith(
        "node oven (of the parent process): 0 contracts, 0 objects, 0 links;listener on memory://x: 0 links;"
    )
    assert second.startswith("connection to memory://x: up, oven at memory://x")
