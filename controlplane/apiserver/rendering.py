"""Stored bytes to the body a client asked for: as they are, as a Table, as metadata only, as YAML.

Owns the forms of single objects, lists and watch lines. A plain list joins stored bytes and parses nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from controlplane.apiserver import convert, negotiate, reply, tables
from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.request import Request
from controlplane.store.entries import Entry
from kube import status
from kube.scheme import Resource

Object = dict[str, Any]
INCLUDE = ("None", "Metadata", "Object")


def form_of(request: Request, *, watch: bool = False) -> negotiate.Form:
    """The form this request wants; 406 when it wants none of ours."""
    return negotiate.form(request.headers.get("accept", ""), watch=watch, binary=True)


def include_of(request: Request) -> str:
    """The `includeObject` parameter of tables."""
    include = request.query.get("includeObject", "Metadata") or "Metadata"
    if include not in INCLUDE:
        raise status.bad_request(f'unrecognized includeObject value: "{include}"')
    return include


def one(request: Request, data: bytes, *, code: int = 200) -> reply.Reply:
    """The reply that is one object."""
    form = form_of(request)
    data = convert.served(request.resource, data)
    if form.plain:
        return reply.Reply(data, code)
    return reply.in_media(reply.Reply(orjson.dumps(_formed(request, form, data)), code), form)


def _formed(request: Request, form: negotiate.Form, data: bytes) -> Object:
    obj: Object = orjson.loads(data)
    if form.kind == "Table":
        meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return _table(request, [obj], meta, form)
    if form.kind:
        return partial(obj, form.version)
    return obj


def partial(obj: Object, version: str) -> Object:
    """Metadata only."""
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": obj["metadata"]}


def many(request: Request, entries: Sequence[Entry], meta: Object) -> reply.Reply:
    """The reply that is a list."""
    form, resource = form_of(request), request.resource
    datas = (
        [convert.served(resource, entry.data) for entry in entries] if resource.storage else [e.data for e in entries]
    )
    if not form.kind:
        head = b'{"kind":"%s","apiVersion":"%s","metadata":%s,"items":[' % (
            resource.list_kind.encode(),
            resource.api_version.encode(),
            orjson.dumps(meta),
        )
        return reply.in_media(reply.Reply(b"".join((head, b",".join(datas), b"]}"))), form)
    objects = [orjson.loads(data) for data in datas]
    if form.kind == "Table":
        body = _table(request, objects, meta, form)
    else:
        body = {"kind": "PartialObjectMetadataList", "apiVersion": f"meta.k8s.io/{form.version}", "metadata": meta}
        body["items"] = [partial(obj, form.version) for obj in objects]
    return reply.in_media(reply.of_object(body), form)


def _table(request: Request, objects: list[Object], meta: Object, form: negotiate.Form) -> Object:
    body = tables.table(strategy_for(request.resource), objects, meta, include_of(request))
    body["apiVersion"] = f"meta.k8s.io/{form.version}"
    return body


def watch_line(request: Request) -> Callable[[bytes], bytes] | None:
    """How to turn stored bytes into the object of a watch line; None: they are sent as they are."""
    form, resource = form_of(request, watch=True), request.resource
    if not form.kind:
        return (lambda data: convert.served(resource, data)) if resource.storage else None
    first = True

    def formed(data: bytes) -> bytes:
        nonlocal first
        obj = _formed(request, form, convert.served(resource, data))
        if form.kind == "Table":
            if not first:
                obj["columnDefinitions"] = None  # as upstream: only the first table of a watch says its columns
            first = False
        return orjson.dumps(obj)

    return formed


def bookmark(resource: Resource, revision: int, *, initial_end: bool = False) -> bytes:
    """The object of a bookmark: nothing but how far the watch has come."""
    meta: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return orjson.dumps({"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta})
