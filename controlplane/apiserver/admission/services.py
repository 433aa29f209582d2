"""Cluster addresses and node ports of Services: taken when one is written, given back when it goes.

The allocators are the registry's; this ties them to the life of a write.
"""

from controlplane.apiserver.admission.chain import Attributes, Plugin
from controlplane.apiserver.registry.service_allocation import ServiceAllocation
from kube.scheme import SERVICES


class ServiceAddresses(Plugin):
    """See the module."""

    def __init__(self, allocation: ServiceAllocation) -> None:
        self._allocation = allocation

    async def mutate(self, attributes: Attributes) -> None:
        """Take what the Service asks for; free what it held when the write is stored."""
        if attributes.resource is not SERVICES or attributes.subresource:
            return
        if attributes.operation == "DELETE":
            attributes.on_commit.append(lambda: self._allocation.release(attributes.obj))
            return
        lease = self._allocation.prepare(attributes.obj, old=attributes.old)
        attributes.on_undo.append(lease.undo)
        attributes.on_commit.append(lease.commit)
