"""get and list: stored bytes out of the cache."""

from typing import Any

from controlplane.apiserver import metadata, rendering, selecting
from controlplane.apiserver.context import Context
from controlplane.apiserver.reply import Reply
from controlplane.apiserver.request import Request
from controlplane.store.cache import HistoryGone
from controlplane.store.entries import Entry
from controlplane.store.scope import Scope
from kube import status

FUTURE_SECONDS = 3.0


async def get(context: Context, request: Request) -> Reply:
    """One object."""
    target, resource = request.target, request.resource
    wanted = selecting.revision_of(request.query.get("resourceVersion", ""))
    if wanted > context.storage.revision:
        await wait_for(context, wanted)
    key = metadata.key_of(resource, namespace=target.namespace, name=target.name)
    entry = context.storage.get(resource.storage_key, key)
    if entry is None:
        raise status.not_found(resource, target.name)
    return rendering.one(request, entry.data)


async def wait_for(context: Context, revision: int) -> None:
    """Wait a moment for a revision that is still to come; 504 when it does not."""
    if not await context.storage.arrival(revision, timeout=FUTURE_SECONDS):
        raise status.future_resource_version(revision, context.storage.revision)


async def listed(context: Context, request: Request) -> Reply:
    """Objects in key order, whole or by pages of one snapshot."""
    scope, page = selecting.scope_of(request), selecting.page_of(request)
    if page.revision > context.storage.revision:
        await wait_for(context, page.revision)
    revision = page.revision if page.exact else context.storage.revision
    entries = _snapshot(context, request, scope, page, revision)
    if page.start:
        entries = [entry for entry in entries if entry.key >= page.start]
    meta: dict[str, Any] = {"resourceVersion": str(revision)}
    if page.limit and len(entries) > page.limit:
        meta["continue"] = selecting.encode_token(revision, entries[page.limit].key)
        if not scope.selective:
            meta["remainingItemCount"] = len(entries) - page.limit
        entries = entries[: page.limit]
    return rendering.many(request, entries, meta)


def _snapshot(context: Context, request: Request, scope: Scope, page: selecting.Page, revision: int) -> list[Entry]:
    cache = context.storage.cache(request.resource.storage_key)
    if revision == context.storage.revision:
        return cache.select(scope)
    try:
        return cache.select_at(scope, revision)
    except HistoryGone as e:
        raise _expired(page, e) from e


def _expired(page: selecting.Page, gone: HistoryGone) -> status.ApiError:
    if not page.start:
        return status.expired(f"The resourceVersion for the provided list is too old. {gone}")
    error = status.expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )
    error.status["metadata"] = {"continue": selecting.encode_token(-1, page.start)}
    return error
