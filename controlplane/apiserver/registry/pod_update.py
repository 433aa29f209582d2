"""What may change in a pod after its creation: in the spec and in the status.

Owns the rules of immutability. Must not know the rules of the content.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controlplane.apiserver.registry import addresses, field, names, validate_scheduling
from controlplane.apiserver.registry.field import JSON
from controlplane.apiserver.registry.validate_pod import MIRROR

_UPDATABLE = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)
_CONTAINERS = ("containers", "initContainers")
_FREE = ("activeDeadlineSeconds", "tolerations", "schedulingGates", "serviceAccount")
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SYSTEM_CONDITIONS = ("PodScheduled", "Ready", "Initialized")


def changes(obj: JSON, old: JSON) -> field.Errors:
    """Faults of an update of a pod."""
    meta, was = obj.get("metadata") or {}, old.get("metadata") or {}
    errors = annotation_changes(meta.get("annotations") or {}, was.get("annotations") or {})
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    for key in _CONTAINERS:
        faults, stop = _images(f"spec.{key}", spec.get(key) or (), before.get(key) or ())
        errors += faults
        if stop:
            return errors
    faults, stop = _deadline(spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    errors += faults
    if stop:
        return errors
    errors += _tolerations(spec.get("tolerations") or [], before.get("tolerations") or [])
    errors += _gates(spec.get("schedulingGates") or (), before.get("schedulingGates") or ())
    return errors + ([] if spec == before else _others(spec, before))


def annotation_changes(new: dict[str, str], old: dict[str, str]) -> field.Errors:
    """Faults of changing annotations that are set once."""
    errors: field.Errors = []
    for key in sorted({key for key in (*new, *old) if key == MIRROR or key.startswith(_APP_ARMOR)}):
        kind = "mirror pod annotation" if key == MIRROR else "AppArmor annotations"
        where = f"metadata.annotations[{key}]"
        if key in old and new.get(key) != old[key]:
            errors.append(field.forbidden(where, f"may not remove or update {kind}"))
        elif key not in old:
            errors.append(field.forbidden(where, f"may not add {kind}"))
    return errors


def _images(path: str, new: Sequence[JSON], old: Sequence[JSON]) -> tuple[field.Errors, bool]:
    if len(new) != len(old):
        return [field.forbidden(path, "pod updates may not add or remove containers")], True
    errors: field.Errors = []
    for index, item in enumerate(new):
        image, where = item.get("image") or "", f"{path}[{index}].image"
        if not image:
            errors.append(field.required(where))
        if image != image.strip():
            errors.append(field.invalid(where, image, "must not have leading or trailing whitespace"))
    return errors, False


def _deadline(new: int | None, old: int | None) -> tuple[field.Errors, bool]:
    path = "spec.activeDeadlineSeconds"
    if new is None:
        if old is None:
            return [], False
        return [field.invalid(path, None, "must not update from a positive integer to nil value")], False
    if not 0 <= new <= field.MAX_INT32:
        return [field.invalid(path, new, field.in_range(0, field.MAX_INT32))], True
    if old is not None and old < new:
        return [field.invalid(path, new, "must be less than or equal to previous value")], True
    return [], False


def _tolerations(new: list[JSON], old: list[JSON]) -> field.Errors:
    def bare(item: JSON) -> JSON:
        return {key: value for key, value in item.items() if key != "tolerationSeconds" and value}

    kept = [bare(item) for item in new]
    if any(bare(item) not in kept for item in old):
        why = "existing toleration can not be modified except its tolerationSeconds"
        return [field.forbidden("spec.tolerations", why)]
    return validate_scheduling.tolerations("spec.tolerations", new)


def _gates(new: Sequence[JSON], old: Sequence[JSON]) -> field.Errors:
    known = {gate.get("name") for gate in old}
    return [
        field.forbidden(
            f"spec.schedulingGates[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
        )
        for index, gate in enumerate(new)
        if gate.get("name") not in known
    ]


def _others(spec: JSON, before: JSON) -> field.Errors:
    """Whatever else changed; a gated pod may still narrow where it runs."""
    errors: field.Errors = []
    kept = _without_free(spec)
    was = _without_free(before)
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        kept["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    if before.get("schedulingGates"):
        errors += _gated(spec, before)
        for part in (kept, was):
            part.pop("nodeSelector", None)
            affinity = {
                key: value for key, value in (part.pop("affinity", None) or {}).items() if key != "nodeAffinity"
            }
            part["affinity"] = affinity
    if kept != was:
        changed = sorted(key for key in kept.keys() | was.keys() if kept.get(key) != was.get(key))
        why = f"pod updates may not change fields other than {','.join(_UPDATABLE)}\n"
        why += "changed: " + ", ".join(f"spec.{key}" for key in changed)
        errors.append(field.forbidden("spec", why))
    return errors


def _without_free(spec: JSON) -> JSON:
    kept = {key: value for key, value in spec.items() if key not in _FREE}
    for key in _CONTAINERS:
        if key in kept:
            kept[key] = [{name: value for name, value in item.items() if name != "image"} for item in kept[key]]
    return {key: value for key, value in kept.items() if value not in ([], False, "", None)}


def _gated(spec: JSON, before: JSON) -> field.Errors:
    errors: field.Errors = []
    chosen, was = spec.get("nodeSelector") or {}, before.get("nodeSelector") or {}
    if any(chosen.get(key) != value for key, value in was.items()):
        why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.append(field.invalid("spec.nodeSelector", chosen, why))
    path = f"spec.affinity.nodeAffinity.{validate_scheduling.REQUIRED}.nodeSelectorTerms"
    new, old = _terms(spec), _terms(before)
    if old and len(old) != len(new):
        why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [*errors, field.invalid(path, new, why)]
    why = "only additions are allowed (no mutations or deletions)"
    return errors + [
        field.invalid(f"{path}[{index}]", now, why)
        for index, (now, then) in enumerate(zip(new, old, strict=False))
        if not _only_adds(now, then)
    ]


def _terms(spec: JSON) -> list[JSON]:
    node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return (node.get(validate_scheduling.REQUIRED) or {}).get("nodeSelectorTerms") or []


def _only_adds(new: JSON, old: JSON) -> bool:
    keys = ("matchExpressions", "matchFields")
    if not any(old.get(key) for key in keys):
        return not any(new.get(key) for key in keys)
    return all((new.get(key) or [])[: len(old.get(key) or [])] == (old.get(key) or []) for key in keys)


def status_changes(obj: JSON, old: JSON) -> field.Errors:
    """Faults of a status write."""
    status, was, spec = obj.get("status") or {}, old.get("status") or {}, old.get("spec") or {}
    meta, before = obj.get("metadata") or {}, old.get("metadata") or {}
    errors = annotation_changes(meta.get("annotations") or {}, before.get("annotations") or {})
    for index, condition in enumerate(status.get("conditions") or ()):
        kind = condition.get("type") or ""
        if kind not in _SYSTEM_CONDITIONS:
            errors += field.invalids(f"metadata.conditions[{index}].Type", kind, names.qualified_name(kind))
    nominated = status.get("nominatedNodeName")
    if nominated and nominated != was.get("nominatedNodeName"):
        errors += field.invalids("status.nominatedNodeName", nominated, names.dns_subdomain(nominated))
    if was.get("qosClass") or status.get("qosClass"):
        errors += field.immutable("status.qosClass", status.get("qosClass") or "", was.get("qosClass") or "")
    policy = spec.get("restartPolicy") or "Always"
    sidecars = frozenset(c.get("name") for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always")
    own = {
        item.get("name"): item["restartPolicy"]
        for key in _CONTAINERS
        for item in spec.get(key) or ()
        if item.get("restartPolicy")
    }
    for key, rule in (
        ("containerStatuses", policy),
        ("initContainerStatuses", policy),
        ("ephemeralContainerStatuses", "Never"),
    ):
        if rule != "Always":
            errors += _states(f"status.{key}", status.get(key) or (), was.get(key) or (), rule, sidecars | own.keys())
    return errors + _ips("podIPs", status) + _ips("hostIPs", status)


def _states(
    path: str, new: Iterable[JSON], old: Iterable[JSON], policy: str, free: frozenset[str | None] | set[str | None]
) -> field.Errors:
    """A container that must not restart stays terminated."""
    running = {item.get("name") for item in new if "terminated" not in (item.get("state") or {})}
    errors: field.Errors = []
    for index, item in enumerate(old):
        ended = (item.get("state") or {}).get("terminated")
        if ended is None or item.get("name") in free or item.get("name") not in running:
            continue
        if not (ended.get("exitCode") and policy == "OnFailure"):
            why = "may not be transitioned to non-terminated state"
            errors.append(field.forbidden(f"{path}[{index}].state", why))
    return errors


def _ips(key: str, status: JSON) -> field.Errors:
    path, values = f"status.{key}", status.get(key) or []
    texts = [item.get("ip") or "" for item in values]
    errors: field.Errors = []
    if key == "hostIPs" and texts and status.get("hostIP") != texts[0]:
        errors.append(field.invalid(f"{path}[0].ip", texts[0], "must be equal to `hostIP`"))
    for index, text in enumerate(texts):
        errors += addresses.ip(f"{path}[{index}]", text)
    if len(texts) > 1:
        if len(texts) > 2 or not addresses.one_of_each_family(texts):
            shown = [{"IP": text} for text in texts]
            errors.append(field.invalid(path, shown, "may specify no more than one IP for each IP family"))
        errors += [
            field.duplicate(f"{path}[{index}]", {"IP": text})
            for index, text in enumerate(texts)
            if text in texts[:index]
        ]
    return errors
