"""The client: verbs on resources, objects as dicts, failures as `kube.status.ApiError` or `Unreachable`.

Owns paths, parameters, bodies and error decoding. Must not know how requests travel, nor cache or retry anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast, overload

import msgspec

from kube import status, types
from kube.client import errors
from kube.client import watch as watching
from kube.client.transport import Transport
from kube.scheme import Resource

T = TypeVar("T")
Object = dict[str, Any]

PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


class Client:
    """Asks one API server as one identity. Every failure is an ApiError (answered) or Unreachable (not answered)."""

    def __init__(self, transport: Transport, *, user_agent: str = "nodeagent", timeout: float = 30.0) -> None:
        self._transport, self._timeout = transport, timeout
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        self._lost = False
        self._on_found: list[Callable[[], None]] = []

    @property
    def transport(self) -> Transport:
        """What carries the requests; for calls outside of resources, such as /version."""
        return self._transport

    def on_found(self, call: Callable[[], None]) -> None:
        """Have `call` made when a request is answered again after the server was lost."""
        self._on_found.append(call)

    def lost(self) -> None:
        """The server was not reached, by a request or by a watch."""
        self._lost = True

    @overload
    async def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> Object: ...
    @overload
    async def get(self, resource: Resource, name: str, *, namespace: str | None = None, type: type[T]) -> T: ...
    async def get(self, resource: Resource, name: str, *, namespace: str | None = None, type: Any = dict) -> Any:
        """One object, as a dict or decoded into a projection `type`."""
        body = await self._ask("GET", resource.path(namespace=namespace, name=name))
        return msgspec.json.decode(body) if type is dict else types.decode(body, type)

    async def get_path(self, path: str) -> Object:
        """What is at a path that is no resource, such as /version."""
        return cast(Object, msgspec.json.decode(await self._ask("GET", path)))

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str | None = None,
    ) -> Object:
        """The List object: `items`, and `metadata.resourceVersion` to watch from."""
        body = await self.list_raw(
            resource,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            limit=limit,
            continue_token=continue_token,
            resource_version=resource_version,
        )
        return cast(Object, msgspec.json.decode(body))

    async def list_raw(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str | None = None,
    ) -> bytes:
        """The List as JSON, for callers that decode into their own types."""
        params = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "limit": str(limit) if limit else "",
            "continue": continue_token,
            "resourceVersion": resource_version or "",
        }
        return await self._ask("GET", resource.path(namespace=namespace), params=params)

    async def create(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> Object:
        """The object as stored. `name` and `subresource` for tokens, bindings, evictions."""
        namespace = namespace if namespace is not None else _meta(obj).get("namespace")
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._send("POST", path, obj)

    async def update(self, resource: Resource, obj: Mapping[str, Any], *, subresource: str | None = None) -> Object:
        """Replace; name, namespace and the resourceVersion to be replaced are those in `obj`."""
        meta = _meta(obj)
        path = resource.path(namespace=meta.get("namespace"), name=meta["name"], subresource=subresource)
        return await self._send("PUT", path, obj)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        namespace: str | None = None,
        kind: str = "merge",
        subresource: str | None = None,
        field_manager: str = "",
        force: bool = False,
    ) -> Object:
        """The object after the patch; `kind` is merge, strategic, json (a list of operations) or apply."""
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        params = {"fieldManager": field_manager, "force": "true" if force else ""}
        return await self._send("PATCH", path, patch, content_type=PATCH_TYPES[kind], params=params)

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        grace_period: int | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
    ) -> Object:
        """The object if its deletion is under way, or a Status if it is gone; `uid` guards against a namesake."""
        preconditions = _present(uid=uid, resourceVersion=resource_version)
        options = _present(
            gracePeriodSeconds=grace_period, propagationPolicy=propagation, preconditions=preconditions or None
        )
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options} if options else None
        return await self._send("DELETE", resource.path(namespace=namespace, name=name), body)

    async def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        initial_events: bool = False,
        timeout_seconds: int | None = None,
    ) -> AsyncIterator[watching.WatchEvent]:
        """Events with undecoded objects until the server ends the watch; an ERROR event raises its ApiError.

        Leave the loop through `contextlib.aclosing`, or the connection stays open until garbage collection.
        """
        batches = self.watch_batches(
            resource,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            resource_version=resource_version,
            initial_events=initial_events,
            timeout_seconds=timeout_seconds,
        )
        async with aclosing(batches):
            async for batch in batches:
                for event in batch:
                    yield event

    def watch_batches(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        initial_events: bool = False,
        timeout_seconds: int | None = None,
    ) -> watching.Batches:
        """Like `watch`, but what arrived together at once; first an empty list, once the watch was accepted."""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds) if timeout_seconds else "",
        }
        if initial_events:
            params |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        path = resource.path(namespace=namespace)
        return watching.batches(
            self._transport, path, params=_set(params), headers=self._headers, timeout=self._timeout
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self._transport.close()

    async def _send(
        self,
        method: str,
        path: str,
        obj: Any,
        *,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> Object:
        body = None if obj is None else msgspec.json.encode(obj)
        answer = await self._ask(method, path, params=params, body=body, content_type=content_type)
        return cast(Object, msgspec.json.decode(answer))

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        headers = self._headers if body is None else {**self._headers, "Content-Type": content_type}
        try:
            answer = await self._transport.request(
                method, path, params=_set(params or {}), headers=headers, body=body, timeout=self._timeout
            )
        except errors.Unreachable:
            self.lost()
            raise
        if self._lost:
            self._lost = False
            for call in self._on_found:
                call()
        if answer.status >= 300:
            raise status.from_body(answer.status, answer.body)
        return answer.body


def _meta(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], obj.get("metadata") or {})


def _set(params: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in params.items() if value}


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
