"""Who may use the kubelet's API: certificates and tokens in, yes or no out.

Owns identities, the reviews asked of the API server, and their caches. Must not know what a path does.
Anonymous requests are refused. Follows the 1.36 kubelet's authentication, authorization and cache times.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from kube import pki, scheme, status
from kube.client import errors
from kube.client.rest import Client
from kube.runtime.clock import Clock
from nodeagent.errors import NodeagentError

K = TypeVar("K")
V = TypeVar("V")

log = logging.getLogger(__name__)

_TOKEN_SECONDS = 120.0
_ALLOWED_SECONDS = 300.0
_DENIED_SECONDS = 30.0
_MAX_CACHED = 1024

_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCES = {
    "stats": "stats",
    "metrics": "metrics",
    "logs": "log",
    "checkpoint": "checkpoint",
    "healthz": "healthz",
    "pods": "pods",
    "runningpods": "pods",
    "configz": "configz",
}


class AccessError(NodeagentError):
    """A request that is not let in. `status` is the HTTP status, the text is the reply's body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """Who is asking."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Attributes:
    """What is asked for, on this node. Any one of the subresources is enough."""

    verb: str
    subresources: tuple[str, ...]


def attributes(method: str, path: str) -> Attributes:
    """Name what a request needs: the finest subresource first, then `proxy`, which covers all."""
    fine = _SUBRESOURCES.get(path.strip("/").split("/", 1)[0])
    return Attributes(_VERBS.get(method, ""), (fine, "proxy") if fine else ("proxy",))


def from_certificate(der: bytes) -> User:
    """Read the user from a client certificate that the handshake has verified. Raises AccessError."""
    try:
        name, groups = pki.subject(der)
    except pki.PkiError as e:
        raise AccessError(401, "Unauthorized") from e
    if not name:
        raise AccessError(401, "Unauthorized")
    return User(name, groups)


class Access:
    """Decides on requests to one node."""

    def __init__(self, *, client: Client, clock: Clock, node_name: str) -> None:
        self._client = client
        self._clock = clock
        self._node = node_name
        self._users: dict[bytes, tuple[float, User | None]] = {}
        self._verdicts: dict[tuple[User, str, str], tuple[float, bool]] = {}

    async def check(
        self, method: str, path: str, *, certificate: bytes | None, headers: Sequence[tuple[bytes, bytes]]
    ) -> User:
        """Return who is asking if they may. Raises AccessError with 401, 403, or 500 when nobody can tell."""
        user = from_certificate(certificate) if certificate else await self._from_token(headers)
        if "system:masters" in user.groups:
            return user  # the API server would say the same without looking
        wanted = attributes(method, path)
        for subresource in wanted.subresources:
            if await self._is_allowed(user, wanted.verb, subresource):
                return user
        names = ", ".join(wanted.subresources)
        what = f"user={user.name}, verb={wanted.verb}, resource=nodes, subresource(s)=[{names}]"
        raise AccessError(403, f"Forbidden ({what})")

    async def _from_token(self, headers: Sequence[tuple[bytes, bytes]]) -> User:
        given = next((value for name, value in headers if name == b"authorization"), b"")
        kind, _, token = given.decode("latin-1").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise AccessError(401, "Unauthorized")
        key = hashlib.sha256(token.strip().encode("latin-1")).digest()
        cached = self._users.get(key)
        if cached is None or cached[0] <= self._clock.monotonic():
            user = await self._review_token(token.strip())
            _remember(self._users, key, (self._clock.monotonic() + _TOKEN_SECONDS, user))
        else:
            user = cached[1]
        if user is None:
            raise AccessError(401, "Unauthorized")
        return user

    async def _review_token(self, token: str) -> User | None:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        answer = await self._ask(scheme.TOKEN_REVIEWS, review)
        if not answer.get("authenticated"):
            return None
        user: Mapping[str, Any] = answer.get("user") or {}
        return User(user.get("username", ""), tuple(user.get("groups") or ()), user.get("uid", ""))

    async def _is_allowed(self, user: User, verb: str, subresource: str) -> bool:
        key = (user, verb, subresource)
        cached = self._verdicts.get(key)
        if cached is not None and cached[0] > self._clock.monotonic():
            return cached[1]
        resource = {"verb": verb, "resource": "nodes", "subresource": subresource, "name": self._node, "version": "v1"}
        spec = {"user": user.name, "groups": list(user.groups), "uid": user.uid, "resourceAttributes": resource}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = await self._ask(scheme.SUBJECT_ACCESS_REVIEWS, review)
        allowed = bool(answer.get("allowed")) and not answer.get("denied")
        seconds = _ALLOWED_SECONDS if allowed else _DENIED_SECONDS
        _remember(self._verdicts, key, (self._clock.monotonic() + seconds, allowed))
        return allowed

    async def _ask(self, resource: scheme.Resource, review: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            answer = await self._client.create(resource, review)
        except (status.ApiError, errors.ClientError) as e:
            log.warning("%s not answered by the API server: %s", resource.kind, e)
            raise AccessError(500, f"{resource.kind} could not be asked of the API server: try again later") from e
        found: Mapping[str, Any] = answer.get("status") or {}
        return found


def _remember(cache: dict[K, V], key: K, value: V) -> None:
    """Keep an answer, and the cache small: the oldest answer goes first."""
    cache.pop(key, None)
    if len(cache) >= _MAX_CACHED:
        del cache[next(iter(cache))]
    cache[key] = value
