"""The disk that test machines boot: what is on it, and making it, once for each plan, in the user's cache folder.

Debian with systemd, a container runtime and the project's dependencies, but nothing of the project itself: that is
handed to each machine when it starts. Must not know qemu.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
PYTHON = "3.11"
"""That of the suite."""
PACKAGES = (
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "procps",
    "qemu-guest-agent",
    "ca-certificates",
    "curl",
    "iproute2",
    "iputils-ping",
    "nftables",
    "conntrack",
    "containerd",
    "runc",
    "busybox-static",
    "catatonit",
    "python3-venv",
)
ENABLED = ("systemd-networkd.service", "systemd-networkd-wait-online.service", "containerd.service")
WHEELS = "/opt/wheels"
VENV = "/opt/nodeagent/venv"
DISK_SIZE = "8G"  # sparse


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that decides what is on the disk."""

    suite: str = SUITE
    mirror: str = MIRROR
    packages: tuple[str, ...] = PACKAGES
    enabled: tuple[str, ...] = ENABLED
    requirements: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Another plan is another disk."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A disk that is there, and the kernel that boots it. The disk is never written: machines have layers over it."""

    disk: Path
    kernel: Path
    initrd: Path


def plan(pyproject: str) -> Plan:
    """The disk for the project as its pyproject.toml says: with what it needs, and what it is built with."""
    found = tomllib.loads(pyproject)
    return Plan(requirements=(*found["build-system"]["requires"], *found["project"]["dependencies"]))


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where disks are kept, after the XDG base directory specification."""
    base = environ.get("XDG_CACHE_HOME", "")
    return Path(base if base.startswith("/") else Path(environ.get("HOME", "/root"), ".cache")) / "nodeagent" / "vm"


def steps(it: Plan, *, root: Path, disk: Path) -> list[tuple[str, list[str]]]:
    """What is run to make the disk, each with what to say meanwhile. `root` is an empty folder."""
    wheels, inside = str(root) + WHEELS, ["chroot", str(root)]
    include = "--include=" + ",".join(it.packages)
    downloads = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--only-binary=:all:"]
    platforms = [f"--platform=manylinux{version}_x86_64" for version in ("2014", "_2_17", "_2_28", "_2_34", "_2_36")]
    pip = [VENV + "/bin/pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--find-links", WHEELS]
    return [
        (
            f"Debian {it.suite} by debootstrap",
            ["debootstrap", "--variant=minbase", include, it.suite, str(root), it.mirror],
        ),
        ("wheels", [*downloads, "--python-version", PYTHON, *platforms, "-d", wheels, *it.requirements]),
        ("virtual environment", [*inside, "python3", "-m", "venv", VENV]),
        ("dependencies", [*inside, *pip, *it.requirements]),
        ("services", [*inside, "systemctl", "enable", *it.enabled]),
        ("file system", ["mkfs.ext4", "-q", "-F", "-d", str(root), str(disk), DISK_SIZE]),
    ]


def ensure(it: Plan, cache: Path, *, say: Callable[[str], None]) -> Image:
    """The image of this plan; made now if it is not in the cache. CalledProcessError when a step fails."""
    folder = cache / it.key
    image = Image(disk=folder / "disk.raw", kernel=folder / "vmlinuz", initrd=folder / "initrd.img")
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as name:
            making = Path(name)
            _make(it, making, say=say)
            (making / "done").rename(folder)
    return image


def _make(it: Plan, making: Path, *, say: Callable[[str], None]) -> None:
    root, done = making / "root", making / "done"
    done.mkdir()
    log = making.parent / "build.log"
    for text, argv in steps(it, root=root, disk=done / "disk.raw"):
        start = time.monotonic()
        if argv[0] == "mkfs.ext4":
            _finish(root, done)
        _run(argv, log)
        say(f"image: {text} ({time.monotonic() - start:.0f} s)")


def _finish(root: Path, done: Path) -> None:
    """No password, no identity of its own; kernel and initrd beside the disk."""
    (root / "etc/machine-id").write_text("")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(next((root / "boot").glob(f"{name}-*")), done / name)
    for path in (root / "var/cache/apt/archives").glob("*.deb"):
        path.unlink()


def _run(argv: Sequence[str], log: Path) -> None:
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    with log.open("ab") as out:
        done = subprocess.run(argv, stdout=out, stderr=out, env=environ, check=False)
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise RuntimeError(f"{argv[0]} failed with exit code {done.returncode}; the end of {log}:\n{tail}")
