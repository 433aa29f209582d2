"""Subresources of a pod that are the pod itself under other rules: ephemeral containers, and resizing in place.

Owns what each of them may change. Must not know the rules of containers as such, nor what the node makes of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from controlplane.apiserver.registry import field, qos, validate_pod
from controlplane.apiserver.registry.field import JSON
from controlplane.apiserver.registry.strategy import View

_RESIZED = ("resources", "resizePolicy")
_AMOUNTS = ("cpu", "memory")


def _only(obj: JSON, old: JSON, spec: JSON) -> None:
    """Make `obj` the old pod with this spec; a changed spec is a new generation."""
    revision = (obj.get("metadata") or {}).get("resourceVersion")
    kept = copy.deepcopy(old)
    changed = spec != (old.get("spec") or {})
    kept["spec"] = spec
    if revision:
        kept["metadata"]["resourceVersion"] = revision
    if changed:
        kept["metadata"]["generation"] = (kept["metadata"].get("generation") or 0) + 1
    obj.clear()
    obj.update(kept)


def _is_mirror(obj: JSON) -> bool:
    return validate_pod.MIRROR in ((obj.get("metadata") or {}).get("annotations") or {})


def _prepare_ephemeral(obj: JSON, old: JSON) -> None:
    wanted = (obj.get("spec") or {}).get("ephemeralContainers")
    spec = copy.deepcopy(old.get("spec") or {})
    spec.pop("ephemeralContainers", None)
    if wanted:
        spec["ephemeralContainers"] = wanted
    _only(obj, old, spec)


def _check_ephemeral(obj: JSON, old: JSON) -> field.Errors:
    """Containers are only ever added."""
    path = "spec.ephemeralContainers"
    if _is_mirror(old):
        return [field.forbidden("", "static pods do not support ephemeral containers")]
    new = {item.get("name"): item for item in obj["spec"].get("ephemeralContainers") or ()}
    errors = validate_pod.pod(obj)
    for item in (old.get("spec") or {}).get("ephemeralContainers") or ():
        name = item.get("name")
        if name not in new:
            errors.append(field.forbidden(path, f'existing ephemeral containers "{name}" may not be removed\n'))
        elif new[name] != item:
            errors.append(field.forbidden(path, f'existing ephemeral containers "{name}" may not be changed\n'))
    return errors


def _prepare_resize(obj: JSON, old: JSON) -> None:
    """Take over amounts and resize policies; anything else in the body is not looked at."""
    new, spec = obj.get("spec") or {}, copy.deepcopy(old.get("spec") or {})
    for key in ("containers", "initContainers"):
        wanted, have = new.get(key) or [], spec.get(key) or []
        if len(wanted) != len(have):
            spec[key] = wanted
            continue
        by_name = {item.get("name"): item for item in wanted}
        for item in have:
            for part in _RESIZED:
                if part in (given := by_name.get(item.get("name"), item)):
                    item[part] = given[part]
                else:
                    item.pop(part, None)
    _only(obj, old, spec)


def _check_resize(obj: JSON, old: JSON) -> field.Errors:
    if _is_mirror(old):
        return [field.forbidden("", "static pods cannot be resized")]
    spec, before = obj["spec"], old.get("spec") or {}
    errors: field.Errors = []
    for key in ("containers", "initContainers"):
        new, was = spec.get(key) or [], before.get(key) or []
        if len(new) != len(was):
            return [field.forbidden(f"spec.{key}", "pod resize may not add or remove containers")]
        errors += _resized(key, new, was, all_may=key == "containers")
    if errors:
        return errors
    class_, class_before = qos.qos_class(spec), (old.get("status") or {}).get("qosClass") or qos.qos_class(before)
    if class_ != class_before:
        why = "Pod QOS Class may not change as a result of resizing"
        errors.append(field.invalid("spec", class_, why))
    return errors + validate_pod.pod(obj)


def _resized(key: str, new: Sequence[JSON], old: Sequence[JSON], *, all_may: bool) -> field.Errors:
    errors: field.Errors = []
    for index, (now, was) in enumerate(zip(new, old, strict=True)):
        path = f"spec.{key}[{index}]"
        resources, before = now.get("resources") or {}, was.get("resources") or {}
        if now.get("resizePolicy") != was.get("resizePolicy"):
            errors.append(field.forbidden(f"{path}.resizePolicy", "resizePolicy is immutable"))
        if resources == before:
            continue
        if not all_may and was.get("restartPolicy") != "Always":
            errors.append(field.forbidden(f"{path}.resources", "only sidecar init containers may be resized"))
            continue
        errors += _amount_changes(f"{path}.resources", resources, before)
    return errors


def _amount_changes(path: str, new: JSON, old: JSON) -> field.Errors:
    errors: field.Errors = []
    for part, what in (("limits", "resource limits"), ("requests", "resource requests")):
        now, was = new.get(part) or {}, old.get(part) or {}
        changed = [name for name in now.keys() | was.keys() if now.get(name) != was.get(name)]
        if any(name not in _AMOUNTS for name in changed):
            errors.append(field.forbidden(path, "only cpu and memory resources are mutable"))
        removed = sorted(name for name in _AMOUNTS if name in was and name not in now)
        errors += [field.forbidden(f"{path}.{part}", f"{what} cannot be removed") for _ in removed[:1]]
    return errors


VIEWS: Mapping[str, View] = {
    "ephemeralcontainers": View(_prepare_ephemeral, _check_ephemeral),
    "resize": View(_prepare_resize, _check_resize),
}
