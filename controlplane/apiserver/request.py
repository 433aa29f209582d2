"""What a request asks for: URL, query and headers turned into plain values, once.

Owns the meaning of paths and verbs as Kubernetes defines them (apiserver `request/requestinfo.go`).
Knows neither who asks nor how it is answered.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import kube.scheme
from kube import status
from kube.client.identity import User
from kube.scheme import Resource

Scope = Mapping[str, Any]
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "GET": "get", "HEAD": "get", "DELETE": "delete"}
LONG_RUNNING = frozenset({"log", "exec", "attach", "portforward", "proxy"})
MUTATING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
NOBODY = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class Target:
    """The resource part of a path; `resource` is None for a path that is no resource."""

    resource: Resource | None = None
    group: str = ""
    version: str = ""
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""  # what follows the subresource (proxy paths)
    known: bool = True  # False: the path is in /api or /apis, but nothing is served there


@dataclass(slots=True)
class Request:
    """One request, decided upon but not yet answered."""

    method: str
    path: str
    verb: str
    target: Target
    query: Mapping[str, str]
    headers: Mapping[str, str]
    scope: Scope
    user: User = NOBODY
    warnings: list[str] = field(default_factory=list)

    @property
    def resource(self) -> Resource:
        """The resource asked for; 404 when the path names none."""
        if self.target.resource is None:
            raise status.not_served()
        return self.target.resource

    @property
    def mutating(self) -> bool:
        """Whether it changes anything."""
        return self.verb in MUTATING

    @property
    def long_running(self) -> bool:
        """Whether it lives longer than a usual request: watches and streams."""
        return self.verb == "watch" or self.target.subresource in LONG_RUNNING

    def flag(self, name: str) -> bool:
        """A boolean parameter; absent is False; 400 when it is neither true nor false."""
        text = self.query.get(name, "").lower()
        if text in ("", "0", "false", "f"):
            return name in self.query and text == "" and name in ("verbose", "follow", "pretty")
        if text in ("1", "true", "t"):
            return True
        raise status.bad_request(f'invalid value "{self.query[name]}" for the parameter {name}: want true or false')

    def number(self, name: str) -> int | None:
        """A whole number parameter, None when absent; 400 when it is none or negative."""
        text = self.query.get(name, "")
        if not text:
            return None
        if not text.isascii() or not text.isdigit():
            raise status.bad_request(f'invalid value "{text}" for the parameter {name}: want a number, 0 or more')
        return int(text)


def read(scope: Scope) -> Request:
    """The request of an ASGI scope."""
    path = scope["path"]
    method = scope["method"]
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    target = parse_path(path)
    return Request(method, path, _verb(method, target, query), target, query, headers, scope)


def _verb(method: str, target: Target, query: Mapping[str, str]) -> str:
    verb = VERBS.get(method, method.lower())
    if target.resource is None and not target.plural:
        return method.lower()
    if target.name:
        if verb == "get" and not target.subresource and _true(query.get("watch")):
            return "watch"
        return verb
    if verb == "get":
        return "watch" if _true(query.get("watch")) else "list"
    return "deletecollection" if verb == "delete" else verb


def _true(text: str | None) -> bool:
    return text is not None and text.lower() in ("1", "true", "t")


@functools.lru_cache(maxsize=4096)
def parse_path(path: str) -> Target:
    """What a path names: `/api/v1/namespaces/default/pods/web/log`, `/apis/apps/v1/deployments`, or no resource."""
    parts = path.strip("/").split("/")  # the server has decoded the path already
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return Target()
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3] if len(rest) < 3 else rest[:3]
    found = kube.scheme.by_plural(group, version, plural)
    known = found is not None and _fits(found, namespace=namespace, name=name, subresource=subresource)
    if plural == "namespaces" and group == "":
        namespace = name
    return Target(found, group, version, plural, namespace, name, subresource, "/".join(rest[3:]), known)


def _fits(resource: Resource, *, namespace: str, name: str, subresource: str) -> bool:
    if namespace and not resource.namespaced:
        return False
    if name and resource.namespaced and not namespace:
        return False
    return not subresource or subresource in resource.subresources
