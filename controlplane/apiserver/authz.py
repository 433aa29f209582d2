"""Who may do what: one door, denying by default. RBAC will stand behind the same `authorize`.

Owns the attributes, the decision, the fixed rules and the messages in upstream's words. Knows no HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from controlplane.apiserver.authn import MASTERS
from controlplane.apiserver.request import Request
from kube import fields, status
from kube.client.identity import User


@dataclass(frozen=True, slots=True)
class Attributes:
    """One question: may `user` do `verb` to this resource, or to this path when `resource` is empty."""

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer; `reason` is shown to the user in parentheses or with a colon, as upstream does."""

    allowed: bool
    reason: str = ""


ALLOWED = Decision(True)
NO_OPINION = Decision(False)


class Rule(Protocol):
    """One authorizer of the chain: allowed, or no opinion (which the last one makes a denial)."""

    def __call__(self, attributes: Attributes, /) -> Decision:
        """Judge one question."""


class Authorizer:
    """Asks the rules in order; the first that allows decides."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)

    def authorize(self, attributes: Attributes) -> Decision:
        """The decision for one question; `system:masters` may do anything."""
        if MASTERS in attributes.user.groups:
            return ALLOWED
        reasons = []
        for rule in self._rules:
            decision = rule(attributes)
            if decision.allowed:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
        return Decision(False, "; ".join(reasons))

    def check(self, request: Request) -> None:
        """403 in upstream's words unless the request is allowed."""
        attributes = of_request(request)
        decision = self.authorize(attributes)
        if not decision.allowed:
            raise refusal(request, attributes, decision)


def of_request(request: Request) -> Attributes:
    """The question a request asks. A GET that opens a stream into a container needs `create`, as a POST does."""
    target = request.target
    verb = "create" if target.subresource in ("exec", "attach", "portforward") else request.verb
    if not target.plural:
        return Attributes(request.user, verb, path=request.path)
    return Attributes(
        request.user,
        verb,
        target.group,
        target.version,
        target.plural,
        target.subresource,
        target.namespace,
        target.name or selected_name(request),
    )


def selected_name(request: Request) -> str:
    """The one object a list or watch is restricted to by `metadata.name=x`: it is judged as if it were named.

    Upstream: apiserver `request/requestinfo.go`; a node reads its pods' secrets and configmaps this way.
    """
    text = request.query.get("fieldSelector", "")
    if not text or request.verb not in ("list", "watch", "deletecollection"):
        return ""
    try:
        return fields.parse(text).exact("metadata.name") or ""
    except fields.FieldSelectorError:
        return ""


def message(attributes: Attributes, decision: Decision) -> str:
    """`User "x" cannot list resource "pods" in API group "" in the namespace "y"`."""
    user = f'User "{attributes.user.name}"'
    if not attributes.resource:
        text = f'{user} cannot {attributes.verb} path "{attributes.path}"'
    else:
        resource = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
        text = f'{user} cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}"'
        if attributes.namespace:
            text += f' in the namespace "{attributes.namespace}"'
        else:
            text += " at the cluster scope"
    return f"{text}: {decision.reason}" if decision.reason else text


def refusal(request: Request, attributes: Attributes, decision: Decision) -> status.ApiError:
    """The 403 of a denied request."""
    text = message(attributes, decision)
    target = request.target
    if not target.plural:
        return status.forbidden(text)
    group_resource = f"{target.plural}.{target.group}" if target.group else target.plural
    if target.subresource:
        group_resource = f"{target.plural}/{target.subresource}" + (f".{target.group}" if target.group else "")
    subject = f'{group_resource} "{target.name}" is' if target.name else f"{group_resource} is"
    details = {"name": target.name, "group": target.group, "kind": target.plural}
    return status.failure(403, "Forbidden", f"{subject} forbidden: {text}", details)
