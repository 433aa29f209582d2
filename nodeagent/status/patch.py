"""The difference between two pod statuses as a strategic merge patch. PURE."""

from collections.abc import Mapping
from typing import Any, Final

Json = dict[str, Any]
MERGED_BY_IP: Final = ("podIPs", "hostIPs")
PASSING: Final = ("PodResizePending", "PodResizeInProgress")
"""Conditions of ours that are there only while they are true."""
OWNED: Final = (
    "phase",
    "reason",
    "message",
    "podIP",
    "podIPs",
    "hostIP",
    "hostIPs",
    "startTime",
    "qosClass",
    "observedGeneration",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
)


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> Json:
    """What has to change of `before`; empty if nothing. Conditions of others are left alone."""
    found: Json = {}
    for name in OWNED:
        old, new = before.get(name), after.get(name)
        if old == new or plain(old) == plain(new):
            continue
        if name in MERGED_BY_IP:
            found[name] = by_ip(old or [], new or [])
        else:
            found[name] = new
    had = {c["type"]: c for c in before.get("conditions", [])}
    # Merging keeps what a patch does not name: a reason that no longer holds is taken back with null.
    changed = [
        {**dict.fromkeys(had.get(c["type"], {})), **c}
        for c in after.get("conditions", [])
        if not same(had.get(c["type"]), c)
    ]
    now = {c["type"] for c in after.get("conditions", [])}
    changed += [{"$patch": "delete", "type": kind} for kind in PASSING if kind in had and kind not in now]
    if changed:
        found["conditions"] = changed
    return found


def disturbed(there: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether the phase or a condition of ours is another there; what a server adds or leaves out is of no account."""
    had = {c["type"]: c["status"] for c in there.get("conditions") or ()}
    if any(had.get(c["type"], c["status"]) != c["status"] for c in ours.get("conditions") or ()):
        return True
    return bool(there.get("phase")) and there["phase"] != ours.get("phase", there["phase"])


def plain(value: Any) -> Any:
    """A value without what means nothing: the API leaves out what is false, empty or zero."""
    if isinstance(value, dict):
        return {k: p for k, v in value.items() if (p := plain(v)) is not None} or None
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value] or None
    return value or None


def same(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
    """Whether a condition is unchanged."""
    if before is None:
        return False
    return before == after or bool(plain(dict(before)) == plain(dict(after)))


def by_ip(old: list[Json], new: list[Json]) -> list[Json]:
    """Addresses merge by ip, so those that went are deleted by name."""
    gone = [entry for entry in old if entry not in new]
    return [*new, *({"$patch": "delete", **entry} for entry in gone)]
