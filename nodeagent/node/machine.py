"""What the machine is and has, read from the kernel. Facts only; what they mean for pods is `object`'s work."""

import dataclasses
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}
HUGE_PAGES: Final = Path("/sys/kernel/mm/hugepages")
KIB: Final = 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Sizes in bytes; `huge_pages` maps page size to bytes set aside for it."""

    cpus: int
    memory: int
    storage: int
    huge_pages: Mapping[int, int]
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str
    architecture: str
    hostname: str


def read(root: Path) -> Machine:
    """The machine now; `root` is the kubelet's folder, whose file system counts as storage."""
    import psutil  # 10 ms of import that `--help` need not pay

    usage = os.statvfs(existing(root))
    uname = os.uname()
    return Machine(
        cpus=os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        storage=usage.f_blocks * usage.f_frsize,
        huge_pages=huge_pages(),
        machine_id=text("/etc/machine-id"),
        system_uuid=text("/sys/class/dmi/id/product_uuid") or text("/etc/machine-id"),
        boot_id=text("/proc/sys/kernel/random/boot_id"),
        kernel=uname.release,
        os_image=os_image(),
        architecture=ARCHITECTURES.get(platform.machine(), platform.machine()),
        hostname=uname.nodename.lower(),
    )


def pressure(root: Path) -> Mapping[str, float]:
    """Free shares of memory, storage and processes, 0 to 1."""
    import psutil

    memory, usage = psutil.virtual_memory(), os.statvfs(existing(root))
    pids = len(psutil.pids()) / max(1, int(text("/proc/sys/kernel/pid_max") or 1))
    return {
        "memory": memory.available / memory.total,
        "memory_bytes": float(memory.available),
        "storage": usage.f_bavail / max(1, usage.f_blocks),
        "inodes": usage.f_favail / usage.f_files if usage.f_files else 1.0,
        "pids": 1 - pids,
    }


def existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return next(p for p in (path, *path.parents) if p.exists())


def huge_pages() -> dict[int, int]:
    """Bytes set aside per huge page size."""
    found = {}
    for folder in HUGE_PAGES.glob("hugepages-*kB"):
        size = int(folder.name[len("hugepages-") : -2]) * KIB
        found[size] = size * int(text(str(folder / "nr_hugepages")) or 0)
    return found


def os_image() -> str:
    """The name of the distribution."""
    for line in text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"


def text(path: str) -> str:
    """A small file's content, "" if it cannot be read."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
