"""What the kubelet's own API may ask about the pods here: their objects with the newest status."""

from typing import Any

import msgspec

from kube import types
from nodeagent.pods import pool
from nodeagent.pods.worker import PodWorker


def pods(of: pool.PodPool) -> list[types.Pod]:
    """Every pod of this node; of two with one name, the one that is not leaving comes first."""
    return sorted((fresh(worker) for worker in of.workers), key=lambda pod: pod.metadata.deletion_timestamp is not None)


def fresh(worker: PodWorker) -> types.Pod:
    """A pod with the status this agent last gave it."""
    if worker.status is None:
        return worker.pod
    status: Any = msgspec.convert(worker.status, types.PodStatus)
    return msgspec.structs.replace(worker.pod, status=status)
