"""Two machines as Vagrant makes them: systemd, cgroup v2, a first link with the same address on both; installed by the
project's own installer, rebooted, put to sleep.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Machines
from harness import Kubectl
from vm import cluster, qemu, seed
from workloads import HTTP, IMAGE, address, create, fetch, pod, service, sh

SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"


@pytest.fixture(scope="module")
def two(machines: Machines, request: pytest.FixtureRequest) -> Iterator[cluster.Cluster]:
    yield machines.start(driver="systemd", nodes=2, memory_mib=request.config.getoption("--vm-memory"))
    machines.end()


@pytest.fixture(scope="module")
def kubectl(two: cluster.Cluster, kubectl_program: Any) -> Kubectl:
    """A pod behind a Service on the second machine, and a client on each."""
    found = Kubectl(kubectl_program, two.kubeconfig)
    web = pod("web", HTTP, app="web")
    web["spec"]["nodeName"] = seed.name(1)
    clients = [pod(f"client-{number}", SLEEP) for number in range(2)]
    for number, client in enumerate(clients):
        client["spec"]["nodeName"] = seed.name(number)
    create(found, web, *clients, service("web", {"port": 80, "targetPort": 8080}))
    return found


def until(true: Callable[[], object], *, seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(1)


def works(kubectl: Kubectl) -> None:
    """From both machines: pod to pod, Service by address and by name."""
    found = json.loads(kubectl.ok("get", "pod", "web", "-o", "json"))["status"]["podIP"]
    for number in range(2):
        for host in (f"{found}:8080", address(kubectl, "web"), "web.default.svc.cluster.local"):
            assert fetch(kubectl, f"client-{number}", host) == "web", f"{host} from {seed.name(number)}"


def pods(kubectl: Kubectl) -> dict[str, tuple[str, int]]:
    """Pod -> its container, and how often that was restarted."""
    items = json.loads(kubectl.ok("get", "pods", "-o", "json"))["items"]
    states = {i["metadata"]["name"]: i["status"].get("containerStatuses", [{}])[0] for i in items}
    return {name: (it.get("containerID", ""), it.get("restartCount", -1)) for name, it in states.items()}


def settled(kubectl: Kubectl) -> bool:
    """Every pod and every node is Ready."""
    found = json.loads(kubectl.ok("get", "pods,nodes", "-o", "json"))["items"]
    ready = [c["status"] for i in found for c in i["status"].get("conditions", []) if c["type"] == "Ready"]
    return len(ready) == len(found) and set(ready) == {"True"}


def test_both_machines_have_the_same_first_address_and_the_nodes_use_the_other(
    two: cluster.Cluster, kubectl: Kubectl
) -> None:
    for running in two.machines:
        assert qemu.NAT_ADDRESS in running.sh("ip -o -4 address show dev eth0")
        assert "10.0.2.2" in running.sh("ip route show default")
    nodes = json.loads(kubectl.ok("get", "nodes", "-o", "json"))["items"]
    found = {n["metadata"]["name"]: n["status"]["addresses"][0] for n in nodes}
    assert found == {seed.name(n): {"type": "InternalIP", "address": seed.address(n)} for n in range(2)}


def test_pods_reach_pods_and_services_across_machines_by_address_and_by_name(kubectl: Kubectl) -> None:
    works(kubectl)
    assert kubectl.ok("exec", "client-1", "--", "hostname").strip() == "client-1"
    assert sh(kubectl, "client-0", "nslookup kubernetes.default.svc.cluster.local | grep -c 10.96.0.1") != "0"


def test_every_unit_runs_and_none_was_restarted(two: cluster.Cluster, kubectl: Kubectl) -> None:
    for running in two.machines:
        units = [name for name in cluster.UNITS if name != "nodeagent-server" or running is two.machines[0]]
        told = running("/usr/bin/systemctl", "show", "-p", "ActiveState,NRestarts", "--value", *units).split()
        assert told == ["active", "0"] * len(units) or told == ["0", "active"] * len(units)
        assert running("/usr/bin/stat", "-fc", "%T", "/sys/fs/cgroup").strip() == "cgroup2fs"


def test_the_memory_of_each_machine_is_enough(
    two: cluster.Cluster, kubectl: Kubectl, record_property: Callable[[str, object], None]
) -> None:
    """What is left of what the Vagrantfile gives a machine, with everything running."""
    for running in two.machines:
        rows = {line.split(":")[0]: int(line.split()[1]) >> 10 for line in running.sh("cat /proc/meminfo").splitlines()}
        script = "for p in $(pgrep -f 'nodeagent|python' -d ' '); do grep -h ^Pss: /proc/$p/smaps_rollup; done"
        ours = sum(int(line.split()[1]) for line in running.sh(script + " 2>/dev/null; true").splitlines()) >> 10
        text = f"{running.machine.name}: {rows['MemTotal']} MiB, {rows['MemAvailable']} MiB available, ours {ours} MiB"
        print(text)
        record_property(running.machine.name, text)
        assert rows["MemAvailable"] > 256, text


def test_a_rebooted_machine_brings_its_pods_and_its_network_back(two: cluster.Cluster, kubectl: Kubectl) -> None:
    before = pods(kubectl)
    two.machines[1].reboot()
    two.wait()
    until(lambda: settled(kubectl) and pods(kubectl)["web"] != before["web"])
    after = pods(kubectl)
    assert after["client-0"] == before["client-0"], "the other machine's pod was not touched"
    works(kubectl)


def test_machines_that_slept_go_on_where_they_were(
    two: cluster.Cluster, kubectl: Kubectl, request: pytest.FixtureRequest
) -> None:
    """As a laptop's lid: all processors stop, the clocks jump when it is opened."""
    until(lambda: settled(kubectl))
    before = pods(kubectl)
    for running in two.machines:
        running.pause()
    assert [running.status() for running in two.machines] == ["paused", "paused"]
    time.sleep(request.config.getoption("--vm-pause"))
    for running in two.machines:
        running.resume()
    for running in two.machines:
        running("/bin/date", "-u", "-s", f"@{time.time():.0f}")  # what a guest addition or NTP does
    two.wait()
    until(lambda: settled(kubectl))
    assert pods(kubectl) == before, "no container was restarted, no pod was evicted"
    works(kubectl)
    leases = json.loads(kubectl.ok("get", "leases", "-n", "kube-node-lease", "-o", "json"))["items"]
    assert {lease["metadata"]["name"] for lease in leases} == {seed.name(0), seed.name(1)}
    kubectl.ok("run", "late", f"--image={IMAGE}", "--restart=Never", "--command", "--", "sleep", "60")
    kubectl.ok("wait", "--for=condition=Ready", "pod/late", "--timeout=120s", seconds=130)
