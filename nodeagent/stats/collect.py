"""Looking at the figures: cgroup files, /proc, file systems. Blocking; call it in a thread.

Remembers the last look, so that a rate can be told of the next one. Must not know who asks.
"""

import contextlib
import dataclasses
import datetime
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from kube import types
from kube.runtime import clock as clocks
from nodeagent.pods import observed
from nodeagent.resources import cgroups, qos, tree
from nodeagent.stats import cgroup, figures

Pods = Callable[[], Iterable[tuple[types.Pod, observed.Observed]]]
SHORTEST: Final = 1.0
"""Seconds between two looks that are far enough apart to tell a rate."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """CPU time at a moment of the monotonic clock."""

    at: float
    cpu: int
    rate: int | None = None


class Collector:
    """Measures the node and its pods."""

    def __init__(
        self,
        *,
        node_name: str,
        clock: clocks.Clock,
        layout: Callable[[], cgroups.Layout],
        pods: Pods = tuple,
        root: Path = Path("/"),
        pod_root: Path | None = None,
        logs: Callable[[types.Pod], Path] | None = None,
        mount: Path = tree.MOUNT,
        proc: Path = Path("/proc"),
    ) -> None:
        self._node_name = node_name
        self._clock = clock
        self._layout = layout
        self._pods = pods
        self._root = root
        self._pod_root = pod_root
        self._logs = logs
        self._mount = mount
        self._proc = proc
        self._samples: dict[str, Sample] = {}
        self._lock = threading.Lock()

    def __call__(self, *, disk: bool = False) -> figures.Figures:
        """All figures now; `disk` adds what pods take up on disk, which costs a walk through their files."""
        with self._lock:
            before, self._samples = self._samples, {}
            layout = self._layout()
            pods = tuple(self._pod(pod, seen, layout, before, disk=disk) for pod, seen in self._pods() if seen.running)
            return figures.Figures(time=self._clock.now(), node=self._node(before), pods=pods)

    def node(self) -> figures.Node:
        """Those of the node alone, without rates: cheap enough to be asked for often."""
        return self._node(None)

    def _pod(
        self,
        pod: types.Pod,
        seen: observed.Observed,
        layout: cgroups.Layout,
        before: dict[str, Sample],
        *,
        disk: bool,
    ) -> figures.Pod:
        path = cgroups.pod_path(qos.qos_class(pod), pod.metadata.uid, layout=layout)
        usage = self.usage(path, layout)
        containers = []
        for each in seen.running:
            below = cgroups.container_path(path, each.id, layout=layout)
            used = self.usage(below, layout)
            containers.append(
                figures.Container(
                    name=each.name,
                    id=each.id,
                    image=each.image,
                    started_at=each.started_at,
                    cgroup=below,
                    usage=used,
                    nano_cores=self._rate(each.id, used.cpu, before),
                    logs=self._disk(self._logs(pod) / each.name) if disk and self._logs else None,
                )
            )
        net = () if pod.spec.host_network else self._interfaces([c.cgroup for c in containers], layout)
        folder = self._pod_root / pod.metadata.uid / "volumes" if self._pod_root else None
        return figures.Pod(
            name=pod.metadata.name,
            namespace=pod.metadata.namespace,
            uid=pod.metadata.uid,
            start_time=pod.status.start_time or "",
            cgroup=path,
            usage=usage,
            nano_cores=self._rate(pod.metadata.uid, usage.cpu, before),
            interfaces=net,
            containers=tuple(containers),
            ephemeral=self._disk(folder) if disk and folder else None,
        )

    def usage(self, path: str, layout: cgroups.Layout) -> figures.Usage:
        """What one cgroup has used; nothing if it is gone."""
        texts = {}
        for controller, file in cgroup.V1_FILES if layout.version == 1 else cgroup.V2_FILES:
            with contextlib.suppress(OSError):
                texts[file] = (self._mount / controller / path.lstrip("/") / file).read_text()
        return cgroup.usage_v1(texts) if layout.version == 1 else cgroup.usage_v2(texts)

    def _interfaces(self, paths: list[str], layout: cgroups.Layout) -> tuple[figures.Interface, ...]:
        """Those of the pod's network, as one of its processes sees it."""
        controller = "memory" if layout.version == 1 else ""
        for path in paths:
            with contextlib.suppress(OSError, IndexError):
                pid = (self._mount / controller / path.lstrip("/") / "cgroup.procs").read_text().split()[0]
                return cgroup.interfaces((self._proc / pid / "net" / "dev").read_text())
        return ()

    def _rate(self, key: str, cpu: int, before: dict[str, Sample]) -> int | None:
        now, last = self._clock.monotonic(), before.get(key)
        if last is None or cpu < last.cpu:
            self._samples[key] = Sample(now, cpu)
            return None
        if now - last.at < SHORTEST:
            self._samples[key] = last
            return last.rate
        rate = round((cpu - last.cpu) / (now - last.at))
        self._samples[key] = Sample(now, cpu, rate)
        return rate

    def _node(self, before: dict[str, Sample] | None) -> figures.Node:
        import psutil

        cpu, memory = psutil.cpu_times(), psutil.virtual_memory()
        busy = round((cpu.user + cpu.nice + cpu.system + cpu.irq + cpu.softirq + cpu.steal) * 1e9)
        text = (self._proc / "net" / "dev").read_text() if (self._proc / "net" / "dev").exists() else ""
        most = (self._proc / "sys" / "kernel" / "pid_max").read_text() if self._proc.exists() else ""
        usage = figures.Usage(
            cpu=busy,
            memory=memory.total - memory.free,
            working_set=memory.total - memory.available,
            rss=getattr(memory, "active", 0),
            cache=getattr(memory, "cached", 0),
            processes=len(psutil.pids()),
        )
        return figures.Node(
            name=self._node_name,
            cpus=psutil.cpu_count() or 1,
            memory_capacity=memory.total,
            memory_available=memory.available,
            usage=usage,
            nano_cores=None if before is None else self._rate("", busy, before),
            boot_time=clocks.rfc3339(datetime.datetime.fromtimestamp(psutil.boot_time(), datetime.UTC)),
            filesystem=filesystem(self._root),
            interfaces=cgroup.interfaces(text),
            most_processes=cgroup.number(most),
        )

    @staticmethod
    def _disk(folder: Path) -> figures.Filesystem | None:
        """What a folder takes up of its file system; mounts inside it are not counted."""
        try:
            whole, device = filesystem(folder), folder.stat().st_dev
        except OSError:
            return None
        used = inodes = 0
        for path, folders, names in os.walk(folder):
            with contextlib.suppress(OSError):
                if os.lstat(path).st_dev != device:
                    folders.clear()
                    continue
            for name in names:
                with contextlib.suppress(OSError):
                    used += os.lstat(os.path.join(path, name)).st_blocks * 512
                    inodes += 1
            inodes += 1
        return dataclasses.replace(whole, used=used, inodes_used=inodes)


def filesystem(path: Path) -> figures.Filesystem:
    """The file system a path is on; OSError if it is not there."""
    found = os.statvfs(path)
    return figures.Filesystem(
        capacity=found.f_blocks * found.f_frsize,
        available=found.f_bavail * found.f_frsize,
        used=(found.f_blocks - found.f_bfree) * found.f_frsize,
        inodes=found.f_files,
        inodes_free=found.f_ffree,
        inodes_used=found.f_files - found.f_ffree,
    )
