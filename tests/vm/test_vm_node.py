"""What a pod may use, on a machine with systemd and cgroup v2: by the kernel's own files, with either cgroup driver."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import PIDS
from harness import Kubectl
from vm import qemu, seed
from workloads import create, pod

SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
SMALL = {"cpu": "205m", "memory": "64Mi"}
ROOT = "/sys/fs/cgroup"
PLACES: dict[seed.Driver, dict[str, str]] = {
    "cgroupfs": {
        "": "kubepods",
        "Guaranteed": "kubepods/pod{uid}",
        "Burstable": "kubepods/burstable/pod{uid}",
        "BestEffort": "kubepods/besteffort/pod{uid}",
    },
    "systemd": {
        "": "kubepods.slice",
        "Guaranteed": "kubepods.slice/kubepods-pod{uid}.slice",
        "Burstable": "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice",
        "BestEffort": "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid}.slice",
    },
}


def sized(name: str, script: str = SLEEP, **resources: Any) -> dict[str, Any]:
    made = pod(name, script)
    made["spec"]["containers"][0]["resources"] = resources
    return made


def until(true: Callable[[], object], *, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.5)


def read(kubectl: Kubectl, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl.ok("get", "pod", name, "-o", "json"))
    return found


def place(found: dict[str, Any], driver: seed.Driver) -> str:
    """The pod's cgroup, as upstream names it."""
    uid = found["metadata"]["uid"]
    form = PLACES[driver][found["status"]["qosClass"]]
    return f"{ROOT}/" + form.format(uid=uid if driver == "cgroupfs" else uid.replace("-", "_"))


def leaf(found: dict[str, Any], driver: seed.Driver, number: int = 0) -> str:
    """A container's cgroup in its pod's."""
    id_ = found["status"]["containerStatuses"][number]["containerID"].removeprefix("containerd://")
    return id_ if driver == "cgroupfs" else f"cri-containerd-{id_}.scope"


def values(node: qemu.Running, folder: str, *files: str) -> list[str]:
    return node("/bin/cat", *(f"{folder}/{file}" for file in files)).splitlines()


def test_pods_are_in_the_tree_of_their_class_with_the_limits_of_all_their_containers(
    kubectl: Kubectl, node: qemu.Running, driver: seed.Driver
) -> None:
    pods = [sized("full", limits=SMALL), sized("some", requests={"cpu": "100m"}), sized("none")]
    create(kubectl, *pods)
    full, some, none = (read(kubectl, name) for name in ("full", "some", "none"))
    kept = [place(full, driver), "cpu.weight", "memory.max", "pids.max"]
    assert values(node, *kept) == ["8", str(64 << 20), str(PIDS)]
    assert values(
        node, place(full, driver) + "/" + leaf(full, driver), "cpu.max", "memory.max", "memory.oom.group"
    ) == [
        "20500 100000",
        str(64 << 20),
        "1",
    ]
    assert values(node, place(some, driver), "cpu.weight", "memory.max") == ["4", "max"]
    assert values(node, place(none, driver), "cpu.weight", "cpu.max") == ["1", "max 100000"]
    assert node("/bin/cat", f"{place(none, driver)}/{leaf(none, driver)}/cgroup.procs").split()
    # A class of pods weighs what is asked for in it: BestEffort pods take nothing from the others.
    assert values(node, place(none, driver).rpartition("/")[0], "cpu.weight") == ["1"]
    assert 4 <= int(values(node, place(some, driver).rpartition("/")[0], "cpu.weight")[0]) < 40, "100 is everybody's"
    assert 0 < int(values(node, f"{ROOT}/{PLACES[driver]['']}", "memory.max")[0]) <= memory_of(node)
    quota = int(values(node, place(full, driver), "cpu.max")[0].split()[0])
    assert quota in (20_500, 21_000)  # systemd keeps whole percents


def memory_of(node: qemu.Running) -> int:
    return int(node.sh("awk '/MemTotal/ {print $2}' /proc/meminfo")) << 10


def test_limits_outlast_what_systemd_does_on_its_own(kubectl: Kubectl, node: qemu.Running, driver: seed.Driver) -> None:
    create(kubectl, sized("kept", limits=SMALL))
    found = read(kubectl, "kept")
    node("/usr/bin/systemctl", "daemon-reload")
    node.sh("systemd-run --quiet --wait -p CPUWeight=50 -p MemoryMax=1G true")
    assert values(node, place(found, driver), "cpu.weight", "memory.max", "pids.max") == ["8", str(64 << 20), str(PIDS)]
    assert values(node, f"{ROOT}/{PLACES[driver]['']}", "cgroup.controllers")[0].split().count("memory") == 1


def test_a_pods_cgroup_goes_with_it(kubectl: Kubectl, node: qemu.Running, driver: seed.Driver) -> None:
    create(kubectl, sized("gone", limits=SMALL))
    found = read(kubectl, "gone")
    kubectl.ok("delete", "pod", "gone")
    until(lambda: node.run(["/usr/bin/test", "-d", place(found, driver)]).returncode != 0)
    uid = found["metadata"]["uid"].replace("-", "_")
    assert node.sh(f"systemctl list-units --all --plain --no-legend '*{uid}*'").strip() == ""


def test_a_container_that_takes_too_much_memory_is_killed_whole(kubectl: Kubectl) -> None:
    """[sig-node] OOMKiller: containers that run out of memory end as OOMKilled, whichever process grew."""
    child = "(head -c 100000000 /dev/zero | tail > /dev/null); echo survived; sleep 60"
    made = sized("hungry", child, limits={"cpu": "500m", "memory": "24Mi"})
    made["spec"]["restartPolicy"] = "Never"
    kubectl.ok("create", "-f", "-", stdin=json.dumps(made))
    until(lambda: read(kubectl, "hungry")["status"]["phase"] in ("Failed", "Succeeded"))
    ended = read(kubectl, "hungry")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    assert "survived" not in kubectl.ok("logs", "hungry")


def test_a_running_pod_is_resized_and_the_kernel_holds_it_to_it(
    kubectl: Kubectl, node: qemu.Running, driver: seed.Driver
) -> None:
    """[sig-node] Pod InPlace Resize Container resize pod via the replace endpoint [MinimumKubeletVersion:1.34]
    [Conformance]; guaranteed pods with multiple containers 3 containers [Conformance]"""
    made = sized("sized", limits=SMALL)
    made["spec"]["containers"] += [{**made["spec"]["containers"][0], "name": name} for name in ("two", "three")]
    create(kubectl, made)
    wanted = {"cpu": "300m", "memory": "96Mi"}
    whole = read(kubectl, "sized")
    for container in whole["spec"]["containers"]:
        container["resources"] = {"limits": wanted, "requests": wanted}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/sized/resize"
    kubectl.ok("replace", "--raw", path, "-f", "-", stdin=json.dumps(whole))

    def in_force() -> bool:
        told = [c.get("resources", {}).get("limits") for c in read(kubectl, "sized")["status"]["containerStatuses"]]
        return told == [wanted] * 3

    until(in_force)
    found = read(kubectl, "sized")
    assert [c["restartCount"] for c in found["status"]["containerStatuses"]] == [0, 0, 0]
    for number in range(3):
        own = f"{place(found, driver)}/{leaf(found, driver, number)}"
        assert values(node, own, "cpu.max", "memory.max") == ["30000 100000", str(96 << 20)]
    assert values(node, place(found, driver), "cpu.max", "memory.max") == ["90000 100000", str(288 << 20)]
    node("/usr/bin/systemctl", "daemon-reload")
    assert values(node, place(found, driver), "cpu.max", "memory.max") == ["90000 100000", str(288 << 20)]


def test_figures_come_from_the_cgroups(kubectl: Kubectl, driver: seed.Driver) -> None:
    """[sig-node] Summary API: pods and containers tell their processor time, memory and processes."""
    script = "head -c 20000000 /dev/zero > /dev/shm/full; while :; do :; done"
    create(kubectl, sized("busy", script, limits={"cpu": "100m", "memory": "128Mi"}))

    def told() -> dict[str, Any]:
        summary = json.loads(kubectl.ok("get", "--raw", "/api/v1/nodes/node-1/proxy/stats/summary"))
        return next((p for p in summary["pods"] if p["podRef"]["namespace"] == kubectl.namespace), {})

    until(lambda: told().get("memory", {}).get("usageBytes", 0) > 20_000_000)
    until(lambda: told().get("cpu", {}).get("usageCoreNanoSeconds", 0) > 10**9)
    found = told()
    assert found["process_stats"]["process_count"] >= 2
    assert found["containers"][0]["memory"]["usageBytes"] > 20_000_000
    metrics = kubectl.ok("get", "--raw", "/api/v1/nodes/node-1/proxy/metrics/cadvisor")
    mine = [line for line in metrics.splitlines() if f'namespace="{kubectl.namespace}"' in line]
    throttled = [line for line in mine if line.startswith("container_cpu_cfs_throttled_periods_total")]
    assert any(float(line.split()[1]) > 0 for line in throttled), "it may have a tenth of a processor and wants one"
    limit = [
        line for line in mine if line.startswith("container_spec_memory_limit_bytes") and 'container="main"' in line
    ]
    assert [float(line.split()[1]) for line in limit] == [128 << 20]


@pytest.fixture
def hold(node: qemu.Running) -> Iterator[Callable[[str], None]]:
    """Restarts the agent with another memory threshold; the old one comes back in the end."""
    file = "/etc/nodeagent/zz-pressure.yaml"

    def apply(value: str) -> None:
        document = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "evictionHard": {"memory.available": value},
            "evictionPressureTransitionPeriod": "1s",
        }
        node("/usr/bin/tee", file, stdin=json.dumps(document).encode())
        node("/usr/bin/systemctl", "restart", "nodeagent-agent", seconds=300)

    yield apply
    node("/bin/rm", "-f", file)
    node("/usr/bin/systemctl", "restart", "nodeagent-agent", seconds=300)


def test_the_pod_that_uses_more_than_it_asked_for_is_evicted_first_and_restarts_of_the_agent_restart_nothing(
    kubectl: Kubectl, hold: Callable[[str], None]
) -> None:
    fill = f"head -c 60000000 /dev/zero > /dev/shm/full; {SLEEP}"
    create(kubectl, sized("modest", requests={"memory": "128Mi"}), sized("greedy", fill))
    before = read(kubectl, "modest")["status"]["containerStatuses"][0]
    hold("99%")
    until(lambda: read(kubectl, "greedy")["status"].get("reason") == "Evicted")
    assert "The node was low on resource: memory." in read(kubectl, "greedy")["status"]["message"]
    hold("1Mi")
    after = read(kubectl, "modest")["status"].get("containerStatuses", [{}])[0]
    if read(kubectl, "modest")["status"].get("reason") != "Evicted":  # it may have been next
        assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
