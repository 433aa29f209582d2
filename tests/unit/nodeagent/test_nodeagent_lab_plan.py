"""The lab's plan: which machines there are and what each is told."""

import json
from pathlib import Path

import pytest

from nodeagent.lab import documents, plan, shapes

HOST = plan.Host(
    python="/venv/bin/python", containerd="/usr/bin/containerd", source=Path("/src"), visible=(Path("/src"),)
)


def lab(nodes: int = 3, *, api_fd: int = 9) -> plan.Lab:
    return plan.plan("lab-1", directory=Path("/state"), nodes=nodes, host=HOST, api_fd=api_fd)


def test_every_machine_has_its_own_address_on_the_underlay() -> None:
    addresses = [str(machine.address) for machine in lab().machines]
    assert addresses == ["192.168.77.2/24", "192.168.77.11/24", "192.168.77.12/24", "192.168.77.13/24"]


def test_every_machine_has_its_own_cgroup_below_the_labs() -> None:
    made = lab()
    assert [machine.cgroup for machine in made.machines] == [
        "/nodeagent-lab/lab-1/server",
        "/nodeagent-lab/lab-1/node-1",
        "/nodeagent-lab/lab-1/node-2",
        "/nodeagent-lab/lab-1/node-3",
    ]
    assert all(machine.cgroup.startswith(made.cgroup + "/") for machine in made.machines)


def test_no_two_machines_share_a_directory() -> None:
    folders = [machine.data(folder) for machine in lab().machines for folder in plan.DATA_FOLDERS]
    assert len(set(folders)) == len(folders)


def test_a_node_runs_containerd_the_agent_and_dns_and_the_server_only_the_control_plane() -> None:
    made = lab(1)
    assert [service.name for service in made.server.services] == ["server"]
    assert [service.name for service in made.nodes[0].services] == ["containerd", "agent", "dns"]


def test_the_servers_sockets_are_the_underlays_and_the_hosts_loopback() -> None:
    server = lab().server
    assert [(socket.name, socket.address, socket.fd) for socket in server.sockets] == [
        ("api-underlay", "192.168.77.2:6443", -1),
        ("api-loopback", "", 9),
    ]
    assert server.services[0].sockets == ("api-underlay", "api-loopback")


def test_without_a_loopback_socket_the_server_listens_on_the_underlay_alone() -> None:
    assert [socket.name for socket in lab(api_fd=-1).server.sockets] == ["api-underlay"]


@pytest.mark.parametrize("nodes", [0, -1, 21])
def test_a_number_of_nodes_that_cannot_be_is_refused_by_name(nodes: int) -> None:
    with pytest.raises(ValueError, match=r"nodes: .* is not between 1 and 20"):
        lab(nodes)


@pytest.mark.parametrize("name", ["", "Lab", "a/b", "a b", "ä"])
def test_a_name_that_could_leave_its_cgroup_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        plan.plan(name, directory=Path("/state"), nodes=1, host=HOST)


def test_the_boot_document_survives_json_and_tells_all_there_is_to_do() -> None:
    node = lab().nodes[1]
    spec = plan.boot_spec(node, host=HOST, controllers=[Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup/memory")])
    read = json.loads(json.dumps(spec))
    assert read["hostname"] == "node-2"
    assert read["network"]["interfaces"] == ["eth0"]
    assert "address add 192.168.77.12/24 dev eth0" in read["network"]["lines"]
    assert read["network"]["lines"][-1] == "route add default via 192.168.77.1 dev eth0 onlink"
    assert read["cgroups"] == [
        "/sys/fs/cgroup/pids/nodeagent-lab/lab-1/node-2/system",
        "/sys/fs/cgroup/memory/nodeagent-lab/lab-1/node-2/system",
    ]
    assert read["binds"][0] == ["/src", "/src"]
    assert ["/state/machines/node-2/data/var-lib-kubelet", "/var/lib/kubelet"] in read["binds"]
    assert read["sysctls"]["net/ipv4/ip_forward"] == "1"
    assert [service["name"] for service in read["services"]] == ["containerd", "agent", "dns"]


def test_the_servers_keys_are_bound_into_the_server_only() -> None:
    made = lab(1)
    targets = {
        machine.name: [bind[1] for bind in plan.boot_spec(machine, host=HOST, controllers=[])["binds"]]  # type: ignore[index,attr-defined]
        for machine in made.machines
    }
    assert "/etc/nodeagent/pki" in targets["server"]
    assert "/etc/nodeagent/pki" not in targets["node-1"]


def test_a_limited_lab_keeps_its_machines_and_drops_other_services() -> None:
    made = plan.limited(lab(2), services=frozenset({"containerd"}))
    assert [[service.name for service in machine.services] for machine in made.machines] == [
        [],
        ["containerd"],
        ["containerd"],
    ]


def test_the_cable_puts_one_end_into_the_machine_and_the_other_on_the_bridge() -> None:
    assert plan.cable_batch(lab().nodes[0], 42) == (
        "link add to-node-1 type veth peer name eth0 address 02:00:c0:a8:4d:0b netns 42\n"
        "link set to-node-1 master underlay up\n"
    )


def test_behind_routers_a_machine_has_its_address_alone_and_hears_no_other() -> None:
    routed = plan.plan("lab-1", directory=Path("/state"), nodes=1, host=HOST, underlay="routed").nodes[0]
    lines = shapes.network(routed.underlay, routed.address, gateway=plan.gateway()).lines
    assert "address add 192.168.77.11/32 dev eth0" in lines
    assert lines[-1] == "route add default via 192.168.77.1 dev eth0 onlink"
    assert plan.cable_batch(routed, 42).endswith("link set to-node-1 type bridge_slave isolated on\n")


def test_the_first_of_two_links_has_the_same_address_everywhere_and_the_way_out() -> None:
    made = plan.plan("lab-1", directory=Path("/state"), nodes=2, host=HOST, underlay="two-links")
    for machine in made.nodes:
        found = shapes.network(machine.underlay, machine.address, gateway=plan.gateway())
        assert found.interfaces == ("eth0", "eth1")
        assert f"address add {machine.address} dev eth1" in found.lines
        assert "address add 10.0.2.15/24 dev eth0" in found.lines
    assert "link add nat type bridge" in plan.underlay_batch("two-links")
    assert "nat" not in plan.underlay_batch()


def test_an_unknown_underlay_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="underlay: 'ring'"):
        plan.plan("lab-1", directory=Path("/state"), nodes=1, host=HOST, underlay="ring")


def test_the_longest_name_of_a_cable_fits_the_kernel() -> None:
    longest = max((f"to-{machine.name}" for machine in lab(plan.MAX_NODES).machines), key=len)
    assert len(longest) <= 15


def test_a_kubelet_gets_the_cgroup_root_of_its_machine() -> None:
    node = lab().nodes[2]
    kubelet = documents.node(node)["kubelet.yaml"]
    assert kubelet["cgroupRoot"] == "/nodeagent-lab/lab-1/node-3"
    assert kubelet["clusterDNS"] == ["10.96.0.10"]


def test_machine_ids_differ_and_are_well_formed() -> None:
    ids = [documents.etc_files(machine, resolvers=[])["/etc/machine-id"] for machine in lab().machines]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 33 and set(each) <= set(b"0123456789abcdef\n") for each in ids)


def test_without_a_way_out_no_name_server_is_named() -> None:
    node = lab().nodes[0]
    assert documents.etc_files(node, resolvers=[])["/etc/resolv.conf"] == b""
    assert documents.etc_files(node, resolvers=["10.0.2.3"])["/etc/resolv.conf"] == b"nameserver 10.0.2.3\n"
