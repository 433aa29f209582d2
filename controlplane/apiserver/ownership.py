"""Which writes are tracked in metadata.managedFields, and under which name.

Owns the choice; what a write does to ownership is `kube.patch.apply`'s. An object is tracked once its creator names a
fieldManager (as kubectl does) or somebody applies to it; until then a write costs nothing here. The first
application finds the untracked fields in the hands of `before-first-apply`, as upstream does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.apiserver.metadata import stamp
from controlplane.apiserver.request import Request
from kube import schema
from kube.patch import apply, owners
from kube.scheme import Resource

Object = dict[str, Any]
UNTRACKED_SUBRESOURCES = ("binding", "finalize")


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Who a write is remembered as. `named`: the client gave the name itself; `applied`: owners are in the object."""

    manager: str = "kube-apiserver"
    named: bool = False
    applied: bool = False
    subresource: str = ""


SERVER = Writer()


def writer_of(request: Request, *, applied: bool = False) -> Writer:
    """The writer of a request."""
    named = request.query.get("fieldManager", "")
    subresource = request.target.subresource
    return Writer(
        manager=owners.manager_name(named, request.headers.get("user-agent", "")),
        named=bool(named),
        applied=applied,
        subresource=subresource if subresource not in UNTRACKED_SUBRESOURCES else "",
    )


def track(writer: Writer, obj: Object, old: Object | None, *, resource: Resource, now: datetime) -> None:
    """Renew the owners in `obj`, in place, after `writer` made it of `old` (None: it is new)."""
    metadata = obj["metadata"]
    if writer.applied or ("managedFields" not in metadata and not _begins(writer, old)):
        return
    try:
        structure = schema.structure(resource.api_version, resource.kind)
    except schema.UnknownKind:
        return
    made = apply.updated(old or {}, obj, structure, write_of(writer, resource, owners.UPDATE, now=now))
    found = made["metadata"].get("managedFields")
    if found:
        metadata["managedFields"] = found
    else:
        metadata.pop("managedFields", None)


def _begins(writer: Writer, old: Object | None) -> bool:
    """Whether there is something to track although the object says nothing of owners."""
    return writer.named if old is None else "managedFields" in old["metadata"]


def write_of(writer: Writer, resource: Resource, operation: str, *, now: datetime) -> apply.Write:
    """The write as the rules of ownership see it."""
    ignored = () if "status" not in resource.subresources else ("spec",) if _status(writer) else ("status",)
    owner = owners.Owner(writer.manager, operation, resource.api_version, writer.subresource)
    return apply.Write(owner=owner, now=stamp(now), ignored=ignored)


def _status(writer: Writer) -> bool:
    return writer.subresource == "status"


def unchanged(obj: Object, old: Object) -> bool:
    """Whether two states of an object differ in nothing but when its owners wrote."""
    if obj == old:
        return True
    new, before = obj["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    if not new or not before:
        return False
    if {**obj, "metadata": {**obj["metadata"], "managedFields": before}} != old:
        return False
    return owners.same_but_times(new, before)
