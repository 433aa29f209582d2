"""Whether this host can carry a lab, found out before anything is made. Changes nothing but loading two kernel modules.

Each check returns what is wrong and what mends it. Must not know the lab's plan.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodeagent.lab import errors

# program -> Debian package
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "pivot_root": "util-linux",
    "busybox": "busybox-static",
    "catatonit": "catatonit",
}
MODULES = ("overlay", "br_netfilter")
NFT_TRIAL = "add table ip trial; add map ip trial m { type ipv4_addr . inet_proto . inet_service : verdict; }"
OVERLAY_MAGIC = "overlay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that stands in the way, and what mends it."""

    what: str
    mend: str


def check(directory: Path) -> None:
    """Raise LabError with every problem found; return when there is none."""
    if os.geteuid() != 0:
        raise errors.LabError("a lab needs root: it makes namespaces and mounts", hint="run the same with sudo")
    checks: Sequence[Callable[[], list[Problem]]] = (
        lambda: missing_programs(shutil.which),
        missing_kernel_parts,
        lambda: unfit_directory(directory),
    )
    problems = [problem for each in checks for problem in each()]
    if problems:
        text = "; ".join(problem.what for problem in problems)
        raise errors.LabError(text, hint="; ".join(dict.fromkeys(problem.mend for problem in problems)))


def missing_programs(which: Callable[[str], str | None]) -> list[Problem]:
    """The programs that are not on PATH, one problem for all of them."""
    missing = [program for program in PROGRAMS if which(program) is None]
    if not missing:
        return []
    packages = sorted({PROGRAMS[program] for program in missing})
    return [
        Problem(
            what=f"not installed: {', '.join(missing)}",
            mend=f"apt-get install --no-install-recommends {' '.join(packages)}",
        )
    ]


def missing_kernel_parts() -> list[Problem]:
    """What the kernel cannot do, tried in a network namespace that is gone at once."""
    load_modules()
    problems = []
    if not any(line.split()[-1] == "overlay" for line in Path("/proc/filesystems").read_text().splitlines()):
        problems.append(Problem(what="the kernel has no overlay file system", mend="modprobe overlay"))
    if not Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        mend = "modprobe br_netfilter"
        problems.append(Problem(what="bridged packets are not filtered (br_netfilter is missing)", mend=mend))
    trials = {
        "bridges": ["ip", "link", "add", "trial", "type", "bridge"],
        "veth links": ["ip", "link", "add", "trial-a", "type", "veth", "peer", "name", "trial-b"],
        "nftables": ["nft", NFT_TRIAL],
    }
    for part, argv in trials.items():
        if (reason := _try_in_namespace(argv)) is not None:
            mend = "use a kernel with it (Debian's has; cloud and container hosts may not)"
            problems.append(Problem(what=f"the kernel has no {part} ({reason})", mend=mend))
    return problems


def load_modules() -> None:
    """Ask for the two modules a node needs; a kernel with them built in, or without modules, says no, which is fine."""
    wanted = [] if Path("/proc/sys/net/bridge").exists() else ["br_netfilter"]
    wanted += [] if "\toverlay\n" in Path("/proc/filesystems").read_text() else ["overlay"]
    for module in wanted:
        if shutil.which("modprobe"):
            subprocess.run(["modprobe", "-q", module], capture_output=True, timeout=20, check=False)


def _try_in_namespace(argv: Sequence[str]) -> str | None:
    if shutil.which(argv[0]) is None or shutil.which("unshare") is None:
        return None  # told by missing_programs
    done = subprocess.run(["unshare", "--net", *argv], capture_output=True, text=True, timeout=20, check=False)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[0]


def unfit_directory(directory: Path) -> list[Problem]:
    """An overlay cannot stand on another overlay, as the inside of a container is."""
    folder = next(path for path in (directory, *directory.parents) if path.is_dir())
    done = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, timeout=10, check=False
    )
    kind = done.stdout.strip()
    if kind.startswith(OVERLAY_MAGIC) or kind in ("nfs", "smb2", "fuseblk"):
        mend = "name a directory on ext4, xfs or tmpfs: --directory /dev/shm/lab"
        return [Problem(what=f"{directory} is on {kind}, which cannot carry the machines", mend=mend)]
    return []
