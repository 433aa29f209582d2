"""The doctor: a healthy host has nothing wrong, and each pitfall is found, explained and mended."""

import json
from dataclasses import replace
from typing import Any

import pytest

from nodeagent.doctor import bundle, command, facts, network_checks
from nodeagent.doctor.verdict import FAILURE, WARNING, Finding, exit_code
from tests.fakes.host import FakeHost

HEALTHY = facts.Facts(
    own_addresses=("192.0.2.11",),
    resolv_conf="nameserver 192.0.2.1\n",
    containerd="/usr/bin/containerd",
    containerd_version=(2, 0),
    runtime_driver="systemd",
    kubelet={"cgroupDriver": "systemd"},
    sysctls={"bridge_nf": 1, "ip_forward": 1, "rp_filter": 2, "inotify_instances": 8192, "inotify_watches": 524288},
    iptables=(1, 8, 9),
    nft=(1, 0, 6),
    kernel=(6, 1),
    machine_id="aaa",
    routes=("192.0.2.0/24 eth0", "10.244.1.0/24 eth0"),
    addresses={"192.0.2.11": "eth0"},
    route_address="192.0.2.11",
    server="https://192.0.2.2:6443",
    memory=2 << 30,
    cpus=2,
    disk=20 << 30,
    mtus={"eth0": 1500, "cni0": 1450, "flannel.1": 1450},
    sockets=("/run/containerd/containerd.sock",),
)
SICK: dict[str, dict[str, Any]] = {
    "root": {"root": False},
    "node-address": {"route_address": "10.0.2.15"},
    "cri": {"containerd_config": {"disabled_plugins": ["cri"]}},
    "cgroups": {"runtime_driver": "cgroupfs"},
    "bridge-netfilter": {"sysctls": {**HEALTHY.sysctls, "bridge_nf": 0}},
    "forwarding": {"sysctls": {**HEALTHY.sysctls, "ip_forward": 0}},
    "forward-policy": {"forward_drop": True},
    "two-tables": {"rules": {"legacy": 3, "nft": 5}},
    "firewall": {"services": frozenset({"ufw"})},
    "swap": {"swap": ("/dev/sda2",)},
    "machine-id": {"machine_id": ""},
    "own-name": {"own_addresses": ("127.0.1.1",)},
    "resolver-stub": {"resolv_conf": "nameserver 127.0.0.53\n"},
    "mtu": {"mtus": {"eth0": 1400, "flannel.1": 1450}},
    "checksum-offload": {"kernel": (5, 4), "nft": (0, 0, 0)},
    "links": {"missing_links": ("vxlan",)},
    "inotify": {"sysctls": {**HEALTHY.sysctls, "inotify_instances": 128}},
    "ranges": {"routes": ("10.0.0.0/8 tun0",)},
    "host-only": {"virtual": "oracle", "addresses": {"192.0.2.11": "eth0", "192.168.99.4": "eth1"}},
    "clock": {"skew": 400.0},
    "proxy-variables": {"environment": {"https_proxy": "http://proxy:3128"}},
    "resources": {"memory": 256 << 20},
    "selinux": {"selinux": True},
    "network-services": {"services": frozenset({"systemd-networkd"}), "keeps_foreign_routes": False},
    "remains": {"interfaces": ("lo", "cni0"), "services": frozenset({"k3s"})},
    "runtimes": {"sockets": facts.SOCKETS[:2]},
    "nft": {"nft": (1, 1, 3)},
    "kvm": {"kvm": False},
    "cni-folders": {
        "containerd_config": {"plugins": {"io.containerd.grpc.v1.cri": {"cni": {"bin_dir": "/usr/lib/cni"}}}}
    },
    "sandbox-image": {"image": "connection refused"},
    "programs": {"missing_programs": ("conntrack",)},
    "open-files": {"nofile": 1024},
    "interrupted": {"installed": {"complete": False, "role": "agent"}},
    "host-name": {"hostname": "Node_1"},
    "ports": {"taken": (10250,)},
}


def test_a_healthy_host_has_nothing_wrong() -> None:
    assert command.judge(HEALTHY) == []


@pytest.mark.parametrize("name", SICK)
def test_each_pitfall_is_found_alone_with_a_reason_and_a_command(name: str) -> None:
    found = command.judge(replace(HEALTHY, **SICK[name]))
    assert [check.name for check, _ in found if check.name == name] == [name]
    assert {check.name for check, _ in found} <= {name, "two-tables", "nft", "remains"}
    check, finding = next(each for each in found if each[0].name == name)
    assert all((check.why, finding.saw, finding.fix))


def test_every_row_of_the_contract_has_its_check_and_every_check_a_test() -> None:
    assert {check.number for check in command.CHECKS} >= set(range(1, 29))
    assert {check.name for check in command.CHECKS} == set(SICK)


def test_a_configured_address_this_machine_lacks_is_a_failure_that_names_those_it_has() -> None:
    (_, finding), *_ = command.judge(replace(HEALTHY, agent={"nodeIP": "192.0.2.99"}))
    assert finding.level == FAILURE
    assert "192.0.2.11" in finding.saw


@pytest.mark.parametrize(
    ("routes", "found"),
    [
        (("10.244.3.0/24 eth0",), ""),  # our own, to another node
        (("10.244.0.0/16 cni0",), ""),
        (("10.244.0.0/15 tun0",), "10.244.0.0/15 tun0"),
        (("10.244.128.0/20 docker0",), "10.244.128.0/20 docker0"),
    ],
)
def test_ranges_clash_with_others_routes_and_not_with_our_own(routes: tuple[str, ...], found: str) -> None:
    assert network_checks.overlap("10.244.0.0/16", routes) == found


def test_routes_are_read_as_the_kernel_writes_them() -> None:
    text = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\n"
        "eth0\t0038A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
    )
    assert facts.routes(text) == ["192.168.56.0/24 eth0"]


@pytest.mark.parametrize(("levels", "code"), [((), 0), ((WARNING,), 3), ((WARNING, FAILURE), 1)])
def test_the_exit_code_tells_failures_from_warnings(levels: tuple[str, ...], code: int) -> None:
    assert exit_code([Finding(saw="", fix="", level=each) for each in levels]) == code


def test_only_safe_fixes_are_run() -> None:
    host = FakeHost()
    found = command.judge(replace(HEALTHY, **SICK["forwarding"], swap=("/dev/sda2",)))
    assert command.mend(host, found)
    assert host.ran == ["sh -c sysctl -w net.ipv4.ip_forward=1"]
    assert not command.mend(FakeHost(), command.judge(HEALTHY))


def test_text_and_json_tell_the_same() -> None:
    found = command.judge(replace(HEALTHY, **SICK["forwarding"]))
    assert "net.ipv4.ip_forward is 0" in command.as_text(found)
    assert "doctor --fix" in command.as_text(found)
    (row,) = json.loads(command.as_json(found))["findings"]
    assert (row["check"], row["safe"], row["level"]) == ("forwarding", True, FAILURE)


def test_nothing_secret_leaves_the_host() -> None:
    key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----"
    jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"
    text = f"{key}\ntoken: abcdef.0123456789abcdef\nAuthorization: Bearer {jwt}\nclient-key-data: QUJD\nnode n1 ready\n"
    found = bundle.redact(text)
    for secret in ("MHcCAQ", "0123456789abcdef", jwt, "QUJD"):
        assert secret not in found
    assert "node n1 ready" in found


def test_an_objects_secret_values_are_struck_out_and_the_rest_stays() -> None:
    env = [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "MODE", "value": "fast"}]
    pod = {"metadata": {"name": "p", "managedFields": [1]}, "spec": {"containers": [{"env": env}]}}
    found = bundle.without_secrets(pod)
    assert found["metadata"] == {"name": "p"}
    assert [each["value"] for each in found["spec"]["containers"][0]["env"]] == [bundle.STRUCK, "fast"]
