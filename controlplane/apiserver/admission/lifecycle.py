"""NamespaceLifecycle: nothing is created where there is no namespace or one that ends; some namespaces stay."""

from controlplane.apiserver.admission.chain import Attributes, Plugin
from controlplane.store.storage import Storage
from kube import status
from kube.scheme import NAMESPACES

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class NamespaceLifecycle(Plugin):
    """See the module."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def mutate(self, attributes: Attributes) -> None:
        """Refuses early, before other plug-ins reserve anything."""
        if attributes.operation == "DELETE":
            if attributes.resource is NAMESPACES and attributes.name in IMMORTAL:
                raise status.forbidden("this namespace may not be deleted", resource=NAMESPACES, name=attributes.name)
            return
        if attributes.operation != "CREATE" or not attributes.resource.namespaced:
            return
        entry = self._storage.get(NAMESPACES.storage_key, attributes.namespace)
        if entry is None:
            raise status.not_found(NAMESPACES, attributes.namespace)
        if entry.fields.get("status.phase") == "Terminating" or b'"deletionTimestamp"' in entry.data[:4096]:
            raise _terminating(attributes)


def _terminating(attributes: Attributes) -> status.ApiError:
    namespace = attributes.namespace
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    error = status.forbidden(why, resource=attributes.resource, name=attributes.name)
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    error.status["details"]["causes"] = [cause]
    return error
