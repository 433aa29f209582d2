"""User namespaces of pods: each gets 65,536 ids of the node for its own, and keeps them across restarts of the agent.

Owns the blocks and the file that says which a pod has, in upstream's form and place, so that either finds the other's.
Blocking file work where it says so.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Final

from kube import types
from kube.runtime import files
from nodeagent.cri.v1 import cri_pb2 as cri

LENGTH: Final = 65_536
"""Ids of a pod, and where the first block begins: those below are the node's own."""
BLOCKS: Final = (1 << 32) // LENGTH - 1
FILE: Final = "userns"


class NoIdsLeftError(OSError):
    """Every block is taken."""


class UserNamespaces:
    """The blocks of this node's pods, by the folders below its root."""

    def __init__(self, root: Path) -> None:
        self._pods = root / "pods"
        self._known: dict[str, int] = {}

    def first_id(self, uid: str) -> int:
        """The node's id that is 0 in a pod, given to it when it first asks. Blocking. Raises OSError."""
        if uid not in self._known:
            path = self._pods / uid / FILE
            found = recorded(path)
            if found is None:
                found = free({first for each in self._pods.glob(f"*/{FILE}") if (first := recorded(each)) is not None})
                path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
                files.replace(path, json.dumps(document(found)).encode())
            self._known[uid] = found
        return self._known[uid]

    def of(self, pod: types.Pod) -> int:
        """The same of a pod that asks for a user namespace, 0 of one that does not."""
        return self.first_id(pod.metadata.uid) if pod.spec.host_users is False else 0

    def forget(self, uid: str) -> None:
        """A pod is gone; its file goes with its folder."""
        self._known.pop(uid, None)


def free(taken: Collection[int]) -> int:
    """The first id of the lowest block nobody has. PURE. Raises NoIdsLeftError."""
    for number in range(1, BLOCKS + 1):
        if number * LENGTH not in taken:
            return number * LENGTH
    raise NoIdsLeftError("no range of user ids is free for another pod")


def recorded(path: Path) -> int | None:
    """The first id in a pod's file; None if there is none, or none that can be read."""
    try:
        return int(json.loads(path.read_text())["uidMappings"][0]["hostId"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def document(first: int) -> dict[str, list[dict[str, int]]]:
    """What is written of a pod."""
    mapping = {"hostId": first, "containerId": 0, "length": LENGTH}
    return {"uidMappings": [mapping], "gidMappings": [mapping]}


def mappings(first: int) -> list[cri.IDMapping]:
    """The same for CRI; empty for a pod without a user namespace."""
    return [cri.IDMapping(host_id=first, container_id=0, length=LENGTH)] if first else []


def options(first: int) -> cri.UserNamespace | None:
    """What is said of users in the namespaces of a sandbox or container; None where they are the node's."""
    return cri.UserNamespace(mode=cri.POD, uids=mappings(first), gids=mappings(first)) if first else None
