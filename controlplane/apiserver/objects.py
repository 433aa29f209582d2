"""Creating, changing and deleting objects of any kind: the path every write takes, whoever asks.

Owns the order default -> admit -> prepare -> validate -> store, optimistic concurrency and no-op writes.
Knows neither HTTP nor any kind: the rules of a kind are its strategy's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from controlplane import errors
from controlplane.apiserver import deleting, metadata, ownership
from controlplane.apiserver.admission.chain import Attributes, Chain
from controlplane.apiserver.ownership import Writer
from controlplane.apiserver.registry import Strategy, strategy_for
from controlplane.store.entries import Entry, encode, inject
from controlplane.store.storage import Storage
from kube import status
from kube.client.identity import User
from kube.runtime.clock import Clock
from kube.scheme import Resource

Object = dict[str, Any]
ATTEMPTS = 5
NAME_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who writes, and how: nothing is kept in a dry run; `warnings` are shown to the client."""

    user: User
    dry_run: bool = False
    warnings: list[str] | None = None
    writer: Writer = ownership.SERVER


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion left: the last state, and whether it is gone already."""

    data: bytes
    gone: bool


class Objects:
    """Writes to the store by the rules."""

    def __init__(self, storage: Storage, *, admission: Chain, clock: Clock) -> None:
        self._storage = storage
        self._admission = admission
        self._clock = clock

    def find(self, resource: Resource, *, namespace: str, name: str) -> Entry:
        """The stored object, or 404."""
        entry = self._storage.get(resource.storage_key, metadata.key_of(resource, namespace=namespace, name=name))
        if entry is None:
            raise status.not_found(resource, name)
        return entry

    async def create(self, resource: Resource, obj: Object, *, namespace: str, caller: Caller) -> Entry:
        """Store a new object, placed and of the right type already."""
        meta = obj["metadata"]
        generated = not meta.get("name") and bool(meta.get("generateName"))
        if not meta.get("name") and not generated:
            error = status.required("metadata.name", "name or generateName is required")
            raise status.invalid(resource, "", [error])
        metadata.begin(obj, now=self._clock.now())
        for _ in range(NAME_ATTEMPTS if generated else 1):
            if generated:
                meta["name"] = metadata.generate_name(meta["generateName"])
            try:
                return await self._create(resource, obj, namespace=namespace, caller=caller)
            except errors.RevisionConflict:
                continue
        if generated:
            raise status.name_not_generated(resource, meta["name"])
        raise status.already_exists(resource, meta["name"])

    async def _create(self, resource: Resource, obj: Object, *, namespace: str, caller: Caller) -> Entry:
        strategy = strategy_for(resource)
        name = obj["metadata"]["name"]
        attributes = Attributes("CREATE", resource, namespace, name, caller.user, obj, dry_run=caller.dry_run)
        strategy.default(obj)
        strategy.prepare_create(obj)
        ownership.track(caller.writer, obj, None, resource=resource, now=self._clock.now())
        try:
            await self._admission.mutate(attributes)
            _refuse(resource, name, strategy.validate_create(obj))
            _warn(caller, strategy.warnings(obj, None))
            await self._admission.validate(attributes)
            key = metadata.key_of(resource, namespace=namespace, name=name)
            if caller.dry_run:
                if self._storage.get(resource.storage_key, key) is not None:
                    raise errors.RevisionConflict(name, expected=0, current=1)
                attributes.undo()
                return self._imagined(resource, key, obj)
            entry = await self._storage.create(resource.storage_key, key, obj)
        except BaseException:
            attributes.undo()
            raise
        attributes.commit()
        return entry

    async def update(
        self,
        resource: Resource,
        *,
        namespace: str,
        name: str,
        change: Callable[[Entry], Object],
        caller: Caller,
        subresource: str = "",
        attempts: int = ATTEMPTS,
    ) -> Entry:
        """Store what `change` makes of the present state; `change` raises ApiError to refuse, and may run again."""
        for _ in range(attempts):
            entry = self.find(resource, namespace=namespace, name=name)
            try:
                return await self._update(resource, entry, change(entry), caller=caller, subresource=subresource)
            except errors.RevisionConflict:
                continue
        raise status.conflict(resource, name)

    async def _update(
        self, resource: Resource, entry: Entry, obj: Object, *, caller: Caller, subresource: str
    ) -> Entry:
        old = entry.decode()
        revision = obj["metadata"].get("resourceVersion")
        if revision and revision not in ("0", str(entry.revision)):
            raise status.conflict(resource, entry.name)
        metadata.carry(obj, old, resource)
        strategy = strategy_for(resource)
        _prepare(strategy, obj, old, subresource)
        if subresource not in ownership.UNTRACKED_SUBRESOURCES:
            ownership.track(caller.writer, obj, old, resource=resource, now=self._clock.now())
        attributes = Attributes("UPDATE", resource, entry.namespace, entry.name, caller.user, obj, old, subresource)
        try:
            await self._admission.mutate(attributes)
            _refuse(resource, entry.name, _validate(strategy, obj, old, subresource))
            if not subresource:
                _warn(caller, strategy.warnings(obj, old))
            await self._admission.validate(attributes)
            kept = await self._keep(resource, entry, obj, old, dry_run=caller.dry_run)
        except BaseException:
            attributes.undo()
            raise
        if caller.dry_run:
            attributes.undo()
        else:
            attributes.commit()
        return kept

    async def _keep(self, resource: Resource, entry: Entry, obj: Object, old: Object, *, dry_run: bool) -> Entry:
        obj["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if deleting.finished(obj):
            if dry_run:
                return self._imagined(resource, entry.key, obj, revision=entry.revision)
            return await self._storage.remove(resource.storage_key, entry.key, obj, expected=entry.revision)
        if ownership.unchanged(obj, old):
            return entry
        if dry_run:
            return self._imagined(resource, entry.key, obj, revision=entry.revision)
        return await self._storage.replace(resource.storage_key, entry.key, obj, expected=entry.revision)

    async def delete(
        self, resource: Resource, *, namespace: str, name: str, options: Object, caller: Caller
    ) -> Deleted:
        """Delete at once, or mark for deletion; 404 when it is not there, 409 when preconditions fail."""
        for _ in range(ATTEMPTS):
            entry = self.find(resource, namespace=namespace, name=name)
            try:
                return await self._delete(resource, entry, options, caller)
            except errors.RevisionConflict:
                continue
        raise status.conflict(resource, name)

    async def _delete(self, resource: Resource, entry: Entry, options: Object, caller: Caller) -> Deleted:
        obj = entry.decode()
        deleting.check_preconditions(obj, options, resource)
        attributes = Attributes("DELETE", resource, entry.namespace, entry.name, caller.user, obj, obj)
        await self._admission.mutate(attributes)
        await self._admission.validate(attributes)
        grace = strategy_for(resource).deletion_grace(obj, options)
        decision = deleting.decide(obj, options, grace=grace, now=self._clock.now())
        if obj["kind"] == "Namespace" and not decision.gone:
            obj.setdefault("status", {})["phase"] = "Terminating"
        if caller.dry_run:
            attributes.undo()
            return Deleted(self._imagined(resource, entry.key, obj, revision=entry.revision).data, decision.gone)
        if decision.gone:
            kept = await self._storage.remove(resource.storage_key, entry.key, obj, expected=entry.revision)
            attributes.commit()
            return Deleted(kept.data, True)
        if decision.changed:
            entry = await self._storage.replace(resource.storage_key, entry.key, obj, expected=entry.revision)
        return Deleted(entry.data, False)

    def _imagined(self, resource: Resource, key: str, obj: Object, *, revision: int = 0) -> Entry:
        """What a dry run would have stored."""
        labels, fields = self._storage.cache(resource.storage_key).index(obj)
        data = inject(encode(obj), revision) if revision else encode(obj)
        return Entry(key, revision, data, labels, fields)


def _prepare(strategy: Strategy, obj: Object, old: Object, subresource: str) -> None:
    view = strategy.views.get(subresource)
    if view is None and subresource not in ("", "status"):
        return
    strategy.default(obj)
    if view is not None:
        view.prepare(obj, old)
    elif subresource == "status":
        strategy.prepare_status(obj, old)
    else:
        strategy.prepare_update(obj, old)


def _validate(strategy: Strategy, obj: Object, old: Object, subresource: str) -> list[status.FieldError]:
    if subresource == "status":
        return strategy.validate_status(obj, old)
    if (view := strategy.views.get(subresource)) is not None:
        return view.validate(obj, old)
    return [] if subresource else strategy.validate_update(obj, old)


def _warn(caller: Caller, found: list[str]) -> None:
    if caller.warnings is not None:
        caller.warnings.extend(found)


def _refuse(resource: Resource, name: str, found: list[status.FieldError]) -> None:
    if found:
        raise status.invalid(resource, name, found)
