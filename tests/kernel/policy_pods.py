"""Real pods for policy tests: nine namespaces behind a bridge in a namespace that plays the node, and one outside it.

Owns namespaces and the agents in them. Must not know policies.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fakes.policy_cluster import EVERYONE, address, matrix

AGENT = Path(__file__).with_name("policy_agent.py")
GATEWAYS = {4: "10.66.255.254", 6: "fd00:66::ffff"}
OUTSIDE, NODE = "192.0.2.2", "192.0.2.1"
SHORT, LONG = 0.4, 3.0


class Agent:
    """The process in one namespace."""

    def __init__(self, namespace: str) -> None:
        argv = ["ip", "netns", "exec", namespace, sys.executable, "-S", str(AGENT)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def wait(self) -> None:
        """Until it serves."""
        assert self._output().readline() == "ready\n"

    def send(self, *command: Any) -> None:
        """Tells it what to do; `receive` has the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        return json.loads(self._output().readline())

    def ask(self, *command: Any) -> Any:
        self.send(*command)
        return self.receive()

    def close(self) -> None:
        self._process.kill()
        self._process.wait(timeout=10)

    def _output(self) -> Any:
        return self._process.stdout


class Pods:
    """The nine pods of `fakes.policy_cluster`, by their keys, and agents `node` and `outside`."""

    def __init__(self, node: str, prefix: str) -> None:
        self._prefix = prefix
        self._names = {key: f"{prefix}-{key.replace('/', '')}" for key in (*EVERYONE, "outside")}
        self.node = node
        lines = [f"netns add {name}" for name in self._names.values()]
        _batch(lines)
        try:
            _batch(self._wiring(), namespace=node)
            for name, value in (("ipv4/ip_forward", 1), ("ipv6/conf/all/forwarding", 1)):
                _run("ip", "netns", "exec", node, "sysctl", "-qw", f"net.{name.replace('/', '.')}={value}")
            for key, name in self._names.items():
                _batch(self._inside(key), namespace=name)
            self.agents = {key: Agent(name) for key, name in self._names.items()}
            self.agents["node"] = Agent(node)
            for agent in self.agents.values():
                agent.wait()
        except BaseException:
            self._remove()
            raise

    def close(self) -> None:
        for agent in self.agents.values():
            agent.close()
        self._remove()

    def reach(self, source: str, to: str, protocol: str = "tcp", port: int = 80, *, seconds: float = SHORT) -> bool:
        """Whether a new connection succeeds; `to` is a pod or an address."""
        where = address(to) if "/" in to else to
        return bool(self.agents[source].ask("attempt", [[where, protocol, port]], seconds)[0])

    def matrix(
        self, *, protocol: str = "tcp", port: int = 80, version: int = 4, seconds: float = SHORT
    ) -> dict[str, str]:
        """Who reaches whom, all at once."""
        targets = [[address(key, version=version), protocol, port] for key in EVERYONE]
        for key in EVERYONE:
            self.agents[key].send("attempt", targets, seconds)
        found = {}
        for key in EVERYONE:
            found |= {(key, to): done for to, done in zip(EVERYONE, self.agents[key].receive(), strict=True)}
        return matrix(found)

    def _wiring(self) -> Sequence[str]:
        lines = ["link set lo up", "link add br0 type bridge", "link set br0 up"]
        lines += [f"address add {GATEWAYS[4]}/16 dev br0", f"address add {GATEWAYS[6]}/64 dev br0 nodad"]
        for number, (key, name) in enumerate(self._names.items()):
            lines.append(f"link add v{number} type veth peer name eth0 netns {name}")
            lines.append(f"link set v{number} up")
            if key != "outside":
                lines += [f"link set v{number} master br0", f"link set v{number} type bridge_slave hairpin on"]
            else:
                lines.append(f"address add {NODE}/24 dev v{number}")
        return lines

    def _inside(self, key: str) -> Sequence[str]:
        up = ["link set lo up", "link set eth0 up"]
        if key == "outside":
            return [*up, f"address add {OUTSIDE}/24 dev eth0", f"route add default via {NODE}"]
        return [
            *up,
            f"address add {address(key)}/16 dev eth0",
            f"address add {address(key, version=6)}/64 dev eth0 nodad",
            f"route add default via {GATEWAYS[4]}",
        ]

    def _remove(self) -> None:
        for name in self._names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False, timeout=10, capture_output=True)


def _run(*argv: str, stdin: str = "") -> None:
    subprocess.run(argv, check=True, timeout=30, input=stdin, text=True)


def _batch(lines: Sequence[str], *, namespace: str = "") -> None:
    _run("ip", *(["-n", namespace] if namespace else []), "-batch", "-", stdin="\n".join(lines) + "\n")
