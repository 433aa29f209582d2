"""The host as the installer touches it: files, commands, services. Thin; every decision is elsewhere.

Standard library only. `RealHost` is the one that changes anything; tests have one in memory.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kube.runtime import files
from nodeagent.install.errors import InstallError

SECONDS = 120.0


class Host(Protocol):
    """Reads and changes a host."""

    def read(self, path: Path) -> bytes | None:
        """A file's content; None when there is none."""

    def write(self, path: Path, content: bytes, *, mode: int) -> None:
        """Replace a file as a whole, its folder made when missing."""

    def remove(self, path: Path) -> None:
        """A file, link or folder with all in it; nothing happens when it is not there."""

    def link(self, path: Path, target: Path) -> None:
        """Make `path` a link to `target`, at once."""

    def run(self, argv: Sequence[str], *, check: bool = True, seconds: float = SECONDS) -> str:
        """A command's output; InstallError with its last words when it fails and `check` is set."""


class RealHost:
    """This machine."""

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: Path, content: bytes, *, mode: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            files.replace(path, content, mode)
        except OSError as e:
            raise InstallError(f"{path} cannot be written: {e.strerror}") from e

    def remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def link(self, path: Path, target: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        os.replace(fresh, path)

    def run(self, argv: Sequence[str], *, check: bool = True, seconds: float = SECONDS) -> str:
        program = shutil.which(argv[0], path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
        if program is None:
            if check:
                raise InstallError(f"{argv[0]} is not installed")
            return ""
        try:
            done = subprocess.run(
                [program, *argv[1:]],
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as e:
            raise InstallError(f"{' '.join(argv)} did not end within {seconds:.0f} s") from e
        if check and done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-5:]
            raise InstallError(f"{' '.join(argv)} failed ({done.returncode}): {'; '.join(last) or 'no reason given'}")
        return done.stdout
