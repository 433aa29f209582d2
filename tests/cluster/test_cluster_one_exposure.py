"""A Service seen from outside the cluster, and as its node's own commands show it."""

import sys
import time
from typing import Any

import pytest
from harness import Kubectl
from workloads import HTTP, create, fetch, pod, service

from nodeagent.lab import machine

GET = ["busybox", "timeout", "5", "busybox", "wget", "-q", "-O", "-"]
CONFIG = ["--config", "/etc/nodeagent"]


@pytest.fixture
def web(kubectl: Kubectl) -> Kubectl:
    """A server behind a NodePort with session affinity, and a client."""
    ports = {"name": "http", "port": 80, "targetPort": 8080}
    exposed = service("web", ports, type="NodePort", sessionAffinity="ClientIP")
    create(kubectl, pod("server", HTTP, app="web"), exposed, pod("client", "sleep 3600"))
    return kubectl


def node_port(kubectl: Kubectl) -> str:
    return kubectl.ok("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")


def command(running: Any, *words: str) -> str:
    argv = [sys.executable, "-m", "nodeagent", *words, *CONFIG]
    return str(machine.run(running.first("node-1"), argv).decode())


def test_a_node_port_answers_pods_the_node_and_other_machines(web: Kubectl, one_node: Any) -> None:
    host = f"{one_node.plan.nodes[0].ip}:{node_port(web)}"
    assert fetch(web, "client", host) == "server"
    for name in ("node-1", "server"):
        assert machine.run(one_node.first(name), [*GET, f"http://{host}/"]).decode().strip() == "server"


def test_the_nodes_commands_show_the_service_as_the_kernel_has_it(web: Kubectl, one_node: Any) -> None:
    assert fetch(web, "client", f"{one_node.plan.nodes[0].ip}:{node_port(web)}") == "server"
    shown = command(one_node, "service", "web", "-n", web.namespace)
    assert "node-port" in shown
    assert "clients stay for 10800 s" in shown
    assert " 1 connections" in shown
    deadline = time.monotonic() + 10
    while "The kernel holds exactly this." not in (text := command(one_node, "proxy", "--dry-run")):
        assert time.monotonic() < deadline, text
    assert f"{web.namespace}/web:http" in text
