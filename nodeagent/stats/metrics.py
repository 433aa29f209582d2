"""/metrics/resource and /metrics/cadvisor: figures as Prometheus reads them, under upstream's names. PURE."""

from collections.abc import Iterable, Mapping
from typing import Final

from nodeagent.stats import figures

Labels = Mapping[str, str]
Row = tuple[Labels, float]
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def probes(tallies: Iterable[tuple[tuple[str, ...], int]]) -> str:
    """What became of probes: (kind, result, container, pod, namespace, uid) -> how often."""
    names = ("probe_type", "result", "container", "pod", "namespace", "pod_uid")
    rows = [(dict(zip(names, tally, strict=True)), count) for tally, count in tallies]
    text = "[ALPHA] Cumulative number of a liveness, readiness or startup probe for a container by result."
    return family("prober_probe_total", "counter", text, rows, "")


def resource(found: figures.Figures) -> str:
    """What metrics-server reads: time used and working sets, with the moment they were read at."""
    containers = [(labels_of(pod, c), c) for pod in found.pods for c in pod.containers]
    pods = [({"namespace": p.namespace, "pod": p.name}, p) for p in found.pods]
    node = found.node.usage
    stamp = f" {int(found.time.timestamp() * 1000)}"
    families = [
        family(
            "container_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
            [(labels, c.usage.cpu / 1e9) for labels, c in containers],
            stamp,
        ),
        family(
            "container_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the container in bytes",
            [(labels, c.usage.working_set) for labels, c in containers],
            stamp,
        ),
        family(
            "container_start_time_seconds",
            "gauge",
            "[STABLE] Start time of the container since unix epoch in seconds",
            [(labels, c.started_at / 1e9) for labels, c in containers],
            "",
        ),
        family(
            "node_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
            [({}, node.cpu / 1e9)],
            stamp,
        ),
        family(
            "node_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the node in bytes",
            [({}, node.working_set)],
            stamp,
        ),
        family(
            "pod_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
            [(labels, p.usage.cpu / 1e9) for labels, p in pods],
            stamp,
        ),
        family(
            "pod_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the pod in bytes",
            [(labels, p.usage.working_set) for labels, p in pods],
            stamp,
        ),
        family(
            "resource_scrape_error", "gauge", "[STABLE] 1 if there was an error while reading, else 0", [({}, 0)], ""
        ),
    ]
    return "".join(families)


CADVISOR: Final = (
    ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", "cpu", 1e9),
    ("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.", "periods", 1),
    (
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Number of throttled period intervals.",
        "throttled_periods",
        1,
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
        "throttled",
        1e9,
    ),
    ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes.", "memory", 1),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", "working_set", 1),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", "rss", 1),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", "cache", 1),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit, 0 for none.", "memory_limit", 1),
    ("container_spec_cpu_shares", "gauge", "CPU share of the container.", "cpu_shares", 1),
    ("container_spec_cpu_quota", "gauge", "CPU quota of the container, 0 for none.", "cpu_quota_us", 1),
    ("container_spec_cpu_period", "gauge", "CPU period of the container.", "cpu_period_us", 1),
    ("container_processes", "gauge", "Number of processes running inside.", "processes", 1),
)
"""(name, type, help, field of the usage, divisor)."""
NETWORK: Final = tuple(
    (f"container_network_{way}_{what}_total", f"Cumulative count of {what} {verb}.", f"{short}_{field}")
    for way, verb, short in (("receive", "received", "rx"), ("transmit", "transmitted", "tx"))
    for what, field in (
        ("bytes", "bytes"),
        ("packets", "packets"),
        ("errors", "errors"),
        ("packets_dropped", "dropped"),
    )
)


def cadvisor(found: figures.Figures, *, version: str) -> str:
    """What Prometheus' usual rules and dashboards read; pods as a whole have an empty container label."""
    stamp = f" {int(found.time.timestamp() * 1000)}"
    groups: list[tuple[dict[str, str], figures.Usage]] = []
    for pod in found.pods:
        whole = {
            "container": "",
            "id": pod.cgroup,
            "image": "",
            "name": "",
            "namespace": pod.namespace,
            "pod": pod.name,
        }
        groups.append((whole, pod.usage))
        groups += [(full_labels(pod, c), c.usage) for c in pod.containers]
    texts = [family("cadvisor_version_info", "gauge", "Who measured.", [({"cadvisorVersion": version}, 1)], "")]
    for name, kind, what, field, divisor in CADVISOR:
        extra = {"cpu": "total"} if field == "cpu" else {}
        rows = [({**labels, **extra}, getattr(usage, field) / divisor) for labels, usage in groups]
        texts.append(family(name, kind, what, rows, stamp))
    started = [(full_labels(pod, c), c.started_at / 1e9) for pod in found.pods for c in pod.containers]
    texts.append(family("container_start_time_seconds", "gauge", "Start time in seconds.", started, stamp))
    for name, what, field in NETWORK:
        rows = [
            (
                {"container": "", "id": p.cgroup, "image": "", "interface": i.name, "name": ""}
                | {"namespace": p.namespace, "pod": p.name},
                float(getattr(i, field)),
            )
            for p in found.pods
            for i in p.interfaces
        ]
        texts.append(family(name, "counter", what, rows, stamp))
    texts.append(family("machine_cpu_cores", "gauge", "Number of logical CPU cores.", [({}, found.node.cpus)], ""))
    memory: list[Row] = [({}, float(found.node.memory_capacity))]
    texts.append(family("machine_memory_bytes", "gauge", "Amount of memory installed.", memory, ""))
    return "".join(texts)


def labels_of(pod: figures.Pod, container: figures.Container) -> Labels:
    """Labels of /metrics/resource."""
    return {"container": container.name, "namespace": pod.namespace, "pod": pod.name}


def full_labels(pod: figures.Pod, container: figures.Container) -> dict[str, str]:
    """Labels of /metrics/cadvisor."""
    return {
        "container": container.name,
        "id": container.cgroup,
        "image": container.image,
        "name": container.id,
        "namespace": pod.namespace,
        "pod": pod.name,
    }


def family(name: str, kind: str, what: str, rows: Iterable[tuple[Labels, float]], stamp: str) -> str:
    """One metric with all its rows; `stamp` is a blank and milliseconds, or nothing."""
    lines = [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
    for labels, value in rows:
        text = ",".join(f'{key}="{escaped(labels[key])}"' for key in sorted(labels))
        lines.append(f"{name}{'{' + text + '}' if text else ''} {value:.16g}{stamp}")
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """A label value as the text format wants it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
