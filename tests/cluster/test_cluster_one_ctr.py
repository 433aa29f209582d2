"""The plugin beside Kubernetes: a container that `ctr` starts on a node."""

import json

from nodeagent.lab import cluster, machine

IMAGE = "nodeagent.local/busybox:1"
SHOW = "ip -o -4 address show eth0; ping -c1 -W5 $(ip route | awk '/default/ {print $3}') >/dev/null && echo reached"


def ctr(one_node: cluster.Running, name: str, script: str) -> str:
    """What a container with a network of its own printed, once it is gone again."""
    # Without a cgroup: ctr's own would be above the node's part of the tree, and stay there.
    options = ["--rm", "--cni", "--cgroup", ""]
    argv = ["ctr", "--namespace", "k8s.io", "run", *options, IMAGE, name, "sh", "-c", script]
    return machine.run(one_node.first("node-1"), argv, seconds=60).decode()


def leases(one_node: cluster.Running) -> set[str]:
    folder = one_node.machine("node-1").data("/var/lib/cni") / "networks" / "nodeagent"
    return {path.name for path in folder.glob("10.*")}


def test_a_container_of_ctr_gets_an_address_of_the_nodes_range_and_gives_it_back(one_node: cluster.Running) -> None:
    before = leases(one_node)
    said = ctr(one_node, "na-ctr", SHOW)
    assert "inet 10.244." in said
    assert "reached" in said
    assert not leases(one_node) - before, "others may have gone meanwhile: pods of an earlier test"
    links = json.loads(machine.run(one_node.first("node-1"), ["ip", "-j", "link", "show", "master", "cni0"]) or b"[]")
    assert len([link for link in links if link]) <= len(before)
