"""Mutants of a module: cosmic-ray's operators, statements left out, and `except` that catches nothing."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

if TYPE_CHECKING:
    from collections.abc import Iterator

# One operator for each kind: that `<` becomes `>=` or `is` says no more.
OPERATORS: Final = (
    "AddNot",
    "ReplaceAndWithOr",
    "ReplaceBreakWithContinue",
    "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Not",
    "ZeroIterationForLoop",
)
# What type checkers notice, or is for memory alone: no test of behaviour can.
NOT_MUTATED: Final = (
    "if TYPE_CHECKING:",
    "@dataclass(",
    "@runtime_checkable",
    "@final",
    "T_co = TypeVar(",
    "T_contra = TypeVar(",
)


@dataclass(frozen=True)
class Mutant:
    """A changed module.

    :ivar text: the whole, with as many lines.
    :ivar where: the function in which it differs, as `Class.method`.
    :ivar line: where it differs first, from 1 on.
    :ivar before: that line.
    :ivar after: the same in the mutant.
    :ivar runs_once: whether that line is of a module or class, or of a function's head: it runs when the module is imported.
    """

    text: str
    where: str
    line: int
    before: str
    after: str
    runs_once: bool


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text, or of the names in it: of `_listening_tls` these are "listening" and "tls"."""
    return frozenset(word.lower() for word in re.findall(r"[A-Z]?[a-z]{2,}|[A-Z]{3,}", text))


def mutants_of(source: str) -> Iterator[Mutant]:
    """Make the mutants of a module, none twice."""
    seen = {source}
    names, bodies = _names_by_line(source), _lines_of_bodies(source)
    old = source.splitlines()
    for text in (*_by_operators(source), *_without_statements(source), *_without_handlers(source)):
        if text in seen:
            continue
        seen.add(text)
        new = text.splitlines()
        at = next(at for at, (one, other) in enumerate(zip(old, new, strict=True)) if one != other)
        before, after = old[at].strip(), new[at].strip()
        if not before.startswith(NOT_MUTATED) and _is_python(text):
            line = at + 1
            yield Mutant(text, names.get(line, ""), line, before, after, line not in bodies)


def _is_python(text: str) -> bool:
    try:
        compile(text, "", "exec", dont_inherit=True)
    except SyntaxError:  # as `if not each := ...`
        return False
    return True


def _by_operators(source: str) -> Iterator[str]:
    for name in OPERATORS:
        occurrence = 0
        while (text := mutate_code(source, get_operator(f"core/{name}")(), occurrence)) is not None:
            yield text
            occurrence += 1


def _without_statements(source: str) -> Iterator[str]:
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if not _does_something(node):
            continue
        assert isinstance(node, ast.stmt)
        assert node.end_lineno is not None
        first, last = node.lineno - 1, node.end_lineno
        empty = ["\n"] * (last - first - 1)  # all others keep their lines
        yield "".join([*lines[:first], " " * node.col_offset, "pass\n", *empty, *lines[last:]])


def _without_handlers(source: str) -> Iterator[str]:
    """Let an `except` catch nothing. (cosmic-ray's own operator cannot do it where the name has a dot.)"""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            at, kind = node.type.lineno - 1, node.type
            if kind.end_lineno == kind.lineno:
                text = lines[at].encode()
                changed = text[: kind.col_offset] + b"()" + text[kind.end_col_offset :]
                yield "".join([*lines[:at], changed.decode(), *lines[at + 1 :]])


def _does_something(node: ast.AST) -> bool:
    """Return whether it is a call, a deletion, or a change of an attribute or item."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, (ast.Call, ast.Await))
    if isinstance(node, (ast.Delete, ast.AugAssign)):
        return True
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets)


def _lines_of_bodies(source: str) -> set[int]:
    """Return the lines that run when a function is called."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            lines.update(range(node.body[0].lineno, node.end_lineno + 1))
    return lines


def _names_by_line(source: str) -> dict[int, str]:
    found: dict[int, str] = {}

    def enter(node: ast.AST, outer: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = outer
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = f"{outer}.{child.name}".lstrip(".")
                assert child.end_lineno is not None
                for line in range(child.lineno, child.end_lineno + 1):
                    found[line] = name
            enter(child, name)

    enter(ast.parse(source), "")
    return found
