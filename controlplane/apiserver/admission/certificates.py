"""What holds for signing requests: who asks is written by the server; who approves and who signs must be allowed to.

Upstream's CertificateApproval, CertificateSigning and CertificateSubjectRestriction plug-ins, and what its strategy
does with the request's user.
"""

import base64
from typing import Any

from controlplane.apiserver import authz
from controlplane.apiserver.admission.chain import Attributes, Plugin
from controlplane.apiserver.authn import MASTERS
from controlplane.apiserver.metadata import stamp
from controlplane.apiserver.registry import certificates
from kube import csr, status
from kube.runtime.clock import Clock
from kube.scheme import CERTIFICATE_SIGNING_REQUESTS

Object = dict[str, Any]


class CertificateRequests(Plugin):
    """Signing requests, from the question to the signed answer."""

    def __init__(self, authorizer: authz.Authorizer, *, clock: Clock) -> None:
        self._authorizer = authorizer
        self._clock = clock

    async def mutate(self, attributes: Attributes) -> None:
        """Write down who asks, and when a condition changed."""
        if attributes.resource is not CERTIFICATE_SIGNING_REQUESTS:
            return
        if attributes.operation == "CREATE":
            _write_requester(attributes)
        elif attributes.subresource:
            _write_times(attributes.obj, attributes.old or {}, stamp(self._clock.now()))

    async def validate(self, attributes: Attributes) -> None:
        """Refuse a request that would make an administrator, and answers of those who may not give them."""
        if attributes.resource is not CERTIFICATE_SIGNING_REQUESTS:
            return
        if attributes.operation == "CREATE":
            _refuse_masters(attributes)
        elif attributes.subresource == "approval":
            self._must(attributes, "approve")
        elif attributes.subresource == "status" and _signed(attributes.obj) != _signed(attributes.old or {}):
            self._must(attributes, "sign")

    def _must(self, attributes: Attributes, verb: str) -> None:
        signer = (attributes.obj.get("spec") or {}).get("signerName") or ""
        for name in (signer, signer.partition("/")[0] + "/*"):
            question = authz.Attributes(attributes.user, verb, "certificates.k8s.io", "*", "signers", "", "", name)
            if self._authorizer.authorize(question).allowed:
                return
        why = f'user not permitted to {verb} requests with signerName "{signer}"'
        raise status.forbidden(why, resource=attributes.resource, name=attributes.name)


def _write_requester(attributes: Attributes) -> None:
    spec, user = attributes.obj.setdefault("spec", {}), attributes.user
    for key in ("username", "uid", "groups", "extra"):
        spec.pop(key, None)
    spec |= {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        spec["uid"] = user.uid
    if user.extra:
        spec["extra"] = {name: list(values) for name, values in user.extra.items()}


def _write_times(obj: Object, old: Object, now: str) -> None:
    had = {(each.get("type"), each.get("status")): each for each in certificates.conditions(old)}
    for each in certificates.conditions(obj):
        each["lastUpdateTime"] = each.get("lastUpdateTime") or now
        before = had.get((each.get("type"), each.get("status"))) or {}
        each["lastTransitionTime"] = each.get("lastTransitionTime") or before.get("lastTransitionTime") or now


def _refuse_masters(attributes: Attributes) -> None:
    spec = attributes.obj.get("spec") or {}
    if spec.get("signerName") != csr.CLIENT:
        return
    if MASTERS in csr.read(base64.b64decode(spec["request"])).organizations:
        why = f"use of {csr.CLIENT} signer with {MASTERS} group is not allowed"
        raise status.forbidden(why, resource=attributes.resource, name=attributes.name)


def _signed(obj: Object) -> tuple[str, bool]:
    return (obj.get("status") or {}).get("certificate") or "", certificates.has(obj, "Failed")
