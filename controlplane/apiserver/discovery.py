"""Discovery: which groups, versions and resources are served, in the plain and the aggregated form.

Owns the documents, made once from the scheme table. Knows nothing of how a resource is served.
"""

import functools
import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

import kube.scheme
from controlplane.apiserver import negotiate
from controlplane.apiserver.reply import Reply
from controlplane.apiserver.request import Request
from kube import status
from kube.scheme import Resource

Object = dict[str, Any]
AGGREGATED = "apidiscovery.k8s.io"
AGGREGATED_VERSIONS = ("v2", "v2beta1")


class Discovery:
    """Answers /api, /apis and below; `address` is what old clients are told the server listens on."""

    def __init__(self, address: str) -> None:
        self._address = address

    def answer(self, request: Request) -> Reply:
        """The document of a path, 404 when nothing is there."""
        if request.method not in ("GET", "HEAD"):
            raise status.method_not_allowed()
        parts = request.path.strip("/").split("/")
        if len(parts) == 1:
            return self._root(request, core=parts[0] == "api")
        negotiate.form(request.headers.get("accept", ""))
        if parts[0] == "api" and len(parts) == 2:
            return _cached(request, _resources("", parts[1]))
        if parts[0] == "apis" and len(parts) == 2:
            return _cached(request, _group_document(parts[1]))
        if parts[0] == "apis" and len(parts) == 3:
            return _cached(request, _resources(parts[1], parts[2]))
        raise status.not_served()

    def _root(self, request: Request, *, core: bool) -> Reply:
        version = aggregated_version(request.headers.get("accept", ""))
        if version:
            kind = f"application/json;g={AGGREGATED};v={version};as=APIGroupDiscoveryList"
            return _cached(request, _aggregated(version, core), content_type=kind.encode())
        if not core:
            return _cached(request, _group_list())
        address = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}]
        body = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": address}
        return _cached(request, orjson.dumps(body))


def aggregated_version(accept: str) -> str:
    """The version of aggregated discovery the client would rather have, "" when the plain form comes first."""
    for media, parameters in negotiate.clauses(accept) if accept else ():
        if media not in (negotiate.JSON, "*/*", "application/*"):
            continue
        if not parameters.get("as"):
            return ""
        version = parameters.get("v", "")
        if parameters.get("g") == AGGREGATED and version in AGGREGATED_VERSIONS:
            return version
    negotiate.form(accept)
    return ""


def _cached(request: Request, body: bytes, *, content_type: bytes = b"application/json") -> Reply:
    etag = b'"%s"' % hashlib.sha256(body).hexdigest().upper().encode()
    extra = [(b"etag", etag), (b"vary", b"Accept"), (b"cache-control", b"public")]
    if request.headers.get("if-none-match", "").encode() == etag:
        return Reply(b"", 304, content_type, extra)
    return Reply(body, 200, content_type, extra)


@functools.cache
def _aggregated(version: str, core: bool) -> bytes:
    groups: dict[str, list[Object]] = {}
    for group, served in kube.scheme.group_versions():
        if (group == "") == core:
            resources = [_aggregated_resource(r) for r in kube.scheme.in_group(group, served)]
            groups.setdefault(group, []).append({"version": served, "resources": resources, "freshness": "Current"})
    items = []
    for group, versions in groups.items():
        meta: Object = {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None}
        items.append({"metadata": meta, "versions": versions})
    return orjson.dumps(
        {"kind": "APIGroupDiscoveryList", "apiVersion": f"{AGGREGATED}/{version}", "metadata": {}, "items": items}
    )


def _aggregated_resource(resource: Resource) -> Object:
    found: Object = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    below = []
    for name in resource.subresources:
        sub = kube.scheme.subresource(resource, name=name)
        if sub is not None:
            kind = {"group": sub.group, "version": sub.version, "kind": sub.kind}
            below.append({"subresource": name, "responseKind": kind, "verbs": list(sub.verbs)})
    if below:
        found["subresources"] = below
    return found


@functools.cache
def _resources(group: str, version: str) -> bytes:
    served = list(kube.scheme.in_group(group, version))
    if not served:
        raise status.not_served()
    resources: list[Object] = []
    for resource in served:
        resources.append(_plain_resource(resource))
        resources += _plain_subresources(resource)
    group_version = served[0].api_version
    body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}
    return orjson.dumps(body)


def _plain_resource(resource: Resource) -> Object:
    found: Object = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    return found


def _plain_subresources(resource: Resource) -> Iterable[Object]:
    for name in resource.subresources:
        sub = kube.scheme.subresource(resource, name=name)
        if sub is None:
            continue
        found: Object = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced}
        if (sub.group, sub.version) != (resource.group, resource.version):
            found |= {"group": sub.group, "version": sub.version}
        yield found | {"kind": sub.kind, "verbs": list(sub.verbs)}


def _group(group: str) -> Object:
    versions = [v for g, v in kube.scheme.group_versions() if g == group]
    listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


@functools.cache
def _group_list() -> bytes:
    names = dict.fromkeys(group for group, _ in kube.scheme.group_versions() if group)
    return orjson.dumps({"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in names]})


@functools.cache
def _group_document(group: str) -> bytes:
    if group not in {g for g, _ in kube.scheme.group_versions() if g}:
        raise status.not_served()
    return orjson.dumps({"kind": "APIGroup", "apiVersion": "v1", **_group(group)})
