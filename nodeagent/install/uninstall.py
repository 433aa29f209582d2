"""`nodeagent uninstall`: everything of ours goes, what others made stays. Safe to run twice, and after half an install.

Services first, then pods, then what they left in the kernel, then files; the program itself goes last.
"""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from nodeagent import errors
from nodeagent.install import layout
from nodeagent.install.errors import InstallError
from nodeagent.install.host import Host, RealHost

UNITS: Final = (layout.DNS_UNIT, layout.AGENT_UNIT, layout.SERVER_UNIT)
SOCKET: Final = "unix:///run/containerd/containerd.sock"
DROP_IN: Final = layout.UNITS / f"{layout.CONTAINERD_UNIT}.d" / "90-nodeagent.conf"
HOST_FILES: Final = (layout.MODULES, layout.SYSCTLS, layout.NETWORKD, layout.NETWORK_MANAGER)
FOLDERS: Final = (
    layout.STATE,
    layout.KUBELET,
    Path("/run/nodeagent"),
    Path("/var/lib/cni/networks"),
    Path("/var/log/pods"),
    Path("/var/log/containers"),
    layout.CNI_PLUGIN,
    layout.CNI_CONFIG,
)
# Shared with others: gone only when nothing is left in them.
EMPTY: Final = tuple(
    Path(each)
    for each in ("/var/lib/cni/results", "/var/lib/cni", "/etc/cni/net.d", "/etc/cni", "/opt/cni/bin", "/opt/cni")
)
LOOPBACK: Final = layout.CNI_PLUGIN.parent / "loopback"
CGROUPS: Final = ("kubepods", "kubepods.slice")


def run(options: argparse.Namespace) -> int:
    """The command; 0 also when there was nothing."""
    if os.geteuid() != 0:
        raise InstallError("uninstalling needs root: run the same with sudo")
    remove(RealHost(), whole=True)
    print("--  nodeagent is gone; packages it brought (containerd, nftables, ...) stay: others may use them by now")
    return 0


def remove(host: Host, *, whole: bool) -> None:
    """Take everything away. Not `whole`: only what an install wrote that is to be tried again; the program stays."""
    for unit in UNITS:
        host.run(["systemctl", "disable", "--now", unit], check=False)
    if host.read(layout.RECORD) is not None:
        asyncio.run(_end_pods())
        # The running interpreter, since the link to the current release may be gone already.
        for command in (["proxy", "cleanup"], ["cni", "cleanup"]):
            host.run([sys.executable, "-m", "nodeagent", *command], check=False)
    _unmount(host, mounts_below(layout.KUBELET, _mounts(host)))
    for path in (*(layout.UNITS / unit for unit in UNITS), *HOST_FILES):
        host.remove(path)
    _restore_containerd(host)
    host.run(["systemctl", "daemon-reload"], check=False)
    # The agent wrote this one with the same text as its own plugin; another's of that name stays.
    if host.read(LOOPBACK) is not None and host.read(LOOPBACK) == host.read(layout.CNI_PLUGIN):
        host.remove(LOOPBACK)
    written = [*layout.ETC.glob("00-*.yaml"), layout.CA, layout.KUBECONFIG, layout.ADMIN]
    for path in (*(written if not whole else [layout.ETC, layout.COMMAND, layout.OPT]), *FOLDERS):
        host.remove(path)
    _remove_empty(EMPTY)
    _remove_cgroups()


def _restore_containerd(host: Host) -> None:
    if host.read(DROP_IN) is None and host.read(layout.CONTAINERD_OURS) is None:
        return
    host.remove(DROP_IN)
    host.remove(layout.CONTAINERD_OURS)
    with contextlib.suppress(OSError):
        DROP_IN.parent.rmdir()
    host.run(["systemctl", "daemon-reload"], check=False)
    host.run(["systemctl", "try-restart", layout.CONTAINERD_UNIT], check=False)


async def _end_pods() -> None:
    """Every sandbox of this containerd's Kubernetes namespace, with its containers; logs go with them."""
    from nodeagent.cri.client import GrpcRuntime  # a clone on a bare host, where nothing runs, does without

    runtime = GrpcRuntime(SOCKET)
    try:
        async with asyncio.timeout(120):
            for sandbox in await runtime.sandboxes.list():
                with contextlib.suppress(errors.RuntimeFault):
                    await runtime.sandboxes.stop(sandbox.id)
                    await runtime.sandboxes.remove(sandbox.id)
    except (errors.RuntimeFault, TimeoutError) as e:
        print(f"--  pods are not all gone: {e or 'they take too long'}", file=sys.stderr)
    finally:
        await runtime.close()


def _mounts(host: Host) -> list[str]:
    text = (host.read(Path("/proc/self/mounts")) or b"").decode()
    return [line.split()[1].replace("\\040", " ") for line in text.splitlines()]


def mounts_below(folder: Path, mounts: Iterable[str]) -> list[str]:
    """Mount points in a folder, the deepest first. PURE."""
    return sorted((each for each in mounts if each.startswith(f"{folder}/")), key=len, reverse=True)


def _unmount(host: Host, mounts: Sequence[str]) -> None:
    for each in mounts:
        host.run(["umount", "--lazy", each], check=False)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _remove_cgroups() -> None:
    """The pods' groups, from the leaves up; one that is in use stays."""
    for root in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")):
        for name in CGROUPS:
            for folder, _, _ in os.walk(root / name, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
