"""What a node tells of its pods: the summary and the metrics that metrics-server and Prometheus are built on."""

import json
import time

from harness import Kubectl
from prometheus_client.parser import text_string_to_metric_families
from workloads import create, pod

NODE = "/api/v1/nodes/node-1/proxy"


def values(text: str, name: str, pod_name: str) -> dict[str, float]:
    """Container name -> value of one metric."""
    rows = [s for f in text_string_to_metric_families(text) for s in f.samples if s.name == name]
    return {s.labels.get("container", ""): s.value for s in rows if s.labels.get("pod") == pod_name}


def test_a_busy_pod_is_told_apart_from_an_idle_one(kubectl: Kubectl) -> None:
    busy = pod("busy", "head -c 20000000 /dev/zero > /dev/shm/full; while :; do :; done")
    busy["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "200m", "memory": "64Mi"}}
    create(kubectl, busy, pod("idle", "sleep 3600"))
    before = time.monotonic()
    first = values(kubectl.ok("get", "--raw", f"{NODE}/metrics/resource"), "container_cpu_usage_seconds_total", "busy")
    time.sleep(2)
    text = kubectl.ok("get", "--raw", f"{NODE}/metrics/resource")
    passed = time.monotonic() - before
    second = values(text, "container_cpu_usage_seconds_total", "busy")
    assert 0.05 < (second["main"] - first["main"]) / passed < 0.3
    assert values(text, "container_memory_working_set_bytes", "busy")["main"] > 20_000_000
    assert values(text, "container_memory_working_set_bytes", "idle")["main"] < 20_000_000
    advisor = kubectl.ok("get", "--raw", f"{NODE}/metrics/cadvisor")
    assert values(advisor, "container_spec_memory_limit_bytes", "busy")["main"] == 64 << 20
    assert values(advisor, "container_cpu_cfs_throttled_periods_total", "busy")["main"] > 0
    assert values(advisor, "container_network_receive_bytes_total", "idle").keys() == {""}
    summary = json.loads(kubectl.ok("get", "--raw", f"{NODE}/stats/summary"))
    by_name = {each["podRef"]["name"]: each for each in summary["pods"]}
    assert by_name["busy"]["containers"][0]["memory"]["workingSetBytes"] > 20_000_000
    assert {"cpu", "memory", "network", "fs", "rlimit"} <= summary["node"].keys()
    assert by_name["idle"]["network"]["interfaces"][0]["name"] == "eth0"
    assert by_name["idle"]["ephemeral-storage"]["capacityBytes"] > 0
