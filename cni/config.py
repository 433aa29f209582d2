"""`CNIConfiguration` (nodeagent/v1): where the daemon listens and where the runtime looks for plugins.

Everything else (range, MTU, peers) is computed from the Node objects and the kernel.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from cni import spec
from kube.runtime.config import Section

KIND = "CNIConfiguration"
# Only what the plugin does: a runtime passes nothing else.
CAPABILITIES = ("portMappings", "bandwidth", "ips", "mac", "ipRanges", "dns", "aliases")


class CNIConfiguration(Section, frozen=True, kw_only=True):
    """Paths are absolute; `mtu` 0 means that of the node's own interface, less what VXLAN needs where it is in use.

    `overlay`: `auto` takes direct routes to nodes on the same link and VXLAN to others; `vxlan`, `host-gw`: only that.
    `network_policy` false leaves NetworkPolicies to somebody else; it needs to list pods, namespaces and policies.
    """

    socket: str = "/run/nodeagent/cni.sock"
    conf_dir: str = "/etc/cni/net.d"
    bin_dir: str = "/opt/cni/bin"
    data_dir: str = "/var/lib/cni/networks"
    bridge: str = "cni0"
    mtu: int = 0
    masquerade: bool = True
    overlay: Literal["auto", "vxlan", "host-gw"] = "auto"
    network_policy: bool = True

    @property
    def conflist(self) -> Path:
        """The file the runtime reads; the first in lexical order wins, so it begins with 10."""
        return Path(self.conf_dir) / "10-nodeagent.conflist"


def conflist(config: CNIConfiguration, *, pod_cidrs: Sequence[str], mtu: int) -> dict[str, Any]:
    """The network configuration list for a node's pod ranges. PURE."""
    return {
        "cniVersion": "1.0.0",
        "name": "nodeagent",
        "plugins": [
            {
                "type": "nodeagent-cni",
                "bridge": config.bridge,
                "mtu": mtu,
                "hairpinMode": True,
                "capabilities": dict.fromkeys(CAPABILITIES, True),
                "ipam": {
                    "type": spec.TYPE,
                    "dataDir": config.data_dir,
                    "ranges": [[{"subnet": cidr}] for cidr in pod_cidrs],
                },
            }
        ],
    }
