"""The Node object: capacity, conditions, and how the runtime's readiness becomes the node's."""

from typing import Any

import pytest

from nodeagent import config, errors
from nodeagent.cri import records
from nodeagent.node import health, machine
from nodeagent.node import object as node_object
from nodeagent.resources import cgroups
from tests.fakes.clock import LoopClock
from tests.fakes.runtime import FakeRuntime

NOW, LATER = "2026-11-23T15:00:00Z", "2026-11-23T15:00:10Z"
MACHINE = machine.Machine(
    cpus=2,
    memory=8 << 30,
    storage=100 << 30,
    huge_pages={2 << 20: 64 << 20, 1 << 30: 0},
    machine_id="m",
    system_uuid="s",
    boot_id="b",
    kernel="6.1",
    os_image="Debian",
    architecture="amd64",
    hostname="host",
)
INFO = records.RuntimeInfo(name="containerd", version="1.6.20", ready=True, network_ready=True)


def settings(**kubelet: Any) -> config.Settings:
    return config.build(
        {
            "AgentConfiguration": [{"kind": "AgentConfiguration", "nodeName": "n1", "nodeLabels": {"rack": "r1"}}],
            "KubeletConfiguration": [{"kind": "KubeletConfiguration", **kubelet}],
        },
        source="test",
    )


def state(**changes: Any) -> node_object.State:
    plain: dict[str, Any] = {
        "machine": MACHINE,
        "runtime": INFO,
        "runtime_problem": None,
        "network_problem": None,
        "pressure": {"memory_bytes": 4e9, "storage": 0.5, "inodes": 0.5, "pids": 0.9},
        "now": NOW,
    }
    return node_object.State(**{**plain, **changes})


def conditions(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["type"]: c for c in found["conditions"]}


def test_a_new_node_has_its_labels_taints_and_addresses() -> None:
    made = node_object.new(
        settings(registerWithTaints=[{"key": "k", "value": "v", "effect": "NoSchedule"}], providerID="p://1"),
        addresses=["192.168.77.11"],
        state=state(),
    )
    assert made["metadata"]["labels"]["kubernetes.io/hostname"] == "n1"
    assert made["metadata"]["labels"]["kubernetes.io/arch"] == "amd64" and made["metadata"]["labels"]["rack"] == "r1"
    assert made["spec"] == {"taints": [{"key": "k", "effect": "NoSchedule", "value": "v"}], "providerID": "p://1"}
    assert made["status"]["addresses"] == [
        {"type": "InternalIP", "address": "192.168.77.11"},
        {"type": "Hostname", "address": "n1"},
    ]
    assert made["status"]["nodeInfo"]["kubeletVersion"] == "v1.36.2+nodeagent.0.1.0"
    assert made["status"]["nodeInfo"]["containerRuntimeVersion"] == "containerd://1.6.20"


def test_allocatable_is_what_reservations_thresholds_and_huge_pages_leave() -> None:
    own = settings(kubeReserved={"cpu": "250m", "memory": "512Mi"}, systemReserved={"cpu": "250m"})
    found = node_object.allocatable(own, MACHINE)
    assert found["cpu"] == "1500m" and found["pods"] == "110"
    assert found["memory"] == f"{8192 - 512 - 100 - 64}Mi"
    assert node_object.capacity(own, MACHINE)["hugepages-2Mi"] == "64Mi"


def test_a_threshold_may_be_a_share_and_nothing_falls_below_zero() -> None:
    half = node_object.allocatable(settings(evictionHard={"memory.available": "50%"}), MACHINE)
    assert half["memory"] == f"{4096 - 64}Mi"
    assert node_object.allocatable(settings(kubeReserved={"cpu": "10"}), MACHINE)["cpu"] == "0"


def test_a_healthy_node_is_ready_and_under_no_pressure() -> None:
    found = conditions(node_object.status(settings(), addresses=[], state=state(), before={}))
    assert {name: c["status"] for name, c in found.items()} == {
        "MemoryPressure": "False",
        "DiskPressure": "False",
        "PIDPressure": "False",
        "Ready": "True",
    }
    assert found["Ready"]["reason"] == "KubeletReady"
    assert found["MemoryPressure"]["message"] == "kubelet has sufficient memory available"


@pytest.mark.parametrize(
    ("pressure", "condition"),
    [
        ({"memory_bytes": 5e7}, "MemoryPressure"),
        ({"storage": 0.05}, "DiskPressure"),
        ({"inodes": 0.01}, "DiskPressure"),
        ({"pids": 0.01}, "PIDPressure"),
    ],
)
def test_pressures(pressure: dict[str, float], condition: str) -> None:
    found = conditions(node_object.status(settings(), addresses=[], state=state(pressure=pressure), before={}))
    assert found[condition]["status"] == "True"


def test_a_node_says_everything_that_keeps_it_from_being_ready() -> None:
    broken = state(runtime_problem="container runtime is down: gone", network_problem="no network")
    ready = conditions(node_object.status(settings(), addresses=[], state=broken, before={}))["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "KubeletNotReady")
    assert ready["message"] == "container runtime is down: gone, no network"


def test_a_condition_keeps_the_time_of_its_last_change_and_heartbeats_are_no_change() -> None:
    first = node_object.status(settings(), addresses=[], state=state(), before={})
    second = node_object.status(settings(), addresses=[], state=state(now=LATER), before=first)
    ready = conditions(second)["Ready"]
    assert (ready["lastTransitionTime"], ready["lastHeartbeatTime"]) == (NOW, LATER)
    assert first != second and node_object.without_heartbeat(first) == node_object.without_heartbeat(second)


def test_the_fifty_largest_images_are_shown_with_all_their_names() -> None:
    many = [records.Image(id=f"i{n}", tags=(f"t{n}",), digests=(f"d{n}",), size=n) for n in range(60)]
    found = node_object.images([*many, records.Image(id="nameless", size=10**9)])
    assert len(found) == 50 and found[0] == {"names": ["d59", "t59"], "sizeBytes": 59}


class Clock(LoopClock):
    """A clock that is turned by hand."""

    time = 0.0

    def monotonic(self) -> float:
        return self.time


async def test_a_runtime_counts_as_down_after_thirty_seconds_of_silence() -> None:
    runtime, clock = FakeRuntime(), Clock()
    it = health.RuntimeHealth(runtime, clock=clock, on_change=lambda: None)
    assert it.runtime_problem() is not None, "nobody has asked yet"
    await it.ask()
    assert it.runtime_problem() is None and it.network_problem() is None
    runtime.fail["Status"] = errors.RuntimeUnavailable("Status", "connection refused")
    clock.time = 29.0
    await it.ask()
    assert it.runtime_problem() is None
    clock.time = 31.0
    assert it.runtime_problem() == "container runtime is down: connection refused"
    await it.ask()
    assert it.runtime_problem() is None


async def test_a_network_that_is_not_ready_is_told_as_upstream_tells_it() -> None:
    runtime = FakeRuntime()
    it = health.RuntimeHealth(runtime, clock=Clock(), on_change=lambda: None)
    info = await runtime.info()
    it.info = records.RuntimeInfo(
        name=info.name, version="1", ready=True, network_ready=False, network_message="NetworkPluginNotReady: no conf"
    )
    assert it.network_problem() == (
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:no conf"
    )


async def test_a_containerd_without_cri_is_told_with_the_remedy() -> None:
    runtime = FakeRuntime()
    runtime.fail["Status"] = errors.CriDisabled("Status", "unknown service runtime.v1.RuntimeService")
    it = health.RuntimeHealth(runtime, clock=Clock(), on_change=lambda: None)
    await it.ask()
    assert "disabled_plugins" in str(it.runtime_problem())


def test_pods_together_are_held_to_what_is_not_reserved() -> None:
    reserved = settings(kubeReserved={"cpu": "500m", "memory": "1Gi"}, systemReserved={"memory": "1Gi"})
    cpu, memory = node_object.for_pods(reserved, MACHINE)
    assert (cpu, memory) == (MACHINE.cpus * 1000 - 500, MACHINE.memory // 1024 * 1024 - (2 << 30))
    layout = cgroups.Layout(version=1, driver="cgroupfs", root="/n")
    found = cgroups.all_pods(layout=layout, cpu=cpu, memory=memory)
    assert found.path == "/n/kubepods"
    assert found.values == {
        ("cpu", "cpu.shares"): str(cpu * 1024 // 1000),
        ("memory", "memory.limit_in_bytes"): str(memory),
    }
