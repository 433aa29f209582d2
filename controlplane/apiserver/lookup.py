"""Small reads of the store that authentication and authorization need. Knows no HTTP."""

from collections.abc import Iterator
from typing import Any

from controlplane.store.storage import Storage
from kube import bootstraptoken
from kube.scheme import PODS, SECRETS, SERVICE_ACCOUNTS, Resource

Object = dict[str, Any]


class StoreLookup:
    """Reads uids and pods from the caches."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def service_account_uid(self, *, namespace: str, name: str) -> str | None:
        """See `tokens.Lookup`."""
        return self._uid(SERVICE_ACCOUNTS, namespace, name)

    def pod_uid(self, *, namespace: str, name: str) -> str | None:
        """See `tokens.Lookup`."""
        return self._uid(PODS, namespace, name)

    def secret_uid(self, *, namespace: str, name: str) -> str | None:
        """See `tokens.Lookup`."""
        return self._uid(SECRETS, namespace, name)

    def bootstrap_token(self, token_id: str) -> bootstraptoken.Kept | None:
        """The bootstrap token of an id, read from its Secret."""
        key = f"{bootstraptoken.NAMESPACE}/{bootstraptoken.SECRET_PREFIX}{token_id}"
        entry = self._storage.get(SECRETS.storage_key, key)
        return None if entry is None else bootstraptoken.of_secret(entry.decode())

    def pods_of(self, node: str, namespace: str) -> Iterator[Object]:
        """The pods of a namespace that are bound to a node."""
        for entry in self._storage.cache(PODS.storage_key).select_range(namespace):
            if entry.fields.get("spec.nodeName") == node:
                yield entry.decode()

    def _uid(self, resource: Resource, namespace: str, name: str) -> str | None:
        entry = self._storage.get(resource.storage_key, f"{namespace}/{name}")
        return None if entry is None else str(entry.decode()["metadata"]["uid"])
