"""What the rest of the agent may ask about the pods here: the kubelet's own API reads through this."""

from pathlib import Path
from typing import Any, Protocol

import msgspec

from kube import types
from nodeagent.cri import records, runtime
from nodeagent.pods import container as containers
from nodeagent.pods import files, observed, pool, spec
from nodeagent.pods.worker import PodWorker


class PodView(Protocol):
    """Read access to the pods of this node."""

    def pods(self) -> list[types.Pod]:
        """Every pod, with the newest status."""
        ...

    def get(self, namespace: str, name: str) -> tuple[types.Pod, types.PodStatus] | None:
        """One pod and its newest status."""
        ...

    def container_id(self, uid: str, name: str) -> str | None:
        """The container of this name that runs."""
        ...

    def sandbox_id(self, uid: str) -> str | None:
        """The pod's sandbox while it is ready."""
        ...

    def log_path(self, uid: str, name: str, *, previous: bool = False) -> Path | None:
        """The log of the newest container of this name, or of the one before; None if there is none."""
        ...

    @property
    def runtime(self) -> runtime.Runtime:
        """For exec, attach and port-forward addresses."""
        ...


class PoolView:
    """The view over the workers."""

    def __init__(self, pool: pool.PodPool, *, runtime: runtime.Runtime, files: files.PodFiles) -> None:
        self._pool = pool
        self._runtime = runtime
        self._files = files

    @property
    def runtime(self) -> runtime.Runtime:
        """For exec, attach and port-forward addresses."""
        return self._runtime

    def pods(self) -> list[types.Pod]:
        """Every pod, with the newest status."""
        return [self._fresh(worker) for worker in self._pool.workers]

    def get(self, namespace: str, name: str) -> tuple[types.Pod, types.PodStatus] | None:
        """One pod and its newest status; of two with one name, the one that is not leaving."""
        named = [w for w in self._pool.workers if spec.key(w.pod) == f"{namespace}/{name}"]
        named.sort(key=lambda w: w.pod.metadata.deletion_timestamp is not None)
        if not named:
            return None
        pod = self._fresh(named[0])
        return pod, pod.status

    def container_id(self, uid: str, name: str) -> str | None:
        """The container of this name that runs."""
        found = self._seen(uid).latest(name)
        return found.id if found is not None and found.state == "running" else None

    def sandbox_id(self, uid: str) -> str | None:
        """The pod's sandbox while it is ready."""
        sandbox = self._seen(uid).sandbox
        return sandbox.id if sandbox is not None and sandbox.ready else None

    def log_path(self, uid: str, name: str, *, previous: bool = False) -> Path | None:
        """The log of the newest container of this name, or of the one before; None if there is none."""
        worker = self._pool.worker(uid)
        found = self._seen(uid).of(name)[int(previous) :]
        if worker is None or not found:
            return None
        return self._path(worker, found[0])

    def _path(self, worker: PodWorker, container: records.Container) -> Path:
        if container.log_path:
            return Path(container.log_path)
        count = observed.restart_count(container)
        return self._files.logs_of(worker.pod) / containers.log_path(container.name, count)

    def _seen(self, uid: str) -> observed.Observed:
        worker = self._pool.worker(uid)
        return worker.seen if worker is not None else observed.Observed(uid=uid)

    def _fresh(self, worker: PodWorker) -> types.Pod:
        if worker.status is None:
            return worker.pod
        status: Any = msgspec.convert(worker.status, types.PodStatus)
        return msgspec.structs.replace(worker.pod, status=status)
