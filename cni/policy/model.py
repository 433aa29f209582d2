"""What network policies need to know of pods and namespaces: projections as small as they can be.

Every node holds all pods of the cluster for this, so only what is compared is kept. PURE.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kube.types.base import Projection

ENDED = ("Succeeded", "Failed")
SIDECAR = "Always"


class MirrorMark(Projection):
    """Of a pod's annotations the one that names the static pod it mirrors."""

    hash: str = msgspec.field(name="kubernetes.io/config.mirror", default="")


class PodMeta(Projection):
    """Identity and labels."""

    annotations: MirrorMark = msgspec.field(default_factory=MirrorMark)
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    uid: str = ""


class ContainerPort(Projection):
    """A port that may have a name."""

    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"


class Container(Projection):
    """Its ports, and whether an init container stays."""

    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str | None = None


class PodSpec(Projection):
    """Where it runs and what ports it names."""

    containers: tuple[Container, ...] = ()
    host_network: bool = False
    init_containers: tuple[Container, ...] = ()
    node_name: str = ""


class PodIP(Projection):
    """One address."""

    ip: str = ""


class PodStatus(Projection):
    """Its addresses while it lives."""

    phase: str = ""
    pod_ip: str = ""
    pod_ips: tuple[PodIP, ...] = ()


class PolicyPod(Projection):
    """A pod as the informer holds it."""

    metadata: PodMeta = msgspec.field(default_factory=PodMeta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class NamespaceMeta(Projection):
    """Name and labels."""

    labels: dict[str, str] = {}
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class PolicyNamespace(Projection):
    """A namespace as the informer holds it."""

    metadata: NamespaceMeta = msgspec.field(default_factory=NamespaceMeta)


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A container port with a name; `protocol` in lower case."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that policies can speak of: it has an address of its own. `rank` says who of two pods has an address."""

    namespace: str
    name: str
    labels: dict[str, str]
    addresses: tuple[str, ...]
    ports: tuple[NamedPort, ...] = ()
    local: bool = False
    rank: tuple[bool, bool, str, str] = (False, False, "", "")

    @property
    def key(self) -> str:
        """As informers key it."""
        return f"{self.namespace}/{self.name}"


def is_pod(found: PolicyPod, uid: str) -> bool:
    """Whether an object is the pod of this uid, or the mirror of the static pod of this uid; "" is any."""
    return uid in ("", found.metadata.uid, found.metadata.annotations.hash)


def pod(found: PolicyPod, *, node: str, attached: tuple[str, ...] = ()) -> Pod | None:
    """The facts of a pod; None for one that policies do not speak of: host network, ended, or without address.

    `attached` are the addresses that this node gave it, known before the API has them.
    """
    reported = tuple(each.ip for each in found.status.pod_ips) or (found.status.pod_ip,)
    addresses = attached or tuple(filter(None, reported))
    if found.spec.host_network or found.status.phase in ENDED or not addresses:
        return None
    meta = found.metadata
    return Pod(
        namespace=meta.namespace,
        name=meta.name,
        labels=meta.labels,
        addresses=addresses,
        ports=tuple(_named(found.spec)),
        local=found.spec.node_name == node,
        rank=(bool(attached), not meta.deletion_timestamp, meta.creation_timestamp or "", meta.uid),
    )


def _named(spec: PodSpec) -> list[NamedPort]:
    staying = [*spec.containers, *(each for each in spec.init_containers if each.restart_policy == SIDECAR)]
    return [
        NamedPort(port.name, port.protocol.lower(), port.container_port)
        for container in staying
        for port in container.ports
        if port.name
    ]
