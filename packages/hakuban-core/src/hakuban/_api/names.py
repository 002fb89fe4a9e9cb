"""How a node is called that was given no name."""

from __future__ import annotations

import sys
from pathlib import PurePath
from typing import Final

from .._text import printable

LONGEST: Final = 100  # characters of the program's name: far less than peers accept, even if each takes four bytes


def default_name(id: str) -> str:
    """Return the program's name with four digits of the id: a log shows which is which, and no path or host.

    :param id: the node's, in hexadecimal digits.
    """
    return f"{_program()[:LONGEST]}-{id[:4]}"


def _program() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    module = str(getattr(spec, "name", None) or "").removesuffix(".__main__")
    # set by `python -m module`; "__main__" for a folder or an archive
    if module not in ("", "__main__"):
        return _clean(module)
    # "-c", "-" for what comes by stdin, nothing where people type
    script = str(sys.argv[0]) if getattr(sys, "argv", None) else ""
    name = PurePath(script).name.removesuffix(".py").removesuffix(".exe")
    return _clean(name) if name and not name.startswith("-") else "python"


def _clean(name: str) -> str:
    # a file name that is no Unicode has lone surrogates, which no peer can read
    return printable(name.encode("utf-8", "replace").decode())
