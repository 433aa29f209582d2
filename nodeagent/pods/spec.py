"""Questions asked of a pod's specification all over this package. PURE; knows nothing of what runs."""

import hashlib
from collections.abc import Iterator
from typing import Final

from kube import types
from kube.runtime import clock

AnyContainer = types.Container | types.EphemeralContainer
DEFAULT_GRACE: Final = 30
TERMINAL: Final = ("Succeeded", "Failed")
CONFIG_SOURCE: Final = "kubernetes.io/config.source"
CONFIG_HASH: Final = "kubernetes.io/config.hash"
CONFIG_SEEN: Final = "kubernetes.io/config.seen"
RESTART_ALL: Final = "RestartAllContainers"
"""The action of a restart rule that starts the whole pod anew in its sandbox."""
MIRROR: Final = "kubernetes.io/config.mirror"
"""Annotations of static pods and of what the API shows of them."""


def key(pod: types.Pod) -> str:
    """`namespace/name`."""
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def shown(pod: types.Pod) -> str:
    """The pod as events and back-off messages name it."""
    return f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"


def reference(pod: types.Pod, container: str = "") -> dict[str, str]:
    """The object an event is about; with a container, the field path kubectl shows."""
    found = {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": pod.metadata.namespace,
        "name": pod.metadata.name,
        "uid": pod.metadata.uid,
        "resourceVersion": pod.metadata.resource_version,
    }
    if container:
        found["fieldPath"] = f"spec.{group(pod, container)}{{{container}}}"
    return found


def group(pod: types.Pod, container: str) -> str:
    """Which list of the spec a container is in."""
    if any(c.name == container for c in pod.spec.init_containers):
        return "initContainers"
    if any(c.name == container for c in pod.spec.ephemeral_containers):
        return "ephemeralContainers"
    return "containers"


def every(pod: types.Pod) -> Iterator[AnyContainer]:
    """All containers: init, main, ephemeral."""
    yield from pod.spec.init_containers
    yield from pod.spec.containers
    yield from pod.spec.ephemeral_containers


def find(pod: types.Pod, container: str) -> AnyContainer | None:
    """A container by name."""
    return next((c for c in every(pod) if c.name == container), None)


def is_sidecar(container: AnyContainer) -> bool:
    """An init container that keeps running beside the main ones."""
    return container.restart_policy == "Always"


def may_restart_all(pod: types.Pod) -> bool:
    """Whether a container of the pod can have all of them start anew."""
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    return any(rule.action == RESTART_ALL for c in containers for rule in c.restart_policy_rules)


def restarts_after(pod: types.Pod, container: types.Container, exit_code: int) -> bool:
    """Whether a container that ended with this code is started again: its rules, its policy, the pod's policy."""
    if any(r.action in ("Restart", RESTART_ALL) and applies(r, exit_code) for r in container.restart_policy_rules):
        return True
    policy = container.restart_policy or pod.spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def applies(rule: types.ContainerRestartRule, exit_code: int) -> bool:
    """Whether a restart rule is about this exit code."""
    codes = rule.exit_codes
    if codes is None:
        return False
    return (exit_code in codes.values) == (codes.operator == "In")


def sidecars(pod: types.Pod) -> list[types.Container]:
    """Init containers that keep running, in their order."""
    return [c for c in pod.spec.init_containers if is_sidecar(c)]


def grace(pod: types.Pod) -> int:
    """Seconds its containers are given to stop: what the deletion says, else the pod's own wish."""
    if pod.metadata.deletion_grace_period_seconds is not None:
        return pod.metadata.deletion_grace_period_seconds
    wish = pod.spec.termination_grace_period_seconds
    return DEFAULT_GRACE if wish is None else wish


def content_hash(container: AnyContainer) -> str:
    """Changes when the container must be replaced: only the image of a running pod's container can change."""
    return hashlib.sha256(f"{container.name}\0{container.image}".encode()).hexdigest()[:8]


def is_static(pod: types.Pod) -> bool:
    """Whether the pod comes from this node's own files."""
    return pod.metadata.annotations.get(CONFIG_SOURCE, "api") != "api" and not is_mirror(pod)


def is_mirror(pod: types.Pod) -> bool:
    """Whether this is what the API shows of a static pod."""
    return MIRROR in pod.metadata.annotations


def deadline(pod: types.Pod) -> float | None:
    """When its active deadline passes, in Unix seconds."""
    limit, start = pod.spec.active_deadline_seconds, pod.status.start_time
    if limit is None or not start:
        return None
    return clock.parse_rfc3339(start).timestamp() + limit


def restarts_recorded(pod: types.Pod) -> dict[str, int]:
    """Restart counts the API has, for containers that have existed."""
    status = pod.status
    every_status = (*status.init_container_statuses, *status.container_statuses, *status.ephemeral_container_statuses)
    return {
        c.name: c.restart_count for c in every_status if c.container_id or c.last_state.terminated or c.restart_count
    }
