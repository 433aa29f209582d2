"""Status conditions: finding, setting, and writing them as API objects. Pure."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from controlplane.projection import JSON, Condition
from kube.runtime import clock

Conditions = tuple[Condition, ...]


def find(conditions: Iterable[Condition], type: str) -> Condition | None:
    """The condition of this type, or None."""
    return next((c for c in conditions if c.type == type), None)


def without(conditions: Conditions, type: str) -> Conditions:
    """All conditions but this type."""
    return tuple(c for c in conditions if c.type != type)


def put(conditions: Conditions, new: Condition, now: datetime, *, update_time: bool = False) -> Conditions:
    """Conditions with new in place; unchanged if status and reason stay, and the transition time kept if status stays.

    update_time: also stamp lastUpdateTime, as Deployments do.
    """
    old = find(conditions, new.type)
    if old and old.status == new.status and old.reason == new.reason:
        return conditions
    stamp = clock.rfc3339(now)
    since = old.last_transition_time if old and old.status == new.status else stamp
    made = msgspec.structs.replace(new, last_transition_time=since, last_update_time=stamp if update_time else None)
    return (*without(conditions, new.type), made)


def to_json(conditions: Iterable[Condition]) -> list[JSON]:
    """Conditions as the API wants them."""
    return [msgspec.to_builtins(c) | {"status": c.status} for c in conditions]
