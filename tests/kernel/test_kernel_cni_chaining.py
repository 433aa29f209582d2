"""Our plugin and the reference ones in one chain, in both orders; each serves the other's addresses."""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cni import install, netns
from cni.config import CNIConfiguration

REFERENCE = Path("/usr/lib/cni")


class Runtime:
    """Runs a list of plugins as libcni does: each gets the result of the one before; DEL goes backwards."""

    def __init__(self, folder: Path) -> None:
        if not (REFERENCE / "bridge").exists():
            pytest.fail("containernetworking-plugins is not installed; ./dev test brings it")
        self.folder = folder
        install.plugin(CNIConfiguration(socket="", bin_dir=str(folder / "bin")))
        self.path = f"{folder / 'bin'}:{REFERENCE}"

    def call(self, command: str, pod: str, plugins: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for plugin in plugins if command != "DEL" else reversed(plugins):
            config = {"cniVersion": "1.0.0", "name": "net", **plugin}
            if command == "ADD" and result:
                config["prevResult"] = result
            output = self.run(command, pod, config)
            result = output if command == "ADD" else {}
        return result

    def run(self, command: str, pod: str, config: Mapping[str, Any]) -> dict[str, Any]:
        program = next(Path(f) / config["type"] for f in self.path.split(":") if (Path(f) / config["type"]).exists())
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "one",
            "CNI_NETNS": pod,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self.path,
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        stdin = json.dumps(config).encode()
        done = subprocess.run([program], input=stdin, env=variables, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, (config["type"], done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def ipam(self, kind: str) -> dict[str, Any]:
        return {"type": kind, "dataDir": str(self.folder / "leases"), "ranges": [[{"subnet": "10.88.1.0/24"}]]}

    def leases(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (self.folder / "leases" / "net").iterdir() if p.name[0].isdigit()}


@pytest.fixture
def runtime(inside_host: str, tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def pings(pod: str, address: str) -> bool:
    argv = ["ip", "netns", "exec", pod.rsplit("/", 1)[1], "busybox", "ping", "-c1", "-W5", address]
    return subprocess.run(argv, capture_output=True, timeout=20).returncode == 0


def test_our_addresses_serve_the_reference_bridge(runtime: Runtime, new_namespace: Callable[[str], str]) -> None:
    pod = new_namespace("a")
    bridge = {"type": "bridge", "bridge": "ref0", "isGateway": True, "ipam": runtime.ipam("nodeagent-cni")}
    result = runtime.call("ADD", pod, [bridge])
    assert result["ips"][0]["address"] == "10.88.1.2/24"
    assert pings(pod, "10.88.1.1")
    assert runtime.leases() == {"10.88.1.2": b"one\r\neth0"}
    runtime.run("CHECK", pod, {"cniVersion": "1.0.0", "name": "net", **bridge, "prevResult": result})
    runtime.call("DEL", pod, [bridge])
    assert runtime.leases() == {}


def test_reference_host_local_serves_us(runtime: Runtime, new_namespace: Callable[[str], str]) -> None:
    pod = new_namespace("a")
    ours = {"type": "nodeagent-cni", "ipam": runtime.ipam("host-local")}
    result = runtime.call("ADD", pod, [ours])
    assert result["ips"][0]["address"] == "10.88.1.2/24"
    assert pings(pod, "10.88.1.1")
    assert runtime.leases() == {"10.88.1.2": b"one\r\neth0"}
    runtime.run("CHECK", pod, {"cniVersion": "1.0.0", "name": "net", **ours, "prevResult": result})
    runtime.call("DEL", pod, [ours])
    assert runtime.leases() == {}


def test_a_reference_plugin_after_ours_adds_to_our_result(
    runtime: Runtime, new_namespace: Callable[[str], str]
) -> None:
    pod = new_namespace("a")
    tuning = {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}
    chain = [{"type": "nodeagent-cni", "ipam": runtime.ipam("nodeagent-cni")}, tuning]
    result = runtime.call("ADD", pod, chain)
    assert result["ips"][0]["address"] == "10.88.1.2/24"
    name = pod.rsplit("/", 1)[1]
    argv = ["ip", "netns", "exec", name, "cat", "/proc/sys/net/ipv4/conf/eth0/arp_filter"]
    assert subprocess.run(argv, capture_output=True, check=True).stdout.strip() == b"1"
    runtime.call("DEL", pod, chain)
    assert runtime.leases() == {}


def test_ours_after_the_reference_bridge_publishes_ports_and_returns_its_result(
    runtime: Runtime, new_namespace: Callable[[str], str]
) -> None:
    pod = new_namespace("a")
    wishes = {
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 8_000_000, "egressRate": 8_000_000},
    }
    bridge = {"type": "bridge", "bridge": "ref0", "isGateway": True, "ipam": runtime.ipam("host-local")}
    ours = {"type": "nodeagent-cni", "bridge": "ref0", "runtimeConfig": wishes}
    first = runtime.call("ADD", pod, [bridge])
    result = runtime.run("ADD", pod, {"cniVersion": "1.0.0", "name": "net", **ours, "prevResult": first})
    assert result == first
    shown = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True).stdout
    assert shown.count("tbf") == 2
    assert asked(pod, "127.0.0.1") == b"pod"
    runtime.call("DEL", pod, [bridge, ours])
    assert runtime.leases() == {}
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert "nodeagent-ports" not in tables
    assert "ifb" not in subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout


def asked(pod: str, address: str) -> bytes:
    """What the pod's port 80 says when the host asks its own port 8080."""
    with open(pod) as namespace, netns.entered(namespace.fileno()):
        server = socket.create_server(("", 80))

    def answer() -> None:
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"pod")

    with server:
        serving = threading.Thread(target=answer)
        serving.start()
        with socket.create_connection((address, 8080), timeout=5) as connection:
            said = connection.recv(16)
        serving.join()
    return said


def test_an_ipam_plugin_that_fails_is_quoted_as_it_is_and_nothing_is_left(
    runtime: Runtime, new_namespace: Callable[[str], str]
) -> None:
    ours = {"type": "nodeagent-cni", "ipam": {"type": "host-local", "ranges": [[{"subnet": "nonsense"}]]}}
    with pytest.raises(AssertionError) as failed:
        runtime.call("ADD", new_namespace("a"), [ours])
    assert "nonsense" in str(failed.value)
    assert "veth" not in subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
