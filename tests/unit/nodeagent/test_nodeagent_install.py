"""Installation as a plan: which files and units, what containerd is told, what restarts; and its few effects."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from cni.config import CNIConfiguration
from controlplane import config as server_config
from kube.runtime import config as documents
from nodeagent import config
from nodeagent.install import apply, command, containerd, layout, observe, plan, release, smoke, uninstall, units
from nodeagent.install.errors import InstallError
from nodeagent.join.plan import Cluster
from proxy.config import KubeProxyConfiguration
from proxy.dns.config import DNSConfiguration
from tests.fakes.host import FakeHost

DOCKERS = {"disabled_plugins": ["cri"], "root": "/data/containerd"}
DEBIANS = {"version": 2, "plugins": {"io.containerd.grpc.v1.cri": {"cni": {"bin_dir": "/usr/lib/cni"}}}}
CRI = "io.containerd.grpc.v1.cri"


def facts(**changes: Any) -> plan.Facts:
    given = {
        "containerd": "/usr/bin/containerd",
        "containerd_version": (1, 7),
        "containerd_config": {},
        "systemd_cgroup": True,
    }
    return plan.Facts(**{**given, **changes})


def node(**changes: Any) -> plan.Node:
    return plan.Node(**{"name": "n1", "cluster": Cluster(pod_cidr="10.244.0.0/16"), **changes})


def written(made: plan.Plan, name: str) -> Any:
    return yaml.safe_load(next(file.content for file in made.files if file.path.name == f"00-{name}.yaml"))


# what is written can be read by those it is for


def test_every_document_is_accepted_by_its_reader() -> None:
    made = plan.server(plan.Server(advertise="192.0.2.2", names=("api.example.org",))) + plan.node(node(), facts())
    kinds = {
        "server": server_config.ServerConfiguration,
        "proxy": KubeProxyConfiguration,
        "cni": CNIConfiguration,
        "dns": DNSConfiguration,
    }
    for name, kind in kinds.items():
        document = documents.Document(written(made, name), source=name)
        documents.decode(document, kind)
    found = {
        each: [written(made, name)]
        for name, each in (("agent", "AgentConfiguration"), ("kubelet", "KubeletConfiguration"))
    }
    settings = config.build(found, source="test")
    assert (settings.node_name, settings.client_ca) == ("n1", "/etc/nodeagent/ca.crt")
    assert settings.kubelet.rotate_certificates
    assert settings.kubelet.server_tls_bootstrap
    server_config.check(msgspec.convert(_plain(written(made, "server")), server_config.ServerConfiguration))


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in ("apiVersion", "kind")}


def test_an_address_that_was_given_is_given_to_everybody_and_none_is_derived_by_each() -> None:
    for ip in ("192.0.2.11", ""):
        made = plan.node(node(ip=ip), facts())
        assert [written(made, name).get("nodeIP", "") for name in ("agent", "dns")] == [ip, ip]


@pytest.mark.parametrize(
    ("addresses", "default", "found"),
    [
        ({"192.0.2.2": "eth0"}, "192.0.2.2", "192.0.2.2"),
        ({"10.0.2.15": "eth0", "192.168.56.10": "eth1"}, "10.0.2.15", "192.168.56.10"),
        ({"192.0.2.2": "eth0", "198.51.100.2": "eth1"}, "192.0.2.2", "192.0.2.2"),
        ({"10.0.2.15": "eth0"}, "10.0.2.15", "10.0.2.15"),
        ({"10.0.2.15": "eth0", "192.168.56.10": "eth1", "192.0.2.2": "eth2"}, "10.0.2.15", None),
        ({}, "", None),
    ],
)
def test_a_server_takes_the_address_others_reach_and_asks_where_it_cannot_know(
    addresses: dict[str, str], default: str, found: str | None
) -> None:
    if found:
        assert plan.advertised(addresses, default) == found
        return
    with pytest.raises(ValueError, match="--advertise-address"):
        plan.advertised(addresses, default)


# containerd


@pytest.mark.parametrize("version", [(1, 6), (1, 7), (2, 0), (2, 1)])
@pytest.mark.parametrize("host", [{}, DOCKERS, DEBIANS])
def test_containerd_serves_cri_with_our_folders_and_keeps_the_rest_of_the_hosts_settings(
    host: dict[str, Any], version: tuple[int, int]
) -> None:
    made = containerd.adjusted(host, version=version, systemd_cgroup=True, sandbox_image="pause:1")
    assert tomllib.loads(containerd.render(made)) == made
    assert made["disabled_plugins"] == []
    assert made.get("root") == host.get("root")
    second = made["version"] == 2
    runtime = made["plugins"][CRI if second else containerd.RUNTIME]
    assert runtime["cni"]["conf_dir"] == "/etc/cni/net.d"
    assert runtime["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is True
    assert "pause:1" in containerd.render(made)


def test_odd_keys_and_lists_of_tables_survive() -> None:
    host = {
        "a b": 'quo"te',
        "list": [1, 2],
        "empty": {},
        "tables": [{"x": 1, "y": {"z": True}}],
        "deep": {"é": {"k": []}},
    }
    assert tomllib.loads(containerd.render(host)) == host


# units


@pytest.mark.parametrize("text", [units.server(), units.agent(), units.dns()])
def test_every_unit_tells_when_it_is_ready_is_watched_and_leaves_pods_alone(text: str) -> None:
    for line in ("Type=notify", "KillMode=process", "Restart=always", f"WatchdogSec={units.WATCHDOG_SECONDS}"):
        assert line in text.splitlines()


def test_the_agent_has_no_mount_namespace_of_its_own_and_its_cgroups_delegated() -> None:
    text = units.agent()
    assert "Delegate=yes" in text
    assert "After=containerd.service" in text
    for word in (
        "ProtectSystem",
        "PrivateTmp",
        "ProtectHome",
        "ReadOnlyPaths",
        "PrivateDevices",
        "ProtectKernelModules",
    ):
        assert word not in text


# effects


def test_a_second_run_changes_and_restarts_nothing() -> None:
    host, made = FakeHost(), plan.node(node(), facts())
    assert len(apply.write(host, made.files)) == len(made.files)
    assert apply.write(host, made.files) == set()
    assert apply.to_restart(made.units, set(), new_release=False) == []


def test_a_new_release_restarts_our_services_and_not_containerd() -> None:
    made = plan.node(node(), facts())
    assert apply.to_restart(made.units, set(), new_release=True) == list(made.units)
    assert not apply.concerns_containerd({layout.ETC / "00-agent.yaml"})
    assert apply.to_restart(made.units, {layout.UNITS / layout.DNS_UNIT}, new_release=False) == [layout.DNS_UNIT]


def test_a_service_that_does_not_come_up_is_told_with_its_own_last_words() -> None:
    show = f"systemctl show {layout.AGENT_UNIT} -p ActiveState,Result,StatusText,NRestarts"
    journal = f"journalctl -u {layout.AGENT_UNIT} -n 10 --no-pager -o cat"
    host = FakeHost({show: "ActiveState=failed\nResult=exit-code\n", journal: "no route to host"})
    with pytest.raises(InstallError, match=r"(?s)nodeagent-agent.service does not become ready.*no route to host"):
        apply.wait(host, layout.AGENT_UNIT)


def test_what_a_dry_run_prints_holds_no_secret() -> None:
    secret = plan.File(path=layout.CLIENT, content=b"PRIVATE", mode=0o600)
    assert "PRIVATE" not in apply.all_of(plan.Plan(files=(secret,), units=()))


def test_releases_are_named_by_what_is_in_them_and_only_two_are_kept(tmp_path: Path) -> None:
    for package in release.PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "pyproject.toml").write_text("a")
    first = release.name(tmp_path, None)
    assert release.name(tmp_path, None) == first
    (tmp_path / "kube" / "new.py").write_text("x")
    assert release.name(tmp_path, None) != first
    assert release.unused([("a", 1), ("b", 2), ("c", 3)], current="c") == ["a"]
    assert release.unused([("a", 1), ("b", 2)], current="a") == []
    with pytest.raises(InstallError, match="holds no nodeagent"):
        release.name(tmp_path, tmp_path)


def test_uninstall_leaves_what_others_made() -> None:
    host = FakeHost()
    others = (layout.CONTAINERD_MAIN, Path("/etc/cni/net.d/99-other.conf"), Path("/opt/cni/bin/bridge"))
    apply.write(host, plan.node(node(), facts(networkd=True, network_manager=True)).files)
    for path in others:
        host.write(path, b"theirs", mode=0o644)
    host.link(layout.CURRENT, layout.RELEASES / "a")
    for _ in range(2):
        uninstall.remove(host, whole=True)
        assert set(host.files) == set(others)
    assert f"systemctl try-restart {layout.CONTAINERD_UNIT}" in host.ran


def test_mounts_go_from_the_deepest_up() -> None:
    mounts = ["/", "/var/lib/kubelet/pods/a", "/var/lib/kubelet/pods/a/b", "/var/lib/kubelet2"]
    assert uninstall.mounts_below(layout.KUBELET, mounts) == ["/var/lib/kubelet/pods/a/b", "/var/lib/kubelet/pods/a"]


@pytest.mark.parametrize(
    ("status", "lacks"), [("CapEff:\t000001ffffffffff", False), ("CapEff:\t00000000fcecbfff", True), ("", False)]
)
def test_root_without_cap_sys_resource_is_noticed(status: str, lacks: bool) -> None:
    assert observe.lacks_sys_resource(status) is lacks


def test_help_for_installing_needs_nothing_but_python() -> None:
    """The first stage runs on a host's bare Python, before anything is installed."""
    argv = ["/usr/bin/python3", "-I", "-S", "-c", _BARE, str(Path(__file__).resolve().parents[3])]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--advertise-address" in done.stdout


_BARE = """
import sys
sys.path.insert(0, sys.argv[1])
from nodeagent.__main__ import main
from nodeagent.install import release, host
try:
    main(["install", "server", "--help"])
except SystemExit as e:
    sys.exit(e.code)
"""


# smoke


def test_every_node_has_a_server_and_a_client_that_asks_all_targets() -> None:
    server, client = smoke.server("n1", "busybox:1"), smoke.client("n1", "busybox:1", ["10.244.0.2:8080", "web"])
    assert [each["spec"]["nodeName"] for each in (server, client)] == ["n1", "n1"]
    assert client["spec"]["containers"][0]["env"] == [{"name": "TARGETS", "value": "10.244.0.2:8080 web"}]
    assert server["metadata"]["labels"] == smoke.service()["spec"]["selector"]
    assert not client["metadata"]["labels"]


def test_who_did_not_answer_is_named() -> None:
    assert smoke.silent(["10.244.0.2:8080 server-n1", "web SILENT"]) == ["web"]


def test_a_host_whose_routes_overlap_the_pods_range_does_not_join() -> None:
    command.refuse_overlap("10.244.0.0/16", ["192.0.2.0/24 eth0", "10.244.1.0/24 eth0"])
    with pytest.raises(InstallError, match=r"10\.244\.0\.0/16, which overlaps this host's route 10\.0\.0\.0/8 tun0"):
        command.refuse_overlap("10.244.0.0/16", ["10.0.0.0/8 tun0"])


def test_a_host_has_one_role() -> None:
    command.refuse_other_role({}, "agent")
    with pytest.raises(InstallError, match="installed as server"):
        command.refuse_other_role({"role": "server"}, "agent")
