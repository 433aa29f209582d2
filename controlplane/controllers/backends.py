"""Which pods stand behind a Service, and by which ports. Pure; shared by Endpoints and EndpointSlice."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from controlplane.controllers import conditions, podstate, times
from controlplane.projection import JSON, Pod, Service, ServicePort
from kube.runtime import clock

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
HEADLESS = "service.kubernetes.io/headless"


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """One port as endpoints show it; app_protocol "" for none."""

    name: str
    protocol: str
    port: int
    app_protocol: str = ""

    def to_json(self) -> JSON:
        """The EndpointPort of either API."""
        shown: JSON = {"name": self.name, "port": self.port, "protocol": self.protocol}
        if self.app_protocol:
            shown["appProtocol"] = self.app_protocol
        return shown


def selected(service: Service, pods: Iterable[Pod]) -> list[Pod]:
    """Pods of the namespace that the selector picks and that may have an address to show."""
    wanted = service.spec.selector.items()
    return [
        pod
        for pod in pods
        if wanted <= pod.metadata.labels.items() and pod.status.pod_ip and not podstate.is_finished(pod)
    ]


def is_headless(service: Service) -> bool:
    """A Service without an address of its own."""
    return service.spec.cluster_ip == "None"


def has_endpoints(service: Service) -> bool:
    """Whether its endpoints are ours to write: it selects pods, and is not just a name for somewhere else."""
    return bool(service.spec.selector) and service.spec.type != "ExternalName"


def ports(service: Service, pod: Pod) -> tuple[Port, ...]:
    """Service ports as this pod serves them; a named target port that the pod lacks is left out."""
    found = []
    for port in service.spec.ports:
        number = _target(port, pod)
        if number is not None:
            found.append(Port(port.name, port.protocol, number, port.app_protocol or ""))
    return tuple(sorted(found))


def address(pod: Pod, family: str) -> str | None:
    """The pod's address of a family ("IPv4", "IPv6"), or None."""
    version = 6 if family == "IPv6" else 4
    candidates = [one.ip for one in pod.status.pod_ips] or [pod.status.pod_ip]
    return next((ip for ip in candidates if ip and ip_address(ip).version == version), None)


def families(service: Service) -> tuple[str, ...]:
    """Address families a Service has endpoints of."""
    return service.spec.ip_families or ("IPv4",)


def reference(pod: Pod) -> JSON:
    """The targetRef of an endpoint."""
    meta = pod.metadata
    return {"kind": "Pod", "namespace": meta.namespace, "name": meta.name, "uid": meta.uid}


def hostname(service: Service, pod: Pod) -> str:
    """The name of the pod below its Service, "" if it has none there."""
    same = pod.spec.subdomain == service.metadata.name and pod.metadata.namespace == service.metadata.namespace
    return pod.spec.hostname if same else ""


def trigger_time(service: Service, pods: Iterable[Pod]) -> str | None:
    """When the last thing happened that endpoints show: a pod's readiness turned, or the Service was made."""
    stamps = [service.metadata.creation_timestamp]
    for pod in pods:
        ready = conditions.find(pod.status.conditions, "Ready")
        stamps.append(ready.last_transition_time if ready else None)
        stamps.append(pod.metadata.deletion_timestamp)
    moments: list[datetime] = [moment for moment in map(times.parse, stamps) if moment]
    return clock.rfc3339(max(moments)) if moments else None


def newer(stamp: str | None, than: Iterable[str | None]) -> bool:
    """Whether a trigger time is news beside those already shown."""
    moment, shown = times.parse(stamp), [m for m in map(times.parse, than) if m]
    return moment is not None and (not shown or moment > max(shown))


def _target(port: ServicePort, pod: Pod) -> int | None:
    target = port.target_port
    if isinstance(target, int) and target:
        return target
    if not target:
        return port.port
    sidecars = [c for c in pod.spec.init_containers if c.restart_policy == "Always"]
    for container in (*pod.spec.containers, *sidecars):
        for declared in container.ports:
            if declared.name == target and declared.protocol == port.protocol:
                return declared.container_port
    return None
