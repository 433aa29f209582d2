"""Objects as a `meta.k8s.io` Table: what `kubectl get` prints.

Owns the shape of a table and of its rows. Must not know kinds (their columns and cells are the strategy's) nor
how the reply travels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from controlplane.apiserver.registry.strategy import Strategy

JSON = dict[str, Any]


def table(
    strategy: Strategy,
    objects: Sequence[JSON],
    list_meta: Mapping[str, Any],
    include_object: str = "Metadata",
    *,
    now: datetime | None = None,
    definitions: bool = True,
) -> JSON:
    """A Table of objects; `include_object` is None, Metadata or Object, ages count up to `now` (this moment).

    Without `definitions` the columns are not described, as in every event of a watch after the first.
    """
    moment = now or datetime.now(UTC)
    columns = [column.definition() for column in strategy.columns] if definitions else []
    rows = [row(strategy, obj, include_object=include_object, now=moment) for obj in objects]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": dict(list_meta),
        "columnDefinitions": columns,
        "rows": rows,
    }


def row(strategy: Strategy, obj: JSON, *, include_object: str, now: datetime) -> JSON:
    """One object's row."""
    found: JSON = {"cells": strategy.cells(obj, now)}
    if conditions := strategy.row_conditions(obj):
        found["conditions"] = conditions
    found["object"] = _included(obj, include_object)
    return found


def _included(obj: JSON, include_object: str) -> JSON | None:
    if include_object == "Object":
        return obj
    if include_object == "None":
        return None
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj.get("metadata") or {}}
