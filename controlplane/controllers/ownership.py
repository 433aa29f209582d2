"""Who owns what: claiming children by selector, adopting orphans, releasing strays.

Pure. Must not know any kind: it reads metadata and answers with patches.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from controlplane.controllers import writes
from controlplane.projection import JSON, Meta, OwnerReference
from kube.labels import Selector
from kube.scheme import Resource


class Owned(Protocol):
    """Anything with metadata."""

    metadata: Meta


T = TypeVar("T", bound=Owned)


@dataclass(frozen=True, slots=True)
class Claim(Generic[T]):
    """Children an owner has, those it should take, and those it should let go."""

    owned: tuple[T, ...]
    adopt: tuple[T, ...]
    release: tuple[T, ...]


def controller_of(meta: Meta) -> OwnerReference | None:
    """The one owner that manages this object, if any."""
    return next((ref for ref in meta.owner_references if ref.controller), None)


def controller_uid(meta: Meta) -> str:
    """UID of the managing owner, "" for an orphan."""
    ref = controller_of(meta)
    return ref.uid if ref else ""


def reference(resource: Resource, meta: Meta) -> JSON:
    """The ownerReferences entry that makes meta's object the managing owner."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def claim(owner: Meta, selector: Selector, candidates: Iterable[T]) -> Claim[T]:
    """Sort candidates (own children and orphans of the namespace) into kept, adopted and released.

    An owner on its way out adopts and releases nothing.
    """
    owned: list[T] = []
    adopt: list[T] = []
    release: list[T] = []
    leaving = bool(owner.deletion_timestamp)
    for child in candidates:
        uid, fits = controller_uid(child.metadata), selector.matches(child.metadata.labels)
        if uid == owner.uid and fits:
            owned.append(child)
        elif uid == owner.uid and not leaving:
            release.append(child)
        elif not uid and fits and not leaving and not child.metadata.deletion_timestamp:
            adopt.append(child)
    return Claim(tuple(owned), tuple(adopt), tuple(release))


def adoption(resource: Resource, child: Meta, *, owner_resource: Resource, owner: Meta) -> writes.Patch:
    """The patch by which owner becomes child's controller."""
    body = {"metadata": {"ownerReferences": [reference(owner_resource, owner)]}}
    return _patch(resource, child, body)


def release(resource: Resource, child: Meta, *, owner: Meta) -> writes.Patch:
    """The patch that takes owner out of child's owners."""
    body = {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": owner.uid}]}}
    return _patch(resource, child, body)


def _patch(resource: Resource, child: Meta, body: JSON) -> writes.Patch:
    return writes.Patch(
        resource=resource, namespace=child.namespace, name=child.name, uid=child.uid, body=body, kind="strategic"
    )
