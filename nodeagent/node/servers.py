"""Which API servers there are, learnt from the API itself: the endpoints of the Service default/kubernetes.

Owns the list and where it is remembered: in the kubeconfig, so that a restarted agent finds a server although the
first one is gone. Must not know how a server is chosen.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kube import kubeconfig as files
from kube import scheme, types
from kube.client.failover import FailoverTransport
from kube.client.informer import Informers
from kube.client.transport import Transport

log = logging.getLogger(__name__)

NAME: Final = "kubernetes"
PORT: Final = "https"


def urls(slice: types.EndpointSlice) -> list[str]:
    """The servers a slice of default/kubernetes names."""
    port = next((each.port for each in slice.ports if each.name in (PORT, None) and each.port), None)
    if port is None:
        return []
    addresses = [address for endpoint in slice.endpoints for address in endpoint.addresses]
    return [f"https://[{each}]:{port}" if ":" in each else f"https://{each}:{port}" for each in addresses]


def follow(informers: Informers, transport: Transport, *, kubeconfig: Path, group: asyncio.TaskGroup) -> None:
    """Have the transport know every server from now on. The one of the kubeconfig stays the first."""
    if not isinstance(transport, FailoverTransport):
        return
    configured = transport.server
    selector = f"metadata.name={NAME}"
    found = informers.get(scheme.ENDPOINT_SLICES, types.EndpointSlice, namespace="default", field_selector=selector)

    def changed(_: types.EndpointSlice | None, new: types.EndpointSlice | None) -> None:
        known = list(dict.fromkeys((configured, *(urls(new) if new else ()))))
        # An empty list is a server that restarts, not a cluster without any.
        if len(known) > 1 or (new is not None and urls(new)):
            group.create_task(_learn(transport, known, kubeconfig), name="learn servers")

    found.subscribe(changed)


async def _learn(transport: FailoverTransport, servers: Sequence[str], kubeconfig: Path) -> None:
    await transport.learn(servers)
    try:
        await asyncio.to_thread(files.learn_servers, kubeconfig, servers)
    except (OSError, files.KubeconfigError) as e:
        log.warning("the API servers are not remembered: %s", e)
