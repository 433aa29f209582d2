"""What the plan depends on, read from this host. Facts only."""

import os
import re
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from kube.runtime import route
from nodeagent.install import layout
from nodeagent.install.errors import InstallError
from nodeagent.install.host import Host
from nodeagent.install.plan import Facts

CAP_SYS_RESOURCE: Final = 24
ANYWHERE: Final = "192.0.2.1"  # never used as an address: packets to it take the default route
RESOLVED: Final = Path("/run/systemd/resolve/resolv.conf")
STUB: Final = "127.0.0.53"


def facts(host: Host) -> Facts:
    """Everything; InstallError for a host that cannot be a node."""
    if not Path("/run/systemd/system").is_dir():
        raise InstallError("systemd does not run here: the installer needs it (a lab does not: ./dev up)")
    program = shutil.which("containerd")
    if program is None:
        raise InstallError("containerd is not installed; run: apt-get install --no-install-recommends containerd")
    version = containerd_version(host.run([program, "--version"]))
    if version < (1, 6):
        raise InstallError(f"containerd {version[0]}.{version[1]} is too old: 1.6 or later is needed")
    return Facts(
        containerd=program,
        containerd_version=version,
        containerd_config=containerd_config(host),
        systemd_cgroup=systemd_cgroup(),
        restrict_oom_score=lacks_sys_resource((host.read(Path("/proc/self/status")) or b"").decode()),
        resolv_conf=resolv_conf(host),
        networkd=_runs(host, "systemd-networkd"),
        network_manager=_runs(host, "NetworkManager"),
    )


def containerd_version(text: str) -> tuple[int, int]:
    """Major and minor from `containerd --version`."""
    found = re.search(r"\bv?(\d+)\.(\d+)\.\d+", text)
    if found is None:
        raise InstallError(f"containerd does not say its version: {text.strip()!r}")
    return int(found[1]), int(found[2])


def containerd_config(host: Host) -> Mapping[str, Any]:
    """The host's own configuration of containerd; InstallError where it cannot be read."""
    try:
        return tomllib.loads((host.read(layout.CONTAINERD_MAIN) or b"").decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InstallError(f"{layout.CONTAINERD_MAIN}: not TOML: {e}") from e


def systemd_cgroup() -> bool:
    """Whether containers go through systemd: on cgroup v2 it owns the tree. Under v1 we keep containerd's default."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def lacks_sys_resource(status: str) -> bool:
    """Whether root here may not lower oom scores (in a container), from the text of /proc/self/status."""
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(effective and not int(effective[1], 16) >> CAP_SYS_RESOURCE & 1)


def resolv_conf(host: Host) -> str:
    """The file with the real name servers: the stub of systemd-resolved leads a pod to itself."""
    main = Path("/etc/resolv.conf")
    stubbed = STUB in (host.read(main) or b"").decode(errors="replace")
    return str(RESOLVED if stubbed and RESOLVED.exists() else main)


def addresses() -> dict[str, str]:
    """This host's own IPv4 addresses and their interfaces, without those of containers."""
    found: dict[str, str] = {}
    for interface, each in psutil.net_if_addrs().items():
        if interface == "lo" or interface.startswith(("cni", "veth", "flannel", "nodeagent", "docker", "br-", "kube-")):
            continue
        found |= {address.address: interface for address in each if address.family.name == "AF_INET"}
    return found


def default_address() -> str:
    """The address of the default route, "" without one."""
    try:
        return route.source_address(ANYWHERE, 443)
    except OSError:
        return ""


def machine_id(host: Host) -> str:
    """This machine's id."""
    return (host.read(Path("/etc/machine-id")) or b"").decode().strip()


def _runs(host: Host, unit: str) -> bool:
    return host.run(["systemctl", "is-active", unit], check=False).strip() == "active"


def is_root() -> bool:
    """Whether this process may change the host."""
    return os.geteuid() == 0
