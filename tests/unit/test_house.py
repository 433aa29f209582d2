"""The house rules of the design that a machine can check, on every file that git tracks or would track."""

import ast
import functools
import re
import subprocess
from pathlib import Path

import pytest

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
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file, made once for all rules."""
    return ast.parse(path.read_text())


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every function and import of a file."""
    wanted = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom)
    return tuple(node for node in ast.walk(parsed(path)) if isinstance(node, wanted))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_is_over_the_line_budget() -> None:
    long = [f"{shown(p)}: {n}" for p in source_files() if (n := p.read_text().count("\n")) > MAX_FILE_LINES]
    assert not long, f"split by responsibility: {long}"


def test_no_function_is_over_the_line_budget() -> None:
    long = []
    for path in source_files():
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{shown(path)}:{node.lineno} {node.name}: {lines}")
    assert not long, long


def test_every_module_says_what_it_owns() -> None:
    silent = [shown(p) for p in source_files(*PACKAGES) if not ast.get_docstring(parsed(p))]
    assert not silent, f"modules without a docstring: {silent}"


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = [shown(p) for p in source_files() if p.stem in FORBIDDEN_NAMES]
    assert not vague, vague


def test_nothing_is_marked_unfinished() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    found = [
        f"{shown(p)}:{i}"
        for p in source_files(*PACKAGES)
        for i, line in enumerate(p.read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, found


@pytest.mark.parametrize("package", PACKAGES)
def test_siblings_never_import_each_other(package: str) -> None:
    others = {"nodeagent", "cni", "proxy", "controlplane"} - {package}
    wrong = []
    for path in source_files(package):
        if path == ROOT / "nodeagent" / "bundle.py":
            continue
        for node in nodes(path):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            wrong += [f"{shown(path)}:{node.lineno} {name}" for name in names if name.split(".")[0] in others]
    assert not wrong, wrong
