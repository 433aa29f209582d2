"""serviceaccounts/token: a TokenRequest answered with a fresh token, bound to a pod or secret if asked."""

from datetime import UTC, datetime
from typing import Any

from controlplane.apiserver import body, fieldvalidation, noderules, reply, tokens
from controlplane.apiserver.context import Context
from controlplane.apiserver.metadata import stamp
from controlplane.apiserver.reply import Receive, Reply
from controlplane.apiserver.request import Request
from kube import status
from kube.scheme import NODES, PODS, SECRETS, SERVICE_ACCOUNTS, Resource

Object = dict[str, Any]
API_VERSION, KIND = "authentication.k8s.io/v1", "TokenRequest"
BINDABLE: dict[tuple[str, str], Resource] = {("v1", "Pod"): PODS, ("v1", "Secret"): SECRETS}


async def request_token(context: Context, request: Request, receive: Receive) -> Reply:
    """Mint a token for the account in the URL."""
    wish = body.decode(await body.read(request, receive), media=body.media_type(request))
    if (wish.setdefault("apiVersion", API_VERSION), wish.setdefault("kind", KIND)) != (API_VERSION, KIND):
        raise status.bad_request(f"want {API_VERSION} {KIND}, found {wish['apiVersion']} {wish['kind']}")
    fieldvalidation.apply(request, wish, raw=None)
    target, spec = request.target, wish.get("spec") or {}
    account = context.objects.find(SERVICE_ACCOUNTS, namespace=target.namespace, name=target.name).decode()["metadata"]
    seconds = spec.get("expirationSeconds") or tokens.DEFAULT_SECONDS
    _check(seconds, target.name)
    bound = _bound(context, request, account["name"], spec.get("boundObjectRef"))
    _check_node(request, bound, spec.get("boundObjectRef") or {})
    minted = context.tokens.mint(
        namespace=target.namespace,
        account=account,
        audiences=spec.get("audiences") or [],
        seconds=seconds,
        bound=bound,
    )
    spec["expirationSeconds"] = seconds
    spec["audiences"] = spec.get("audiences") or [context.tokens.issuer]
    expires = stamp(datetime.fromtimestamp(minted.expires, UTC))
    wish["metadata"] = {"name": target.name, "namespace": target.namespace}
    wish["metadata"]["creationTimestamp"] = stamp(context.clock.now())
    wish["spec"] = spec
    wish["status"] = {"token": minted.token, "expirationTimestamp": expires}
    return reply.of_object(wish, code=201)


def _check(seconds: int, name: str) -> None:
    why = ""
    if seconds < tokens.MIN_SECONDS:
        why = "may not specify a duration less than 10 minutes"
    elif seconds > tokens.MAX_SECONDS:
        why = "may not specify a duration larger than 2^32 seconds"
    if why:
        raise status.invalid("TokenRequest.authentication.k8s.io", name, [
            status.invalid_value("spec.expirationSeconds", seconds, why)
        ])  # fmt: skip


def _check_node(request: Request, bound: tokens.Bound | None, reference: Object) -> None:
    """A node gets tokens for the pods that run on it, and no others (upstream's NodeRestriction)."""
    node = noderules.node_name(request.user.name, request.user.groups)
    if not node:
        return
    fault = ""
    if bound is None or bound.kind != "Pod":
        fault = "node requested token not bound to a pod"
    elif not reference.get("uid"):
        fault = "node requested token with a pod binding without a uid"
    elif (bound.node or {}).get("name") != node:
        fault = "node requested token bound to a pod scheduled on a different node"
    if fault:
        raise status.forbidden(fault, resource=SERVICE_ACCOUNTS, name=request.target.name)


def _bound(context: Context, request: Request, account: str, reference: Object | None) -> tokens.Bound | None:
    if not reference:
        return None
    kind = reference.get("kind", "")
    resource = BINDABLE.get((reference.get("apiVersion", "v1") or "v1", kind))
    if resource is None:
        raise status.bad_request(f"cannot bind token to object of type {reference.get('apiVersion', '')}, Kind={kind}")
    name = reference.get("name", "")
    obj = context.objects.find(resource, namespace=request.target.namespace, name=name).decode()
    uid = obj["metadata"]["uid"]
    if reference.get("uid") and reference["uid"] != uid:
        message = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record."
        raise status.conflict(resource, name, f"{message} The object might have been deleted and then recreated")
    node = None
    if kind == "Pod":
        if (obj["spec"].get("serviceAccountName") or "default") != account:
            raise status.bad_request(f'cannot bind token for serviceaccount "{account}" to pod running with '
                                     f'different serviceaccount name.')  # fmt: skip
        if node_name := obj["spec"].get("nodeName"):
            found = context.storage.get(NODES.storage_key, node_name)
            node = {"name": node_name}
            if found is not None:
                node["uid"] = found.decode()["metadata"]["uid"]
    return tokens.Bound(kind, name, uid, node)
