"""Signing requests of nodes: approved when they ask for what a node may have, signed, and cleared away.

`judge`, `fault`, and `stale` are pure. For client certificates the approver does as upstream's does
(`pkg/controller/certificates/approver`): it asks whether the requester may. Serving certificates upstream leaves to an
administrator; we approve them when every name asked for is an address of that very node. Other signers
are left alone.
"""

import base64
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.controllers import conditions, reconcile, writes
from controlplane.projection import JSON, Condition, Node, SigningRequest
from kube import csr, pki, scheme
from kube.runtime import clock
from kube.runtime.component import Deps

log = logging.getLogger(__name__)

YEAR_SECONDS = 365 * 24 * 3600
MIN_SECONDS = 600
SOON = 2.0  # seconds until a serving request is looked at again whose node has no such address (yet)
PATIENCE = timedelta(minutes=10)
CLEAN_SECONDS = 600.0
KEEP_DECIDED, KEEP_PENDING = timedelta(hours=1), timedelta(hours=24)
SIGNERS = (csr.CLIENT, csr.KUBELET_CLIENT, csr.KUBELET_SERVING)
_OPTIONAL = {csr.DIGITAL_SIGNATURE, csr.KEY_ENCIPHERMENT}
_ALL = "all"
_OWN = ("InternalIP", "InternalDNS", "Hostname")
# Names that prove the API server to its clients, who trust the same CA; whatever a node calls itself.
_SERVERS = re.compile(r"localhost|kubernetes(\..*)?", re.IGNORECASE)
_SELF = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.")
_ANY = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")
_SERVING = "Auto approving kubelet serving certificate: every name in it is an address of the node that asks."


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do: approve with `message` if the requester has one of `permissions` (none needed when empty)."""

    permissions: tuple[tuple[str, str], ...] = ()
    message: str = ""
    wait: bool = False
    """Ask again later: the node may yet say that it has this address."""


def judge(spec: SigningRequest, asked: csr.Asked, node: Node | None) -> Verdict:
    """What an approver thinks of an open request; nothing at all of requests to other signers."""
    it = spec.spec
    if it.signer_name == csr.KUBELET_CLIENT and csr.node_problem(asked, it.usages, serving=False) is None:
        return Verdict((_SELF, _ANY) if it.username == asked.common_name else (_ANY,))
    if it.signer_name != csr.KUBELET_SERVING or csr.node_problem(asked, it.usages, serving=True):
        return Verdict()
    if it.username != asked.common_name or pki.NODE_GROUP not in it.groups:
        return Verdict()
    if any(_SERVERS.fullmatch(each) for each in asked.dns_names):
        return Verdict()
    name = asked.common_name.removeprefix(pki.NODE_PREFIX)
    known = {each.address for each in node.status.addresses if each.type in _OWN} | {name} if node else set()
    if {*asked.dns_names, *asked.ips} <= known:
        return Verdict(message=_SERVING)
    return Verdict(wait=True)


def fault(request: SigningRequest, asked: csr.Asked) -> str | None:
    """Why an approved request cannot be signed; None when it can."""
    it = request.spec
    if it.signer_name == csr.CLIENT:
        extra = set(it.usages) - _OPTIONAL
        if extra == {csr.CLIENT_AUTH}:
            return None
        wrong = sorted(extra - {csr.CLIENT_AUTH})
        if wrong:
            return f"invalid usage for client certificate: {wrong[0]}"
        return f"missing required usage for client certificate: {csr.CLIENT_AUTH}"
    return csr.node_problem(asked, it.usages, serving=it.signer_name == csr.KUBELET_SERVING)


def lifetime(wanted: int | None) -> int:
    """Seconds a certificate lives: a year, or the shorter time asked for, but ten minutes at least."""
    return YEAR_SECONDS if wanted is None else max(MIN_SECONDS, min(wanted, YEAR_SECONDS))


def stale(request: SigningRequest, now: datetime) -> bool:
    """Whether nobody needs this request any more."""
    made = clock.parse_rfc3339(request.metadata.creation_timestamp or clock.rfc3339(now))
    decided = [each for each in request.status.conditions if each.type in ("Approved", "Denied", "Failed")]
    if not decided:
        return now - made > KEEP_PENDING
    if not request.status.certificate and any(each.type == "Approved" for each in decided) and len(decided) == 1:
        return now - made > KEEP_PENDING  # approved, and some other signer has not come by yet
    last = max(clock.parse_rfc3339(each.last_update_time) if each.last_update_time else made for each in decided)
    return now - last > KEEP_DECIDED


def read(request: SigningRequest) -> csr.Asked | None:
    """What is asked; None when it cannot be read, which the API server would not have let in."""
    try:
        return csr.read(base64.b64decode(request.spec.request))
    except (csr.RequestError, ValueError) as e:
        log.warning("signing request %s cannot be read: %s", request.metadata.name, e)
        return None


def _with(request: SigningRequest, subresource: str, condition: JSON | None, **status: str) -> writes.Patch:
    have = [_plain(each) for each in request.status.conditions]
    body = {"status": {**status, **({"conditions": [*have, condition]} if condition else {})}}
    meta = request.metadata
    return writes.Patch(
        resource=scheme.CERTIFICATE_SIGNING_REQUESTS,
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        body=body,
        subresource=subresource,
    )


def _plain(condition: Condition) -> JSON:
    found = {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastUpdateTime": condition.last_update_time,
        "lastTransitionTime": condition.last_transition_time,
    }
    return {key: value for key, value in found.items() if value}


def _decided(request: SigningRequest) -> bool:
    return any(conditions.find(request.status.conditions, kind) for kind in ("Approved", "Denied", "Failed"))


class Approver:
    """Keys are names of requests."""

    def __init__(self, deps: Deps) -> None:
        self._client, self._clock = deps.client, deps.clock
        self._requests = deps.informers.get(scheme.CERTIFICATE_SIGNING_REQUESTS, SigningRequest)
        self._nodes = deps.informers.get(scheme.NODES, Node)
        reads = (self._requests, self._nodes)
        self.loop = reconcile.Loop("csrapproving", deps=deps, reads=reads, reconcile=self._reconcile)
        self._requests.subscribe(lambda old, new: self.loop.queue.add(new.metadata.name) if new else None)

    async def _reconcile(self, name: str) -> None:
        request = self._requests.cache.get(name)
        if request is None or _decided(request) or request.status.certificate:
            return
        asked = read(request)
        if asked is None:
            return
        node = self._nodes.cache.get(asked.common_name.removeprefix(pki.NODE_PREFIX))
        verdict = judge(request, asked, node)
        message = verdict.message or await self._permitted(request, verdict.permissions)
        if verdict.wait and self._young(request):
            self.loop.queue.add_after(name, SOON)
        if message:
            condition = {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}
            await self.loop.write(name, _with(request, "approval", condition), informer=self._requests)

    def _young(self, request: SigningRequest) -> bool:
        made = request.metadata.creation_timestamp
        return made is None or self._clock.now() - clock.parse_rfc3339(made) < PATIENCE

    async def _permitted(self, request: SigningRequest, permissions: Collection[tuple[str, str]]) -> str:
        """The message of the first permission the requester has, "" when it has none."""
        for subresource, message in permissions:
            if await self._may(request, subresource):
                return message
        if permissions:
            log.info("%s: %s may not have it approved automatically", request.metadata.name, request.spec.username)
        return ""

    async def _may(self, request: SigningRequest, subresource: str) -> bool:
        it = request.spec
        wanted = {
            "group": "certificates.k8s.io",
            "version": "*",
            "resource": "certificatesigningrequests",
            "subresource": subresource,
            "verb": "create",
        }
        review = {
            "apiVersion": scheme.SUBJECT_ACCESS_REVIEWS.api_version,
            "kind": "SubjectAccessReview",
            "spec": {
                "user": it.username,
                "uid": it.uid,
                "groups": list(it.groups),
                "extra": {name: list(values) for name, values in it.extra.items()},
                "resourceAttributes": wanted,
            },
        }
        answer = await self._client.create(scheme.SUBJECT_ACCESS_REVIEWS, review)
        return bool((answer.get("status") or {}).get("allowed"))


class Signer:
    """Signs what was approved for the cluster's own signers. Keys are names of requests."""

    def __init__(self, deps: Deps, *, authority: pki.Authority) -> None:
        self._authority, self._clock = authority, deps.clock
        self._requests = deps.informers.get(scheme.CERTIFICATE_SIGNING_REQUESTS, SigningRequest)
        self.loop = reconcile.Loop("csrsigning", deps=deps, reads=(self._requests,), reconcile=self._reconcile)
        self._requests.subscribe(lambda old, new: self.loop.queue.add(new.metadata.name) if new else None)

    async def _reconcile(self, name: str) -> None:
        request = self._requests.cache.get(name)
        if request is None or request.status.certificate or request.spec.signer_name not in SIGNERS:
            return
        found = request.status.conditions
        if not conditions.find(found, "Approved") or conditions.find(found, "Failed"):
            return
        asked = read(request)
        if asked is None:
            return
        if problem := fault(request, asked):
            failed = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": problem}
            await self.loop.write(name, _with(request, "status", failed), informer=self._requests)
            return
        signed = csr.sign(
            self._authority,
            base64.b64decode(request.spec.request),
            usages=request.spec.usages,
            seconds=lifetime(request.spec.expiration_seconds),
            now=self._clock.now(),
        )
        encoded = base64.b64encode(signed).decode()
        await self.loop.write(name, _with(request, "status", None, certificate=encoded), informer=self._requests)


class Cleaner:
    """Deletes requests nobody needs any more. One key: everything."""

    def __init__(self, deps: Deps) -> None:
        self._clock = deps.clock
        self._requests = deps.informers.get(scheme.CERTIFICATE_SIGNING_REQUESTS, SigningRequest)
        reads = (self._requests,)
        self.loop = reconcile.Loop(
            "csrcleaner", deps=deps, reads=reads, reconcile=self._reconcile, everything=lambda: [_ALL]
        )

    async def _reconcile(self, key: str) -> None:
        self.loop.queue.add_after(key, CLEAN_SECONDS)
        for request in [each for each in self._requests.cache.values() if stale(each, self._clock.now())]:
            meta = request.metadata
            delete = writes.Delete(resource=scheme.CERTIFICATE_SIGNING_REQUESTS, name=meta.name, uid=meta.uid)
            await self.loop.write_all(key, [delete], informer=self._requests)
