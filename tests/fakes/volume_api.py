"""An API server as the volumes see it: named ConfigMaps and Secrets with watches, and tokens."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from kube import scheme, status
from kube.client.watch import WatchEvent


class FakeVolumeApi:
    """Objects by plural, namespace and name; changing one feeds the watches on it."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.watches: list[tuple[tuple[str, str, str], asyncio.Queue[WatchEvent]]] = []
        self.requests: list[str] = []
        self.tokens = itertools.count(1)
        self.token_life = 3600
        self.broken: Exception | None = None
        self.now = lambda: datetime.datetime.now(datetime.UTC)
        self._versions = itertools.count(10)

    def put(self, resource: scheme.Resource, name: str, *, namespace: str = "ns", **body: Any) -> None:
        key = (resource.plural, namespace, name)
        kind = "MODIFIED" if key in self.objects else "ADDED"
        metadata = {"name": name, "namespace": namespace, "resourceVersion": str(next(self._versions))}
        self.objects[key] = {"metadata": metadata, **body}
        self._tell(key, kind, self.objects[key])

    def drop(self, resource: scheme.Resource, name: str, *, namespace: str = "ns") -> None:
        key = (resource.plural, namespace, name)
        self._tell(key, "DELETED", self.objects.pop(key))

    def _tell(self, key: tuple[str, str, str], kind: str, obj: dict[str, Any]) -> None:
        for watched, queue in self.watches:
            if watched == key:
                queue.put_nowait(WatchEvent(kind, msgspec.Raw(msgspec.json.encode(obj))))

    def _note(self, what: str) -> None:
        self.requests.append(what)
        if self.broken:
            raise self.broken

    async def get(self, resource: scheme.Resource, name: str, *, namespace: str) -> dict[str, Any]:
        self._note(f"get {resource.plural} {namespace}/{name}")
        try:
            return self.objects[resource.plural, namespace, name]
        except KeyError:
            raise status.not_found(resource, name) from None

    async def list(self, resource: scheme.Resource, *, namespace: str, field_selector: str) -> dict[str, Any]:
        name = field_selector.removeprefix("metadata.name=")
        self._note(f"list {resource.plural} {namespace}/{name}")
        found = self.objects.get((resource.plural, namespace, name))
        return {"metadata": {"resourceVersion": str(next(self._versions))}, "items": [found] if found else []}

    async def watch_batches(
        self, resource: scheme.Resource, *, namespace: str, field_selector: str, resource_version: str
    ) -> AsyncGenerator[list[WatchEvent], None]:
        name = field_selector.removeprefix("metadata.name=")
        self._note(f"watch {resource.plural} {namespace}/{name}")
        entry = ((resource.plural, namespace, name), asyncio.Queue[WatchEvent]())
        self.watches.append(entry)
        try:
            while True:
                yield [await entry[1].get()]
        finally:
            self.watches.remove(entry)

    async def create(
        self, resource: scheme.Resource, obj: dict[str, Any], *, namespace: str, name: str, subresource: str
    ) -> dict[str, Any]:
        self._note(f"create {resource.plural}/{subresource} {namespace}/{name}")
        self.last_token_request = obj
        life = datetime.timedelta(seconds=self.token_life)
        expires = (self.now() + life).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"status": {"token": f"token-{next(self.tokens)}", "expirationTimestamp": expires}}
