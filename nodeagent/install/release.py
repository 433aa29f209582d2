"""The program itself under /opt/nodeagent: each release in a virtual environment of its own, one of them current.

A release is built under its own name and counts once its mark is written; what was begun and not finished is thrown
away. Nothing that runs is touched: a switch of the link and a restart make the difference. Standard library only: this
runs with the host's Python, before there is anything else.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from nodeagent.install import layout
from nodeagent.install.errors import InstallError
from nodeagent.install.host import Host

MARK: Final = ".complete"
PACKAGES: Final = ("kube", "nodeagent", "cni", "proxy", "controlplane")
# program -> Debian package; what is there is left alone, whoever brought it (Docker's containerd).
PROGRAMS: Final = {
    "containerd": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "modprobe": "kmod",
}
KEEP: Final = 2
SECONDS: Final = 900.0


def clone() -> Path | None:
    """The clone this runs from; None when it runs from an installed release."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def running() -> Path | None:
    """The release this runs from; None when it runs from anywhere else."""
    prefix = Path(sys.prefix)
    return prefix if prefix.parent == layout.RELEASES else None


def name(root: Path | None, wheels: Path | None) -> str:
    """A release's name: what it is made of, so that the same source is not built twice. Raises InstallError."""
    digest = hashlib.sha256()
    for file in _content(root, wheels):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _content(root: Path | None, wheels: Path | None) -> Iterable[Path]:
    if wheels is not None:
        found = sorted(wheels.glob("*.whl"))
        if not any(each.name.startswith("nodeagent-") for each in found):
            raise InstallError(f"--wheels: {wheels} holds no nodeagent-*.whl; make one with: pip wheel -w {wheels} .")
        return found
    if root is None:
        raise InstallError("this is neither a clone nor an installed release: give --wheels DIR")
    return [root / "pyproject.toml", *(each for package in PACKAGES for each in sorted((root / package).rglob("*.py")))]


def packages(host: Host, *, install: bool) -> None:
    """Bring the programs a node needs; InstallError names what is missing where that cannot be done."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None})
    if not _has_ensurepip():
        missing.append("python3-venv")
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", "--no-remove", *missing]
    if not install or shutil.which("apt-get") is None:
        raise InstallError(f"not installed: {', '.join(missing)}; run: {' '.join(command)}")
    print(f"--  {' '.join(command)}", flush=True)
    try:
        host.run(command, seconds=SECONDS)
    except InstallError:
        host.run(["apt-get", "update"], seconds=SECONDS)
        host.run(command, seconds=SECONDS)


def _has_ensurepip() -> bool:
    done = subprocess.run(
        [sys.executable, "-c", "import ensurepip, venv"], capture_output=True, timeout=30, check=False
    )
    return done.returncode == 0


def build(host: Host, *, root: Path | None, wheels: Path | None) -> Path:
    """The release of this source, built when it is not there yet."""
    target = layout.RELEASES / name(root, wheels)
    if host.read(target / MARK) is not None:
        return target
    print(f"--  building {target}", flush=True)
    host.remove(target)
    try:
        host.run([sys.executable, "-m", "venv", str(target)], seconds=SECONDS)
        pip = [str(target / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        offline = ["--no-index", "--find-links", str(wheels), "nodeagent"]
        host.run([*pip, *(offline if wheels is not None else [str(root)])], seconds=SECONDS)
        host.write(target / MARK, b"", mode=0o644)
    except BaseException:
        host.remove(target)
        raise
    return target


def unused(names: Iterable[tuple[str, float]], *, current: str) -> list[str]:
    """The releases to throw away, of (name, time built): all but the current one and the one before it. PURE."""
    old = sorted((time, each) for each, time in names if each != current)
    return [each for _, each in old[: max(0, len(old) - (KEEP - 1))]]


def tidy(host: Host, *, current: Path) -> None:
    """Throw the oldest releases away."""
    found = [(each.name, each.stat().st_mtime) for each in layout.RELEASES.iterdir() if each.is_dir()]
    for each in unused(found, current=current.name):
        host.remove(layout.RELEASES / each)
