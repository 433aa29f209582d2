"""Reviews: questions about access and identity, answered and never stored."""

from typing import Any

from controlplane.apiserver import authz, body, fieldvalidation, metadata, negotiate, rendering, reply, tokens
from controlplane.apiserver.context import Context
from controlplane.apiserver.metadata import stamp
from controlplane.apiserver.reply import Receive, Reply
from controlplane.apiserver.request import Request
from kube import status
from kube.client.identity import User

Object = dict[str, Any]


async def review(context: Context, request: Request, receive: Receive) -> Reply:
    """Answer one review with itself, its status filled in; 406 for who wants a table of it."""
    if rendering.form_of(request).kind:
        raise status.not_acceptable(negotiate.ACCEPTED)
    obj = body.decode(await body.read(request, receive), media=body.media_type(request))
    metadata.check_type(obj, request.resource)
    fieldvalidation.apply(request, obj, raw=None)
    obj["metadata"].setdefault("creationTimestamp", None)
    answer = {
        "SubjectAccessReview": _subject_access,
        "LocalSubjectAccessReview": _subject_access,
        "SelfSubjectAccessReview": _self_access,
        "SelfSubjectRulesReview": _self_rules,
        "SelfSubjectReview": _self,
        "TokenReview": _token,
    }[request.resource.kind]
    obj["status"] = answer(context, request, obj)
    return reply.of_object(obj, code=201)


def _self_access(context: Context, request: Request, obj: Object) -> Object:
    return _access(context, request.user, obj)


def _subject_access(context: Context, request: Request, obj: Object) -> Object:
    spec = obj.get("spec") or {}
    if not spec.get("user") and not spec.get("groups"):
        error = status.invalid_value(
            "spec.user", spec.get("user", ""), "at least one of user or group must be specified"
        )
        raise status.invalid(request.resource, "", [error])
    extra = {name: tuple(values) for name, values in (spec.get("extra") or {}).items()}
    user = User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)
    if request.resource.namespaced:
        attributes = spec.get("resourceAttributes") or {}
        if attributes.get("namespace") != request.target.namespace:
            why = "must match the namespace of the request"
            path = "spec.resourceAttributes.namespace"
            raise status.invalid(
                request.resource, "", [status.invalid_value(path, attributes.get("namespace", ""), why)]
            )
    return _access(context, user, obj)


def _access(context: Context, user: User, obj: Object) -> Object:
    spec = obj.get("spec") or {}
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) == (path is None):
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise status.invalid(obj["kind"], "", [status.invalid_value("spec.resourceAttributes", resource, why)])
    if resource is not None:
        question = authz.Attributes(
            user,
            resource.get("verb", ""),
            resource.get("group", ""),
            resource.get("version", ""),
            resource.get("resource", ""),
            resource.get("subresource", ""),
            resource.get("namespace", ""),
            resource.get("name", ""),
        )
    else:
        question = authz.Attributes(user, (path or {}).get("verb", ""), path=(path or {}).get("path", ""))
    decision = context.authorizer.authorize(question)
    found: Object = {"allowed": decision.allowed}
    if decision.reason:
        found["reason"] = decision.reason
    return found


def _self_rules(context: Context, request: Request, obj: Object) -> Object:
    everything = context.authorizer.authorize(authz.Attributes(request.user, "*", "*", "*", "*"))
    found: Object = {"resourceRules": [], "nonResourceRules": [], "incomplete": not everything.allowed}
    if everything.allowed:
        found["resourceRules"] = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        found["nonResourceRules"] = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
    else:
        found["evaluationError"] = "the fixed rules of this server cannot be listed; ask a SelfSubjectAccessReview"
    return found


def _self(context: Context, request: Request, obj: Object) -> Object:
    obj["metadata"]["creationTimestamp"] = stamp(context.clock.now())
    return {"userInfo": _user(request.user)}


def _token(context: Context, request: Request, obj: Object) -> Object:
    spec = obj.get("spec") or {}
    if not spec.get("token"):
        raise status.invalid(request.resource, "", [status.required("spec.token")])
    try:
        user, audiences = context.tokens.verify(spec["token"], audiences=spec.get("audiences") or ())
    except tokens.InvalidToken as e:
        return {"user": {}, "error": str(e)}
    found: Object = {"authenticated": True, "user": _user(user)}
    if spec.get("audiences"):
        found["audiences"] = audiences
    return found


def _user(user: User) -> Object:
    found: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        found["uid"] = user.uid
    if user.extra:
        found["extra"] = {name: list(values) for name, values in user.extra.items()}
    return found
