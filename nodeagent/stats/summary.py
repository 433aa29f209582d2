"""/stats/summary: figures in the form of upstream's stats/v1alpha1 Summary. PURE."""

import datetime
from typing import Any

from kube.runtime import clock
from nodeagent.stats import figures

Json = dict[str, Any]


def summary(found: figures.Figures, *, only_cpu_and_memory: bool = False) -> Json:
    """The whole reply."""
    now, node = clock.rfc3339(found.time), found.node
    told: Json = {
        "nodeName": node.name,
        "startTime": node.boot_time,
        "cpu": cpu(node.usage, node.nano_cores, now),
        "memory": memory(node.usage, now) | {"availableBytes": node.memory_available},
    }
    if not only_cpu_and_memory:
        disk = filesystem(node.filesystem, now)
        told |= {
            "network": network(node.interfaces, now),
            "fs": disk,
            "runtime": {"imageFs": disk, "containerFs": disk},
            "rlimit": {"time": now, "maxpid": node.most_processes, "curproc": node.usage.processes},
        }
    return {"node": told, "pods": [pod(each, now, brief=only_cpu_and_memory) for each in found.pods]}


def pod(of: figures.Pod, now: str, *, brief: bool) -> Json:
    """One pod."""
    told: Json = {
        "podRef": {"name": of.name, "namespace": of.namespace, "uid": of.uid},
        "startTime": of.start_time,
        "containers": [container(each, now, brief=brief) for each in of.containers],
        "cpu": cpu(of.usage, of.nano_cores, now),
        "memory": memory(of.usage, now),
    }
    if not brief:
        told["process_stats"] = {"process_count": of.usage.processes}
        if of.interfaces:
            told["network"] = network(of.interfaces, now)
        if of.ephemeral is not None:
            told["ephemeral-storage"] = filesystem(of.ephemeral, now)
    return told


def container(of: figures.Container, now: str, *, brief: bool) -> Json:
    """One container."""
    told: Json = {
        "name": of.name,
        "startTime": clock.rfc3339(datetime.datetime.fromtimestamp(of.started_at / 1e9, datetime.UTC)),
        "cpu": cpu(of.usage, of.nano_cores, now),
        "memory": memory(of.usage, now),
    }
    if of.logs is not None and not brief:
        told["logs"] = filesystem(of.logs, now)
    return told


def cpu(usage: figures.Usage, rate: int | None, now: str) -> Json:
    """Time used, and the rate where it is known."""
    found = {"time": now, "usageCoreNanoSeconds": usage.cpu}
    return found if rate is None else found | {"usageNanoCores": rate}


def memory(usage: figures.Usage, now: str) -> Json:
    """Memory; what is still available only where there is a limit."""
    found = {
        "time": now,
        "usageBytes": usage.memory,
        "workingSetBytes": usage.working_set,
        "rssBytes": usage.rss,
        "pageFaults": usage.page_faults,
        "majorPageFaults": usage.major_page_faults,
    }
    if usage.memory_limit:
        found["availableBytes"] = max(0, usage.memory_limit - usage.working_set)
    return found


def network(interfaces: tuple[figures.Interface, ...], now: str) -> Json:
    """Interfaces; the first, or eth0, stands for all."""
    told = [
        {"name": i.name, "rxBytes": i.rx_bytes, "rxErrors": i.rx_errors, "txBytes": i.tx_bytes, "txErrors": i.tx_errors}
        for i in interfaces
    ]
    main = next((each for each in told if each["name"] == "eth0"), told[0] if told else {})
    return {"time": now, **main, "interfaces": told}


def filesystem(of: figures.Filesystem, now: str) -> Json:
    """A file system."""
    return {
        "time": now,
        "capacityBytes": of.capacity,
        "availableBytes": of.available,
        "usedBytes": of.used,
        "inodes": of.inodes,
        "inodesFree": of.inodes_free,
        "inodesUsed": of.inodes_used,
    }
