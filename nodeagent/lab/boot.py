"""How a machine of the lab comes to stand: its cgroups, its file system and its network, from inside its namespaces.

Runs in the machine's first process, before any service. Standard library only. Must not know the lab: all it is told is
the boot document (see `plan.boot_spec`).
"""

import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 2, 4, 8, 4096, 16384, 1 << 18, 1 << 20
MNT_DETACH = 2
OLD_ROOT = "/run/old-root"
LINK_DEADLINE_SECONDS = 20.0
_libc = ctypes.CDLL(None, use_errno=True)


def boot(spec: Mapping[str, Any]) -> None:
    """Do all of it, in the one order that works. Raises OSError with the step that failed in its text."""
    join_cgroups(spec["cgroups"])
    set_hostname(spec["hostname"])
    change_root(spec["overlay"], binds=spec["binds"])
    for interface in spec["network"]["interfaces"]:
        wait_for_link(interface)
    write_sysctls(spec["sysctls"])
    configure_network(spec["network"]["lines"])


def join_cgroups(folders: Sequence[str]) -> None:
    """Enter the machine's own cgroup in every hierarchy, so that whatever it starts can be found and ended by it."""
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
        pass_controllers_down(Path(folder))
        (Path(folder) / "cgroup.procs").write_text("0\n")  # 0: the process that writes


def pass_controllers_down(folder: Path, root: Path = Path("/sys/fs/cgroup")) -> None:
    """Under cgroup v2 a group has only the controllers its parent passes on: pass all; the root is the host's own.

    Under v1 there is nothing to pass.
    """
    above = [parent for parent in reversed(folder.parents) if root in parent.parents]
    for parent in above:
        if (parent / "cgroup.subtree_control").exists():
            names = (parent / "cgroup.controllers").read_text().split()
            (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))


def set_hostname(name: str) -> None:
    """Name the machine, in the kernel and in the files that programs ask."""
    socket.sethostname(name)


def change_root(overlay: Mapping[str, str], *, binds: Sequence[Sequence[str]]) -> None:
    """Make an overlay of the host's root this process's root, with the machine's own folders and file systems in it."""
    root = overlay["root"]
    layers = f"lowerdir={overlay['lower']},upperdir={overlay['upper']},workdir={overlay['work']}"
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("overlay", root, "overlay", 0, layers)
    mount("proc", root + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("/dev", root + "/dev", "", MS_BIND | MS_REC)
    mount("tmpfs", root + "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV)
    mount("tmpfs", root + "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    mount("tmpfs", root + "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("sysfs", root + "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("/sys/fs/cgroup", root + "/sys/fs/cgroup", "", MS_BIND | MS_REC)
    for source, target in binds:
        os.makedirs(root + target, exist_ok=True)
        mount(source, root + target, "", MS_BIND)
    pivot(root)
    # Mounts made in a container's mount namespace must be seen here and the other way round, as on a real machine.
    mount("none", "/", "", MS_REC | MS_SHARED)


def pivot(root: str) -> None:
    """Swap the root for `root` and let go of the old one."""
    os.mkdir(root + OLD_ROOT)
    os.chdir(root)
    subprocess.run(["pivot_root", ".", OLD_ROOT.lstrip("/")], check=True, timeout=10)
    os.chdir("/")
    if _libc.umount2(OLD_ROOT.encode(), MNT_DETACH) != 0:
        raise _failure("umount", OLD_ROOT)
    os.rmdir(OLD_ROOT)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2). Raises OSError naming the target."""
    arguments = [text.encode() for text in (source, target, kind)]
    if _libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None) != 0:
        raise _failure(f"mount {kind or source} on", target)


def _failure(step: str, target: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{step} {target}: {os.strerror(number)}")


def wait_for_link(interface: str) -> None:
    """Return once the lab has plugged the cable in."""
    deadline = time.monotonic() + LINK_DEADLINE_SECONDS
    while not Path("/sys/class/net", interface).exists():
        if time.monotonic() > deadline:
            raise OSError(f"no link {interface} after {LINK_DEADLINE_SECONDS:.0f} s")
        time.sleep(0.005)


def write_sysctls(values: Mapping[str, str]) -> None:
    """Set each kernel value of this network namespace that the kernel has."""
    for name, value in values.items():
        path = Path("/proc/sys", name)
        if path.exists():
            path.write_text(value)


def configure_network(lines: Sequence[str]) -> None:
    """Run these `ip -batch` lines, which bring the links up with addresses and routes."""
    done = subprocess.run(
        ["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, capture_output=True, timeout=10, check=False
    )
    if done.returncode != 0:
        raise OSError(f"network of the machine: {done.stderr.strip()}")
