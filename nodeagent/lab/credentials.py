"""Who may speak to whom in a lab: its CA, and each service's certificate and kubeconfig, written where it reads them.

The making of keys is `kube.pki`'s. Must not know how the files are used.
"""

from pathlib import Path

from kube import kubeconfig, pki
from nodeagent.lab import plan


def ensure(lab: plan.Lab) -> pki.Authority:
    """Make the cluster's CA and the server's keys in the lab's directory; returns the CA."""
    return pki.ensure_cluster(
        lab.directory / "pki",
        service_ip=plan.API_SERVICE,
        zone=plan.ZONE,
        advertise=lab.server.ip,
        extra_sans=["127.0.0.1", "localhost", lab.server.name],
    )


def write_admin(lab: plan.Lab, ca: pki.Authority, *, port: int) -> None:
    """The administrator's kubeconfig, for kubectl on the host."""
    pair = pki.issue(ca, cn="kubernetes-admin", organizations=["system:masters"])
    _kubeconfig(lab.kubeconfig, ca, pair, server=f"https://127.0.0.1:{port}", user="kubernetes-admin")


def write_node(machine: plan.Machine, ca: pki.Authority, *, server: str) -> None:
    """The node's client and serving certificates, and its services' kubeconfigs."""
    etc = machine.upper / plan.ETC.lstrip("/")
    kubelet = pki.node_client(ca, name=machine.name)
    _kubeconfig(etc / "kubelet.kubeconfig", ca, kubelet, server=server, user=f"system:node:{machine.name}")
    _kubeconfig(etc / "dns.kubeconfig", ca, pki.issue(ca, cn="system:kube-dns"), server=server, user="system:kube-dns")
    balancer = "system:load-balancer"
    _kubeconfig(etc / "balancer.kubeconfig", ca, pki.issue(ca, cn=balancer), server=server, user=balancer)
    pki.write_pair(etc / "pki", "kubelet", pki.node_serving(ca, name=machine.name, ips=[machine.ip, "127.0.0.1"]))
    (etc / "pki" / "ca.crt").write_bytes(ca.cert_pem)


def _kubeconfig(path: Path, ca: pki.Authority, pair: pki.KeyPair, *, server: str, user: str) -> None:
    kubeconfig.write(
        path, server=server, user=user, ca_data=ca.cert_pem, cert_data=pair.cert_pem, key_data=pair.key_pem
    )
