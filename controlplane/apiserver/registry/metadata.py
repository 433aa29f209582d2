"""ObjectMeta: what every object's metadata must fulfil, on create and on update.

Owns names, labels, annotations, owner references and finalizers. Must not know specs. The server's own
fields (uid, creationTimestamp, resourceVersion) are set by the verbs before this runs.
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.apiserver.registry import field, names, selectors

MAX_ANNOTATIONS = 256 * 1024
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
_STANDARD_FINALIZERS = ("kubernetes", ORPHAN, FOREGROUND)
_FROZEN = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
_SERVER_SET = frozenset(("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"))


def validate(meta: field.JSON, *, namespaced: bool, rule: names.NameRule) -> field.Errors:
    """Faults of the metadata of a new object whose name is already generated."""
    errors: field.Errors = []
    if generate := meta.get("generateName"):
        errors += field.invalids("metadata.generateName", generate, rule(names.without_dash(generate)))
    name = meta.get("name")
    if not name:
        errors.append(field.required("metadata.name", "name or generateName is required"))
    elif faults := rule(name):
        errors += field.invalids("metadata.name", name, faults)
    namespace = meta.get("namespace")
    if namespaced:
        if not namespace:
            errors.append(field.required("metadata.namespace"))
        elif faults := names.dns_label(namespace):
            errors += field.invalids("metadata.namespace", namespace, faults)
    elif namespace:
        errors.append(field.forbidden("metadata.namespace", "not allowed on this type"))
    return errors + _content(meta)


def validate_update(meta: field.JSON, old: field.JSON) -> field.Errors:
    """Faults of changed metadata."""
    errors: field.Errors = []
    if old.get("deletionTimestamp"):
        added = sorted(set(meta.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if added:
            listed = ", ".join(f'"{name}"' for name in added)
            why = "no new finalizers can be added if the object is being deleted, found new finalizers "
            errors.append(field.forbidden("metadata.finalizers", f"{why}[]string{{{listed}}}"))
    if (meta.get("generation") or 0) < (old.get("generation") or 0):
        errors.append(field.invalid("metadata.generation", meta.get("generation") or 0, "must not be decremented"))
    for key in _FROZEN:
        if key in _SERVER_SET and meta.get(key) is None:
            continue
        errors += field.immutable(f"metadata.{key}", meta.get(key), old.get(key))
    return errors + _content(meta)


def _content(meta: field.JSON) -> field.Errors:
    errors: field.Errors = []
    if (meta.get("generation") or 0) < 0:
        errors.append(field.invalid("metadata.generation", meta["generation"], field.NEGATIVE))
    if labels := meta.get("labels"):
        errors += selectors.labels("metadata.labels", labels)
    if found := meta.get("annotations"):
        errors += annotation_map("metadata.annotations", found)
    if owners := meta.get("ownerReferences"):
        errors += _owners(owners)
    if finalizers := meta.get("finalizers"):
        errors += _finalizers(finalizers)
    return errors


def annotation_map(path: str, values: dict[str, str] | None) -> field.Errors:
    """Faults of annotations: keys like labels whatever their case, 256 KiB in all."""
    errors: field.Errors = []
    size = 0
    for key, value in (values or {}).items():
        if faults := names.qualified_name(key.lower()):
            errors += field.invalids(path, key, faults)
        size += len(key) + len(value if value.isascii() else value.encode())
    if size > MAX_ANNOTATIONS:
        errors.append(field.too_long(path, MAX_ANNOTATIONS))
    return errors


def _owners(owners: Iterable[field.JSON]) -> field.Errors:
    path, errors, controller = "metadata.ownerReferences", field.Errors(), ""
    for owner in owners:
        errors += _owner(path, owner)
        if owner.get("controller"):
            current = f"{owner.get('kind', '')}/{owner.get('name', '')}"
            if controller:
                why = "Only one reference can have Controller set to true. "
                why += f'Found "true" in references for {controller} and {current}'
                errors.append(field.invalid(path, list(owners), why))
            else:
                controller = current
    return errors


def _owner(path: str, owner: field.JSON) -> field.Errors:
    errors: field.Errors = []
    version = owner.get("apiVersion") or ""
    if not version or version.endswith("/"):
        errors.append(field.invalid(f"{path}.apiVersion", version, "version must not be empty"))
    for key in ("kind", "name", "uid"):
        if not owner.get(key):
            errors.append(field.invalid(f"{path}.{key}", owner.get(key) or "", "must not be empty"))
    if version == "v1" and owner.get("kind") == "Event":
        errors.append(field.invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"))
    return errors


def _finalizers(values: list[str]) -> field.Errors:
    path, errors = "metadata.finalizers", field.Errors()
    for name in values:
        errors += field.invalids(path, name, names.qualified_name(name))
    if ORPHAN in values and FOREGROUND in values:
        errors.append(field.invalid(path, values, f"finalizer {ORPHAN} and {FOREGROUND} cannot be both set"))
    for index, name in enumerate(values):
        errors += standard_finalizer(f"{path}[{index}]", name)
    return errors


def standard_finalizer(path: str, name: str) -> field.Errors:
    """A finalizer without a prefix must be one of Kubernetes' own."""
    if "/" in name or name in _STANDARD_FINALIZERS:
        return []
    return [field.invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified")]
