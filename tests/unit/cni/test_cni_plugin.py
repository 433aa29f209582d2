"""The verbs of the plugin over leases in a temporary folder and links without a kernel."""

import json
from pathlib import Path
from typing import Any

import pytest

from cni.plugin import Plugin
from fakes.links import FakeLinks
from fakes.ports import FakePorts

POD = "/run/netns/pod"


class Runtime:
    """Calls the plugin as a container runtime does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.links = FakeLinks([POD, "/run/netns/other"])
        self.ports = FakePorts()
        self.plugin = Plugin(links=self.links, ports=lambda _: self.ports)

    def config(self, **changes: Any) -> dict[str, Any]:
        ipam = {"type": "nodeagent-cni", "dataDir": str(self.folder), "ranges": [[{"subnet": "10.1.2.0/29"}]]}
        return {"cniVersion": "1.0.0", "name": "net", "type": "nodeagent-cni", "ipam": ipam} | changes

    def call(self, command: str, container: str = "abc", config: Any = None, **variables: str) -> tuple[int, Any]:
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": POD,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
        } | variables
        stdin = config if isinstance(config, bytes) else json.dumps(config or self.config()).encode()
        code, body = self.plugin.call({k: v for k, v in environment.items() if v}, stdin)
        return code, json.loads(body) if body else None

    def leases(self) -> set[str]:
        names = {path.name for path in (self.folder / "net").iterdir()} if (self.folder / "net").exists() else set()
        return {name for name in names if name[0].isdigit()}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def test_add_answers_with_three_interfaces_and_the_first_free_address(runtime: Runtime) -> None:
    code, result = runtime.call("ADD")
    assert code == 0
    assert result["cniVersion"] == "1.0.0"
    assert [link["name"] for link in result["interfaces"]] == ["cni0", result["interfaces"][1]["name"], "eth0"]
    assert result["interfaces"][2]["sandbox"] == POD
    assert "sandbox" not in result["interfaces"][1]
    assert result["ips"] == [{"address": "10.1.2.2/29", "interface": 2, "gateway": "10.1.2.1"}]
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}]


@pytest.mark.parametrize(
    ("version", "has_family"), [("0.3.1", True), ("0.4.0", True), ("1.0.0", False), ("1.1.0", False)]
)
def test_add_answers_in_the_version_asked_for(runtime: Runtime, version: str, has_family: bool) -> None:
    _, result = runtime.call("ADD", config=runtime.config(cniVersion=version))
    assert result["cniVersion"] == version
    assert ("version" in result["ips"][0]) is has_family
    if has_family:
        assert result["ips"][0]["version"] == "4"


def test_the_lease_on_disk_is_in_host_locals_layout(runtime: Runtime) -> None:
    runtime.call("ADD")
    assert (runtime.folder / "net" / "10.1.2.2").read_bytes() == b"abc\r\neth0"
    assert (runtime.folder / "net" / "last_reserved_ip.0").read_text() == "10.1.2.2"


def test_addresses_go_round_and_are_not_reused_at_once(runtime: Runtime) -> None:
    addresses = []
    for number in range(4):
        _, result = runtime.call("ADD", f"c{number}")
        addresses.append(result["ips"][0]["address"])
        runtime.call("DEL", f"c{number}")
    assert addresses == ["10.1.2.2/29", "10.1.2.3/29", "10.1.2.4/29", "10.1.2.5/29"]


def test_a_used_up_range_says_so_and_leaves_nothing(runtime: Runtime) -> None:
    for number in range(5):
        runtime.links.namespaces.add(f"/run/netns/{number}")
        assert runtime.call("ADD", f"c{number}", CNI_NETNS=f"/run/netns/{number}")[0] == 0
    code, error = runtime.call("ADD", "last")
    assert code == 1
    assert error["code"] >= 100
    assert error["msg"] == "no IP addresses available"
    assert len(runtime.leases()) == 5


def test_a_failed_add_gives_its_address_back(runtime: Runtime) -> None:
    code, error = runtime.call("ADD", CNI_NETNS="/run/netns/none")
    assert (code, error["code"]) == (1, 3)
    assert runtime.leases() == set()


def test_a_second_add_for_the_same_interface_fails_and_keeps_the_first(runtime: Runtime) -> None:
    runtime.call("ADD")
    code, _ = runtime.call("ADD")
    assert code == 1
    assert runtime.leases() == {"10.1.2.2"}
    assert len(runtime.links.pairs) == 1


def test_del_removes_pair_and_lease_and_succeeds_again(runtime: Runtime) -> None:
    runtime.call("ADD")
    assert runtime.call("DEL") == (0, None)
    assert runtime.leases() == set()
    assert runtime.links.pairs == {}
    assert runtime.call("DEL") == (0, None)


def test_del_needs_no_namespace(runtime: Runtime) -> None:
    runtime.call("ADD")
    assert runtime.call("DEL", CNI_NETNS="") == (0, None)
    assert runtime.leases() == set()


def test_check_passes_after_add_and_fails_when_the_pair_is_gone(runtime: Runtime) -> None:
    _, result = runtime.call("ADD")
    config = runtime.config(prevResult=result)
    assert runtime.call("CHECK", config=config) == (0, None)
    runtime.links.pairs.clear()
    code, error = runtime.call("CHECK", config=config)
    assert code == 1
    assert "is missing" in error["details"]


def test_check_without_the_previous_result_names_it(runtime: Runtime) -> None:
    code, error = runtime.call("CHECK")
    assert (code, error["code"]) == (1, 7)
    assert "prevResult" in error["msg"]


def test_gc_drops_everything_but_the_valid_attachments(runtime: Runtime) -> None:
    runtime.call("ADD", "keep")
    runtime.call("ADD", "drop", CNI_NETNS="/run/netns/other")
    valid = [{"containerID": "keep", "ifname": "eth0"}]
    config = runtime.config(cniVersion="1.1.0") | {"cni.dev/valid-attachments": valid}
    assert runtime.call("GC", config=config) == (0, None)
    assert runtime.leases() == {"10.1.2.2"}
    assert len(runtime.links.pairs) == 1


def test_status_tells_a_missing_range_and_a_full_one(runtime: Runtime) -> None:
    current = runtime.config(cniVersion="1.1.0")
    assert runtime.call("STATUS", config=current) == (0, None)
    assert runtime.call("STATUS", config=current | {"ipam": {}})[1]["code"] == 50
    for number in range(5):
        runtime.links.namespaces.add(f"/run/netns/{number}")
        runtime.call("ADD", f"c{number}", CNI_NETNS=f"/run/netns/{number}")
    assert runtime.call("STATUS", config=current)[1]["code"] == 51


def test_version_lists_what_is_spoken(runtime: Runtime) -> None:
    code, body = runtime.call("VERSION", config={"cniVersion": "1.0.0"})
    assert code == 0
    assert body == {"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"CNI_IFNAME": ""}, "CNI_IFNAME"),
        ({"CNI_NETNS": ""}, "CNI_NETNS"),
        ({"CNI_CONTAINERID": "-bad"}, "CNI_CONTAINERID"),
        ({"CNI_IFNAME": "sixteen-letters-"}, "CNI_IFNAME"),
        ({"CNI_IFNAME": "a/b"}, "CNI_IFNAME"),
        ({"CNI_IFNAME": ".."}, "CNI_IFNAME"),
        ({"CNI_ARGS": "novalue"}, "CNI_ARGS"),
        ({"CNI_COMMAND": "FROB"}, "CNI_COMMAND"),
    ],
)
def test_a_bad_environment_is_code_4_and_named(runtime: Runtime, variables: dict[str, str], named: str) -> None:
    code, error = runtime.call("ADD", **variables)
    assert (code, error["code"]) == (1, 4)
    assert named in error["msg"] + error.get("details", "")


@pytest.mark.parametrize(
    ("config", "code", "named"),
    [
        (b"{", 6, "decode"),
        (b"[]", 6, "object"),
        ({"cniVersion": "9.0.0"}, 1, "9.0.0"),
        ({"name": "../x"}, 7, "name"),
        ({"mtu": 7}, 7, "mtu"),
        ({"bridge": "a b"}, 7, "bridge"),
        ({"ipam": {"type": "dhcp"}}, 7, "ipam.type"),
        ({"ipam": {"type": "../dhcp"}}, 7, "ipam.type"),
        ({"ipam": {"type": 3}}, 7, "ipam.type"),
        ({"ipam": {"ranges": [[{"subnet": "10.0.0.0/33"}]]}}, 7, "ipam.ranges"),
        ({"ipam": {"ranges": [[{"subnet": "10.0.0.0/31"}]]}}, 7, "ipam.ranges"),
        ({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/25"}]]}}, 7, "ipam.ranges"),
    ],
)
def test_a_bad_configuration_names_the_key(runtime: Runtime, config: Any, code: int, named: str) -> None:
    sent = config if isinstance(config, bytes) else runtime.config(**config)
    exit_code, error = runtime.call("ADD", config=sent)
    assert (exit_code, error["code"]) == (1, code)
    assert named in error["msg"] + error.get("details", "")


def test_two_range_sets_give_a_pod_two_addresses(runtime: Runtime) -> None:
    ipam = {"dataDir": str(runtime.folder), "ranges": [[{"subnet": "10.1.2.0/29"}], [{"subnet": "fd00:1::/64"}]]}
    _, result = runtime.call("ADD", config=runtime.config(ipam=ipam))
    assert [ip["address"] for ip in result["ips"]] == ["10.1.2.2/29", "fd00:1::2/64"]
    assert [route["dst"] for route in result["routes"]] == ["0.0.0.0/0", "::/0"]


MAPPING = {"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""}


def with_ports(runtime: Runtime, *mappings: Any) -> dict[str, Any]:
    return runtime.config(runtimeConfig={"portMappings": list(mappings)})


def test_ports_asked_for_are_published_and_taken_back_by_a_del_that_does_not_name_them(runtime: Runtime) -> None:
    assert runtime.call("ADD", config=with_ports(runtime, MAPPING))[0] == 0
    (record,) = runtime.ports.published()
    assert [str(address) for address in record.addresses] == ["10.1.2.2"]
    assert (record.ports[0].protocol, record.ports[0].host_ip) == ("tcp", None)
    assert runtime.call("DEL") == (0, None)
    assert list(runtime.ports.published()) == []


def test_the_capital_letters_of_containerd_are_understood(runtime: Runtime) -> None:
    mapping = {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "192.0.2.1"}
    assert runtime.call("ADD", config=with_ports(runtime, mapping))[0] == 0
    (record,) = runtime.ports.published()
    assert (record.ports[0].host_port, str(record.ports[0].host_ip)) == (8080, "192.0.2.1")


def test_a_port_in_use_fails_the_add_and_leaves_nothing(runtime: Runtime) -> None:
    runtime.call("ADD", "one", config=with_ports(runtime, MAPPING))
    code, error = runtime.call("ADD", "two", config=with_ports(runtime, MAPPING), CNI_NETNS="/run/netns/other")
    assert code == 1
    assert "8080/tcp by sandbox one" in error["details"]
    assert runtime.leases() == {"10.1.2.2"}
    assert len(runtime.links.pairs) == 1


def test_gc_takes_back_ports_too(runtime: Runtime) -> None:
    runtime.call("ADD", "drop", config=with_ports(runtime, MAPPING))
    config = runtime.config(cniVersion="1.1.0") | {"cni.dev/valid-attachments": []}
    assert runtime.call("GC", config=config) == (0, None)
    assert list(runtime.ports.published()) == []


@pytest.mark.parametrize(
    ("wishes", "named"),
    [
        ({"portMappings": {}}, "portMappings"),
        ({"portMappings": [{"hostPort": 70000, "containerPort": 80}]}, "portMappings[0].hostPort"),
        ({"portMappings": [{"hostPort": 80, "containerPort": "80"}]}, "portMappings[0].containerPort"),
        ({"portMappings": [MAPPING | {"protocol": "icmp"}]}, "portMappings[0].protocol"),
        ({"portMappings": [MAPPING | {"hostIP": "node"}]}, "portMappings[0].hostIP"),
        ({"bandwidth": {"ingressRate": -1}}, "bandwidth.ingressRate"),
        ({"bandwidth": {"egressBurst": 8}}, "bandwidth.egressRate"),
        ({"ips": ["10.1.2.300"]}, "runtimeConfig.ips"),
        ({"mac": "01:00:5e:00:00:01"}, "runtimeConfig.mac"),
        ({"mac": 7}, "runtimeConfig.mac"),
        ({"dns": {"servers": "10.0.0.1"}}, "dns.servers"),
    ],
)
def test_a_bad_wish_of_the_runtime_names_the_key(runtime: Runtime, wishes: Any, named: str) -> None:
    code, error = runtime.call("ADD", config=runtime.config(runtimeConfig=wishes))
    assert (code, error["code"]) == (1, 7)
    assert named in error["msg"]
    assert runtime.leases() == set()


def test_a_requested_address_and_mac_are_given(runtime: Runtime) -> None:
    wishes = {"ips": ["10.1.2.5"], "mac": "02-11-22-33-44-55"}
    code, result = runtime.call("ADD", config=runtime.config(runtimeConfig=wishes))
    assert code == 0
    assert result["ips"][0]["address"] == "10.1.2.5/29"
    assert result["interfaces"][2]["mac"] == "02:11:22:33:44:55"


def test_cni_args_may_ask_for_an_address_too(runtime: Runtime) -> None:
    _, result = runtime.call("ADD", CNI_ARGS="IgnoreUnknown=1;IP=10.1.2.6")
    assert result["ips"][0]["address"] == "10.1.2.6/29"


@pytest.mark.parametrize("address", ["10.1.2.1", "10.1.2.7", "10.9.9.9", "fd00::2"])
def test_an_address_that_no_range_can_give_is_refused_by_name(runtime: Runtime, address: str) -> None:
    code, error = runtime.call("ADD", config=runtime.config(runtimeConfig={"ips": [address]}))
    assert (code, error["code"]) == (1, 7)
    assert address in error["details"]


def test_a_requested_address_in_use_names_its_holder(runtime: Runtime) -> None:
    wishes = runtime.config(runtimeConfig={"ips": ["10.1.2.5"]})
    runtime.call("ADD", "first", config=wishes)
    code, error = runtime.call("ADD", "second", config=wishes, CNI_NETNS="/run/netns/other")
    assert code == 1
    assert "10.1.2.5" in error["msg"]
    assert "first" in error["details"]
    assert runtime.leases() == {"10.1.2.5"}


def test_ranges_of_the_runtime_come_before_those_of_the_configuration(runtime: Runtime) -> None:
    wishes = {"ipRanges": [[{"subnet": "10.7.0.0/24"}]]}
    _, result = runtime.call("ADD", config=runtime.config(runtimeConfig=wishes))
    assert [ip["address"] for ip in result["ips"]] == ["10.7.0.2/24", "10.1.2.2/29"]
    assert [ip["gateway"] for ip in result["ips"]] == ["10.7.0.1", "10.1.2.1"]
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.7.0.1"}]


def test_an_exhausted_range_says_how_many_addresses_are_used_by_how_many_sandboxes(runtime: Runtime) -> None:
    for number in range(5):
        runtime.links.namespaces.add(f"/run/netns/{number}")
        runtime.call("ADD", f"c{number}", CNI_NETNS=f"/run/netns/{number}")
    _, error = runtime.call("ADD", "last")
    assert "5 used by 5 sandboxes" in error["details"]


def test_the_burst_that_containerd_passes_for_none_is_none(runtime: Runtime) -> None:
    limits = {"IngressRate": 10_000_000, "IngressBurst": 4294967295, "EgressRate": 0, "EgressBurst": 0}
    assert runtime.call("ADD", config=runtime.config(runtimeConfig={"bandwidth": limits}))[0] == 0
    ((_, made),) = runtime.links.pairs.values()
    assert (made.bandwidth.ingress_rate, made.bandwidth.ingress_burst) == (10_000_000, 0)


def test_as_the_addresses_of_another_plugin_it_answers_without_interfaces(runtime: Runtime) -> None:
    config = runtime.config(type="bridge")
    code, result = runtime.call("ADD", config=config)
    assert code == 0
    assert "interfaces" not in result
    assert result["ips"] == [{"address": "10.1.2.2/29", "gateway": "10.1.2.1"}]
    assert runtime.links.pairs == {}
    assert runtime.call("CHECK", config={**config, "prevResult": result}) == (0, None)
    assert runtime.call("DEL", config=config) == (0, None)
    assert runtime.leases() == set()


PREVIOUS = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "br9"}, {"name": "vethX"}, {"name": "eth0", "sandbox": POD}],
    "ips": [{"address": "10.9.0.7/24", "gateway": "10.9.0.1", "interface": 2}],
}


def test_after_another_plugin_it_publishes_and_limits_and_hands_the_result_on(runtime: Runtime) -> None:
    wishes = {"portMappings": [MAPPING], "bandwidth": {"ingressRate": 8_000_000}}
    config = {"cniVersion": "1.0.0", "name": "net", "type": "nodeagent-cni", "bridge": "br9", "runtimeConfig": wishes}
    assert runtime.call("ADD", config={**config, "prevResult": PREVIOUS}) == (0, PREVIOUS)
    (record,) = runtime.ports.published()
    assert [str(address) for address in record.addresses] == ["10.9.0.7"]
    assert list(runtime.links.shaped) == ["vethX"]
    assert runtime.links.pairs == {}
    assert runtime.call("CHECK", config={**config, "prevResult": PREVIOUS}) == (0, None)
    assert runtime.call("DEL", config=config) == (0, None)
    assert list(runtime.ports.published()) == []


@pytest.mark.parametrize("previous", [[], "x", {"ips": [{"address": "no"}]}, {"ips": 3}, {"interfaces": [None]}])
def test_a_previous_result_that_cannot_be_read_is_named(runtime: Runtime, previous: Any) -> None:
    code, error = runtime.call("ADD", config=runtime.config(prevResult=previous))
    assert (code, error["code"]) == (1, 7)
    assert "prevResult" in error["msg"]


def test_a_route_of_the_configuration_may_name_its_gateway(runtime: Runtime) -> None:
    config = runtime.config()
    config["ipam"]["routes"] = [{"dst": "10.0.0.0/8"}, {"dst": "172.16.0.0/12", "gw": "10.1.2.3"}]
    _, result = runtime.call("ADD", config=config)
    assert result["routes"] == [{"dst": "10.0.0.0/8", "gw": "10.1.2.1"}, {"dst": "172.16.0.0/12", "gw": "10.1.2.3"}]


def hosts(runtime: Runtime) -> list[str]:
    """What a name server with all files of the network knows."""
    files = sorted((runtime.folder / "net.aliases").glob("*"))
    return [line for path in files for line in path.read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("names", [["db", "primary.db"], {"net": ["db", "primary.db"], "other": ["x"]}])
def test_aliases_are_published_as_hosts_files_until_del(runtime: Runtime, names: Any) -> None:
    config = runtime.config(runtimeConfig={"aliases": names})
    _, result = runtime.call("ADD", config=config)
    assert hosts(runtime) == ["10.1.2.2 db primary.db"]
    assert runtime.call("CHECK", config={**config, "prevResult": result}) == (0, None)
    runtime.call("DEL")
    assert hosts(runtime) == []
    runtime.call("ADD", config=runtime.config())
    code, error = runtime.call("CHECK", config={**config, "prevResult": result})
    assert (code, "aliases" in error["details"]) == (1, True)


def test_gc_takes_back_aliases_and_a_failed_add_leaves_none(runtime: Runtime) -> None:
    runtime.call("ADD", config=runtime.config(runtimeConfig={"aliases": ["db"], "portMappings": [MAPPING]}))
    wishes = {"aliases": ["web"], "portMappings": [MAPPING]}
    code, _ = runtime.call("ADD", "second", config=runtime.config(runtimeConfig=wishes), CNI_NETNS="/run/netns/other")
    assert code == 1
    assert hosts(runtime) == ["10.1.2.2 db"]
    runtime.call("GC", config=runtime.config(cniVersion="1.1.0") | {"cni.dev/valid-attachments": []})
    assert hosts(runtime) == []


@pytest.mark.parametrize("wrong", ["db", [""], [3], ["no space"], {"net": "db"}])
def test_an_alias_that_is_no_name_is_refused(runtime: Runtime, wrong: Any) -> None:
    code, error = runtime.call("ADD", config=runtime.config(runtimeConfig={"aliases": wrong}))
    assert (code, error["code"], "runtimeConfig.aliases" in error["msg"]) == (1, 7, True)
