"""The objects every cluster starts with, made when missing. Knows no HTTP; writes by the API's own rules."""

import ipaddress
import logging
from typing import Any

import yaml

from controlplane.apiserver import convert, metadata
from controlplane.apiserver.authn import MASTERS
from controlplane.apiserver.objects import Caller, Objects
from controlplane.config import Settings
from controlplane.store.entries import Entry
from kube import bootstraptoken, kubeconfig, scheme, status
from kube.client.identity import User
from kube.scheme import Resource

log = logging.getLogger(__name__)

Object = dict[str, Any]
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
PRIORITIES = {
    "system-cluster-critical": (2_000_000_000, "Used for system critical pods that must run in the cluster."),
    "system-node-critical": (2_000_001_000, "Used for system critical pods that must not be moved from their node."),
}
DNS_TARGET_PORT = 10053
FRONT_PROXY = {
    "requestheader-allowed-names": '["front-proxy-client"]',
    "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    "requestheader-group-headers": '["X-Remote-Group"]',
    "requestheader-username-headers": '["X-Remote-User"]',
}
"""How a front proxy tells who asks, as kubeadm sets it up."""
SERVER = Caller(user=User("system:apiserver", (MASTERS,)))


async def ensure(objects: Objects, settings: Settings, *, client_ca: str, front_proxy_ca: str = "") -> None:
    """Make what is missing, and keep the API's own endpoint where the server listens."""
    for name in NAMESPACES:
        await _create(objects, scheme.NAMESPACES, {"metadata": {"name": name}})
    for name, (value, text) in PRIORITIES.items():
        body = {"metadata": {"name": name}, "value": value, "description": text}
        await _create(objects, scheme.PRIORITY_CLASSES, body)
    await _service_range(objects, settings)
    await _create(objects, scheme.SERVICES, _api_service(settings))
    await _create(objects, scheme.SERVICES, _dns_service(settings))
    if ipaddress.ip_address(settings.advertise).is_loopback:
        log.warning("advertiseAddress %s is a loopback address: pods will not reach the API server", settings.advertise)
    else:
        await _keep(objects, scheme.ENDPOINTS, _endpoints(settings))
        await _keep(objects, scheme.ENDPOINT_SLICES, _slice(settings))
    await _keep(objects, scheme.CONFIG_MAPS, _authentication(client_ca, front_proxy_ca))
    for obj in (_cluster_info(settings, client_ca), *_node_settings(settings)):
        await _keep(objects, scheme.CONFIG_MAPS, obj)


async def _create(objects: Objects, resource: Resource, obj: Object) -> None:
    metadata.check_type(obj, resource)
    namespace = obj["metadata"].get("namespace", "")
    try:
        objects.find(resource, namespace=namespace, name=obj["metadata"]["name"])
    except status.ApiError:
        await objects.create(convert.home(resource), obj, namespace=namespace, caller=SERVER)


async def _keep(objects: Objects, resource: Resource, obj: Object) -> None:
    """Create it, or bring its content (all but metadata) to what it should be."""
    await _create(objects, resource, obj)

    def change(entry: Entry) -> Object:
        present = entry.decode()
        return present | {name: value for name, value in obj.items() if name != "metadata"}

    meta = obj["metadata"]
    await objects.update(resource, namespace=meta["namespace"], name=meta["name"], change=change, caller=SERVER)


async def _service_range(objects: Objects, settings: Settings) -> None:
    """The range of Service addresses, ready: proxies read it to know which addresses are no Service's."""
    await _create(
        objects, scheme.SERVICE_CIDRS, {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": [str(settings.services)]}}
    )

    def change(entry: Entry) -> Object:
        present = entry.decode()
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": present["metadata"]["creationTimestamp"],
        }
        return present if present.get("status") else present | {"status": {"conditions": [ready]}}

    await objects.update(
        scheme.SERVICE_CIDRS, namespace="", name="kubernetes", change=change, caller=SERVER, subresource="status"
    )


def _api_service(settings: Settings) -> Object:
    labels = {"component": "apiserver", "provider": "kubernetes"}
    return {
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "clusterIP": settings.service_ip,
            "clusterIPs": [settings.service_ip],
            "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": settings.port}],
        },
    }


def _dns_service(settings: Settings) -> Object:
    labels = {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": DNS_TARGET_PORT},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": DNS_TARGET_PORT},
    ]
    return {
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": settings.dns, "clusterIPs": [settings.dns], "type": "ClusterIP", "ports": ports},
    }


def _endpoints(settings: Settings) -> Object:
    ports = [{"name": "https", "port": settings.port, "protocol": "TCP"}]
    # The controllers must leave it alone: its address is this server's, not a pod's.
    labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    return {
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "subsets": [{"addresses": [{"ip": settings.advertise}], "ports": ports}],
    }


def _slice(settings: Settings) -> Object:
    return {
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv6" if ":" in settings.advertise else "IPv4",
        "endpoints": [{"addresses": [settings.advertise], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": settings.port, "protocol": "TCP"}],
    }


def _authentication(client_ca: str, front_proxy_ca: str) -> Object:
    """Whose certificates upstream's components are to believe on ports of their own."""
    data = {"client-ca-file": client_ca}
    if front_proxy_ca:
        data |= {**FRONT_PROXY, "requestheader-client-ca-file": front_proxy_ca}
    return {"metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}, "data": data}


def _cluster_info(settings: Settings, ca: str) -> Object:
    """Where the cluster is and what its CA is, for those who hold no proof yet; kubeadm's form."""
    text = kubeconfig.render(
        server=f"https://{settings.advertise}:{settings.port}", ca_data=ca.encode(), cluster="", user=""
    )
    meta = {"name": bootstraptoken.INFO_NAME, "namespace": bootstraptoken.INFO_NAMESPACE}
    return {"metadata": meta, "data": {bootstraptoken.INFO_KEY: text}}


def _node_settings(settings: Settings) -> list[Object]:
    """What every node must agree upon, where kubeadm keeps it too: read by those who join."""
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "clusterDNS": [settings.dns],
        "clusterDomain": settings.zone,
        "rotateCertificates": True,
        "serverTLSBootstrap": True,
    }
    proxy = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clusterCIDR": str(settings.cluster),
    }
    found = (("kubelet-config", "kubelet", kubelet), ("kube-proxy", "config.conf", proxy))
    return [
        {
            "metadata": {"name": name, "namespace": "kube-system"},
            "data": {key: yaml.safe_dump(document, sort_keys=False)},
        }
        for name, key, document in found
    ]
