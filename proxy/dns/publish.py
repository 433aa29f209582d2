"""Makes this node's server an endpoint of the cluster DNS Service, in an EndpointSlice of its own.

So the cluster DNS address works under any proxy, upstream's included. The slice belongs to the Node object: when the
node is deleted, the garbage collector removes it. Must not know the zone.
"""

from typing import Any

from kube import scheme, status
from kube.client.rest import Client
from kube.types import Node
from proxy.dns.config import DNSConfiguration
from proxy.services.model import SERVICE_NAME_LABEL

MANAGER = "dns.nodeagent"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"


def slice_name(config: DNSConfiguration) -> str:
    """The slice's name: the Service's and the node's."""
    return f"{config.service}-{config.node_name}"


def endpoint_slice(config: DNSConfiguration, *, address: str, node_uid: str, ready: bool) -> dict[str, Any]:
    """The slice. PURE."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": config.node_name, "uid": node_uid}
    labels = {SERVICE_NAME_LABEL: config.service, MANAGED_BY_LABEL: MANAGER}
    metadata: dict[str, Any] = {"name": slice_name(config), "namespace": config.namespace, "labels": labels}
    if node_uid:
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": ready, "serving": ready, "terminating": not ready},
                "nodeName": config.node_name,
            }
        ],
        "ports": [
            {"name": "dns", "port": config.port, "protocol": "UDP"},
            {"name": "dns-tcp", "port": config.port, "protocol": "TCP"},
        ],
    }


async def publish(client: Client, config: DNSConfiguration, *, address: str, ready: bool) -> None:
    """Writes the slice. Raises ApiError or Unreachable; the caller tries again."""
    node = await client.get(scheme.NODES, config.node_name, type=Node)
    wanted = endpoint_slice(config, address=address, node_uid=node.metadata.uid, ready=ready)
    try:
        await client.create(scheme.ENDPOINT_SLICES, wanted, namespace=config.namespace)
    except status.ApiError as error:
        if not status.is_already_exists(error):
            raise
        await client.update(scheme.ENDPOINT_SLICES, wanted)
