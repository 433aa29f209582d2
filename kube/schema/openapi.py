"""OpenAPI v3 documents, one per group and version, written from the scheme table and the schemas.

Owns what `kubectl explain` and `kubectl apply` read: component schemas with merge keys, and per path and method the
kind, the action and the query parameters. Must not know how a request is served.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kube import scheme
from kube.schema import descriptions
from kube.schema.catalog import Catalog, UnknownKind, catalog
from kube.scheme import Resource, Subresource

VERSION = "v1.36.0"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_GVK = "x-kubernetes-group-version-kind"
_JSON = "application/json"
_PATCHES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_BODIES = (_JSON, "application/yaml")
_LIST_PARAMETERS = {
    "allowWatchBookmarks": "boolean",
    "continue": "string",
    "fieldSelector": "string",
    "labelSelector": "string",
    "limit": "integer",
    "resourceVersion": "string",
    "resourceVersionMatch": "string",
    "sendInitialEvents": "boolean",
    "timeoutSeconds": "integer",
    "watch": "boolean",
}
_WRITE_PARAMETERS = {"dryRun": "string", "fieldManager": "string", "fieldValidation": "string"}
_DELETE_PARAMETERS = {
    "dryRun": "string",
    "gracePeriodSeconds": "integer",
    "orphanDependents": "boolean",
    "propagationPolicy": "string",
}


def openapi_v3(group: str, version: str) -> bytes:
    """The document of one group ("" for core) and version, as JSON.

    Raises UnknownKind when nothing of that group and version is served.
    """
    resources = tuple(scheme.in_group(group, version))
    if not resources:
        raise UnknownKind(f"no resource is served in {group}/{version}")
    schemas, paths = catalog(), dict[str, Any]()
    for resource in resources:
        paths |= dict(_paths(resource, schemas))
    document = {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {"schemas": _components(_roots(paths), schemas)},
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


# --- paths -----------------------------------------------------------------------------------------


def _paths(resource: Resource, schemas: Catalog) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, path item) of a resource, of its objects and of their subresources."""
    root = resource.path()
    scoped = resource.path(namespace="{namespace}")
    own = schemas.definition(resource.group, resource.version, resource.kind)
    if resource.namespaced and "list" in resource.verbs:
        yield root, _item(resource, {"get": _list(resource, schemas)}, ())
    yield scoped, _item(resource, dict(_collection(resource, own, schemas)), ())
    if "get" in resource.verbs:
        yield f"{scoped}/{{name}}", _item(resource, dict(_object(resource, own)), ("name",))
    for name in resource.subresources:
        sub = scheme.subresource(resource, name=name)
        if sub is not None:
            yield f"{scoped}/{{name}}/{name}", _item(resource, dict(_sub(sub, schemas)), ("name",))


def _item(resource: Resource, methods: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    in_path = [*names]
    if resource.namespaced and (names or "post" in methods):
        in_path.append("namespace")
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in in_path]
    return {**methods, "parameters": parameters} if parameters else dict(methods)


def _collection(resource: Resource, own: str, schemas: Catalog) -> Iterator[tuple[str, dict[str, Any]]]:
    gvk = _gvk(resource.group, resource.version, resource.kind)
    if "list" in resource.verbs:
        yield "get", _list(resource, schemas)
    yield "post", _operation("post", gvk, own, _WRITE_PARAMETERS, body=own, media=_BODIES)
    if "deletecollection" in resource.verbs:
        parameters = _LIST_PARAMETERS | _DELETE_PARAMETERS
        yield "delete", _operation("deletecollection", gvk, _META + "Status", parameters, body=_META + "DeleteOptions")


def _list(resource: Resource, schemas: Catalog) -> dict[str, Any]:
    gvk = _gvk(resource.group, resource.version, resource.kind)
    answer = schemas.definition(resource.group, resource.version, resource.list_kind)
    return _operation("list", gvk, answer, _LIST_PARAMETERS)


def _object(resource: Resource, own: str) -> Iterator[tuple[str, dict[str, Any]]]:
    gvk = _gvk(resource.group, resource.version, resource.kind)
    yield "get", _operation("get", gvk, own, {})
    yield "put", _operation("put", gvk, own, _WRITE_PARAMETERS, body=own, media=_BODIES)
    parameters = _WRITE_PARAMETERS | {"force": "boolean"}
    yield "patch", _operation("patch", gvk, own, parameters, body=_META + "Patch", media=_PATCHES)
    yield "delete", _operation("delete", gvk, _META + "Status", _DELETE_PARAMETERS, body=_META + "DeleteOptions")


def _sub(sub: Subresource, schemas: Catalog) -> Iterator[tuple[str, dict[str, Any]]]:
    gvk = _gvk(sub.group, sub.version, sub.kind)
    try:
        kind = schemas.definition(sub.group, sub.version, sub.kind)
    except UnknownKind:
        kind = ""
    for verb in sub.verbs:
        if not kind or sub.name == "log":
            yield _METHODS[verb], _operation("connect" if not kind else verb, gvk, "", {})
        elif verb == "get":
            yield "get", _operation("get", gvk, kind, {})
        elif verb == "patch":
            parameters = _WRITE_PARAMETERS | {"force": "boolean"}
            yield "patch", _operation("patch", gvk, kind, parameters, body=_META + "Patch", media=_PATCHES)
        else:
            method = _METHODS[verb]
            yield method, _operation(method, gvk, kind, _WRITE_PARAMETERS, body=kind, media=_BODIES)


_METHODS = {"create": "post", "delete": "delete", "get": "get", "patch": "patch", "update": "put"}


def _gvk(group: str, version: str, kind: str) -> dict[str, str]:
    return {"group": group, "version": version, "kind": kind}


def _operation(
    action: str,
    gvk: Mapping[str, str],
    answer: str,
    parameters: Mapping[str, str],
    *,
    body: str = "",
    media: Iterable[str] = (_JSON,),
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "parameters": [{"name": name, "in": "query", "schema": {"type": kind}} for name, kind in parameters.items()],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        _GVK: dict(gvk),
    }
    if answer:
        result["responses"]["200"]["content"] = {_JSON: {"schema": _reference(answer)}}
    if body:
        result["requestBody"] = {"content": {kind: {"schema": _reference(body)} for kind in media}}
    return result


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


# --- component schemas -----------------------------------------------------------------------------


def _roots(paths: Mapping[str, Any]) -> set[str]:
    """The definitions the paths name."""
    return {name.rpartition("/")[2] for name in _strings(paths, "$ref")}


def _strings(node: Any, wanted: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == wanted and isinstance(value, str):
                yield value
            else:
                yield from _strings(value, wanted)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value, wanted)


def _components(roots: Iterable[str], schemas: Catalog) -> dict[str, Any]:
    """The component schemas the roots reach, sorted by name."""
    texts = descriptions.load()
    found: dict[str, Any] = {}
    waiting = sorted(roots)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        raw = {"type": "object"} if name == _META + "Patch" else schemas.raw(name)
        found[name] = _component(name.rpartition(".")[2], raw, texts)
        waiting += _strings(raw, "$ref")
    return dict(sorted(found.items()))


def _component(name: str, raw: dict[str, Any], texts: descriptions.Texts) -> dict[str, Any]:
    result = {key: value for key, value in raw.items() if key != "properties"}
    if name == "IntOrString":
        result["format"] = "int-or-string"
    result["description"] = texts.kind(name)
    if "properties" in raw:
        result["properties"] = {
            field: _property(schema) | {"description": texts.field(name, field)}
            for field, schema in raw["properties"].items()
        }
    return result


def _property(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A field: references stand in `allOf`, since nothing may stand beside a `$ref`."""
    result = {key: value for key, value in schema.items() if key != "$ref"}
    if "$ref" in schema:
        result["allOf"] = [_reference(schema["$ref"])]
    for key in ("items", "additionalProperties"):
        if key in schema:
            result[key] = _property(schema[key])
    return result
