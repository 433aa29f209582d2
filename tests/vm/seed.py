"""What each machine is handed when it starts, as one tar archive: the project, its units, configuration and keys.

The lab's own documents and keys, but for hosts with systemd, cgroup v2 and two network links. Must not know qemu.
"""

import dataclasses
import ipaddress
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import yaml
from vm import image

from nodeagent.lab import containerd, credentials, documents, images, machine, plan

SOURCE = "/opt/nodeagent/src"
IMAGES = "/opt/nodeagent/images.tar"
LAN = ipaddress.IPv4Network("192.168.56.0/24")
"""A range that VirtualBox allows for private networks."""
LOOPBACK = ipaddress.IPv4Interface("127.0.0.1/8")
SERVER_CONFIG = "/etc/nodeagent/server"
CONTAINERD = (1, 6)
"""The version on the image's disk."""
MODULES = ("br_netfilter", "overlay", "vxlan", "nf_tables", "nf_conntrack")
UNIT = """[Unit]
After=containerd.service network-online.target
Wants=containerd.service network-online.target
[Service]
Type={kind}
Environment=PYTHONPATH={source} PYTHONUNBUFFERED=1
ExecStart={python} -m {words}
Delegate=yes
KillMode=process
Restart=always
RestartSec=1
TimeoutStartSec=600
OOMScoreAdjust=-999
[Install]
WantedBy=multi-user.target
"""
Driver = Literal["cgroupfs", "systemd"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The machines that belong together: the first one is the server too."""

    directory: Path
    port: int
    driver: Driver
    nodes: int = 1
    kubelet: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @property
    def lab(self) -> plan.Lab:
        """The same in the lab's words: names, folders and addresses. A machine alone has no second link."""
        found = tuple(self._machine(number) for number in range(self.nodes))
        server = dataclasses.replace(found[0], name="server", directory=self.directory / "server")
        return plan.Lab(name="vm", directory=self.directory, server=server, nodes=found)

    def _machine(self, number: int) -> plan.Machine:
        address = ipaddress.IPv4Interface(f"{LAN[10 + number]}/{LAN.prefixlen}")
        name = f"node-{number + 1}"
        return plan.Machine(name=name, address=address, directory=self.directory / name, cgroup="/", services=())


def units(*, server: bool) -> dict[str, str]:
    """The project's own units, by file name."""
    words = {
        "nodeagent": "nodeagent agent --config /etc/nodeagent",
        "nodeagent-dns": "proxy.dns --config /etc/nodeagent/dns",
    }
    if server:
        words["nodeagent-server"] = f"controlplane --config {SERVER_CONFIG}"
    python = image.VENV + "/bin/python"
    kinds = {"nodeagent-dns": "exec"}
    return {
        f"{name}.service": UNIT.format(kind=kinds.get(name, "notify"), source=SOURCE, python=python, words=text)
        for name, text in words.items()
    }


def files(cluster: Cluster, node: plan.Machine) -> dict[str, bytes]:
    """Path -> content for one machine, all but keys."""
    server = node.name == cluster.lab.nodes[0].name
    config = containerd.config(CONTAINERD, sandbox_image=images.PAUSE, restrict_oom_score=False)
    if cluster.driver == "systemd":
        config = config.replace("SystemdCgroup = false", "SystemdCgroup = true")
    texts = {
        "/etc/hostname": f"{node.name}\n",
        "/etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {node.name}\n",
        "/etc/systemd/network/10-nat.network": "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n",
        "/etc/systemd/network/20-lan.network": f"[Match]\nName=eth1\n[Network]\nAddress={node.address}\n",
        "/etc/modules-load.d/nodeagent.conf": "\n".join(MODULES) + "\n",
        "/etc/sysctl.d/90-nodeagent.conf": "".join(f"{name} = {value}\n" for name, value in plan.SYSCTLS.items()),
        "/etc/containerd/config.toml": config,
        **{f"/etc/systemd/system/{name}": text for name, text in units(server=server).items()},
    }
    found = documents.node(node)
    found["kubelet.yaml"] = {**found["kubelet.yaml"], "cgroupDriver": cluster.driver, **cluster.kubelet}
    texts |= _yaml(plan.ETC, found) | _yaml(plan.ETC + "/dns", documents.dns(node, resolvers=()))
    if server:
        whole = documents.server(cluster.lab, api_port=cluster.port)
        whole["server.yaml"] = {**whole["server.yaml"], "listen": [f"0.0.0.0:{plan.API_PORT}"]}
        texts |= _yaml(SERVER_CONFIG, whole)
    return {name: text.encode() for name, text in texts.items()}


def _yaml(folder: str, found: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    return {f"{folder}/{name}": yaml.safe_dump(dict(text), sort_keys=False) for name, text in found.items()}


def write(cluster: Cluster) -> list[Path]:
    """The archives, one for each machine, and the administrator's kubeconfig in the directory."""
    lab = cluster.lab
    authority = credentials.ensure(lab)
    credentials.write_admin(lab, authority, port=cluster.port)
    archives = images.build(cluster.directory / "images")
    found = []
    for node in lab.nodes:
        machine.prepare(node, spec={}, files=files(cluster, node))
        credentials.write_node(node, authority, server=f"https://{lab.server.ip}:{plan.API_PORT}")
        found.append(cluster.directory / f"{node.name}.tar")
        with tarfile.open(found[-1], "w") as tar:
            tar.add(node.upper, "/", filter=_roots)
            for path in tracked():
                tar.add(image.ROOT / path, f"{SOURCE}/{path}", recursive=False, filter=_roots)
            tar.add(archives[0], IMAGES, filter=_roots)
            if node is lab.nodes[0]:
                tar.add(lab.directory / "pki", documents.PKI, filter=_roots)
    return found


def tracked() -> Sequence[str]:
    """The project's files, as git knows them or would."""
    words = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "kube",
        "nodeagent",
        "cni",
        "proxy",
        "controlplane",
    ]
    found = subprocess.run(words, cwd=image.ROOT, check=True, capture_output=True, text=True).stdout.split()
    return [path for path in found if (image.ROOT / path).exists()]


def _roots(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
