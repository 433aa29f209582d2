"""delete and deletecollection: options from query and body, then the rules of deletion."""

from dataclasses import replace
from typing import Any

from controlplane.apiserver import body, convert, deleting, fieldvalidation, rendering, selecting
from controlplane.apiserver.context import Context
from controlplane.apiserver.objects import Caller, Deleted
from controlplane.apiserver.reply import Receive, Reply, of_object
from controlplane.apiserver.request import Request
from controlplane.apiserver.verbs.writing import caller_of
from controlplane.store.entries import Entry
from kube import status
from kube.scheme import Resource

Object = dict[str, Any]
# Kinds whose deletion answers the object itself, as upstream's registries do.
SHOWN = frozenset({"pods", "services", "serviceaccounts", "podtemplates", "resourcequotas", "persistentvolumes",
                   "persistentvolumeclaims", "namespaces"})  # fmt: skip


async def read_options(request: Request, receive: Receive) -> Object:
    """DeleteOptions from the body, completed by query parameters."""
    data = await body.read(request, receive)
    options: Object = body.decode(data, media=body.media_type(request)) if data.strip() else {}
    if options.get("kind", "DeleteOptions") != "DeleteOptions":
        raise status.bad_request(f"the body of a deletion must be DeleteOptions, found {options['kind']!r}")
    fieldvalidation.apply_to(options, api_version="v1", kind="DeleteOptions")
    if (grace := request.query.get("gracePeriodSeconds")) is not None and "gracePeriodSeconds" not in options:
        options["gracePeriodSeconds"] = -1 if grace == "-1" else request.number("gracePeriodSeconds")
    if policy := request.query.get("propagationPolicy"):
        options.setdefault("propagationPolicy", policy)
    if "orphanDependents" in request.query:
        options.setdefault("orphanDependents", request.flag("orphanDependents"))
    deleting.check_options(options)
    return options


def caller_with(request: Request, options: Object) -> Caller:
    """The caller, with the dry run that DeleteOptions may ask for."""
    caller = caller_of(request)
    dry_run = options.get("dryRun") or []
    if dry_run not in ([], ["All"]):
        raise status.invalid("DeleteOptions.meta.k8s.io", "", [status.unsupported("dryRun", dry_run, ["All"])])
    return replace(caller, dry_run=caller.dry_run or bool(dry_run))


async def delete(context: Context, request: Request, receive: Receive) -> Reply:
    """One object: a Status when it is gone, the object while it still ends."""
    options = await read_options(request, receive)
    target, home = request.target, convert.home(request.resource)
    caller = caller_with(request, options)
    done = await context.objects.delete(
        home, namespace=target.namespace, name=target.name, options=options, caller=caller
    )
    if not done.gone or home.group_resource in SHOWN:
        return rendering.one(request, done.data)
    return of_object(status.success(details=_details(home, done)))


def _details(resource: Resource, done: Deleted) -> Object:
    meta = Entry("", 0, done.data, {}, {}).decode()["metadata"]
    found = {"name": meta["name"], "group": resource.group, "kind": resource.plural, "uid": meta["uid"]}
    return {name: value for name, value in found.items() if value}


async def collection(context: Context, request: Request, receive: Receive) -> Reply:
    """Everything the selectors choose, one after the other; answers what was chosen."""
    options = await read_options(request, receive)
    caller = caller_with(request, options)
    home = convert.home(request.resource)
    chosen = context.storage.cache(home.storage_key).select(selecting.scope_of(request))
    if limit := request.number("limit"):
        chosen = chosen[:limit]
    for entry in chosen:
        try:
            await context.objects.delete(
                home, namespace=entry.namespace, name=entry.name, options=options, caller=caller
            )
        except status.ApiError as e:
            if not status.is_not_found(e):
                raise
    return rendering.many(request, chosen, {"resourceVersion": str(context.storage.revision)})
