"""From a request to the verb that answers it: one table. Knows no rule of any kind."""

from collections.abc import Awaitable, Callable

from controlplane.apiserver import body, reviews
from controlplane.apiserver.context import Context
from controlplane.apiserver.reply import Answer, Receive, Reply
from controlplane.apiserver.request import Request
from controlplane.apiserver.verbs import (
    applying,
    binding,
    connecting,
    deleting,
    evicting,
    proxying,
    reading,
    scaling,
    tokens,
    watching,
    writing,
)
from kube import status
from kube.scheme import ENDPOINTS, NODES

# There are none: kubectl asks before it says that a kind is unknown.
DEFINITIONS = ("apiextensions.k8s.io", "customresourcedefinitions")
NO_DEFINITIONS = (
    b'{"kind":"CustomResourceDefinitionList","apiVersion":"apiextensions.k8s.io/v1",'
    b'"metadata":{"resourceVersion":"1"},"items":[]}'
)
Handler = Callable[[Context, Request, Receive], Awaitable[Answer]]


async def _get(context: Context, request: Request, receive: Receive) -> Answer:
    return await reading.get(context, request)


async def _list(context: Context, request: Request, receive: Receive) -> Answer:
    return await reading.listed(context, request)


async def _watch(context: Context, request: Request, receive: Receive) -> Answer:
    return await watching.watch(context, request)


async def _log(context: Context, request: Request, receive: Receive) -> Answer:
    return await connecting.log(context, request)


async def _connect(context: Context, request: Request, receive: Receive) -> Answer:
    return await connecting.connect(context, request)


async def _proxy(context: Context, request: Request, receive: Receive) -> Answer:
    if request.target.resource is NODES:
        if request.verb != "get":
            raise status.method_not_allowed(request.resource, request.verb)
        return await connecting.node(context, request)
    return await proxying.proxy(context, request, receive)


async def _patch(context: Context, request: Request, receive: Receive) -> Answer:
    if body.media_type(request) == writing.APPLY_PATCH:
        return await applying.apply(context, request, receive)
    return await writing.patch(context, request, receive)


VERBS: dict[str, Handler] = {
    "get": _get,
    "list": _list,
    "watch": _watch,
    "create": writing.create,
    "update": writing.update,
    "patch": _patch,
    "delete": deleting.delete,
    "deletecollection": deleting.collection,
}
# Subresources that are the object itself under other rules.
VIEWS = dict.fromkeys(("approval", "ephemeralcontainers", "resize", "status"), ("get", "update", "patch"))
SUBRESOURCES: dict[str, tuple[Handler, tuple[str, ...]]] = {
    "attach": (_connect, ("get", "create")),
    "binding": (binding.bind, ("create",)),
    "eviction": (evicting.evict, ("create",)),
    "exec": (_connect, ("get", "create")),
    "finalize": (binding.finalize, ("update",)),
    "log": (_log, ("get",)),
    "portforward": (_connect, ("get", "create")),
    "proxy": (_proxy, proxying.METHODS),
    "scale": (scaling.scale, ("get", "update", "patch")),
    "token": (tokens.request_token, ("create",)),
}
DEPRECATED = {ENDPOINTS: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}


async def dispatch(context: Context, request: Request, receive: Receive) -> Answer:
    """The answer to a resource request; 404 for what is not served, 405 for what cannot be done to it."""
    target = request.target
    if (target.group, target.plural, request.verb) == (*DEFINITIONS, "list"):
        return Reply(NO_DEFINITIONS)
    if target.resource is None or not target.known:
        raise status.not_served()
    resource = target.resource
    if (warning := DEPRECATED.get(resource)) is not None:
        request.warnings.append(warning)
    if target.subresource:
        return await _below(context, request, receive)
    if resource.virtual:
        if request.verb != "create":
            raise status.method_not_allowed(resource, request.verb)
        handler = binding.bind if resource.kind == "Binding" else reviews.review
        return await handler(context, request, receive)
    if request.verb not in resource.verbs or (request.verb == "create" and target.name):
        raise status.method_not_allowed(resource, request.verb)
    if resource.namespaced and not target.namespace and request.verb not in ("list", "watch"):
        raise status.method_not_allowed(resource, request.verb)
    return await VERBS[request.verb](context, request, receive)


async def _below(context: Context, request: Request, receive: Receive) -> Answer:
    subresource = request.target.subresource
    if request.verb in VIEWS.get(subresource, ()):
        return await VERBS[request.verb](context, request, receive)
    handler, verbs = SUBRESOURCES.get(subresource, (None, ()))
    if handler is None or request.verb not in verbs:
        raise status.method_not_allowed(request.resource, request.verb)
    return await handler(context, request, receive)
