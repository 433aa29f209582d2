"""Where an installed nodeagent lives on a host. Standard library only: the first stage runs before all the rest."""

from pathlib import Path
from typing import Final

OPT: Final = Path("/opt/nodeagent")
RELEASES: Final = OPT / "releases"
CURRENT: Final = OPT / "current"
COMMAND: Final = Path("/usr/local/bin/nodeagent")
ETC: Final = Path("/etc/nodeagent")
CA: Final = ETC / "ca.crt"
KUBECONFIG: Final = ETC / "kubelet.kubeconfig"
ADMIN: Final = ETC / "admin.kubeconfig"
MANIFESTS: Final = ETC / "manifests"
STATE: Final = Path("/var/lib/nodeagent")
RECORD: Final = STATE / "install.json"
KUBELET: Final = Path("/var/lib/kubelet")
CLIENT: Final = KUBELET / "pki" / "kubelet-client-current.pem"
UNITS: Final = Path("/etc/systemd/system")
SERVER_UNIT: Final = "nodeagent-server.service"
AGENT_UNIT: Final = "nodeagent-agent.service"
DNS_UNIT: Final = "nodeagent-dns.service"
CONTAINERD_UNIT: Final = "containerd.service"
CONTAINERD_MAIN: Final = Path("/etc/containerd/config.toml")
CONTAINERD_OURS: Final = Path("/etc/containerd/nodeagent.toml")
MODULES: Final = Path("/etc/modules-load.d/nodeagent.conf")
SYSCTLS: Final = Path("/etc/sysctl.d/90-nodeagent.conf")
NETWORKD: Final = Path("/etc/systemd/networkd.conf.d/90-nodeagent.conf")
NETWORK_MANAGER: Final = Path("/etc/NetworkManager/conf.d/90-nodeagent.conf")
CNI_PLUGIN: Final = Path("/opt/cni/bin/nodeagent-cni")
CNI_CONFIG: Final = Path("/etc/cni/net.d/10-nodeagent.conflist")
