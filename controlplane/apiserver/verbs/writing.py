"""create, update and patch: a body becomes an object, goes through the rules, and is answered as it was stored."""

from dataclasses import dataclass
from typing import Any

import orjson

import kube.patch
from controlplane.apiserver import body, convert, fieldvalidation, metadata, negotiate, ownership, rendering
from controlplane.apiserver.context import Context
from controlplane.apiserver.objects import ATTEMPTS, Caller
from controlplane.apiserver.reply import Receive, Reply
from controlplane.apiserver.request import Request
from controlplane.store.entries import Entry
from kube import status
from kube.scheme import Resource

Object = dict[str, Any]
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH)
MAX_MANAGER = 128


def caller_of(request: Request) -> Caller:
    """Who writes and whether it is kept; 400 or 422 for options that cannot be."""
    dry_run = request.query.get("dryRun", "")
    if dry_run not in ("", "All"):
        error = status.unsupported("dryRun", dry_run, ["All"])
        raise status.invalid("CreateOptions.meta.k8s.io", "", [error])
    name = request.query.get("fieldManager", "")
    if len(name) > MAX_MANAGER or not name.isprintable():
        unfit = status.invalid_value("fieldManager", name, "should only contain printable characters")
        error = status.too_long("fieldManager", MAX_MANAGER) if len(name) > MAX_MANAGER else unfit
        raise status.invalid("CreateOptions.meta.k8s.io", "", [error])
    writer = ownership.writer_of(request)
    return Caller(user=request.user, dry_run=dry_run == "All", warnings=request.warnings, writer=writer)


async def read_object(request: Request, receive: Receive) -> Object:
    """The object in the body, of the type the URL serves, its fields checked as the client wishes."""
    rendering.form_of(request)
    data = await body.read(request, receive)
    media = body.media_type(request)
    obj = body.decode(data, media=media)
    metadata.check_type(obj, request.resource)
    raw = data if media == negotiate.JSON else None
    fieldvalidation.apply(request, obj, raw=raw)
    return convert.stored(request.resource, obj)


async def create(context: Context, request: Request, receive: Receive) -> Reply:
    """A new object; 201."""
    caller = caller_of(request)
    obj = await read_object(request, receive)
    home = convert.home(request.resource)
    metadata.place(obj, home, namespace=request.target.namespace)
    namespace = request.target.namespace if home.namespaced else ""
    entry = await context.objects.create(home, obj, namespace=namespace, caller=caller)
    return rendering.one(request, entry.data, code=201)


async def update(context: Context, request: Request, receive: Receive) -> Reply:
    """The whole object, or its status, replaced."""
    caller = caller_of(request)
    obj = await read_object(request, receive)
    target, home = request.target, convert.home(request.resource)
    metadata.place(obj, home, namespace=target.namespace, name=target.name)
    data = orjson.dumps(obj)

    def change(_: Entry) -> Object:
        fresh: Object = orjson.loads(data)
        return fresh

    # With a resourceVersion the client has said which state it means: a second try would find another one.
    attempts = 1 if obj["metadata"].get("resourceVersion") not in (None, "", "0") else ATTEMPTS
    entry = await context.objects.update(
        home,
        namespace=target.namespace,
        name=target.name,
        change=change,
        caller=caller,
        subresource=target.subresource,
        attempts=attempts,
    )
    return rendering.one(request, entry.data)


async def patch(context: Context, request: Request, receive: Receive) -> Reply:
    """An object, or its status, changed by a patch."""
    caller = caller_of(request)
    if "force" in request.query:
        error = status.forbidden_field("force", "may not be specified for non-apply patch")
        raise status.invalid("PatchOptions.meta.k8s.io", "", [error])
    rendering.form_of(request)
    change_by_patch = await read_patch(request, receive)
    target, home = request.target, convert.home(request.resource)

    def change(entry: Entry) -> Object:
        old: Object = orjson.loads(convert.served(request.resource, entry.data))
        obj = change_by_patch.apply(old)
        metadata.check_type(obj, request.resource)
        fieldvalidation.apply_patched(request, obj, change_by_patch.document)
        obj = convert.stored(request.resource, obj)
        metadata.place(obj, home, namespace=target.namespace, name=target.name)
        return obj

    entry = await context.objects.update(
        home,
        namespace=target.namespace,
        name=target.name,
        change=change,
        caller=caller,
        subresource=target.subresource,
    )
    return rendering.one(request, entry.data)


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch that was read: its document, and what it makes of an object."""

    document: Any
    media: str
    resource: Resource

    def apply(self, old: Object) -> Object:
        """The patched object; ApiError when the patch does not fit."""
        try:
            found = self._patched(old)
        except kube.patch.PatchError as e:
            raise _refused(e) from e
        if not isinstance(found, dict):
            raise status.bad_request("the patch leaves no object")
        return found

    def _patched(self, old: Object) -> Any:
        if self.media == JSON_PATCH:
            return self._in_places(old)
        if not isinstance(self.document, dict):
            raise status.bad_request("error decoding patch: want one JSON object")
        if self.media == MERGE_PATCH:
            return kube.patch.merge_patch(old, self.document)
        return kube.patch.strategic_merge(old, self.document, fieldvalidation.merge_rules(self.resource))

    def _in_places(self, old: Object) -> Any:
        """A JSON patch may put something into a status nobody has written yet: upstream shows an empty one then."""
        empty = "status" in self.resource.subresources and "status" not in old
        found = kube.patch.json_patch(old | {"status": {}} if empty else old, self.document)
        if empty and isinstance(found, dict) and found.get("status") == {}:
            del found["status"]
        return found


async def read_patch(request: Request, receive: Receive) -> Patch:
    """The patch in the body; 415 for a patch type that is not known."""
    media = body.media_type(request)
    if media not in PATCHES:
        raise status.unsupported_media_type((*PATCHES, APPLY_PATCH))
    return Patch(body.load_json(await body.read(request, receive)), media, request.resource)


def _refused(error: kube.patch.PatchError) -> status.ApiError:
    if error.code == 400:
        return status.bad_request(str(error))
    if error.code == 413:
        return status.too_large(str(error))
    return status.failure(
        422, "Invalid", f"the server rejected our request due to an error in our request: {error}", {}
    )
