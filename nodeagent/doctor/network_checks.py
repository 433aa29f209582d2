"""Pitfalls of the network: addresses, routes, firewalls, names, clocks. PURE."""

import ipaddress
from typing import Final

from nodeagent.doctor.facts import REMAINS, Facts
from nodeagent.doctor.verdict import FAILURE, Check, Finding

NAT: Final = "10.0.2."
HOST_ONLY: Final = ipaddress.ip_network("192.168.56.0/21")
VXLAN_BYTES: Final = 50
PORTS: Final = "6443/tcp, 10250/tcp and 8472/udp"
MAX_SKEW: Final = 300.0
STRICT: Final = 1


def node_address(it: Facts) -> Finding | None:
    configured = str(it.agent.get("nodeIP") or "")
    if configured and configured not in it.addresses:
        listed = ", ".join(it.addresses) or "none"
        return Finding(
            level=FAILURE,
            saw=f"AgentConfiguration.nodeIP is {configured}, which is no address of this machine ({listed})",
            fix=f"set nodeIP to one of them, or leave it out: the route to the server gives {it.route_address}",
        )
    if it.server and it.route_address.startswith(NAT):
        return Finding(
            level=FAILURE,
            saw=f"the server is reached from {it.route_address}, VirtualBox's NAT, the same on every machine",
            fix="give --server an address in the network the machines share (192.168.56.x)",
        )
    return None


def own_name(it: Facts) -> Finding | None:
    loops = [each for each in it.own_addresses if each.startswith("127.")]
    if not loops:
        return None
    fix = "nothing to do: nodeagent goes by the route to the server; for other programs change that line of /etc/hosts"
    return Finding(saw=f"the host's name {it.hostname} leads to {loops[0]}", fix=fix)


def host_name(it: Facts) -> Finding | None:
    if it.hostname == it.hostname.lower() and "_" not in it.hostname:
        return None
    fix = "hostnamectl set-hostname NAME in lower case, or install with --node-name"
    return Finding(saw=f"the host's name is {it.hostname!r}", fix=fix)


def bridge_nf(it: Facts) -> Finding | None:
    value = it.sysctls.get("bridge_nf")
    if value == 1:
        return None
    if value is None:
        return Finding(
            level=FAILURE,
            saw="br_netfilter is not loaded",
            fix="modprobe br_netfilter; echo br_netfilter > /etc/modules-load.d/nodeagent.conf",
            safe=True,
        )
    fix = "sysctl -w net.bridge.bridge-nf-call-iptables=1"
    return Finding(level=FAILURE, saw="net.bridge.bridge-nf-call-iptables is 0", fix=fix, safe=True)


def forwarding(it: Facts) -> Finding | None:
    if it.sysctls.get("ip_forward", 1) != 1:
        fix = "sysctl -w net.ipv4.ip_forward=1"
        return Finding(level=FAILURE, saw="net.ipv4.ip_forward is 0", fix=fix, safe=True)
    if it.sysctls.get("rp_filter", 0) == STRICT:
        fix = "sysctl -w net.ipv4.conf.all.rp_filter=2"
        return Finding(saw="net.ipv4.conf.all.rp_filter is 1 (strict)", fix=fix, safe=True)
    return None


def forward_policy(it: Facts) -> Finding | None:
    if not it.forward_drop:
        return None
    fix = "nothing to do: the agent accepts what its pods forward; if a tool removes that: iptables -P FORWARD ACCEPT"
    return Finding(saw="the policy of FORWARD is DROP (Docker sets it)", fix=fix)


def two_tables(it: Facts) -> Finding | None:
    legacy, nft = it.rules.get("legacy", 0), it.rules.get("nft", 0)
    if legacy and nft:
        fix = (
            "update-alternatives --set iptables /usr/sbin/iptables-nft; then remove the legacy ones: iptables-legacy -F"
        )
        return Finding(saw=f"{legacy} rules of Kubernetes in the legacy tables and {nft} in nft's", fix=fix)
    if (1, 8, 0) <= it.iptables <= (1, 8, 4):
        version = ".".join(map(str, it.iptables))
        return Finding(saw=f"iptables {version} writes rules twice", fix="update iptables, or use mode: nftables")
    return None


def firewall(it: Facts) -> Finding | None:
    active = sorted({"firewalld", "ufw"} & it.services)
    if not active:
        return None
    fix = {
        "firewalld": "firewall-cmd --permanent --add-port=6443/tcp --add-port=10250/tcp --add-port=8472/udp; "
        "firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16 --add-source=10.96.0.0/16; "
        "firewall-cmd --reload",
        "ufw": "ufw allow 6443/tcp; ufw allow 10250/tcp; ufw allow 8472/udp; ufw allow from 10.244.0.0/16",
    }[active[0]]
    return Finding(saw=f"{active[0]} is active; {PORTS} must be open and the pods' range trusted", fix=fix)


def stub(it: Facts) -> Finding | None:
    configured = str(it.kubelet.get("resolvConf") or "/etc/resolv.conf")
    if "127.0.0.53" not in it.resolv_conf or configured != "/etc/resolv.conf":
        return None
    fix = "set KubeletConfiguration.resolvConf: /run/systemd/resolve/resolv.conf"
    return Finding(saw="/etc/resolv.conf names the stub 127.0.0.53", fix=fix)


def mtu(it: Facts) -> Finding | None:
    interface = it.addresses.get(it.route_address, "")
    parent, pods = it.mtus.get(interface), it.mtus.get("cni0")
    tunnel = next((it.mtus[each] for each in it.mtus if each.startswith(("nodeagent.", "flannel."))), None)
    if parent is None:
        return None
    if tunnel is not None and tunnel > parent - VXLAN_BYTES:
        fix = f"set CNIConfiguration.mtu to {parent - VXLAN_BYTES} on every node, or leave it out"
        return Finding(level=FAILURE, saw=f"the tunnel's MTU is {tunnel}, {interface} carries {parent}", fix=fix)
    if pods is not None and pods > parent:
        fix = f"set CNIConfiguration.mtu to {parent} or less, or leave it out"
        return Finding(level=FAILURE, saw=f"the pods' MTU is {pods}, {interface} carries {parent}", fix=fix)
    return None


def offload(it: Facts) -> Finding | None:
    if not (0, 0) < it.kernel < (5, 7):
        return None
    version = f"{it.kernel[0]}.{it.kernel[1]}"
    fix = "a newer kernel; until then: ethtool -K flannel.1 tx-checksum-ip-generic off (the agent does it by itself)"
    return Finding(saw=f"kernel {version} computes wrong checksums for VXLAN in some drivers", fix=fix)


def ranges(it: Facts) -> Finding | None:
    for text in it.ranges:
        clash = overlap(text, it.routes)
        if clash:
            return Finding(
                level=FAILURE,
                saw=f"{text} overlaps this host's route {clash}",
                fix="other ranges: nodeagent install server --cluster-cidr ... --service-cidr ... --cluster-dns ...",
            )
    return None


def overlap(cidr: str, routes: tuple[str, ...]) -> str:
    """The first route ("10.0.0.0/8 eth0") that overlaps a range, "" when none does; our own are no clash."""
    wanted = ipaddress.IPv4Network(cidr, strict=False)
    for route in routes:
        network, _, interface = route.partition(" ")
        ours = interface.startswith(("cni", "nodeagent", "flannel", "kube-", "veth"))
        other = ipaddress.IPv4Network(network, strict=False)
        # A route inside the range towards another node is what the agent writes for direct routing.
        if not ours and wanted.overlaps(other) and not (other.subnet_of(wanted) and other.prefixlen >= 24):
            return route
    return ""


def host_only(it: Facts) -> Finding | None:
    if it.virtual != "oracle":
        return None
    private = [each for each in it.addresses if each.startswith("192.168.")]
    wrong = [each for each in private if ipaddress.ip_address(each) not in HOST_ONLY]
    if not wrong:
        return None
    fix = "use 192.168.56.0 - 192.168.63.255 in the Vagrantfile, or name the range in /etc/vbox/networks.conf"
    return Finding(saw=f"{wrong[0]} is outside VirtualBox's host-only range", fix=fix)


def clock(it: Facts) -> Finding | None:
    if abs(it.skew) <= MAX_SKEW:
        return None
    way = "behind" if it.skew > 0 else "ahead of"
    fix = "timedatectl set-ntp true (or: chronyd -q 'pool pool.ntp.org iburst')"
    return Finding(level=FAILURE, saw=f"the clock is {abs(it.skew):.0f} s {way} the server's", fix=fix)


def proxies(it: Facts) -> Finding | None:
    named = [name for name in it.environment if name.upper() != "NO_PROXY"]
    if not named:
        return None
    exempt = it.environment.get("NO_PROXY") or it.environment.get("no_proxy") or ""
    if "10.96." in exempt:
        return None
    fix = "export NO_PROXY=localhost,127.0.0.1,10.96.0.0/16,10.244.0.0/16,.svc,.cluster.local,SERVER"
    return Finding(saw=f"{', '.join(named)} is set, and NO_PROXY does not name the cluster", fix=fix)


def network_services(it: Facts) -> Finding | None:
    if "systemd-networkd" in it.services and not it.keeps_foreign_routes:
        fix = (
            "printf '[Network]\\nManageForeignRoutes=no\\n' > /etc/systemd/networkd.conf.d/90-nodeagent.conf; "
            "systemctl restart systemd-networkd"
        )
        return Finding(saw="systemd-networkd runs and removes routes that are not its own", fix=fix)
    return None


def remains(it: Facts) -> Finding | None:
    if it.installed:
        return None
    links = [each for each in it.interfaces if each in REMAINS]
    others = sorted({"kubelet", "k3s", "k3s-agent", "rke2-agent"} & it.services)
    found = [*links, *(f"/etc/cni/net.d/{each}" for each in it.conflists), *(f"{each}.service" for each in others)]
    rules = it.rules.get("legacy", 0) + it.rules.get("nft", 0)
    found += [f"{rules} rules of Kubernetes"] if rules else []
    if not found:
        return None
    level = FAILURE if others else "warning"
    fix = "kubeadm reset (or k3s-killall.sh); then: ip link delete cni0; rm /etc/cni/net.d/*"
    return Finding(level=level, saw=f"of another cluster: {', '.join(found)}", fix=fix)


def ports(it: Facts) -> Finding | None:
    if it.installed or not it.taken:
        return None
    return Finding(
        level=FAILURE,
        saw=f"ports in use: {', '.join(map(str, it.taken))}",
        fix="ss -ltnp shows by whom; another kubelet or API server cannot run beside ours",
    )


CHECKS: Final = (
    Check(
        number=1,
        name="node-address",
        why="logs and exec fail, and nodes cannot reach each other's pods",
        judge=node_address,
    ),
    Check(number=4, name="bridge-netfilter", why="a Service works across nodes and not on one", judge=bridge_nf),
    Check(number=5, name="forwarding", why="pods reach nothing outside their node", judge=forwarding),
    Check(number=5, name="forward-policy", why="traffic of pods may be dropped", judge=forward_policy),
    Check(
        number=6,
        name="two-tables",
        why="rules in two places contradict each other: Services work now and then",
        judge=two_tables,
    ),
    Check(
        number=7,
        name="firewall",
        why="joining works, and then neither DNS nor pods on other nodes are reached",
        judge=firewall,
    ),
    Check(number=10, name="own-name", why="what asks for its own name advertises loopback", judge=own_name),
    Check(number=11, name="resolver-stub", why="pods that inherit it ask themselves: names loop", judge=stub),
    Check(number=12, name="mtu", why="small requests work and TLS hangs", judge=mtu),
    Check(number=13, name="checksum-offload", why="connections stall for 1 or 63 seconds", judge=offload),
    Check(
        number=16,
        name="ranges",
        why="a pod or Service with an address of your network cannot be reached: a black hole",
        judge=ranges,
    ),
    Check(number=17, name="host-only", why="VirtualBox refuses it: E_ACCESSDENIED", judge=host_only),
    Check(number=18, name="clock", why="certificates are not valid yet, or no more", judge=clock),
    Check(number=19, name="proxy-variables", why="requests to the cluster go to the proxy and time out", judge=proxies),
    Check(number=22, name="network-services", why="routes between nodes vanish after minutes", judge=network_services),
    Check(number=23, name="remains", why="two networks on one host: wrong plugin, wrong addresses", judge=remains),
    Check(number=0, name="host-name", why="a node's name is a DNS name in lower case", judge=host_name),
    Check(number=0, name="ports", why="our services could not listen", judge=ports),
)
