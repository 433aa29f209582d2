"""The house rules of the design that a machine can check, on every file that git tracks or would track."""

import ast
import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kube", "nodeagent", "cni", "proxy", "controlplane")
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager"}


@functools.cache
def source_files(*folders: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return [ROOT / name for name in listed if name.endswith(".py") and "_pb2" not in name and (ROOT / name).exists()]


@functools.cache
def text(path: Path) -> str:
    return path.read_text()


def functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function below these statements. Expressions hold none that is long, and are not looked into."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from functions(getattr(statement, part, []))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_is_over_the_line_budget() -> None:
    long = [f"{shown(p)}: {n}" for p in source_files() if (n := text(p).count("\n")) > MAX_FILE_LINES]
    assert not long, f"split by responsibility: {long}"


def test_no_function_is_over_the_line_budget() -> None:
    long = []
    for path in source_files():
        if text(path).count("\n") <= MAX_FUNCTION_LINES:
            continue
        for node in functions(ast.parse(text(path)).body):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                long.append(f"{shown(path)}:{node.lineno} {node.name}: {lines}")
    assert not long, long


def test_every_module_says_what_it_owns() -> None:
    silent = [shown(p) for p in source_files(*PACKAGES) if not text(p).lstrip().startswith(('"""', 'r"""'))]
    assert not silent, f"modules without a docstring: {silent}"


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = [shown(p) for p in source_files() if p.stem in FORBIDDEN_NAMES]
    assert not vague, vague


def test_nothing_is_marked_unfinished() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    found = [
        f"{shown(p)}:{i}"
        for p in source_files(*PACKAGES)
        for i, line in enumerate(text(p).splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, found
