"""The pytest plugin as a user has it: the README's section word for word, in a folder of their own, by the wheel."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
pytestmark = [pytest.mark.usefixtures("programs"), pytest.mark.timeout(600)]


def blocks(page: Path, heading: str) -> list[str]:
    """The code of one section of a page."""
    section = page.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [found[2] for found in BLOCK.finditer(section)]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A user's folder. What pip would fetch for them (dependencies, pytest) is what this run already has."""
    shims = tmp_path / "shims"
    shims.mkdir()
    packages = sysconfig.get_path("purelib")
    there = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/fetched.pth"
    (shims / "python3").write_text(
        f'#!/bin/sh\nset -e\n{sys._base_executable} "$@"\necho {packages} > "$3/{there}"\n'  # type: ignore[attr-defined]
    )
    (shims / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    for shim in shims.iterdir():
        shim.chmod(0o755)
    (tmp_path / "repository").mkdir()
    (tmp_path / "nodeagent").symlink_to(ROOT)
    return tmp_path / "repository"


def run(folder: Path, script: str) -> "subprocess.CompletedProcess[str]":
    path = f"{folder.parent / 'shims'}:{os.environ['PATH']}"
    keep = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HOME", "TMPDIR"))}
    env = {**keep, "PATH": path, "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    argv = ["sh", "-e", "-c", script]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=500, check=False)


def test_the_readme_section_on_tests_works_word_for_word_from_the_built_wheel(elsewhere: Path) -> None:
    test, commands = blocks(ROOT / "README.md", "Test your own networking")
    (elsewhere / "test_web.py").write_text(test)
    assert len(test.strip().splitlines()) <= 10
    done = run(elsewhere, commands)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    installed = next((elsewhere / ".venv").glob("lib/*/site-packages/nodeagent/lab/plugin.py"))
    assert not installed.is_symlink()
    assert not list((elsewhere / ".venv").glob("lib/*/site-packages/tests"))
