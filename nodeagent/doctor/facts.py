"""What the checks look at, read from this host. Facts only: absent is None, "" or empty, never an exception.

Standard library and psutil; everything through the installer's `Host`, so that tests can make up a machine.
"""

import contextlib
import os
import re
import shutil
import socket
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nodeagent.install import layout
from nodeagent.install.host import Host

SYSCTLS: Final = {
    "bridge_nf": "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "ip_forward": "/proc/sys/net/ipv4/ip_forward",
    "rp_filter": "/proc/sys/net/ipv4/conf/all/rp_filter",
    "inotify_instances": "/proc/sys/fs/inotify/max_user_instances",
    "inotify_watches": "/proc/sys/fs/inotify/max_user_watches",
}
SERVICES: Final = (
    "firewalld",
    "ufw",
    "NetworkManager",
    "systemd-networkd",
    "kubelet",
    "k3s",
    "k3s-agent",
    "rke2-agent",
)
SOCKETS: Final = (
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
)
PORTS: Final = (6443, 10250, 10248, 10249, 10256)
PROXY_VARIABLES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
PROGRAMS: Final = ("containerd", "runc", "nft", "conntrack", "ip", "iptables-legacy-save", "iptables-nft-save")
REMAINS: Final = ("cni0", "flannel.1", "cilium_host", "weave", "tunl0", "vxlan.calico", "kube-ipvs0")
KINDS: Final = ("KubeletConfiguration", "AgentConfiguration", "KubeProxyConfiguration", "ServerConfiguration")
LINKS: Final = {"bridge": "bridge", "veth": "veth", "vxlan": "vxlan id 1 dstport 8472"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One host as it was found."""

    root: bool = True
    hostname: str = "n1"
    own_addresses: tuple[str, ...] = ()
    """What the host's own name resolves to."""
    resolv_conf: str = ""
    resolved: bool = False
    """systemd-resolved keeps a file with the real name servers."""
    unified: bool = True
    systemd: bool = True
    containerd: str = ""
    containerd_version: tuple[int, int] = (0, 0)
    containerd_config: Mapping[str, Any] = field(default_factory=dict)
    cri: str = "ok"
    """What the CRI socket answers: ok, or why not."""
    runtime_driver: str = ""
    cni_folders: tuple[str, ...] = ()
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)
    sysctls: Mapping[str, int] = field(default_factory=dict)
    forward_drop: bool = False
    rules: Mapping[str, int] = field(default_factory=dict)
    """Rules of Kubernetes' kind in the `legacy` and the `nft` tables of iptables."""
    iptables: tuple[int, int, int] = (0, 0, 0)
    nft: tuple[int, int, int] = (0, 0, 0)
    kernel: tuple[int, int] = (0, 0)
    services: frozenset[str] = frozenset()
    swap: tuple[str, ...] = ()
    machine_id: str = ""
    missing_links: tuple[str, ...] = ()
    missing_programs: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ("10.244.0.0/16", "10.96.0.0/16")
    """Addresses of the cluster's pods and Services."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    route_address: str = ""
    """The address from which the server is reached, or that of the default route."""
    server: str = ""
    skew: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    memory: int = 0
    cpus: int = 0
    disk: int = 0
    selinux: bool = False
    interfaces: tuple[str, ...] = ()
    mtus: Mapping[str, int] = field(default_factory=dict)
    conflists: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    kvm: bool = True
    virtual: str = ""
    taken: tuple[int, ...] = ()
    nofile: int = 1 << 20
    keeps_foreign_routes: bool = True
    image: str = "ok"
    installed: Mapping[str, Any] = field(default_factory=dict)


def gather(host: Host, *, server: str = "", ranges: Sequence[str] = ()) -> Facts:
    """Everything, of this host; `ranges`: those the cluster is to have, else those it has."""
    import psutil

    found = _machine(host) | _network(host) | _runtime(host) | _programs(host)
    kubelet, agent, proxy, served = _documents()
    given = tuple(ranges) or tuple(filter(None, (proxy.get("clusterCIDR"), served.get("serviceCIDR"))))
    return Facts(
        **found,
        root=os.geteuid() == 0,
        memory=psutil.virtual_memory().total,
        cpus=os.cpu_count() or 1,
        disk=shutil.disk_usage("/var/lib").free,
        environment={
            name: os.environ[name] for name in (*PROXY_VARIABLES, "NO_PROXY", "no_proxy") if name in os.environ
        },
        kubelet=kubelet,
        agent=agent,
        ranges=given or Facts().ranges,
        **_server(server),
    )


def _machine(host: Host) -> dict[str, Any]:
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    swaps = _text(host, "/proc/swaps").splitlines()[1:]
    return {
        "hostname": socket.gethostname(),
        "own_addresses": _resolve(socket.gethostname()),
        "resolv_conf": _text(host, "/etc/resolv.conf"),
        "resolved": Path("/run/systemd/resolve/resolv.conf").exists(),
        "unified": Path("/sys/fs/cgroup/cgroup.controllers").exists(),
        "systemd": Path("/run/systemd/system").is_dir(),
        "kernel": (int(release[1]), int(release[2])) if release else (0, 0),
        "sysctls": {name: int(text) for name, path in SYSCTLS.items() if (text := _text(host, path).strip()).isdigit()},
        "swap": tuple(line.split()[0] for line in swaps),
        "machine_id": _text(host, "/etc/machine-id").strip(),
        "selinux": _text(host, "/sys/fs/selinux/enforce").strip() == "1",
        "kvm": Path("/dev/kvm").exists(),
        "virtual": host.run(["systemd-detect-virt"], check=False).strip().replace("none", ""),
        "services": frozenset(each for each in SERVICES if _active(host, each)),
        "nofile": _nofile(),
        "keeps_foreign_routes": _keeps_foreign_routes(host),
        "installed": _json(host),
    }


def _network(host: Host) -> dict[str, Any]:
    import psutil

    from nodeagent.install import observe

    return {
        "routes": tuple(routes(_text(host, "/proc/net/route"))),
        "addresses": observe.addresses(),
        "interfaces": tuple(sorted(each.name for each in Path("/sys/class/net").iterdir())),
        "mtus": {name: each.mtu for name, each in psutil.net_if_stats().items()},
        "taken": _taken(_text(host, "/proc/net/tcp") + _text(host, "/proc/net/tcp6")),
        "conflists": tuple(sorted(each.name for each in Path("/etc/cni/net.d").glob("*.conf*"))),
    }


def _runtime(host: Host) -> dict[str, Any]:
    program = shutil.which("containerd") or ""
    ours = host.read(layout.CONTAINERD_OURS)
    config: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        config = tomllib.loads((ours or host.read(layout.CONTAINERD_MAIN) or b"").decode())
    version = _version(host.run(["containerd", "--version"], check=False))
    found = {
        "containerd": program,
        "containerd_version": version[:2],
        "containerd_config": config,
        "sockets": tuple(each for each in SOCKETS if Path(each).exists()),
    }
    return found | _cri()


def _cri() -> dict[str, Any]:
    import asyncio

    from nodeagent import errors
    from nodeagent.cri.client import GrpcRuntime

    async def ask() -> dict[str, Any]:
        runtime = GrpcRuntime(f"unix://{SOCKETS[0]}")
        try:
            async with asyncio.timeout(10):
                info = await runtime.info()
            return {"cri": "ok", "runtime_driver": info.cgroup_driver or ""}
        except (errors.RuntimeFault, TimeoutError) as e:
            return {"cri": str(e) or "no answer within 10 s"}
        finally:
            await runtime.close()

    return asyncio.run(ask()) if Path(SOCKETS[0]).exists() else {"cri": "there is no socket"}


def _programs(host: Host) -> dict[str, Any]:
    forward = host.run(["iptables", "-S", "FORWARD"], check=False)
    saved = {kind: host.run([f"iptables-{kind}-save"], check=False) for kind in ("legacy", "nft")}
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    return {
        "forward_drop": "-P FORWARD DROP" in forward,
        "rules": {
            kind: len(re.findall(r"^-A (?:KUBE|CNI|FLANNEL)-", text, re.MULTILINE)) for kind, text in saved.items()
        },
        "iptables": _version(host.run(["iptables", "--version"], check=False)),
        "nft": _version(host.run(["nft", "--version"], check=False)),
        "missing_programs": tuple(each for each in PROGRAMS[:5] if shutil.which(each, path=path) is None),
        "missing_links": tuple(name for name, kind in LINKS.items() if not _link_works(host, kind)),
    }


def _link_works(host: Host, kind: str) -> bool:
    """Tried in a network namespace that is gone at once."""
    done = host.run(["unshare", "--net", "sh", "-c", f"ip link add trial type {kind} && echo good"], check=False)
    return "good" in done


def _documents() -> list[Mapping[str, Any]]:
    from kube.runtime import config as documents

    try:
        found = documents.load(layout.ETC) if layout.ETC.is_dir() else {}
    except documents.ConfigError:
        return [{}] * len(KINDS)
    return [documents.merged(found[kind]) if kind in found else {} for kind in KINDS]


def _server(server: str) -> dict[str, Any]:
    from kube import kubeconfig
    from kube.runtime import route
    from nodeagent.install import observe
    from nodeagent.join import discover
    from nodeagent.join.errors import JoinError

    with contextlib.suppress(kubeconfig.KubeconfigError):
        server = server or kubeconfig.load(layout.KUBECONFIG).server
    if not server:
        return {"route_address": observe.default_address()}
    found: dict[str, Any] = {"server": server}
    with contextlib.suppress(OSError):
        found["route_address"] = route.towards(server)
    with contextlib.suppress(JoinError):
        found["skew"] = discover.ask(server)[1]
    return found


def routes(text: str) -> list[str]:
    """The networks of /proc/net/route as CIDRs, without the default. PURE."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] != "00000000":
            address = ".".join(str(each) for each in bytes.fromhex(words[1])[::-1])
            found.append(f"{address}/{int(words[7], 16).bit_count()} {words[0]}")
    return found


def _taken(text: str) -> tuple[int, ...]:
    listening = {int(line.split()[1].rpartition(":")[2], 16) for line in text.splitlines() if " 0A " in line}
    return tuple(port for port in PORTS if port in listening)


def _version(text: str) -> tuple[int, int, int]:
    found = re.search(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)


def _resolve(name: str) -> tuple[str, ...]:
    try:
        return tuple(sorted({str(each[4][0]) for each in socket.getaddrinfo(name, None, socket.AF_INET)}))
    except OSError:
        return ()


def _active(host: Host, unit: str) -> bool:
    return host.run(["systemctl", "is-active", unit], check=False).strip() == "active"


def _keeps_foreign_routes(host: Host) -> bool:
    return host.read(layout.NETWORKD) is not None or "ManageForeignRoutes=no" in _text(
        host, "/etc/systemd/networkd.conf"
    )


def _nofile() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _json(host: Host) -> Mapping[str, Any]:
    from nodeagent.install import apply

    return apply.record(host)


def _text(host: Host, path: str) -> str:
    return (host.read(Path(path)) or b"").decode(errors="replace")
