"""Defaults of pod specs, in pods and in every pod template.

Owns which values a spec gets that its author left out. Must not know validation or admission: what
admission adds (service account, priority, tolerations) is not here.
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.apiserver.registry import images, pod_resources, quantities, volume_defaults
from controlplane.apiserver.registry.field import JSON

CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


def pod(obj: JSON) -> None:
    """A pod: its spec, plus what templates do not get."""
    spec = _object(obj, "spec")
    template_spec(spec)
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    for container in containers:
        _requests_from_limits(container["resources"])
    pod_resources.default(spec)
    if "enableServiceLinks" not in spec:
        spec["enableServiceLinks"] = True
    if spec.get("hostNetwork"):
        host_ports(containers)
    mirror_service_account(spec)


def template(value: JSON | None) -> None:
    """A pod template: `metadata` and `spec`."""
    if value is None:
        return
    _object(value, "metadata")
    spec = _object(value, "spec")
    template_spec(spec)
    mirror_service_account(spec)


def template_spec(spec: JSON) -> None:
    """A pod spec, wherever it stands."""
    for name in CONTAINER_LISTS:
        for item in spec.get(name) or ():
            container(item)
    for volume in spec.get("volumes") or ():
        volume_defaults.volume(volume)
    spec["dnsPolicy"] = spec.get("dnsPolicy") or "ClusterFirst"
    spec["restartPolicy"] = spec.get("restartPolicy") or "Always"
    spec["schedulerName"] = spec.get("schedulerName") or "default-scheduler"
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    if "resources" in spec:
        quantities.canonical_requirements(spec["resources"])
    if "overhead" in spec:
        quantities.canonical_map(spec["overhead"])


def container(value: JSON) -> None:
    """A container of any of the three lists."""
    if not value.get("imagePullPolicy"):
        value["imagePullPolicy"] = images.pull_policy(value.get("image") or "")
    if not value.get("terminationMessagePath"):
        value["terminationMessagePath"] = "/dev/termination-log"
    if not value.get("terminationMessagePolicy"):
        value["terminationMessagePolicy"] = "File"
    resources = value.get("resources")
    if resources:
        quantities.canonical_requirements(resources)
    else:
        value["resources"] = {}
    for port in value.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    _environment(value.get("env") or ())
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in value:
            probe(value[name])
    for handler in (value.get("lifecycle") or {}).values():
        if "httpGet" in handler:
            _http_get(handler["httpGet"])
    if (value.get("securityContext") or {}).get("procMount") == "":
        del value["securityContext"]["procMount"]


def probe(value: JSON) -> None:
    """A probe's thresholds, and the handler's own defaults."""
    value["timeoutSeconds"] = value.get("timeoutSeconds") or 1
    value["periodSeconds"] = value.get("periodSeconds") or 10
    value["successThreshold"] = value.get("successThreshold") or 1
    value["failureThreshold"] = value.get("failureThreshold") or 3
    if "httpGet" in value:
        _http_get(value["httpGet"])
    if "grpc" in value:
        value["grpc"].setdefault("service", "")


def host_ports(containers: Iterable[JSON]) -> None:
    """On the host's network a container port is the host port."""
    for value in containers:
        for port in value.get("ports") or ():
            if not port.get("hostPort") and port.get("containerPort"):
                port["hostPort"] = port["containerPort"]


def mirror_service_account(spec: JSON) -> None:
    """The old and the new name of the service account are always equal; the new one wins."""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def _object(parent: JSON, key: str) -> JSON:
    found = parent.get(key)
    value: JSON = found if isinstance(found, dict) else {}
    parent[key] = value
    return value


def _http_get(value: JSON) -> None:
    value["path"] = value.get("path") or "/"
    value["scheme"] = value.get("scheme") or "HTTP"


def _environment(variables: Iterable[JSON]) -> None:
    for variable in variables:
        source = variable.get("valueFrom")
        if not source:
            continue
        if "fieldRef" in source and not source["fieldRef"].get("apiVersion"):
            source["fieldRef"]["apiVersion"] = "v1"
        if "resourceFieldRef" in source:
            quantities.default_divisor(source["resourceFieldRef"])
        if "fileKeyRef" in source:
            source["fileKeyRef"].setdefault("optional", False)


def _requests_from_limits(resources: JSON) -> None:
    limits = resources.get("limits")
    if not limits:
        return
    requests = resources.setdefault("requests", {})
    for name, amount in limits.items():
        requests.setdefault(name, amount)
