"""Events live for an hour after they were last seen; this deletes the older ones. Knows no HTTP."""

from datetime import datetime, timedelta

from controlplane import errors
from controlplane.apiserver.authn import MASTERS
from controlplane.apiserver.objects import Caller, Objects
from controlplane.store.entries import Entry
from controlplane.store.storage import Storage
from kube import status
from kube.client.identity import User
from kube.runtime.clock import Clock
from kube.scheme import EVENTS

LIFETIME = timedelta(hours=1)
TIMES = ("lastTimestamp", "eventTime", "firstTimestamp")
CALLER = Caller(user=User("system:apiserver", (MASTERS,)))


class Expiry:
    """Deletes events that nobody has renewed for an hour."""

    def __init__(self, objects: Objects, storage: Storage, *, clock: Clock) -> None:
        self._objects = objects
        self._storage = storage
        self._clock = clock

    async def expire(self) -> int:
        """Delete what is too old; returns how many."""
        limit = self._clock.now() - LIFETIME
        old = [entry for entry in self._storage.cache(EVENTS.storage_key).items.values() if last_seen(entry) < limit]
        for entry in old:
            try:
                await self._objects.delete(
                    EVENTS, namespace=entry.namespace, name=entry.name, options={}, caller=CALLER
                )
            except (status.ApiError, errors.RevisionConflict):
                continue  # renewed or deleted meanwhile
        return len(old)


def last_seen(entry: Entry) -> datetime:
    """When an event happened last, as far as it says."""
    obj = entry.decode()
    times = [obj.get(name) for name in TIMES] + [(obj.get("series") or {}).get("lastObservedTime")]
    found = [text for text in times if text] or [obj["metadata"]["creationTimestamp"]]
    return max(datetime.fromisoformat(text) for text in found)
