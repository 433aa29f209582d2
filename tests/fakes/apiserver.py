"""An API server in memory behind the client's `Transport`, with the faults of a real one on order.

Stores what is written, watches with resource versions, bookmarks and WatchList, and does as it is told:
`reachable`, `watch_list`, `disconnect()`, `compact()`, `refuse(error)`. No defaults, no validation, no controllers:
a test puts objects with `put` and `remove`, or through a `Client`, and reads `requests`.
"""

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kube import fields, labels, scheme, status
from kube.client.errors import Unreachable
from kube.client.rest import Client
from kube.client.transport import Response, StreamResponse
from kube.scheme import Resource

Object = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One request as it came in; `body` is decoded."""

    method: str
    path: str
    params: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class _Target:
    resource: Resource
    namespace: str
    name: str
    subresource: str


@dataclass(eq=False)
class _Watcher:
    target: _Target
    params: Mapping[str, str]
    queue: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    broken: bool = False


class FakeApiServer:
    """A `Transport`; `client()` gives a Client on it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.reachable = True
        self.watch_list = True
        """False: watches that ask for initial events are refused with 422, as older servers may."""
        self.ignores_watch_list = False
        """True: such watches send the initial events, but never the bookmark that ends them."""
        self.breaks_watch_list = False
        """True: such watches are accepted and then end in an error, as upstream's do on an etcd older than 3.4.25."""
        self.revision = 10
        self._objects: dict[Resource, dict[str, Object]] = {}
        self._history: list[tuple[int, Resource, str, Object, Object | None]] = []
        self._compacted = 0
        self._watchers: set[_Watcher] = set()
        self._refusals: list[status.ApiError] = []

    @property
    def server(self) -> str:
        return "https://fake"

    def client(self) -> Client:
        return Client(self)

    # what a test does

    def put(self, resource: Resource, obj: Mapping[str, Any]) -> Object:
        """Create or replace an object, as someone else would; returns it as stored."""
        key = _key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        old = self._objects.setdefault(resource, {}).get(key)
        stored = copy.deepcopy(dict(obj))
        stored.setdefault("apiVersion", resource.api_version)
        stored.setdefault("kind", resource.kind)
        stored["metadata"].setdefault("uid", old["metadata"]["uid"] if old else f"uid-{self.revision + 1}")
        if old is not None and old == {**stored, "metadata": {**stored["metadata"], **_version(old)}}:
            return copy.deepcopy(old)  # as upstream: what changes nothing keeps its revision
        self.revision += 1
        stored["metadata"]["resourceVersion"] = str(self.revision)
        self._objects[resource][key] = stored
        self._record(resource, "MODIFIED" if old else "ADDED", stored, old)
        return copy.deepcopy(stored)

    def remove(self, resource: Resource, name: str, *, namespace: str = "") -> Object:
        """Delete an object at once."""
        old = self._objects[resource].pop(_key(namespace, name))
        self.revision += 1
        last = copy.deepcopy(old)
        last["metadata"]["resourceVersion"] = str(self.revision)
        self._record(resource, "DELETED", last, old)
        return last

    def find(self, resource: Resource, name: str, *, namespace: str = "") -> Object | None:
        """An object as stored, or None."""
        return copy.deepcopy(self._objects.get(resource, {}).get(_key(namespace, name)))

    def all(self, resource: Resource) -> list[Object]:
        """Every object of a resource."""
        return copy.deepcopy(list(self._objects.get(resource, {}).values()))

    def refuse(self, error: status.ApiError, *, times: int = 1) -> None:
        """Answer the next requests with an error."""
        self._refusals += [error] * times

    def disconnect(self) -> None:
        """Break every watch, as a network does."""
        for watcher in list(self._watchers):
            watcher.broken = True
            watcher.queue.put_nowait(None)

    def end_watches(self) -> None:
        """End every watch properly, as a server does after its time."""
        for watcher in list(self._watchers):
            watcher.queue.put_nowait(None)

    def compact(self) -> None:
        """Forget history: resuming from an older revision is answered 410."""
        self._compacted = self.revision

    def bookmark(self) -> None:
        """Send every watch that wants them a bookmark."""
        for watcher in self._watchers:
            if watcher.params.get("allowWatchBookmarks") == "true":
                watcher.queue.put_nowait(self._bookmark(watcher.target.resource))

    def send(self, line: bytes) -> None:
        """Send every watch these bytes."""
        for watcher in self._watchers:
            watcher.queue.put_nowait(line)

    @property
    def watching(self) -> list[str]:
        """Plural names of the collections that are watched now."""
        return sorted(watcher.target.resource.plural for watcher in self._watchers)

    # Transport

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
    ) -> Response:
        await asyncio.sleep(0)
        try:
            answer = self._answer(method, path, params or {}, json.loads(body) if body else None)
        except status.ApiError as error:
            return Response(error.code, {}, json.dumps(error.status).encode())
        return Response(201 if method == "POST" else 200, {}, json.dumps(answer).encode())

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
    ) -> AsyncIterator[StreamResponse]:
        await asyncio.sleep(0)
        params = params or {}
        try:
            watcher = self._open(_target(path), self._enter(method, path, params, None))
        except status.ApiError as error:
            yield StreamResponse(error.code, {}, _once(json.dumps(error.status).encode()))
            return
        self._watchers.add(watcher)
        try:
            yield StreamResponse(200, {}, self._chunks(watcher))
        finally:
            self._watchers.discard(watcher)

    async def close(self) -> None:
        self.disconnect()

    # how it answers

    def _enter(self, method: str, path: str, params: Mapping[str, str], body: Any) -> Mapping[str, str]:
        if not self.reachable:
            raise Unreachable(self.server, "connection refused")
        self.requests.append(Request(method, path, params, body))
        if self._refusals:
            raise self._refusals.pop(0)
        return params

    def _answer(self, method: str, path: str, params: Mapping[str, str], body: Any) -> Object:
        self._enter(method, path, params, body)
        target = _target(path)
        if method == "GET" and not target.name:
            return self._list(target, params)
        if method == "POST":
            return self._create(target, body)
        stored = self.find(target.resource, target.name, namespace=target.namespace)
        if stored is None:
            raise status.not_found(target.resource, target.name)
        if method == "DELETE":
            return self.remove(target.resource, target.name, namespace=target.namespace)
        if method == "PATCH":
            return self.put(target.resource, _merged(stored, body))
        if method == "PUT":
            version = body["metadata"].get("resourceVersion")
            if version and version != stored["metadata"]["resourceVersion"]:
                raise status.conflict(target.resource, target.name)
            return self.put(target.resource, body)
        return stored

    def _create(self, target: _Target, body: Object) -> Object:
        if target.subresource:  # binding, token, eviction: recorded, not performed
            return body
        name = body["metadata"].get("name") or body["metadata"]["generateName"] + str(self.revision + 1)
        meta = {**body["metadata"], "name": name} | ({"namespace": target.namespace} if target.namespace else {})
        if self.find(target.resource, name, namespace=target.namespace) is not None:
            raise status.already_exists(target.resource, name)
        return self.put(target.resource, {**body, "metadata": meta})

    def _list(self, target: _Target, params: Mapping[str, str]) -> Object:
        items = [obj for obj in self._objects.get(target.resource, {}).values() if _matches(obj, target, params)]
        return {
            "apiVersion": target.resource.api_version,
            "kind": target.resource.list_kind,
            "metadata": {"resourceVersion": str(self.revision)},
            "items": items,
        }

    def _open(self, target: _Target, params: Mapping[str, str]) -> _Watcher:
        watcher = _Watcher(target, params)
        if params.get("sendInitialEvents") == "true":
            if not self.watch_list:
                raise status.invalid("ListOptions", "", [status.forbidden_field("sendInitialEvents", "not supported")])
            if self.breaks_watch_list:
                watcher.queue.put_nowait(_line("ERROR", status.internal("the storage cannot do it").status))
                return watcher
            for obj in self._list(target, params)["items"]:
                watcher.queue.put_nowait(_line("ADDED", obj))
            if not self.ignores_watch_list:
                watcher.queue.put_nowait(self._bookmark(target.resource, initial=True))
            return watcher
        since = int(params.get("resourceVersion") or 0)
        if since < self._compacted:
            raise status.expired(f"too old resource version: {since} ({self._compacted})")
        if since > self.revision:
            raise status.future_resource_version(since, self.revision)
        for revision, resource, kind, obj, old in self._history:
            if revision > since:
                self._offer(watcher, resource, kind, obj, old)
        return watcher

    def _record(self, resource: Resource, kind: str, obj: Object, old: Object | None) -> None:
        self._history.append((self.revision, resource, kind, obj, old))
        for watcher in self._watchers:
            self._offer(watcher, resource, kind, obj, old)

    def _offer(self, watcher: _Watcher, resource: Resource, kind: str, obj: Object, old: Object | None) -> None:
        if resource != watcher.target.resource:
            return
        now = kind != "DELETED" and _matches(obj, watcher.target, watcher.params)
        before = old is not None and _matches(old, watcher.target, watcher.params)
        if now:
            watcher.queue.put_nowait(_line("MODIFIED" if before else "ADDED", obj))
        elif before:
            watcher.queue.put_nowait(_line("DELETED", obj))

    def _bookmark(self, resource: Resource, *, initial: bool = False) -> bytes:
        meta: Object = {"resourceVersion": str(self.revision)}
        if initial:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        return _line("BOOKMARK", {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta})

    async def _chunks(self, watcher: _Watcher) -> AsyncIterator[bytes]:
        while (line := await watcher.queue.get()) is not None:
            yield line
        if watcher.broken:
            raise Unreachable(self.server, "it closed the connection")


def _target(path: str) -> _Target:
    parts = path.strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource = scheme.by_plural(group, version, rest[0])
    if resource is None:
        raise status.not_served()
    return _Target(resource, namespace, *[*rest[1:], "", ""][:2])


def _matches(obj: Object, target: _Target, params: Mapping[str, str]) -> bool:
    meta = obj["metadata"]
    if target.namespace and meta.get("namespace") != target.namespace:
        return False
    if not labels.parse(params.get("labelSelector", "")).matches(meta.get("labels") or {}):
        return False
    return fields.parse(params.get("fieldSelector", "")).matches(_Paths(obj))


class _Paths(dict[str, str]):
    """An object's values by dotted path, as field selectors name them."""

    def __init__(self, obj: Object) -> None:
        super().__init__()
        self._obj = obj

    def get(self, path: str, default: Any = "") -> Any:
        value: Any = self._obj
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return default if value is None else str(value)

    def __getitem__(self, path: str) -> str:
        return str(self.get(path))

    def __contains__(self, path: object) -> bool:
        return True


def _merged(obj: Object, patch: Mapping[str, Any]) -> Object:
    """RFC 7386; strategic patches are merged as if they were plain."""
    result = dict(obj)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            below = result.get(name)
            result[name] = _merged(below if isinstance(below, dict) else {}, value)
        else:
            result[name] = value
    return result


def _version(obj: Object) -> Object:
    return {"resourceVersion": obj["metadata"]["resourceVersion"]}


def _key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _line(kind: str, obj: Object) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
