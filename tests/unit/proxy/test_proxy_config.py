"""KubeProxyConfiguration: upstream's own files are taken, and what we do not serve is refused by name."""

from pathlib import Path
from typing import Any

import pytest

from kube.runtime.config import ConfigError
from proxy import config, host
from proxy.backends import detect
from proxy.config import KIND, Conntrack, KubeProxyConfiguration
from proxy.services.model import ThisNode

WRITTEN_BY_TOOLS: dict[str, Any] = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": KIND,
    "bindAddress": "0.0.0.0",
    "bindAddressHardFail": False,
    "clientConnection": {"acceptContentTypes": "", "burst": 0, "contentType": "", "kubeconfig": "/k", "qps": 0},
    "clusterCIDR": "10.244.0.0/16",
    "configSyncPeriod": "0s",
    "conntrack": {
        "maxPerCore": None,
        "min": None,
        "tcpBeLiberal": False,
        "tcpCloseWaitTimeout": None,
        "tcpEstablishedTimeout": None,
        "udpStreamTimeout": "0s",
        "udpTimeout": "0s",
    },
    "detectLocal": {"bridgeInterface": "", "interfaceNamePrefix": ""},
    "detectLocalMode": "",
    "enableProfiling": False,
    "healthzBindAddress": "",
    "hostnameOverride": "",
    "iptables": {
        "localhostNodePorts": None,
        "masqueradeAll": False,
        "masqueradeBit": None,
        "minSyncPeriod": "0s",
        "syncPeriod": "0s",
    },
    "ipvs": {"excludeCIDRs": None, "minSyncPeriod": "0s", "scheduler": "", "strictARP": False, "tcpTimeout": "0s"},
    "logging": {"flushFrequency": 0, "options": {"json": {"infoBufferSize": "0"}}, "verbosity": 0},
    "metricsBindAddress": "",
    "mode": "",
    "nftables": {"masqueradeAll": False, "masqueradeBit": None, "minSyncPeriod": "0s", "syncPeriod": "0s"},
    "nodePortAddresses": None,
    "oomScoreAdj": None,
    "portRange": "",
    "showHiddenMetricsForVersion": "",
    "winkernel": {"enableDSR": False, "forwardHealthCheckVip": False, "networkName": ""},
}


def read(**fields: Any) -> KubeProxyConfiguration:
    return config.read({KIND: [{"kind": KIND, **fields}]})


def test_a_file_as_upstreams_tools_write_it_is_taken() -> None:
    found = config.read({KIND: [WRITTEN_BY_TOOLS]})
    assert found == read(clusterCIDR="10.244.0.0/16", clientConnection={"kubeconfig": "/k"})
    assert found.health_address == "0.0.0.0:10256"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"iptables": {"masqueradeAll": True}}, "iptables.masqueradeAll"),
        ({"ipvs": {"strictARP": True}}, "ipvs"),
        ({"detectLocalMode": "BridgeInterface"}, "detectLocalMode"),
        ({"portRange": "1000-2000"}, "portRange"),
        ({"nothing": ""}, "nothing"),
        ({"mode": "ipvs"}, "mode 'ipvs'"),
        ({"clusterCIDR": "10.0.0.0/33"}, "clusterCIDR: '10.0.0.0/33'"),
        ({"conntrack": {"min": -1}}, "min: -1"),
    ],
)
def test_what_is_not_served_is_refused_by_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read(**fields)


def test_the_connection_table_is_sized_as_configured_and_never_made_smaller(tmp_path: Path) -> None:
    names = ("nf_conntrack_max", "nf_conntrack_tcp_timeout_established", "nf_conntrack_tcp_timeout_close_wait")
    folder = tmp_path / "netfilter"
    folder.mkdir()
    for name, value in zip(names, ("10", "500000", "60"), strict=True):
        (folder / name).write_text(value)
    (folder / "nf_conntrack_tcp_be_liberal").write_text("0")
    host.prepare_kernel(tmp_path, cores=8, conntrack=Conntrack(tcp_be_liberal=True))
    assert [(folder / name).read_text() for name in names] == ["262144", "500000", "3600"]
    assert (folder / "nf_conntrack_tcp_be_liberal").read_text() == "1"
    host.prepare_kernel(tmp_path, cores=99, conntrack=Conntrack(max_per_core=0))
    assert (folder / names[0]).read_text() == "262144"


def test_node_ports_are_on_the_loopback_address_only_where_asked_for() -> None:
    everywhere = {"blocks": ("0.0.0.0/0",), "addresses": ("127.0.0.1", "127.0.0.2", "192.0.2.1"), "ip": ""}
    assert host.this_node("n", None, **everywhere, loopback=True).node_port_addresses == ("127.0.0.1", "192.0.2.1")  # type: ignore[arg-type]
    assert host.this_node("n", None, **everywhere) == ThisNode(name="n", node_port_addresses=("192.0.2.1",))  # type: ignore[arg-type]


def test_a_kernel_that_takes_late_packets_for_valid_is_not_told_to_drop_them() -> None:
    known = detect.Host(nftables="", iptables="nft", legacy_rules=False)
    assert not detect.choose("", known).tcp_liberal
    assert detect.choose("", known, tcp_liberal=True).tcp_liberal
