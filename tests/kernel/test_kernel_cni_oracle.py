"""What our own netlink encoder made, read back by another implementation (pyroute2), in a process in each namespace."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cni.plugin import Plugin

READ = """
import json
from pyroute2 import IPRoute
with IPRoute() as kernel:
    links = {l.get_attr("IFLA_IFNAME"): l for l in kernel.get_links()}
    shown = {
        name: {
            "index": link["index"],
            "mac": link.get_attr("IFLA_ADDRESS"),
            "mtu": link.get_attr("IFLA_MTU"),
            "up": link["state"] == "up",
            "master": link.get_attr("IFLA_MASTER"),
            "addresses": [
                f"{a.get_attr('IFA_ADDRESS')}/{a['prefixlen']}"
                for a in kernel.get_addr(family=2)
                if a["index"] == link["index"]
            ],
        }
        for name, link in links.items()
    }
    gateways = [route.get_attr("RTA_GATEWAY") for route in kernel.get_default_routes(family=2)]
    print(json.dumps({"links": shown, "gateways": gateways}))
"""


def read(namespace: str) -> dict[str, Any]:
    """Links, addresses and default gateways of a namespace as pyroute2 tells them."""
    argv = ["ip", "netns", "exec", namespace.rsplit("/", 1)[1], sys.executable, "-c", READ]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30)
    return dict(json.loads(done.stdout))


def test_another_netlink_library_reads_the_attachment_as_the_result_tells_it(
    inside_host: str, new_namespace: Callable[[str], str], tmp_path: Path
) -> None:
    pod = new_namespace("pod")
    ipam = {"type": "host-local", "dataDir": str(tmp_path), "ranges": [[{"subnet": "10.77.0.0/24"}]]}
    config = {"cniVersion": "1.1.0", "name": "oracle", "bridge": "cni0", "mtu": 1440, "ipam": ipam}
    variables = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "oracle", "CNI_NETNS": pod, "CNI_IFNAME": "eth0"}
    code, body = Plugin().call(variables, json.dumps(config).encode())
    assert code == 0, body
    bridge, host_end, pod_end = json.loads(body)["interfaces"]
    inside, outside = read(pod), read(inside_host)
    eth0 = inside["links"]["eth0"]
    assert (eth0["mac"], eth0["mtu"], eth0["up"]) == (pod_end["mac"], 1440, True)
    assert eth0["addresses"] == ["10.77.0.2/24"]
    assert inside["gateways"] == ["10.77.0.1"]
    master, port = outside["links"]["cni0"], outside["links"][host_end["name"]]
    assert master["mac"] == bridge["mac"]
    assert master["addresses"] == ["10.77.0.1/24"]
    assert port["master"] == master["index"]
