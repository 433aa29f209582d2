"""What the kubelet's own API may ask about the pods here: their objects with the newest status."""

from kube import types
from nodeagent.pods import pool


def pods(of: pool.PodPool) -> list[types.Pod]:
    """Every pod of this node; of two with one name, the one that is not leaving comes first."""
    return sorted((worker.fresh for worker in of.workers), key=lambda pod: pod.metadata.deletion_timestamp is not None)
