"""What a write uses is charged to the resource quotas of its namespace, or refused. Upstream's ResourceQuota plug-in.

The charge is stored with the quota before the object is; the quota controller counts again what came to nothing.
"""

from typing import Any

from controlplane import errors, quota
from controlplane.apiserver.admission.chain import Attributes, Plugin
from controlplane.store.entries import Entry
from controlplane.store.storage import Storage
from kube import quantity, status
from kube.scheme import PODS, RESOURCE_QUOTAS

Object = dict[str, Any]
ATTEMPTS = 10


class ResourceQuota(Plugin):
    """See the module; it must be the last to be asked."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def validate(self, attributes: Attributes) -> None:
        """Charge what the object uses more than before; 403 where too little is left."""
        cache = self._storage.cache(RESOURCE_QUOTAS.storage_key)
        changes = attributes.operation in ("CREATE", "UPDATE") and attributes.subresource in ("", "resize")
        if not cache.items or not attributes.namespace or not changes:
            return
        prefix = f"{attributes.namespace}/"
        for key in [key for key in cache.items if key.startswith(prefix)]:
            await self._charge(key, attributes)

    async def _charge(self, key: str, attributes: Attributes) -> None:
        for _ in range(ATTEMPTS):
            entry = self._storage.get(RESOURCE_QUOTAS.storage_key, key)
            charged = None if entry is None else _charged(entry, attributes)
            if entry is None or charged is None or attributes.dry_run:
                return
            try:
                await self._storage.replace(RESOURCE_QUOTAS.storage_key, key, charged, expected=entry.revision)
                return
            except errors.RevisionConflict:
                continue
        raise status.conflict(RESOURCE_QUOTAS, key.partition("/")[2])


def _charged(entry: Entry, attributes: Attributes) -> Object | None:
    """The quota after the write, None where it changes nothing. Raises ApiError 403."""
    found, obj, old = entry.decode(), attributes.obj, attributes.old
    if not quota.covers(found, attributes.resource, obj):
        return None
    name = found["metadata"]["name"]
    if attributes.resource is PODS and old is None and (missing := quota.unnamed(found, obj.get("spec") or {})):
        raise _refusal(attributes, f"failed quota: {name}: must specify {'; '.join(missing)}")
    before = quota.usage(attributes.resource, old) if old and quota.covers(found, attributes.resource, old) else {}
    allowed = quota.hard(found)
    more = {
        key: amount - before.get(key, quota.NOTHING)
        for key, amount in quota.usage(attributes.resource, obj).items()
        if key in allowed and amount > before.get(key, quota.NOTHING)
    }
    if not more:
        return None
    counted = (found.get("status") or {}).get("used") or {}
    if unknown := sorted(more.keys() - counted.keys()):
        raise _refusal(attributes, f"status unknown for quota: {name}, resources: {','.join(unknown)}")
    used = {key: quantity.parse(amount) for key, amount in counted.items()}
    then = quota.added(used, more)
    if over := [key for key in more if then[key] > allowed[key]]:
        parts = (("requested", more), ("used", used), ("limited", allowed))
        told = ", ".join(f"{word}: {quota.text(amounts, over)}" for word, amounts in parts)
        raise _refusal(attributes, f"exceeded quota: {name}, {told}")
    found["status"]["used"] = {key: str(amount) for key, amount in then.items()}
    return found


def _refusal(attributes: Attributes, why: str) -> status.ApiError:
    return status.forbidden(why, resource=attributes.resource, name=attributes.name)
