"""A lab of real machines, without a cluster on it: namespaces, mounts, network, containerd; up, killed, down, gone."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import census
import pytest

from nodeagent.lab import cluster, containerd, errors, images, leftovers, machine, operate, phases, state

pytestmark = pytest.mark.usefixtures("programs")


def start(directory: Path, *, nodes: int = 1, port: int = 0, services: str = "containerd") -> cluster.Running:
    options = cluster.Options(
        directory=directory, nodes=nodes, port=port, outside=False, services=frozenset(services.split())
    )
    return cluster.up(options, report=phases.Phases())


@pytest.fixture
def directory() -> Iterator[Path]:
    """A lab's directory on a file system that carries overlays; whatever is left of the lab is removed."""
    path = Path("/dev/shm") / f"natest-{os.getpid()}-{time.monotonic_ns()}"
    yield path
    cluster.down(path)


@pytest.fixture(scope="module")
def two() -> Iterator[cluster.Running]:
    """One lab of two nodes for all tests that only look."""
    path = Path("/dev/shm") / f"natest-{os.getpid()}-two"
    yield start(path, nodes=2)
    cluster.down(path)


def sh(running: cluster.Running, name: str, script: str) -> str:
    return machine.run(running.first(name), ["sh", "-c", script]).decode().strip()


def test_machines_reach_each_other_over_the_underlay(two: cluster.Running) -> None:
    assert sh(two, "node-1", "busybox ping -c 1 -W 2 192.168.77.12 >/dev/null && echo there") == "there"
    assert sh(two, "node-2", "busybox ping -c 1 -W 2 192.168.77.2 >/dev/null && echo there") == "there"


def test_a_machine_has_a_default_route_so_that_service_addresses_can_be_translated(two: cluster.Running) -> None:
    assert "via 192.168.77.1 dev eth0" in sh(two, "node-1", "ip route get 10.96.0.1")


def test_a_packet_to_a_service_that_no_rule_takes_goes_nowhere(two: cluster.Running) -> None:
    began = time.monotonic()
    said = sh(two, "node-1", "busybox timeout 5 busybox nc -w 4 10.96.200.200 80 </dev/null 2>&1 || true")
    assert "No route to host" in said
    assert time.monotonic() - began < 4


def test_a_machine_forwards_and_shows_bridged_packets_to_its_rules(two: cluster.Running) -> None:
    names = "net/ipv4/ip_forward net/bridge/bridge-nf-call-iptables net/ipv4/conf/all/route_localnet"
    assert sh(two, "node-1", f"cd /proc/sys && cat {names}").split() == ["1", "1", "1"]


def test_a_machine_has_its_own_name_files_and_processes(two: cluster.Running) -> None:
    assert sh(two, "node-2", "hostname; cat /etc/hostname") == "node-2\nnode-2"
    assert sh(two, "node-1", "cat /etc/machine-id") != sh(two, "node-2", "cat /etc/machine-id")
    assert "nodeagent.lab.init" in sh(two, "node-1", "tr '\\0' ' ' < /proc/1/cmdline")


def test_what_a_machine_writes_is_seen_by_no_other_and_not_by_the_host(two: cluster.Running) -> None:
    path = "/etc/written-by-node-1"
    assert sh(two, "node-1", f"echo mine > {path} && cat {path}") == "mine"
    assert sh(two, "node-2", f"cat {path} 2>/dev/null || echo none") == "none"
    assert not Path(path).exists()


def test_a_machine_sees_nothing_of_the_hosts_cni_and_container_folders(two: cluster.Running) -> None:
    assert sh(two, "node-1", "ls /etc/cni/net.d /opt/cni/bin /var/log/pods").split() == [
        "/etc/cni/net.d:",
        "/opt/cni/bin:",
        "/var/log/pods:",
    ]


def test_mounts_made_in_a_machine_are_shared_onwards_and_never_reach_the_host(two: cluster.Running) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    assert sh(two, "node-1", "mkdir -p /run/m && mount -t tmpfs t /run/m && grep ' /run/m ' /proc/1/mountinfo") != ""
    assert "shared:" in sh(two, "node-1", "grep ' / / ' /proc/1/mountinfo")
    assert Path("/proc/self/mountinfo").read_text() == before


def test_containerd_of_a_machine_has_cri_and_the_labs_images(two: cluster.Running) -> None:
    containerd.wait_until_up(two.first("node-1"))
    listed = sh(two, "node-2", "ctr -n k8s.io images ls -q").splitlines()
    assert {images.BUSYBOX, images.PAUSE} <= set(listed)


def test_a_container_runs_from_the_labs_image(two: cluster.Running) -> None:
    run = f"ctr -n k8s.io run --rm --cgroup {two.plan.nodes[0].cgroup}/trial {images.BUSYBOX} trial"
    assert sh(two, "node-1", f"{run} sh -c 'echo from $(busybox uname)'") == "from Linux"


def test_a_machines_processes_are_in_its_cgroup(two: cluster.Running) -> None:
    members = leftovers.members(two.plan.nodes[0].cgroup)
    pid = machine.service_pid(two.first("node-1"), "containerd")
    assert pid in members
    assert two.first("node-1").pid in members


def test_the_first_process_reaps_orphans(two: cluster.Running) -> None:
    sh(two, "node-1", "(setsid sh -c 'sleep 0.05' &) ; sleep 0.3")
    assert " Z " not in sh(two, "node-1", "cat /proc/[0-9]*/stat 2>/dev/null || true")


def wait_for_other(running: cluster.Running, service: str, pid: int) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        other = machine.service_pid(running.first("node-1"), service)
        if other not in (None, pid):
            assert other is not None
            return other
        time.sleep(0.02)
    raise AssertionError(f"{service} did not come back")


def test_a_killed_containerd_comes_back_by_itself(two: cluster.Running) -> None:
    pid = machine.service_pid(two.first("node-1"), "containerd")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for_other(two, "containerd", pid)
    containerd.wait_until_up(two.first("node-1"))


def reaches(running: cluster.Running, name: str, address: str) -> bool:
    return sh(running, name, f"busybox ping -c 1 -W 1 {address} >/dev/null && echo yes || echo no") == "yes"


def test_a_cut_wire_parts_two_machines_and_no_others_until_it_is_mended(two: cluster.Running) -> None:
    assert operate.partition(two, "node-1", ["node-2"]) == [("node-1", "node-2")]
    assert not reaches(two, "node-1", "192.168.77.12")
    assert not reaches(two, "node-2", "192.168.77.11")
    assert reaches(two, "node-1", "192.168.77.2")
    assert operate.partition(two, "server") == [("node-1", "node-2"), ("node-1", "server"), ("node-2", "server")]
    assert not reaches(two, "node-1", "192.168.77.2")
    assert operate.heal(two, "server") == [("node-1", "node-2")]
    assert reaches(two, "node-1", "192.168.77.2")
    assert operate.heal(two) == []
    assert reaches(two, "node-1", "192.168.77.12")


def test_a_machine_that_is_no_machine_cannot_be_parted_killed_or_started(two: cluster.Running) -> None:
    with pytest.raises(errors.LabError, match="it has server, node-1, node-2"):
        operate.partition(two, "node-1", ["node-7"])
    with pytest.raises(errors.LabError, match="cannot be cut off from itself"):
        operate.partition(two, "node-1", ["node-1"])
    with pytest.raises(errors.LabError, match="it has server, node-1, node-2"):
        operate.kill(two, "underlay")
    with pytest.raises(errors.LabError, match="node-1 is running already"):
        operate.start(two, "node-1")


def test_a_killed_machine_boots_again_with_its_disk_and_without_its_memory(two: cluster.Running) -> None:
    sh(two, "node-2", "echo kept > /etc/kept; echo lost > /run/lost")
    operate.partition(two, "node-1", ["node-2"])
    operate.kill(two, "node-2")
    assert leftovers.members(two.plan.nodes[1].cgroup) == set()
    assert cluster.is_up(two.record)
    with pytest.raises(errors.LabError, match="node-2 was killed") as caught:
        two.first("node-2")
    assert caught.value.hint == "nodeagent lab start node-2"
    operate.start(two, "node-2")
    assert sh(two, "node-2", "cat /etc/kept; ls /run/lost 2>/dev/null || echo gone") == "kept\ngone"
    containerd.wait_until_up(two.first("node-2"))
    assert images.BUSYBOX in sh(two, "node-2", "ctr -n k8s.io images ls -q")
    assert not reaches(two, "node-1", "192.168.77.12"), "a cut wire stays cut"
    operate.heal(two)
    assert reaches(two, "node-1", "192.168.77.12")
    assert cluster.running(two.plan.directory).record == two.record


def test_a_service_is_restarted_where_it_runs(two: cluster.Running) -> None:
    names = ["node-1", "node-2"]
    before = [machine.service_pid(two.first(name), "containerd") for name in names]
    assert operate.restart(two, "containerd", machines=["node-2"]) == ["node-2"]
    after = [machine.service_pid(two.first(name), "containerd") for name in names]
    assert before[0] == after[0]
    assert before[1] != after[1]
    with pytest.raises(errors.LabError, match="no service 'nothing'"):
        operate.restart(two, "nothing")


def test_a_second_lab_in_the_same_directory_is_refused(two: cluster.Running) -> None:
    with pytest.raises(errors.LabError, match="already up"):
        start(two.plan.directory)
    assert cluster.is_up(two.record)


def test_two_labs_stand_side_by_side(two: cluster.Running, directory: Path) -> None:
    other = start(directory)
    assert cluster.is_up(other.record)
    assert cluster.is_up(two.record)
    cluster.down(directory)
    assert cluster.is_up(two.record)


def test_a_taken_port_is_named_and_nothing_is_left(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.LabError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            start(directory, port=port)
    assert caught.value.hint == "choose one with --port"
    assert census.belongings(directory).left() == []


def test_down_leaves_nothing(directory: Path) -> None:
    start(directory, nodes=2)
    made = census.belongings(directory)
    assert len(made.namespaces) >= 3 * len(census.KINDS_OF_NAMESPACE)
    assert cluster.down(directory)
    assert made.left() == []


def kill_a_machine(running: cluster.Running) -> None:
    os.kill(running.first("node-1").pid, signal.SIGKILL)


def kill_the_underlay(running: cluster.Running) -> None:
    process = running.record.process("underlay")
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)


def lose_the_record(running: cluster.Running) -> None:
    (running.plan.directory / state.FILE).unlink()


def spoil_the_record(running: cluster.Running) -> None:
    (running.plan.directory / state.FILE).write_text("{")


def kill_everything(running: cluster.Running) -> None:
    for process in running.record.processes:
        os.kill(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "harm", [kill_a_machine, kill_the_underlay, kill_everything, lose_the_record, spoil_the_record]
)
def test_down_leaves_nothing_whatever_happened_before(directory: Path, harm: object) -> None:
    running = start(directory)
    made = census.belongings(directory)
    harm(running)  # type: ignore[operator]
    cluster.down(directory)
    assert made.left() == []


def test_up_clears_what_a_killed_lab_left_and_starts_anew(directory: Path) -> None:
    first = start(directory)
    kill_everything(first)
    while cluster.is_up(first.record):
        time.sleep(0.01)
    assert cluster.is_up(start(directory).record)


def test_a_container_left_running_goes_with_its_lab(directory: Path) -> None:
    running = start(directory)
    group = f"{running.plan.nodes[0].cgroup}/kubepods/left"
    sh(running, "node-1", f"ctr -n k8s.io run -d --cgroup {group} {images.BUSYBOX} left sleep 600")
    assert "left" in sh(running, "node-1", "ctr -n k8s.io tasks ls")
    made = census.belongings(directory)
    cluster.down(directory)
    assert made.left() == []


def test_a_process_that_was_entered_into_a_machine_ends_with_it(directory: Path) -> None:
    running = start(directory)
    argv = ["nsenter", "-t", str(running.first("node-1").pid), "-m", "-p", "-n", "-r", "-w", "--", "sleep", "600"]
    with subprocess.Popen(argv) as entered:
        time.sleep(0.2)
        assert entered.poll() is None
        cluster.down(directory)
        assert entered.wait(timeout=10) != 0
