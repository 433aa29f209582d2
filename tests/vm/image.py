"""The disk that test machines boot: what is on it, and making it, once for each plan, in the user's cache folder.

Debian with systemd, a container runtime and the wheels of the project's dependencies. The project itself is handed to
each machine when it starts. Must not know qemu.
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
    """A disk that is there, and the kernel that boots it. The disk is never written: machines have layers over it.
    `root` is the folder it was made of."""

    root: Path
    disk: Path
    kernel: Path
    initrd: Path


def plan(pyproject: str) -> Plan:
    """The disk for the project as its pyproject.toml says: with the wheels it needs."""
    return Plan(requirements=tuple(tomllib.loads(pyproject)["project"]["dependencies"]))


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
    return [
        (
            f"Debian {it.suite} by debootstrap",
            ["debootstrap", "--variant=minbase", include, it.suite, str(root), it.mirror],
        ),
        ("wheels", [*downloads, "--python-version", PYTHON, *platforms, "-d", wheels, *it.requirements]),
        ("services", [*inside, "systemctl", "enable", *it.enabled]),
        ("file system", ["mkfs.ext4", "-q", "-F", "-d", str(root), str(disk), DISK_SIZE]),
    ]


def ensure(it: Plan, cache: Path, *, say: Callable[[str], None]) -> Image:
    """The image of this plan; made now if it is not in the cache. CalledProcessError when a step fails."""
    folder = cache / it.key
    image = Image(
        root=folder / "root", disk=folder / "disk.raw", kernel=folder / "vmlinuz", initrd=folder / "initrd.img"
    )
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as name:
            _make(it, Path(name, "done"), log=cache / "build.log", say=say)
            Path(name, "done").rename(folder)
    return image


def _make(it: Plan, folder: Path, *, log: Path, say: Callable[[str], None]) -> None:
    folder.mkdir()
    log.unlink(missing_ok=True)
    for text, argv in steps(it, root=folder / "root", disk=folder / "disk.raw"):
        start = time.monotonic()
        if argv[0] == "mkfs.ext4":
            _finish(folder / "root", folder)
        _run(argv, log)
        say(f"image: {text} ({time.monotonic() - start:.0f} s)")


def _finish(root: Path, done: Path) -> None:
    """No password, no identity of its own; kernel and initrd beside the disk."""
    (root / "etc/machine-id").write_text("")
    (root / "var/lib/dbus/machine-id").unlink(missing_ok=True)  # the first boot would make it everybody's
    (root / "etc/resolv.conf").write_text("nameserver 10.0.2.3\n")
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
