"""Which machines a lab has, and what each of them is: names, addresses, mounts, cgroups, services. Pure.

Values in, frozen values out. Must not know how a namespace is made, nor read the host: `Host` says what was found
there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from nodeagent.lab import shapes

UNDERLAY = IPv4Network("192.168.77.0/24")
BALANCER_ADDRESSES = "192.168.77.200-192.168.77.239"
SERVER_HOST_NUMBER = 2
FIRST_NODE_HOST_NUMBER = 11
MAX_NODES = 20
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
ZONE = "cluster.local"
API_PORT = 6443
CGROUP_PARENT = "/nodeagent-lab"
ETC = "/etc/nodeagent"

# Folders that get a plain directory of the lab instead of a place in the machine's overlay: containerd's own overlays
# cannot stand on an overlay, and what is in the host's folders of this name is not the machine's.
DATA_FOLDERS = (
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/nodeagent",
    "/var/lib/cni",
    "/var/log/pods",
    "/var/log/containers",
    "/var/log/nodeagent",
    "/etc/cni/net.d",
    "/opt/cni/bin",
)

SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/route_localnet": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/bridge/bridge-nf-call-iptables": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """A listening socket that outlives its service: `address` is bound in the machine, or `fd` is handed over by the
    lab.
    """

    name: str
    address: str = ""
    fd: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process that the machine's first process keeps running."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    sockets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine: its place in the lab and everything its first process needs to know."""

    name: str
    address: IPv4Interface
    directory: Path
    cgroup: str
    services: tuple[Service, ...]
    sockets: tuple[Socket, ...] = ()
    binds: tuple[tuple[Path, str], ...] = ()
    underlay: str = shapes.ONE_LINK

    @property
    def ip(self) -> str:
        """The machine's address on the underlay."""
        return str(self.address.ip)

    @property
    def upper(self) -> Path:
        """The overlay's writable layer: a file put here before the start is the machine's own."""
        return self.directory / "upper"

    def data(self, folder: str) -> Path:
        """The lab's directory behind one of the machine's data folders."""
        return self.directory / "data" / folder.strip("/").replace("/", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the plan takes from the host: where the programs and the source are, and what must be visible in every
    machine.
    """

    python: str
    containerd: str
    source: Path
    visible: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A whole lab: one server machine and its nodes."""

    name: str
    directory: Path
    server: Machine
    nodes: tuple[Machine, ...]

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The server first, then the nodes."""
        return (self.server, *self.nodes)

    @property
    def cgroup(self) -> str:
        """The one cgroup that holds everything of this lab."""
        return f"{CGROUP_PARENT}/{self.name}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig on the host."""
        return self.directory / "kubeconfig"


def plan(
    name: str, *, directory: Path, nodes: int, host: Host, api_fd: int = -1, underlay: str = shapes.ONE_LINK
) -> Lab:
    """The lab of this many nodes; `api_fd` is the API's socket on the host's loopback, already bound.

    Raises ValueError naming the field when the count, the name or the underlay cannot be.
    """
    if underlay not in shapes.SHAPES:
        raise ValueError(f"underlay: {underlay!r} is none of {', '.join(shapes.SHAPES)}")
    if not 1 <= nodes <= MAX_NODES:
        raise ValueError(f"nodes: {nodes} is not between 1 and {MAX_NODES}")
    if not name or not name.replace("-", "").isalnum() or not name.isascii() or name != name.lower():
        raise ValueError(f"name: {name!r} must be lower-case letters, digits and dashes")
    made = [_node(name, number, directory=directory, host=host) for number in range(nodes)]
    return Lab(
        name=name,
        directory=directory,
        server=replace(_server(name, directory=directory, host=host, api_fd=api_fd), underlay=underlay),
        nodes=tuple(replace(each, underlay=underlay) for each in made),
    )


def limited(lab: Lab, *, services: frozenset[str]) -> Lab:
    """The same lab, running only services of these names."""

    def keep(machine: Machine) -> Machine:
        return replace(machine, services=tuple(s for s in machine.services if s.name in services))

    return replace(lab, server=keep(lab.server), nodes=tuple(keep(node) for node in lab.nodes))


def _server(lab: str, *, directory: Path, host: Host, api_fd: int) -> Machine:
    address = _address(SERVER_HOST_NUMBER)
    sockets = [Socket(name="api-underlay", address=f"{address.ip}:{API_PORT}")]
    if api_fd >= 0:
        sockets.append(Socket(name="api-loopback", fd=api_fd))
    control_plane = Service(
        name="server",
        argv=(host.python, "-m", "controlplane", "--config", ETC),
        env=_python_env(host),
        sockets=tuple(s.name for s in sockets),
    )
    return Machine(
        name="server",
        address=address,
        directory=directory / "machines" / "server",
        cgroup=f"{CGROUP_PARENT}/{lab}/server",
        services=(control_plane,),
        sockets=tuple(sockets),
        binds=((directory / "pki", ETC + "/pki"),),
    )


def _node(lab: str, number: int, *, directory: Path, host: Host) -> Machine:
    name = f"node-{number + 1}"
    env = _python_env(host)
    services = (
        Service(name="containerd", argv=(host.containerd, "--config", "/etc/containerd/nodeagent.toml")),
        Service(name="agent", argv=(host.python, "-m", "nodeagent", "agent", "--config", ETC), env=env),
        Service(name="dns", argv=(host.python, "-m", "proxy.dns", "--config", ETC + "/dns"), env=env),
    )
    return Machine(
        name=name,
        address=_address(FIRST_NODE_HOST_NUMBER + number),
        directory=directory / "machines" / name,
        cgroup=f"{CGROUP_PARENT}/{lab}/{name}",
        services=services,
    )


def _address(host_number: int) -> IPv4Interface:
    return IPv4Interface(f"{UNDERLAY[host_number]}/{UNDERLAY.prefixlen}")


def gateway() -> str:
    """The bridge's own address, every machine's default route."""
    return str(UNDERLAY[1])


def _python_env(host: Host) -> dict[str, str]:
    return {"PYTHONPATH": str(host.source), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def boot_spec(machine: Machine, *, host: Host, controllers: Sequence[Path]) -> dict[str, object]:
    """What the machine's first process reads: a JSON document. `controllers` are the host's cgroup hierarchies."""
    return {
        "hostname": machine.name,
        "overlay": {
            "lower": "/",
            "upper": str(machine.upper),
            "work": str(machine.directory / "work"),
            "root": str(machine.directory / "root"),
        },
        "binds": [[str(path), str(path)] for path in host.visible]
        + [[str(machine.data(folder)), folder] for folder in DATA_FOLDERS]
        + [[str(source), target] for source, target in machine.binds],
        "cgroups": [f"{hierarchy}{machine.cgroup}/system" for hierarchy in controllers],
        "network": _network(machine),
        "sysctls": SYSCTLS,
        "logs": "/var/log/nodeagent",
        "sockets": [{"name": s.name, "address": s.address, "fd": s.fd} for s in machine.sockets],
        "services": [
            {"name": s.name, "argv": list(s.argv), "env": dict(s.env), "sockets": list(s.sockets)}
            for s in machine.services
        ],
    }


def _network(machine: Machine) -> dict[str, list[str]]:
    found = shapes.network(machine.underlay, machine.address, gateway=gateway())
    return {"interfaces": list(found.interfaces), "lines": list(found.lines)}


def underlay_batch(shape: str = shapes.ONE_LINK) -> str:
    """`ip -batch` lines for the namespace that joins the machines."""
    return "\n".join(
        (
            "link set lo up",
            "link add underlay type bridge forward_delay 0 stp_state 0",
            f"address add {gateway()}/{UNDERLAY.prefixlen} dev underlay",
            "link set underlay up",
            *shapes.bridges(shape),
            # A packet that no node's rules took has nowhere to go, least of all outside.
            f"route add unreachable {SERVICE_CIDR}",
            f"route add unreachable {POD_CIDR}",
            "",
        )
    )


def port_of(name: str) -> str:
    """The bridge's port to a machine."""
    return f"to-{name}"


def cable_batch(machine: Machine, pid: int) -> str:
    """`ip -batch` lines, in the underlay, for the link to one machine whose network namespace is that of `pid`.

    A machine keeps its hardware address when it boots again: the others know it by that.
    """
    port, hardware = port_of(machine.name), "02:00:" + machine.address.ip.packed.hex(":")
    lines = shapes.cable(machine.underlay, name=machine.name, port=port, hardware=hardware, pid=pid)
    return "".join(f"{line}\n" for line in lines)
