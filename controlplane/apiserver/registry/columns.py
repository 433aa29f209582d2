"""The columns of the Table form: what a definition holds, and the columns most kinds share.

Owns the shape of a column. Must not know how a table is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controlplane.apiserver.registry import ages

UNSET = "<none>"
UNKNOWN = "<unknown>"
WIDE = 1


@dataclass(frozen=True, slots=True)
class Column:
    """One column; a priority above 0 is shown by `-o wide` only."""

    name: str
    description: str
    type: str = "string"
    format: str = ""
    priority: int = 0

    def definition(self) -> dict[str, Any]:
        """The entry of `columnDefinitions`."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


NAME = Column("Name", "Name of the object, unique among those of its kind in one namespace.", format="name")
AGE = Column("Age", "Time since the server stored the object.")
PLAIN = (NAME, Column("Created At", "When the server stored the object, in UTC.", type="date"))
CONTAINERS = Column("Containers", "Names of the containers of the pod template.", priority=WIDE)
IMAGES = Column("Images", "Images of the containers of the pod template.", priority=WIDE)
SELECTOR = Column("Selector", "Labels that select the pods.", priority=WIDE)


def wide(name: str, description: str) -> Column:
    """A text column of `-o wide`."""
    return Column(name, description, priority=WIDE)


def count(name: str, description: str) -> Column:
    """A column of whole numbers."""
    return Column(name, description, type="integer")


def name(obj: Mapping[str, Any]) -> str:
    """The object's name."""
    return str((obj.get("metadata") or {}).get("name") or "")


def age(obj: Mapping[str, Any], now: datetime) -> str:
    """The object's age in short form."""
    return since((obj.get("metadata") or {}).get("creationTimestamp"), now)


def since(stamp: str | None, now: datetime) -> str:
    """The time from an RFC 3339 stamp until now in short form; `<unknown>` without a stamp."""
    moment = parse_time(stamp)
    return UNKNOWN if moment is None else ages.human((now - moment).total_seconds())


def parse_time(stamp: str | None) -> datetime | None:
    """An RFC 3339 stamp as an aware datetime, None for nothing or nonsense."""
    if not stamp:
        return None
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def joined(values: Mapping[str, str] | None) -> str:
    """A map as `a=b,c=d` in key order, `<none>` when empty."""
    return ",".join(f"{key}={value}" for key, value in sorted((values or {}).items())) or UNSET


def containers(pod_spec: Mapping[str, Any] | None) -> tuple[str, str]:
    """(names, images) of a pod template's containers, each joined by commas."""
    found = (pod_spec or {}).get("containers") or ()
    return ",".join(item.get("name") or "" for item in found), ",".join(item.get("image") or "" for item in found)
