"""The files of a cgroup as a Usage: version 1 and version 2. PURE: it names the files, and others read them."""

from collections.abc import Mapping
from typing import Final

from nodeagent.stats.figures import Interface, Usage

V1_FILES: Final = (
    ("cpuacct", "cpuacct.usage"),
    ("cpu", "cpu.stat"),
    ("cpu", "cpu.shares"),
    ("cpu", "cpu.cfs_quota_us"),
    ("cpu", "cpu.cfs_period_us"),
    ("memory", "memory.usage_in_bytes"),
    ("memory", "memory.limit_in_bytes"),
    ("memory", "memory.stat"),
    ("pids", "pids.current"),
)
V2_FILES: Final = (
    ("", "cpu.stat"),
    ("", "cpu.max"),
    ("", "cpu.weight"),
    ("", "memory.current"),
    ("", "memory.max"),
    ("", "memory.stat"),
    ("", "pids.current"),
)
"""(controller, file)."""
NO_LIMIT: Final = 1 << 60
Texts = Mapping[str, str]


def usage_v1(texts: Texts) -> Usage:
    """From the files of cgroup v1; what is not there counts as nothing."""
    cpu, memory = table(texts.get("cpu.stat", "")), table(texts.get("memory.stat", ""))
    used = number(texts.get("memory.usage_in_bytes", ""))
    limit = number(texts.get("memory.limit_in_bytes", ""))
    return Usage(
        cpu=number(texts.get("cpuacct.usage", "")),
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled=cpu.get("throttled_time", 0),
        memory=used,
        working_set=max(0, used - memory.get("total_inactive_file", 0)),
        rss=memory.get("total_rss", 0),
        cache=memory.get("total_cache", 0),
        page_faults=memory.get("total_pgfault", 0),
        major_page_faults=memory.get("total_pgmajfault", 0),
        processes=number(texts.get("pids.current", "")),
        memory_limit=0 if limit >= NO_LIMIT else limit,
        cpu_shares=number(texts.get("cpu.shares", "")),
        cpu_quota_us=max(0, number(texts.get("cpu.cfs_quota_us", ""))),
        cpu_period_us=number(texts.get("cpu.cfs_period_us", "")),
    )


def usage_v2(texts: Texts) -> Usage:
    """From the files of cgroup v2."""
    cpu, memory = table(texts.get("cpu.stat", "")), table(texts.get("memory.stat", ""))
    used = number(texts.get("memory.current", ""))
    quota, _, period = texts.get("cpu.max", "").strip().partition(" ")
    weight = number(texts.get("cpu.weight", ""))
    return Usage(
        cpu=cpu.get("usage_usec", 0) * 1000,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled=cpu.get("throttled_usec", 0) * 1000,
        memory=used,
        working_set=max(0, used - memory.get("inactive_file", 0)),
        rss=memory.get("anon", 0),
        cache=memory.get("file", 0),
        page_faults=memory.get("pgfault", 0),
        major_page_faults=memory.get("pgmajfault", 0),
        processes=number(texts.get("pids.current", "")),
        memory_limit=number(texts.get("memory.max", "")),
        cpu_shares=2 + ((weight - 1) * 262142) // 9999 if weight else 0,
        cpu_quota_us=number(quota),
        cpu_period_us=number(period),
    )


def number(text: str) -> int:
    """A whole number, 0 for anything else (`max`, nothing)."""
    try:
        return int(text)
    except ValueError:
        return 0


def table(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        found[name] = number(value)
    return found


def interfaces(text: str) -> tuple[Interface, ...]:
    """/proc/<pid>/net/dev without the loopback."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        values = [number(word) for word in rest.split()]
        if name.strip() in ("", "lo") or len(values) < 12:
            continue
        rx_bytes, rx_packets, rx_errors, rx_dropped = values[:4]
        tx_bytes, tx_packets, tx_errors, tx_dropped = values[8:12]
        found.append(
            Interface(
                name=name.strip(),
                rx_bytes=rx_bytes,
                rx_packets=rx_packets,
                rx_errors=rx_errors,
                rx_dropped=rx_dropped,
                tx_bytes=tx_bytes,
                tx_packets=tx_packets,
                tx_errors=tx_errors,
                tx_dropped=tx_dropped,
            )
        )
    return tuple(found)
