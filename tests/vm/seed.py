"""What each machine is handed when it starts, as one tar archive: the project as a clone and a wheel, images, its name.

The rest is the installer's. Must not know qemu.
"""

import io
import ipaddress
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Literal

from vm import image

from nodeagent.lab import images

CLONE = "/opt/src"
IMAGES = "/opt/images.tar"
LAN = ipaddress.IPv4Network("192.168.56.0/24")
"""A range that VirtualBox allows for private networks."""
PACKAGES = ("kube", "nodeagent", "cni", "proxy", "controlplane")
BUILD = (
    "import pathlib, sys; from nodeagent.install import host, release; "
    "release.build(host.RealHost(), root=None, wheels=pathlib.Path(sys.argv[1]))"
)
Driver = Literal["cgroupfs", "systemd"]


def name(number: int) -> str:
    """Of the machine with this number, from 0."""
    return f"node-{number + 1}"


def address(number: int) -> str:
    """On the second link, which joins the machines."""
    return str(LAN[10 + number])


def files(number: int) -> dict[str, str]:
    """Path -> content: what a person sets on a fresh host."""
    return {
        "/etc/hostname": f"{name(number)}\n",
        "/etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {name(number)}\n",
        "/etc/systemd/network/10-nat.network": "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n",
        "/etc/systemd/network/20-lan.network": (
            f"[Match]\nName=eth1\n[Network]\nAddress={address(number)}/{LAN.prefixlen}\n"
        ),
    }


def install(number: int, *, driver: Driver, token: str = "") -> list[str]:
    """The installer's command line: the first machine is the server, the others join it."""
    role = ["agent", "--server", f"https://{address(0)}:6443", "--token", token]
    if number == 0:
        role = ["server", "--extra-san", "127.0.0.1"]
    offline = ["--wheels", image.WHEELS, "--no-packages", "--keep", "--sandbox-image", images.PAUSE]
    return ["python3", "-m", "nodeagent", "install", *role, *offline, "--cgroup-driver", driver]


def wheel(folder: Path) -> Path:
    """The project's wheel, made now."""
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "-w", str(folder)]
    subprocess.run([*pip, str(image.ROOT)], check=True, timeout=300)
    return next(folder.glob("nodeagent-*.whl"))


def release(root: Path, made: Path) -> Path:
    """The folder of releases with this wheel's in it, as the installer builds it: here and not in the machine, since
    an emulated processor takes minutes to compile it. `root` is what is on the image's disk."""
    opt, clone = root / "opt/nodeagent", root / CLONE.strip("/")
    for folder in (opt, clone):
        shutil.rmtree(folder, ignore_errors=True)
    for old in (root / image.WHEELS.strip("/")).glob("nodeagent-*.whl"):
        old.unlink()
    shutil.copy(made, root / image.WHEELS.strip("/"))
    for package in PACKAGES:
        shutil.copytree(image.ROOT / package, clone / package)
    words = ["chroot", str(root), "sh", "-c", f"cd {CLONE} && PYTHONPATH=. python3 -c '{BUILD}' {image.WHEELS}"]
    subprocess.run(words, check=True, timeout=600, stdout=subprocess.DEVNULL)
    return opt / "releases"


def write(folder: Path, *, machines: int, root: Path) -> list[Path]:
    """The archives, one for each machine."""
    made, archive = wheel(folder), images.build(folder / "images")[0]
    releases = release(root, made)
    found = []
    for number in range(machines):
        found.append(folder / f"{name(number)}.tar")
        with tarfile.open(found[-1], "w") as tar:
            for path, text in files(number).items():
                entry = tarfile.TarInfo(path)
                entry.size = len(text)
                tar.addfile(entry, io.BytesIO(text.encode()))
            tar.add(releases, "/opt/nodeagent/releases", filter=_roots)
            tar.add(made, f"{image.WHEELS}/{made.name}", filter=_roots)
            tar.add(archive, IMAGES, filter=_roots)
            for package in PACKAGES:
                tar.add(image.ROOT / package, f"{CLONE}/{package}", filter=_clone)
    return found


def _clone(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else _roots(entry)


def _roots(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
