"""What cgroup files mean, and how figures look as a summary and as metrics."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from nodeagent_given import UID, pod, ran, sandbox, seen
from prometheus_client.parser import text_string_to_metric_families

from nodeagent.resources import cgroups
from nodeagent.stats import cgroup, collect, figures, metrics, summary

V1 = {
    "cpuacct.usage": "5000000000\n",
    "cpu.stat": "nr_periods 10\nnr_throttled 3\nthrottled_time 7000\n",
    "cpu.shares": "102\n",
    "cpu.cfs_quota_us": "10000\n",
    "cpu.cfs_period_us": "100000\n",
    "memory.usage_in_bytes": "1000\n",
    "memory.limit_in_bytes": "5000\n",
    "memory.stat": "total_inactive_file 300\ntotal_rss 400\ntotal_cache 500\ntotal_pgfault 9\ntotal_pgmajfault 1\n",
    "pids.current": "4\n",
}
V2 = {
    "cpu.stat": "usage_usec 5000000\nnr_periods 10\nnr_throttled 3\nthrottled_usec 7\n",
    "cpu.max": "10000 100000\n",
    "cpu.weight": "4\n",
    "memory.current": "1000\n",
    "memory.max": "5000\n",
    "memory.stat": "inactive_file 300\nanon 400\nfile 500\npgfault 9\npgmajfault 1\n",
    "pids.current": "4\n",
}
NET = """Inter-|   Receive |  Transmit
 face |bytes    packets errs drop |bytes    packets errs drop
    lo:  100 1 0 0 0 0 0 0  100 1 0 0 0 0 0 0
  eth0: 2000 20 1 2 0 0 0 0 3000 30 3 4 0 0 0 0
"""
EXPECTED = figures.Usage(
    cpu=5_000_000_000,
    periods=10,
    throttled_periods=3,
    throttled=7000,
    memory=1000,
    working_set=700,
    rss=400,
    cache=500,
    page_faults=9,
    major_page_faults=1,
    processes=4,
    memory_limit=5000,
    cpu_shares=102,
    cpu_quota_us=10_000,
    cpu_period_us=100_000,
)


def test_both_cgroup_versions_tell_the_same() -> None:
    assert cgroup.usage_v1(V1) == EXPECTED
    two = cgroup.usage_v2(V2)
    assert abs(two.cpu_shares - EXPECTED.cpu_shares) < 26, "a weight is coarser than shares"
    assert {n: getattr(two, n) for n in two.__slots__ if n != "cpu_shares"} == {
        n: getattr(EXPECTED, n) for n in EXPECTED.__slots__ if n != "cpu_shares"
    }


@pytest.mark.parametrize("read", [cgroup.usage_v1, cgroup.usage_v2])
def test_a_cgroup_that_is_gone_has_used_nothing(read: Any) -> None:
    assert read({}) == figures.Usage()


def test_no_limit_is_told_as_none() -> None:
    assert (
        cgroup.usage_v1({"memory.limit_in_bytes": "9223372036854771712", "cpu.cfs_quota_us": "-1"}) == figures.Usage()
    )
    assert cgroup.usage_v2({"memory.max": "max", "cpu.max": "max 100000"}) == figures.Usage(cpu_period_us=100_000)


def test_interfaces_are_read_without_the_loopback() -> None:
    (found,) = cgroup.interfaces(NET)
    assert (found.name, found.rx_bytes, found.rx_dropped, found.tx_bytes, found.tx_errors) == ("eth0", 2000, 2, 3000, 3)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> datetime.datetime:
        return datetime.datetime(2026, 11, 23, 15, tzinfo=datetime.UTC)

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


def machine(folder: Path, clock: Clock, *, driver: cgroups.Driver = "cgroupfs") -> collect.Collector:
    layout = cgroups.Layout(version=1, driver=driver)
    it = pod(status={"startTime": "2026-11-23T14:00:00Z"})
    path = cgroups.pod_path("BestEffort", UID, layout=layout)
    leaf = "main-0" if driver == "cgroupfs" else "cri-containerd-main-0.scope"
    for where in (path, f"{path}/{leaf}"):
        for controller, file in cgroup.V1_FILES:
            target = folder / controller / where.lstrip("/")
            target.mkdir(parents=True, exist_ok=True)
            (target / file).write_text(V1[file])
        (folder / "memory" / where.lstrip("/") / "cgroup.procs").write_text("77\n")
    (folder / "proc/77/net").mkdir(parents=True, exist_ok=True)
    (folder / "proc/77/net/dev").write_text(NET)
    (folder / "proc/sys/kernel").mkdir(parents=True, exist_ok=True)
    (folder / "proc/sys/kernel/pid_max").write_text("4096\n")
    (folder / "logs/main").mkdir(parents=True, exist_ok=True)
    (folder / "logs/main/0.log").write_text("x" * 5000)
    return collect.Collector(
        node_name="n1",
        clock=clock,
        layout=lambda: layout,
        pods=lambda: [(it, seen(sandbox(), ran()))],
        logs=lambda _: folder / "logs",
        mount=folder,
        proc=folder / "proc",
    )


@pytest.mark.parametrize("driver", ["cgroupfs", "systemd"])
def test_a_pod_is_found_in_its_cgroup_and_its_network_in_that_of_its_processes(
    tmp_path: Path, driver: cgroups.Driver
) -> None:
    found = machine(tmp_path, Clock(), driver=driver)(disk=True)
    (it,) = found.pods
    (container,) = it.containers
    assert it.usage == container.usage == EXPECTED
    assert [i.name for i in it.interfaces] == ["eth0"]
    assert container.logs is not None and container.logs.used >= 5000
    assert found.node.most_processes == 4096 and found.node.usage.working_set > 0


def test_a_rate_needs_two_looks_that_are_apart(tmp_path: Path) -> None:
    clock = Clock()
    look = machine(tmp_path, clock)
    assert look().pods[0].containers[0].nano_cores is None
    usage = next(tmp_path.glob("cpuacct/**/main-0/cpuacct.usage"))
    usage.write_text("6000000000")
    clock.at += 0.5
    assert look().pods[0].containers[0].nano_cores is None
    clock.at += 1.5
    assert look().pods[0].containers[0].nano_cores == 500_000_000
    clock.at += 0.1
    assert look().pods[0].containers[0].nano_cores == 500_000_000
    usage.write_text("10")
    clock.at += 5
    assert look().pods[0].containers[0].nano_cores is None, "another container took its place"


def test_a_summary_has_what_clients_of_upstream_read(tmp_path: Path) -> None:
    told = summary.summary(machine(tmp_path, Clock())(disk=True))
    (it,) = told["pods"]
    assert it["podRef"] == {"name": "web", "namespace": "default", "uid": UID}
    assert it["containers"][0]["memory"]["workingSetBytes"] == 700
    assert it["containers"][0]["memory"]["availableBytes"] == 4300
    assert it["network"]["rxBytes"] == 2000 and it["process_stats"] == {"process_count": 4}
    assert told["node"]["fs"]["capacityBytes"] > 0 and told["node"]["rlimit"]["maxpid"] == 4096
    brief = summary.summary(machine(tmp_path, Clock())(), only_cpu_and_memory=True)
    assert not {"network", "process_stats"} & brief["pods"][0].keys() and "fs" not in brief["node"]


def test_metrics_are_what_prometheus_parses_and_metrics_server_looks_for(tmp_path: Path) -> None:
    found = machine(tmp_path, Clock())()
    rows = {
        (s.name, tuple(sorted(s.labels.items()))): (s.value, s.timestamp)
        for f in text_string_to_metric_families(metrics.resource(found))
        for s in f.samples
    }
    labels = (("container", "main"), ("namespace", "default"), ("pod", "web"))
    assert rows["container_cpu_usage_seconds_total", labels] == (5.0, 1795446000.0)
    assert rows["container_memory_working_set_bytes", labels][0] == 700
    assert rows["container_start_time_seconds", labels] == (51.0, None)
    assert rows["node_memory_working_set_bytes", ()][0] > 0 and rows["resource_scrape_error", ()][0] == 0
    advisor = list(text_string_to_metric_families(metrics.cadvisor(found, version="x")))
    by_name = {s.name: s for f in advisor for s in f.samples if s.labels.get("container") == "main"}
    assert by_name["container_cpu_usage_seconds_total"].labels == {
        "container": "main",
        "cpu": "total",
        "id": f"/kubepods/besteffort/pod{UID}/main-0",
        "image": "nodeagent.local/busybox:1",
        "name": "main-0",
        "namespace": "default",
        "pod": "web",
    }
    assert by_name["container_spec_memory_limit_bytes"].value == 5000
    received = [s for f in advisor for s in f.samples if s.name == "container_network_receive_bytes_total"]
    assert [(s.labels["interface"], s.value) for s in received] == [("eth0", 2000)]


def test_odd_names_do_not_break_the_text() -> None:
    text = metrics.family("a", "gauge", "x", [({"b": 'q"\\\n'}, 1)], "")
    (found,) = text_string_to_metric_families(text)
    assert found.samples[0].labels == {"b": 'q"\\\n'}
