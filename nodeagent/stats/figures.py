"""Figures of one moment, as frozen values. Amounts are bytes, CPU time is in nanoseconds. PURE."""

import dataclasses
import datetime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one cgroup has used. Limits are 0 where there are none; `shares` in v1 units."""

    cpu: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled: int = 0
    memory: int = 0
    working_set: int = 0
    rss: int = 0
    cache: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    processes: int = 0
    memory_limit: int = 0
    cpu_shares: int = 0
    cpu_quota_us: int = 0
    cpu_period_us: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface since it was made."""

    name: str
    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """A file system, and what is used of it by whom this is about."""

    capacity: int
    available: int
    used: int
    inodes: int = 0
    inodes_free: int = 0
    inodes_used: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One running container; `started_at` in Unix nanoseconds, `nano_cores` None before the second look."""

    name: str
    id: str
    image: str
    started_at: int
    cgroup: str
    usage: Usage
    nano_cores: int | None = None
    logs: Filesystem | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod, all its containers together."""

    name: str
    namespace: str
    uid: str
    start_time: str
    cgroup: str
    usage: Usage
    nano_cores: int | None = None
    interfaces: tuple[Interface, ...] = ()
    containers: tuple[Container, ...] = ()
    ephemeral: Filesystem | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The machine."""

    name: str
    cpus: int
    memory_capacity: int
    memory_available: int
    usage: Usage
    nano_cores: int | None = None
    boot_time: str = ""
    filesystem: Filesystem
    interfaces: tuple[Interface, ...] = ()
    most_processes: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything at one moment."""

    time: datetime.datetime
    node: Node
    pods: tuple[Pod, ...] = ()
